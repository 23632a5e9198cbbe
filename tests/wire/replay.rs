//! Plays the recorded conversations against Walcast and compares what it says, frame by frame.
//!
//! Order is strict within a connection and topic, free across them. What the server makes itself is mapped, not
//! ignored: binding ids stand in one-to-one relation for a whole conversation, times must have the recorded form,
//! row ids are exact because the sequences start where they stood. Every other difference fails unless
//! `differences.md` names it for this recording.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::recording::{Recording, Step, with_tokens};
use super::{differences, fixture};
use crate::support::json::Json;
use crate::support::postgres::Postgres;
use crate::support::server::Server;
use crate::support::socket::{Heard, Message, PATIENCE, Socket, Vsn};

/// How long the server must say nothing where the recording has nothing. Deliveries take milliseconds.
const QUIET: Duration = Duration::from_millis(400);

/// Connections without row changes are judged sooner: their answers come at once.
const QUIET_WITHOUT_SQL: Duration = Duration::from_millis(60);

/// Plays one recording; the error lists all differences.
async fn replay(name: &str, vsn: Vsn) -> Result<(), String> {
    let mut recording = Recording::load(name, vsn);
    let mut problems = differences::apply(&mut recording);

    let database = Postgres::default().database().await;
    fixture::prepare(&database).await;
    for (table, id) in recording.first_ids() {
        database.execute(&format!(r#"alter table public."{table}" alter column id restart with {id}"#)).await;
    }
    let settings: &[(&str, &str)] = if name == "idle-timeout" { &[("WALCAST_IDLE_TIMEOUT_MS", "1500")] } else { &[] };
    let server = Server::start(&database, settings).await;

    let mut player =
        Player { address: server.address().to_owned(), sockets: HashMap::new(), ids: Ids::default(), sql_ran: false };
    let mut steps = recording.steps.iter().peekable();
    while let Some(step) = steps.next() {
        if let Step::Sql(sql) = step {
            database.execute(sql).await;
            player.sql_ran = true;
            if !matches!(steps.peek(), Some(Step::Receive { .. })) {
                // Nobody heard of this statement. Were it to reach somebody, it must do so before the next step.
                for socket in player.sockets.values_mut() {
                    socket.listen(QUIET).await;
                }
            }
            continue;
        }
        if let Err(problem) = player.play(step).await {
            problems.push(problem);
        }
    }
    for (conn, mut socket) in player.sockets.drain() {
        problems.extend(superfluous(&conn, socket.drain_until_quiet(QUIET).await));
    }
    server.stop().await;
    if problems.is_empty() { Ok(()) } else { Err(format!("{name} {vsn:?}:\n  {}", problems.join("\n  "))) }
}

struct Player {
    address: String,
    sockets: HashMap<String, Socket>,
    ids: Ids,
    sql_ran: bool,
}

impl Player {
    async fn play(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Open { conn, url } => {
                let socket = connect(&self.address, conn, url).await;
                let socket = socket.map_err(|refused| format!("{conn}: upgrade refused: {refused:?}"))?;
                self.sockets.insert(conn.clone(), socket);
            }
            Step::Refusal { conn, url, status, content_type, body } => {
                let refused = match connect(&self.address, conn, url).await {
                    Ok(_) => return Err(format!("{conn}: upgrade granted, recorded {status} {body}")),
                    Err(refused) => refused,
                };
                let same_body = match (Json::parse(body), Json::parse(&refused.body)) {
                    (Ok(recorded), Ok(ours)) => recorded == ours,
                    _ => *body == refused.body,
                };
                if refused.status != *status || !same_body || *content_type != refused.content_type {
                    return Err(format!("{conn}: recorded {status} {content_type:?} {body}\n      got {refused:?}"));
                }
            }
            Step::SendText { conn, text } => self.socket(conn)?.send_text(text).await,
            Step::SendBinary { conn, bytes } => self.socket(conn)?.send_binary(bytes).await,
            Step::Receive { conn, message } => {
                let heard = hear(self.socket(conn)?, &message.topic).await;
                let ours = heard.map_err(|why| format!("{conn}: recorded {}\n      got {why}", message.text))?;
                self.ids.compare(message, &ours).map_err(|difference| {
                    format!("{conn}: {difference}\n      recorded {}\n      got      {}", message.text, ours.text)
                })?;
            }
            Step::Sql(_) => unreachable!("the caller runs statements"),
            Step::Close { conn } => {
                let quiet = if self.sql_ran { QUIET } else { QUIET_WITHOUT_SQL };
                let mut socket = self.sockets.remove(conn).ok_or_else(|| format!("{conn}: never opened"))?;
                let left = superfluous(conn, socket.drain_until_quiet(quiet).await);
                socket.close().await;
                if !left.is_empty() {
                    return Err(left.join("\n  "));
                }
            }
            Step::Closed { conn, code } => {
                let ours = self.socket(conn)?.closed().await;
                if ours != *code {
                    return Err(format!("{conn}: recorded close {code}, got {ours}"));
                }
            }
        }
        Ok(())
    }

    fn socket(&mut self, conn: &str) -> Result<&mut Socket, String> {
        self.sockets.get_mut(conn).ok_or_else(|| format!("{conn}: not open"))
    }
}

async fn connect(address: &str, conn: &str, url: &str) -> Result<Socket, crate::support::socket::Refused> {
    let (_, target) = url.strip_prefix("ws://").and_then(|rest| rest.split_once('/')).expect("a ws:// URL");
    let url = with_tokens(&format!("ws://{address}/{target}"));
    let anon = fixture::token("anon");
    // Headers are not in the recordings; the notes there tell of these two.
    let headers: &[(&str, &str)] = match conn {
        "hdr" => &[("x-api-key", &anon)],
        "unknown-tenant" => &[("Host", "no-such-tenant.example.com")],
        _ => &[],
    };
    Socket::connect(&url, headers).await
}

/// The next message on this topic, or what came in its place.
async fn hear(socket: &mut Socket, topic: &Json) -> Result<Message, String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(message) = socket.take(|message| message.topic == *topic) {
            return Ok(message);
        }
        match socket.read(deadline).await {
            Heard::Message(message) => socket.keep(*message),
            Heard::Binary(bytes) => return Err(format!("a binary frame {bytes:?}")),
            Heard::Closed(code) => return Err(format!("close {code}")),
            Heard::Silence => return Err("nothing on this topic".to_owned()),
        }
    }
}

fn superfluous(conn: &str, left: Vec<Message>) -> Vec<String> {
    left.into_iter().map(|message| format!("{conn}: not in the recording: {}", message.text)).collect()
}

/// Binding ids of the recording and of Walcast, one-to-one.
#[derive(Default)]
struct Ids {
    ours: HashMap<i64, i64>,
    recorded: HashMap<i64, i64>,
}

impl Ids {
    fn compare(&mut self, recorded: &Message, ours: &Message) -> Result<(), String> {
        for (what, left, right) in [
            ("topic", &recorded.topic, &ours.topic),
            ("event", &recorded.event, &ours.event),
            ("join_ref", &recorded.join_ref, &ours.join_ref),
            ("ref", &recorded.reference, &ours.reference),
        ] {
            if left != right {
                return Err(format!("{what} differs"));
            }
        }
        self.walk("payload", &recorded.payload, &ours.payload)
    }

    fn walk(&mut self, path: &str, recorded: &Json, ours: &Json) -> Result<(), String> {
        let key = path.rsplit('.').next().unwrap_or(path);
        match (recorded, ours) {
            (Json::Object(_), Json::Object(_)) => {
                if recorded.keys() != ours.keys() {
                    return Err(format!("{path} has other keys"));
                }
                for key in recorded.keys() {
                    self.walk(&format!("{path}.{key}"), recorded.at(key), ours.at(key))?;
                }
            }
            (Json::Array(left), Json::Array(right)) if path == "payload.ids" => self.same_ids(left, right)?,
            (Json::Array(left), Json::Array(right)) => {
                if left.len() != right.len() {
                    return Err(format!("{path} has another length"));
                }
                for (index, (left, right)) in left.iter().zip(right).enumerate() {
                    self.walk(&format!("{path}[{index}]"), left, right)?;
                }
            }
            (Json::Number(_), Json::Number(_)) if path.contains("postgres_changes[") && key == "id" => {
                let (Some(left), Some(right)) = (recorded.as_i64(), ours.as_i64()) else {
                    return Err(format!("{path} is not an integer"));
                };
                if !(1..=i64::from(i32::MAX)).contains(&right) {
                    return Err(format!("{path} is not a positive integer of 32 bits"));
                }
                if *self.ours.entry(left).or_insert(right) != right
                    || *self.recorded.entry(right).or_insert(left) != left
                {
                    return Err(format!("{path} is not stable: the same binding has one id, another binding another"));
                }
            }
            (Json::String(left), Json::String(right)) if key == "commit_timestamp" || key == "at" => {
                if shape(left, key == "at") != shape(right, key == "at") {
                    return Err(format!("{path} has another form"));
                }
            }
            (Json::String(left), Json::String(right)) if left.contains(" seconds ago") => {
                if without_digits(left) != without_digits(right) {
                    return Err(format!("{path} differs"));
                }
            }
            _ if recorded == ours => {}
            _ => return Err(format!("{path} differs")),
        }
        Ok(())
    }

    fn same_ids(&self, recorded: &[Json], ours: &[Json]) -> Result<(), String> {
        let mapped = recorded.iter().map(|id| id.as_i64().and_then(|id| self.ours.get(&id).copied()));
        let mut mapped: Vec<Option<i64>> = mapped.collect();
        let mut ours: Vec<Option<i64>> = ours.iter().map(Json::as_i64).collect();
        mapped.sort_unstable();
        ours.sort_unstable();
        if mapped == ours { Ok(()) } else { Err(format!("payload.ids differ: expected {mapped:?}, got {ours:?}")) }
    }
}

/// A time with every digit made alike. A database's own fraction may be shorter by its trailing zeros, or absent.
fn shape(time: &str, any_fraction: bool) -> String {
    let digits = |text: &str| text.replace(|c: char| c.is_ascii_digit(), "9");
    match time.split_once('.') {
        Some((seconds, rest)) if any_fraction => {
            digits(seconds) + &digits(rest.trim_start_matches(|c: char| c.is_ascii_digit()))
        }
        _ => digits(time),
    }
}

fn without_digits(text: &str) -> String {
    text.chars().filter(|c| !c.is_ascii_digit()).collect()
}

#[test]
fn a_comparison_finds_each_kind_of_difference() {
    let reply = |ids: &str| {
        format!(r#"["1","1","realtime:t","phx_reply",{{"response":{{"postgres_changes":[{ids}]}},"status":"ok"}}]"#)
    };
    let event = |ids: &str, time: &str, at: &str, value: &str| {
        let record = format!(r#"{{"at":"{at}","v":{value}}}"#);
        format!(
            r#"[null,null,"realtime:t","postgres_changes",{{"ids":{ids},"data":{{"commit_timestamp":{time},"record":{record}}}}}]"#
        )
    };
    let mut ids = Ids::default();
    let mut differ = |recorded: &str, ours: &str| {
        ids.compare(&Message::parse(recorded, Vsn::V2), &Message::parse(ours, Vsn::V2)).is_err()
    };
    assert!(!differ(&reply(r#"{"id":11},{"id":12}"#), &reply(r#"{"id":1},{"id":2}"#)));
    assert!(differ(&reply(r#"{"id":11}"#), &reply(r#"{"id":3}"#)), "an id that changed");
    assert!(differ(&reply(r#"{"id":13}"#), &reply(r#"{"id":2}"#)), "an id that was another's");
    assert!(differ(&reply(r#"{"id":14}"#), &reply(r#"{"id":0}"#)), "zero is no id");
    assert!(differ(&reply(r#"{"id":14}"#), &reply(r#"{"id":5,"filter":null}"#)), "a key too many");

    let (time, at) = (r#""2026-11-20T18:41:57.836Z""#, "2026-11-20T18:36:10.134947+00:00");
    let recorded = event("[11,12]", time, at, "1.50");
    assert!(!differ(&recorded, &event("[2,1]", r#""2027-01-02T03:04:05.006Z""#, "2027-01-02T03:04:05.1+00:00", "1.5")));
    assert!(differ(&recorded, &event("[2]", time, at, "1.5")), "an id that is missing");
    assert!(differ(&recorded, &event("[2,1]", "null", at, "1.5")), "no time");
    assert!(differ(&recorded, &event("[2,1]", r#""2027-01-02T03:04:05Z""#, at, "1.5")), "a time without milliseconds");
    assert!(differ(&recorded, &event("[2,1]", time, "2027-01-02 03:04:05.1+00", "1.5")), "a time in Postgres form");
    assert!(differ(&recorded, &event("[2,1]", time, at, "1.51")), "another number");
    assert!(differ(&recorded, &event("[2,1]", time, at, "\"1.5\"")), "a number as text");
    let with_ref = recorded.replacen("null", "\"1\"", 1);
    assert!(differ(&recorded, &with_ref), "a join_ref");
}

macro_rules! conversations {
    ($($story:ident: $file:literal,)+) => { $(
        mod $story {
            use super::*;

            #[tokio::test(flavor = "multi_thread")]
            async fn goes_as_recorded_in_v1() {
                replay($file, Vsn::V1).await.unwrap_or_else(|problems| panic!("{problems}"));
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn goes_as_recorded_in_v2() {
                replay($file, Vsn::V2).await.unwrap_or_else(|problems| panic!("{problems}"));
            }
        }
    )+

        /// Every conversation in the folder is played.
        pub const NAMES: &[&str] = &[$($file),+];
    };
}

conversations! {
    access_token: "access-token",
    changes_filters: "changes-filters",
    changes_no_rls: "changes-no-rls",
    changes_rls: "changes-rls",
    changes_types: "changes-types",
    connect_errors: "connect-errors",
    connect_heartbeat: "connect-heartbeat",
    connect_no_vsn: "connect-no-vsn",
    idle_timeout: "idle-timeout",
    join_errors: "join-errors",
    join_leave: "join-leave",
    join_postgres_changes: "join-postgres-changes",
    join_token_errors: "join-token-errors",
    malformed_frames: "malformed-frames",
    old_api: "old-api",
    topic_errors: "topic-errors",
}
