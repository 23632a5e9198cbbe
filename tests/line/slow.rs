//! Clients that do not read: they lag and catch up exactly, or hear that they have missed something; they cost the server
//! a bounded amount of memory, and the others nothing.

use super::setup::{all_of, database, get, items, next, summary, token_of, wait_for_health, wait_for_stream};
use crate::support::{
    json::Json,
    postgres::{Database, Postgres},
    server::Server,
    socket::{Channel, Heard, PATIENCE, Socket},
    wait::until,
};
use serde_json::{Value, json};
use std::{fs, time::Duration};
use tokio::time::{Instant, timeout};

const TOPIC: &str = "realtime:line";
/// What a row takes: far more of them are written than all buffers of the system hold.
const ROW_BYTES: usize = 8000;
const ROWS: i64 = 2500;
/// However long the writing takes, whoever does not read meanwhile is not taken for one that is gone.
const PATIENT: [(&str, &str); 2] = [("WALCAST_WRITE_TIMEOUT_MS", "600000"), ("WALCAST_IDLE_TIMEOUT_MS", "600000")];

async fn join(socket: &mut Socket, resume: Value) -> (Channel, Json) {
    let config = json!({"postgres_changes": all_of("docs"), "postgres_changes_options": {"resume": resume}});
    let (channel, _) = socket.join(TOPIC, &json!({ "config": config })).await;
    let system = socket.expect("the system message", |message| message.is(TOPIC, "system")).await.payload;
    assert_eq!(*system.at("message"), "Subscribed to PostgreSQL", "{system}");
    (channel, system)
}

async fn subscribe(socket: &mut Socket) {
    socket.subscribe(TOPIC, &all_of("docs")).await;
}

/// Writes rows in transactions of ten; a reader that keeps up gets each of them soon.
async fn write(database: &Database, rows: std::ops::RangeInclusive<i64>, reader: &mut Socket) {
    let client = database.connect().await;
    let rows: Vec<i64> = rows.collect();
    for keys in rows.chunks(10) {
        let sql = format!("insert into docs select key, repeat('x', {ROW_BYTES}) from unnest($1::int[]) key");
        let list: Vec<i32> = keys.iter().filter_map(|key| i32::try_from(*key).ok()).collect();
        client.execute(&sql, &[&list]).await.unwrap();
        let committed = Instant::now();
        for key in keys {
            assert_eq!(next(reader).await, ("INSERT".to_owned(), *key));
        }
        // Who waited for one that does not read would wait until that one is given up.
        assert!(committed.elapsed() < Duration::from_secs(15), "it was held up for {:?}", committed.elapsed());
    }
}

/// The keys a socket gets, from the first on in order, until this one or a message that is no change.
async fn keys_until(socket: &mut Socket, last: i64) -> (Vec<i64>, Option<Json>) {
    let mut keys = Vec::new();
    loop {
        let message = match socket.read(Instant::now() + PATIENCE).await {
            Heard::Message(message) => *message,
            other => panic!("behind {:?}: {other:?}", keys.last()),
        };
        if !message.is(TOPIC, "postgres_changes") {
            return (keys, Some(message.payload));
        }
        keys.push(summary(&message.payload).1);
        if keys.last() == Some(&last) {
            return (keys, None);
        }
    }
}

async fn counter(server: &Server, name: &str) -> i64 {
    let (_, health) = get(server, "/health").await;
    health.at("counters").at(name).as_i64().unwrap_or_else(|| panic!("{name} in {health}"))
}

fn resident_mib(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap() / 1024
}

#[tokio::test]
async fn who_does_not_read_for_a_while_then_gets_exactly_what_it_missed() {
    let database = database(Postgres::default(), &items("docs")).await;
    let server = Server::start(&database, &PATIENT).await;
    wait_for_stream(&server).await;
    let token = token_of(json!({"role": "service_role"}));
    let url = server.websocket_url("2.0.0", &token);
    let (mut resuming, mut plain) = (Socket::open_narrow(&url).await, Socket::open_narrow(&url).await);
    join(&mut resuming, json!(true)).await;
    subscribe(&mut plain).await;
    let mut reader = Socket::open(&url).await;
    subscribe(&mut reader).await;
    write(&database, 1..=ROWS, &mut reader).await;
    assert!(counter(&server, "lags_total").await >= 2, "they were to lag, or this shows nothing");
    wait_for_health(&server, |_, health| *health.at("subscriptions_behind") == json!(2)).await;
    // Both at once, while more is written.
    let expected: Vec<i64> = (1..=ROWS + 100).collect();
    let more = write(&database, ROWS + 1..=ROWS + 100, &mut reader);
    let caught_up =
        async { tokio::join!(keys_until(&mut resuming, ROWS + 100), keys_until(&mut plain, ROWS + 100), more) };
    let ((got, word), (got_plain, word_plain), ()) = timeout(PATIENCE * 2, caught_up).await.unwrap();
    assert_eq!((word, word_plain), (None, None));
    assert!(got == expected && got_plain == expected, "{} and {} of {}", got.len(), got_plain.len(), expected.len());
    assert_eq!(counter(&server, "gaps_total").await, 0);
}

#[tokio::test]
async fn who_does_not_read_for_too_long_hears_that_it_has_missed_something_and_costs_little() {
    let database = database(Postgres::default(), &items("docs")).await;
    let server = Server::start(&database, &[PATIENT[0], PATIENT[1], ("WALCAST_BACKLOG_BYTES", "1000000")]).await;
    wait_for_stream(&server).await;
    let token = token_of(json!({"role": "service_role"}));
    let url = server.websocket_url("2.0.0", &token);
    let (mut resuming, mut plain) = (Socket::open_narrow(&url).await, Socket::open_narrow(&url).await);
    let (channel, _) = join(&mut resuming, json!(true)).await;
    subscribe(&mut plain).await;
    let mut reader = Socket::open(&url).await;
    subscribe(&mut reader).await;
    write(&database, 1..=20, &mut reader).await;
    let before = resident_mib(&server);
    write(&database, 21..=ROWS, &mut reader).await;
    let after = resident_mib(&server);
    assert!(after < before + 40, "{before} MiB, then {after} MiB");

    // What was on its way comes, then the word instead of a part of the rest.
    let (keys, word) = timeout(PATIENCE * 2, keys_until(&mut resuming, ROWS)).await.unwrap();
    let last = i64::try_from(keys.len()).unwrap();
    assert!(last < ROWS && keys == (1..=last).collect::<Vec<_>>(), "{} keys", keys.len());
    let word = word.expect("a word");
    assert_eq!((word.at("status"), word.at("resumed")), (&json_text("error"), &Json::Bool(false)), "{word}");
    assert!(word.at("reason").as_str().is_some_and(|reason| reason.contains("did not keep up")), "{word}");
    let cursor = word.at("cursor").as_str().expect("a cursor").to_owned();
    // The channel goes on from there, and the cursor says where that is.
    write(&database, ROWS + 1..=ROWS + 20, &mut reader).await;
    let (keys, _) = keys_until(&mut resuming, ROWS + 20).await;
    assert_eq!(keys, (ROWS + 1..=ROWS + 20).collect::<Vec<_>>());
    resuming.push_on(&channel, "phx_leave", &json!({})).await;
    let mut again = Socket::open(&url).await;
    let (_, system) = join(&mut again, json!(cursor)).await;
    assert_eq!(*system.at("resumed"), Json::Bool(true), "{system}");
    let (keys, _) = keys_until(&mut again, ROWS + 20).await;
    assert_eq!(keys, (ROWS + 1..=ROWS + 20).collect::<Vec<_>>());

    // Without a cursor the channel ends, and clients join again.
    let (keys, word) = timeout(PATIENCE * 2, keys_until(&mut plain, ROWS)).await.unwrap();
    let last = i64::try_from(keys.len()).unwrap();
    assert!(last < ROWS && keys == (1..=last).collect::<Vec<_>>(), "{} keys", keys.len());
    let word = word.expect("a word");
    assert!(*word.at("status") == "error" && !word.has("resumed"), "{word}");
    plain.expect("the end of the channel", |message| message.is(TOPIC, "phx_error")).await;
    assert_eq!(counter(&server, "gaps_total").await, 2);
}

fn json_text(text: &str) -> Json {
    Json::String(text.to_owned())
}

#[tokio::test]
async fn a_socket_stuck_amid_broadcasts_is_closed_with_1013_and_the_others_hear_all_of_them() {
    const TOPIC: &str = "realtime:room";
    let database = database(Postgres::default(), "").await;
    let server = Server::start(&database, &[]).await;
    let url = server.websocket_url("2.0.0", &token_of(json!({"role": "anon"})));
    let mut stuck = Socket::open_narrow(&url).await;
    let mut listener = Socket::open(&url).await;
    let mut speaker = Socket::open(&url).await;
    let config = json!({"config": {"broadcast": {"self": false}}});
    for socket in [&mut stuck, &mut listener] {
        socket.join(TOPIC, &config).await;
    }
    let (channel, _) = speaker.join(TOPIC, &config).await;
    let mut said: usize = 0;
    while counter(&server, "slow_clients_total").await == 0 {
        assert!(said < 100, "it is not closed");
        let payload = json!({"type": "broadcast", "event": "word", "payload": {"n": said, "x": "y".repeat(500_000)}});
        speaker.push_on(&channel, "broadcast", &payload).await;
        let heard = listener.expect("the broadcast", |message| message.is(TOPIC, "broadcast")).await.payload;
        assert_eq!(*heard.at("payload").at("n"), json!(said));
        said += 1;
    }
    assert_eq!(stuck.closed().await, 1013);
    let heard = stuck.drain().iter().filter(|message| message.is(TOPIC, "broadcast")).count();
    assert!((1..said).contains(&heard), "{heard} of {said}");
    until(PATIENCE, async || *get(&server, "/health").await.1.at("members") == json!(2)).await;
}
