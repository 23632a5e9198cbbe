//! How a server ends, and how it takes over other settings without ending.

use super::{
    SOON,
    serving::{Serving, text},
};
use crate::{
    line::setup::{all_of, database, is, items, summary},
    support::{
        postgres::{Database, Postgres, new_directory},
        socket::Message,
        token::{SECRET, anon, in_seconds},
        wait,
    },
};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;
use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};
use tokio::{io::AsyncWriteExt, net::TcpStream};

const OTHER_SECRET: &str = "another-secret-with-at-least-thirty-two-characters";

async fn stage() -> Database {
    database(Postgres::default(), &items("items")).await
}

async fn start(database: &Database, more: &[(&str, &str)]) -> Serving {
    let (url, slot) = (database.walcast_url(), database.slot());
    let environment = [
        ("DATABASE_URL", url.as_str()),
        ("WALCAST_SLOT", &slot),
        ("WALCAST_CONNECT_ERROR_DELAY_MS", "0"),
        ("WALCAST_JOIN_ERROR_DELAY_MS", "0"),
    ];
    Serving::start(&[&environment, more].concat()).await
}

fn signed_with(secret: &str) -> String {
    let claims = json!({ "role": "anon", "exp": in_seconds(3600) });
    encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

/// A settings file in a directory of its own, which goes with the value.
struct SettingsFile(PathBuf);

impl SettingsFile {
    fn new(text: &str) -> SettingsFile {
        let directory = new_directory();
        fs::create_dir_all(&directory).unwrap();
        let file = SettingsFile(directory.join("walcast.toml"));
        file.write(text);
        file
    }

    fn write(&self, text: &str) {
        fs::write(&self.0, text).unwrap();
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for SettingsFile {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.0.parent().unwrap());
    }
}

/// A request whose body never comes: it keeps the server busy.
async fn hanging_request(serving: &Serving) -> TcpStream {
    let mut stream = TcpStream::connect(&serving.address).await.unwrap();
    let head = format!(
        "POST /rest/v1/rpc/insert_message HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n",
        anon()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // The server asks for the body: so it is waiting for it now.
    let mut answer = [0; 12];
    tokio::io::AsyncReadExt::read_exact(&mut stream, &mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100");
    stream
}

#[tokio::test]
async fn told_to_end_a_server_tells_every_channel_closes_with_1012_and_confirms_what_was_delivered() {
    for signal in ["TERM", "INT"] {
        let database = stage().await;
        // Nothing is kept back for whoever comes again.
        let settings = [("JWT_SECRET", SECRET), ("WALCAST_RESUME_WINDOW_MS", "0")];
        let mut serving = start(&database, &settings).await;
        let mut socket = serving.socket(&anon()).await;
        socket.subscribe("realtime:a", &all_of("items")).await;
        socket.join("realtime:b", &json!({"config": {}})).await;
        database.execute("insert into items select n, 'x' from generate_series(1, 100) n").await;
        for _ in 0..100 {
            socket.change("realtime:a").await;
        }
        let client = database.connect().await;
        serving.running.signal(signal);
        assert_eq!(socket.closed().await, 1012, "{signal}");
        let said = socket.drain();
        for topic in ["realtime:a", "realtime:b"] {
            let system = said.iter().rfind(|message| message.is(topic, "system")).unwrap();
            assert_eq!(*system.payload.at("message"), "Server requested disconnect");
            assert_eq!(
                (system.payload.at("status").as_str().unwrap(), system.payload.at("extension").as_str().unwrap()),
                ("ok", "system")
            );
        }
        assert!(serving.running.ended().await.success());
        // Everything of the table is before what is confirmed: a new server is sent none of it again.
        let sql = format!(
            "select count(*) from pg_logical_slot_peek_binary_changes('{}', null, null, 'proto_version', '1', \
             'publication_names', 'supabase_realtime')",
            database.slot()
        );
        let left: i64 = client.query_one(&sql, &[]).await.unwrap().get(0);
        assert_eq!(left, 0, "changes that were delivered are not confirmed");
    }
}

#[tokio::test]
async fn what_does_not_end_is_given_up_at_the_limit() {
    let database = stage().await;
    let mut serving = start(&database, &[("JWT_SECRET", SECRET), ("WALCAST_STOP_LIMIT_MS", "600")]).await;
    // A slot that is being made takes time to end, too.
    serving.wait_for("replication started").await;
    let _hanging = hanging_request(&serving).await;
    let told = Instant::now();
    serving.running.signal("TERM");
    assert!(serving.running.ended().await.success());
    // The request itself would be waited for thirty seconds.
    assert!(told.elapsed() < Duration::from_secs(10), "{:?}", told.elapsed());
    let given_up = serving.record("did not end in time").unwrap();
    assert_eq!(text(&given_up, "part"), "doors");
}

#[tokio::test]
async fn a_second_signal_ends_a_server_at_once() {
    let database = stage().await;
    let mut serving = start(&database, &[("JWT_SECRET", SECRET), ("WALCAST_STOP_LIMIT_MS", "600000")]).await;
    let _hanging = hanging_request(&serving).await;
    serving.running.signal("TERM");
    serving.wait_for("stopping").await;
    serving.running.signal("INT");
    assert_eq!(serving.running.ended().await.code(), Some(1));
}

#[tokio::test]
async fn a_secret_that_is_exchanged_counts_at_once_and_sends_everybody_away() {
    let database = stage().await;
    let file = SettingsFile::new(&format!("jwt_secret = '{SECRET}'"));
    let serving = start(&database, &[("WALCAST_CONFIG", file.path())]).await;
    let mut socket = serving.socket(&anon()).await;
    let with_presence = json!({"config": {"presence": {"enabled": true, "key": "k"}}});
    let (channel, _) = socket.join("realtime:a", &with_presence).await;
    socket.push_on(&channel, "presence", &json!({"type": "presence", "event": "track", "payload": {"n": 1}})).await;
    socket.expect("its own presence", |message| message.is("realtime:a", "presence_diff")).await;

    file.write(&format!("jwt_secret = '{OTHER_SECRET}'"));
    serving.running.signal("HUP");
    assert_eq!(socket.closed().await, 1012);
    assert!(socket.drain().iter().any(|message| {
        message.is("realtime:a", "system") && *message.payload.at("message") == "Server requested disconnect"
    }));
    let fields = serving.wait_for("settings read again").await;
    assert_eq!(text(&fields, "changed"), "jwt_secret");
    let refused = crate::support::socket::Socket::connect(&serving.websocket_url(&anon()), &[]).await.err().unwrap();
    assert_eq!((refused.status, refused.body.as_str()), (401, r#"{"error":"Failed to validate JWT signature"}"#));
    let mut socket = serving.socket(&signed_with(OTHER_SECRET)).await;
    socket.join("realtime:a", &with_presence).await;
    let state = socket.expect("the presence", |message| message.is("realtime:a", "presence_state")).await;
    assert!(state.payload.keys().is_empty(), "a ghost: {}", state.text);
    let log = serving.running.stderr.lines().join("\n");
    assert!(!log.contains(SECRET) && !log.contains(OTHER_SECRET), "no secret in the log");
    serving.stop().await;
}

/// Changes that were over the rate of events.
async fn skipped(serving: &Serving) -> usize {
    let health = serving.ask("GET", "/health", &[]).await.1;
    let after = health.split(r#""max_events_per_second":"#).nth(1).unwrap_or_default();
    after.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or_default()
}

#[tokio::test]
async fn limits_are_read_again_without_disturbing_anybody_and_what_waits_for_a_restart_is_named() {
    let database = stage().await;
    let limited = |rate: u32| format!("max_events_per_second = {rate}\n");
    let file = SettingsFile::new(&limited(1));
    let serving = start(&database, &[("JWT_SECRET", SECRET), ("WALCAST_CONFIG", file.path())]).await;
    let mut socket = serving.socket(&anon()).await;
    socket.subscribe("realtime:a", &all_of("items")).await;
    database.execute("insert into items select n, 'x' from generate_series(1, 200) n").await;
    // Read is not told yet: only when all are told or skipped, another limit counts for nothing but what comes then.
    let mut told = 0;
    let all_are_told_or_skipped = async {
        while told + skipped(&serving).await < 200 {
            socket.heartbeat().await;
            told += socket.drain().iter().filter(|message| message.is("realtime:a", "postgres_changes")).count();
        }
    };
    tokio::time::timeout(SOON, all_are_told_or_skipped).await.unwrap();

    file.write(&format!("{}backlog_bytes = 1000000\n", limited(1000)));
    serving.running.signal("HUP");
    let postponed = serving.wait_for("these settings count after a restart").await;
    assert_eq!(text(&postponed, "settings"), "backlog_bytes");
    let fields = serving.record("settings read again").unwrap();
    assert_eq!((text(&fields, "changed"), text(&fields, "recalled")), ("max_events_per_second".into(), "false".into()));
    database.execute("insert into items values (1000, 'y')").await;
    let change = socket.change("realtime:a").await;
    assert_eq!(summary(&change), is("INSERT", 1000));
    assert!(told < 150, "over the limit of the average of a minute: {told}");
    serving.stop().await;
}

#[tokio::test]
async fn over_the_rate_of_events_who_can_come_back_waits_and_others_hear_where_they_miss_something() {
    let database = stage().await;
    let limited = |rate: u32| format!("max_events_per_second = {rate}\n");
    let file = SettingsFile::new(&limited(1));
    let serving = start(&database, &[("JWT_SECRET", SECRET), ("WALCAST_CONFIG", file.path())]).await;
    let (mut patient, mut plain) = (serving.socket(&anon()).await, serving.socket(&anon()).await);
    let config = json!({"postgres_changes": all_of("items"), "postgres_changes_options": {"resume": true}});
    patient.join("realtime:a", &json!({ "config": config })).await;
    patient.expect("the system message", |message| message.is("realtime:a", "system")).await;
    plain.subscribe("realtime:a", &all_of("items")).await;
    database.execute("insert into items select n, 'x' from generate_series(1, 200) n").await;
    let is_word = |text: &'static str| {
        move |message: &Message| {
            message.is("realtime:a", "system")
                && message.payload.at("message").as_str().is_some_and(|message| message.starts_with(text))
        }
    };
    plain.expect("word that changes are skipped", is_word("Changes are skipped for now")).await;

    file.write(&limited(100_000));
    serving.running.signal("HUP");
    serving.wait_for("settings read again").await;
    for id in 1..=200 {
        assert_eq!(summary(&patient.change("realtime:a").await), is("INSERT", id), "late, but each once and in order");
    }
    database.execute("insert into items values (1000, 'y')").await;
    assert_eq!(summary(&patient.change("realtime:a").await), is("INSERT", 1000));
    let is_last = |message: &Message| message.text.contains("1000");
    let last =
        plain.expect("the last change", |message| message.is("realtime:a", "postgres_changes") && is_last(message));
    last.await;
    plain.take(is_word("Changes were skipped until now")).expect("word that they come again, ahead of them");
    assert!(plain.take(is_word("Changes are skipped")).is_none(), "once is enough");
    assert!(patient.take(is_word("Changes")).is_none(), "he missed nothing");
    serving.stop().await;
}

#[tokio::test]
async fn a_file_that_cannot_be_read_changes_nothing() {
    let database = stage().await;
    let good = format!("jwt_secret = '{SECRET}'");
    let file = SettingsFile::new(&good);
    let serving = start(&database, &[("WALCAST_CONFIG", file.path())]).await;
    let mut socket = serving.socket(&anon()).await;
    let bad = [format!("{good}\nsesame = 'open'"), "jwt_secret = 4711".to_owned(), format!("{good}\nsuspend = 'x'")];
    for (number, text) in bad.iter().enumerate() {
        file.write(text);
        serving.running.signal("HUP");
        wait::until(SOON, async || {
            let said = serving.running.stderr.lines();
            said.iter().filter(|line| line.contains("settings not read again; the old ones stay")).count() > number
        })
        .await;
    }
    assert!(!serving.running.stderr.lines().join("\n").contains("4711"));
    socket.heartbeat().await;
    serving.socket(&anon()).await.heartbeat().await;
    serving.stop().await;
}

#[tokio::test]
async fn private_only_sends_everybody_away_and_refuses_public_channels_from_then_on() {
    let database = stage().await;
    let file = SettingsFile::new("");
    let serving = start(&database, &[("JWT_SECRET", SECRET), ("WALCAST_CONFIG", file.path())]).await;
    let mut socket = serving.socket(&anon()).await;
    socket.join("realtime:a", &json!({"config": {}})).await;
    file.write("private_only = true");
    serving.running.signal("HUP");
    assert_eq!(socket.closed().await, 1012);
    let mut socket = serving.socket(&anon()).await;
    let (_, reply) = socket.join_raw("realtime:a", &json!({"config": {}})).await;
    let reason = reply.at("response").at("reason").as_str().unwrap();
    assert!(reason.starts_with("PrivateOnly"), "{reason}");
    serving.stop().await;
}

#[tokio::test]
async fn whoever_is_suspended_is_sent_away_and_let_in_again_later() {
    let database = stage().await;
    let file = SettingsFile::new("suspend = false");
    let serving = start(&database, &[("JWT_SECRET", SECRET), ("WALCAST_CONFIG", file.path())]).await;
    let mut socket = serving.socket(&anon()).await;
    file.write("suspend = true");
    serving.running.signal("HUP");
    assert_eq!(socket.closed().await, 1012);
    let refused = crate::support::socket::Socket::connect(&serving.websocket_url(&anon()), &[]).await.err().unwrap();
    let text = r#"{"error":"Realtime was disabled for this tenant"}"#;
    assert_eq!((refused.status, refused.body.as_str()), (403, text));
    file.write("suspend = false");
    serving.running.signal("HUP");
    wait::until(SOON, async || {
        crate::support::socket::Socket::connect(&serving.websocket_url(&anon()), &[]).await.is_ok()
    })
    .await;
    serving.stop().await;
}
