//! Plays the recorded conversations against Walcast and compares what it says, frame by frame.
//!
//! Order is strict within a connection and topic, free across them, and free between the pairs of events that the
//! replaced server sends in no order of its own (`is_free_of`). What the server makes itself is mapped, not ignored
//! (`compare.rs`); row ids are exact because the sequences start where they stood. Every other difference fails
//! unless `differences.md` names it for this recording.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::compare::Names;
use super::http::{self, Request};
use super::recording::{Exchange, Recording, Step, with_tokens};
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
    let server = Server::start(&database, &settings(name)).await;

    let mut player = Player {
        address: server.address().to_owned(),
        sockets: HashMap::new(),
        names: Names::default(),
        sql_ran: false,
        patience: PATIENCE,
    };
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
            player.patience = QUIET;
        }
    }
    for (conn, mut socket) in player.sockets.drain() {
        problems.extend(superfluous(&conn, socket.drain_until_quiet(QUIET).await));
    }
    server.stop().await;
    if problems.is_empty() { Ok(()) } else { Err(format!("{name} {vsn:?}:\n  {}", problems.join("\n  "))) }
}

/// The limits in force when this was recorded. A short silence stands for a long one.
fn settings(name: &str) -> Vec<(&'static str, &'static str)> {
    let mut settings = vec![
        ("TENANT_MAX_CONCURRENT_USERS", "200"),
        ("TENANT_MAX_CHANNELS_PER_CLIENT", "100"),
        ("TENANT_MAX_EVENTS_PER_SECOND", "100"),
        ("TENANT_MAX_JOINS_PER_SECOND", "100"),
        ("CLIENT_PRESENCE_MAX_CALLS", "5"),
        ("CLIENT_PRESENCE_WINDOW_MS", "30000"),
    ];
    if name == "idle-timeout" {
        settings.push(("WALCAST_IDLE_TIMEOUT_MS", "1500"));
    }
    settings
}

struct Player {
    address: String,
    sockets: HashMap<String, Socket>,
    names: Names,
    sql_ran: bool,
    /// How long a message may take. After the first difference the rest is only told, so it is short then.
    patience: Duration,
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
                let patience = self.patience;
                let heard = hear(self.socket(conn)?, message, patience).await;
                let ours = heard.map_err(|why| format!("{conn}: recorded {}\n      got {why}", message.text))?;
                self.names.compare(message, &ours).map_err(|difference| {
                    format!("{conn}: {difference}\n      recorded {}\n      got      {}", message.text, ours.text)
                })?;
            }
            Step::ReceiveUnreadable { conn, frame } => {
                return Err(format!(
                    "{conn}: recorded a frame that no client reads, and no rule says what we do: {frame}"
                ));
            }
            Step::Sql(_) => unreachable!("the caller runs statements"),
            Step::Http(exchange) => self.exchange(exchange).await?,
            Step::Lose { conn } => drop(self.sockets.remove(conn).ok_or_else(|| format!("{conn}: never opened"))?),
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

    async fn exchange(&self, recorded: &Exchange) -> Result<(), String> {
        let headers = recorded.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let body = recorded.body.as_bytes();
        let request = Request { method: &recorded.method, target: &recorded.path, headers, body };
        let ours = http::ask(&self.address, &request).await;
        let same_body = match (Json::parse(&recorded.answer), Json::parse(&ours.body)) {
            (Ok(recorded), Ok(ours)) => recorded == ours,
            _ => recorded.answer == ours.body,
        };
        let content_type = recorded.content_type.as_deref();
        if ours.status == recorded.status && same_body && ours.header("content-type") == content_type {
            return Ok(());
        }
        let Exchange { method, path, body, status, answer, .. } = recorded;
        Err(format!(
            "{method} {path} {body}\n      recorded {status} {content_type:?} {answer}\n      got      {ours:?}"
        ))
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

/// The next message on the topic of the recorded one, or what came in its place. Messages that may come in any order
/// with it are left for those who expect them.
async fn hear(socket: &mut Socket, recorded: &Message, patience: Duration) -> Result<Message, String> {
    let deadline = Instant::now() + patience;
    loop {
        let place = socket.unread().position(|message| {
            message.topic == recorded.topic && (message.event == recorded.event || !is_free_of(message, recorded))
        });
        if let Some(message) = place.and_then(|place| socket.take_at(place)) {
            return Ok(message);
        }
        match socket.read(deadline).await {
            Heard::Message(message) => socket.keep(*message),
            Heard::Binary(bytes) => return Err(format!("a binary frame no client reads: {bytes:?}")),
            Heard::Closed(code) => return Err(format!("close {code}")),
            Heard::Silence => return Err("nothing on this topic".to_owned()),
        }
    }
}

/// Whether the order of these two is nobody's promise (protocol reference, sections 3.5 and 7.2): the system message
/// here is the one about row changes, which waits for the database.
fn is_free_of(one: &Message, other: &Message) -> bool {
    let are = |left: &str, right: &str| {
        (one.event == left && other.event == right) || (one.event == right && other.event == left)
    };
    let is_about_rows = |message: &Message| *message.payload.at("extension") == "postgres_changes";
    let system = is_about_rows(one) || is_about_rows(other);
    are("presence_diff", "phx_reply") || (system && (are("presence_state", "system") || are("broadcast", "system")))
}

fn superfluous(conn: &str, left: Vec<Message>) -> Vec<String> {
    left.into_iter().map(|message| format!("{conn}: not in the recording: {}", message.text)).collect()
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
    broadcast: "broadcast",
    broadcast_binary: "broadcast-binary",
    broadcast_http: "broadcast-http",
    broadcast_limits: "broadcast-limits",
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
    presence: "presence",
    presence_disabled: "presence-disabled",
    private_channels: "private-channels",
    real_client: "real-client",
    topic_errors: "topic-errors",
}
