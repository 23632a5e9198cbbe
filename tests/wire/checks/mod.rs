//! The numbered conformance checks, as tables: number, what it says, in which encodings, the code. A group shares one
//! server and one database; every check opens its own sockets. All of a group run, then the failures are told by
//! number. Numbers up to 146 are those of the protocol reference (section 14), from 200 on ours (`differences.md`).

mod binding;
mod broadcast;
mod change;
mod conversations;
mod departures;
mod join;
mod legacy;
mod life;
mod limits;
mod odd;
mod presence;
mod private;
mod rest;
mod rights;
mod room;
mod serializer;
mod stored;
mod table;
mod token;
mod upgrade;
mod value;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::fixture;
use super::http::{self, Request, Response};
use crate::messages::setup::wait_for_messages;
use crate::support::json::Json;
use crate::support::postgres::{Database, Postgres, default_major};
use crate::support::server::Server;
use crate::support::socket::{Message, Socket, Vsn};

/// The encodings in which a check is run.
#[derive(Clone, Copy)]
enum In {
    Both,
    V1,
    V2,
}

/// One numbered check.
struct Check {
    number: u16,
    says: &'static str,
    encodings: In,
    run: fn(Door) -> BoxFuture<'static, ()>,
}

impl Check {
    const fn new(number: u16, says: &'static str, encodings: In, run: fn(Door) -> BoxFuture<'static, ()>) -> Self {
        Self { number, says, encodings, run }
    }

    const fn both(number: u16, says: &'static str, run: fn(Door) -> BoxFuture<'static, ()>) -> Self {
        Self::new(number, says, In::Both, run)
    }

    /// In the second encoding alone: what it says is of that one, or the check opens sockets of both by itself.
    const fn v2(number: u16, says: &'static str, run: fn(Door) -> BoxFuture<'static, ()>) -> Self {
        Self::new(number, says, In::V2, run)
    }
}

/// Every group, so that `differences.md` can be held against them.
const GROUPS: &[&[Check]] = &[
    binding::CHECKS,
    binding::WAITING,
    broadcast::CHECKS,
    broadcast::LARGE,
    change::CHECKS,
    change::NARROWED,
    change::STRICT,
    conversations::CHECKS,
    departures::CHECKS,
    departures::NO_PARTITION,
    departures::VALIDATED,
    join::CHECKS,
    join::USUAL_DELAYS,
    legacy::CHECKS,
    life::CHECKS,
    life::DRAIN,
    limits::CHANGES,
    limits::CHANNELS,
    limits::EVENTS,
    limits::JOINS,
    limits::USERS,
    odd::CHECKS,
    presence::CHECKS,
    presence::LIMITED,
    private::CHECKS,
    private::ONLY,
    rest::CHECKS,
    rights::CHECKS,
    serializer::CHECKS,
    stored::CHECKS,
    token::CHECKS,
    token::AUDIENCE,
    token::KEY_SET,
    upgrade::CHECKS,
    upgrade::IDLE,
    value::CHECKS,
];

/// Whether the suite has a check of this number.
pub fn exists(number: u16) -> bool {
    GROUPS.iter().flat_map(|group| group.iter()).any(|check| check.number == number)
}

/// The server as one check sees it.
#[derive(Clone)]
struct Door {
    server: Arc<Server>,
    database: Arc<Database>,
    vsn: Vsn,
}

impl Door {
    /// A socket whose API key is this token.
    async fn socket(&self, token: &str) -> Socket {
        Socket::open(&self.server.websocket_url(self.vsn.parameter(), token)).await
    }

    async fn anon(&self) -> Socket {
        self.socket(&fixture::token("anon")).await
    }

    async fn alice(&self) -> Socket {
        self.socket(&fixture::token("alice")).await
    }

    async fn bob(&self) -> Socket {
        self.socket(&fixture::token("bob")).await
    }

    /// The same server in this encoding.
    fn of(&self, vsn: Vsn) -> Self {
        Self { vsn, ..self.clone() }
    }

    /// The same server in the other encoding.
    fn other(&self) -> Self {
        self.of(if self.vsn == Vsn::V1 { Vsn::V2 } else { Vsn::V1 })
    }

    /// One plain request.
    async fn ask(&self, request: &Request<'_>) -> Response {
        http::ask(self.server.address(), request).await
    }

    /// `ws://host:port` and this path.
    fn url(&self, path: &str) -> String {
        format!("ws://{}{path}", self.server.address())
    }

    async fn sql(&self, statement: &str) {
        self.database.execute(statement).await;
    }
}

/// Runs a group with these settings; panics with the list of what failed.
async fn run(checks: &[Check], settings: &[(&str, &str)], schema: &str) {
    let database = Postgres::default().database().await;
    fixture::prepare(&database).await;
    if !schema.is_empty() {
        database.execute(schema).await;
    }
    let server = Arc::new(Server::start(&database, settings).await);
    wait_for_messages(&server).await;
    let database = Arc::new(database);
    let mut failures = Vec::new();
    for check in checks {
        let encodings: &[Vsn] = match check.encodings {
            In::Both => &[Vsn::V1, Vsn::V2],
            In::V1 => &[Vsn::V1],
            In::V2 => &[Vsn::V2],
        };
        for &vsn in encodings {
            let door = Door { server: Arc::clone(&server), database: Arc::clone(&database), vsn };
            let Check { number, says, run, .. } = check;
            if let Err(panic) = AssertUnwindSafe(run(door)).catch_unwind().await {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panicked without words");
                failures.push(format!("check {number} ({vsn:?}) {says}:\n      {text}"));
            }
        }
    }
    if let Ok(server) = Arc::try_unwrap(server) {
        server.stop().await;
    }
    assert!(failures.is_empty(), "{} failed:\n  {}", failures.len(), failures.join("\n  "));
}

/// `tokio` tests of the groups, with the settings each needs.
macro_rules! groups {
    ($($name:ident: $checks:expr, $settings:expr, $schema:expr;)+) => { $(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            run($checks, &$settings, $schema).await;
        }
    )+ };
}

groups! {
    upgrades_pass_checks_1_to_14_and_138: upgrade::CHECKS, [KEYS], "";
    idle_sockets_pass_check_13: upgrade::IDLE, [("WALCAST_IDLE_TIMEOUT_MS", "1500")], "";
    serializers_pass_checks_15_to_29: serializer::CHECKS, [], "";
    joins_pass_checks_30_to_45: join::CHECKS, [], "";
    waiting_joins_pass_checks_51_and_52: binding::WAITING, [], "";
    tokens_pass_checks_53_to_66: token::CHECKS, [KEYS], "";
    audience_and_issuer_pass_checks_210_and_211: token::AUDIENCE,
        [("WALCAST_JWT_AUDIENCE", "authenticated"), ("WALCAST_JWT_ISSUER", "https://walcast.test/auth/v1")], "";
    bindings_pass_checks_78_to_92: binding::CHECKS, [], binding::SCHEMA;
    changes_pass_checks_67_to_99: change::CHECKS, [], change::SCHEMA;
    strict_deletes_pass_check_212: change::STRICT, [("WALCAST_DELETES", "strict")], "";
    rights_pass_checks_93_to_97: rights::CHECKS, [], rights::SCHEMA;
    values_pass_checks_72_to_75: value::CHECKS, [], value::SCHEMA;
    refusals_with_the_usual_delays_pass_checks_46_and_47: join::USUAL_DELAYS,
        [("WALCAST_JOIN_ERROR_DELAY_MS", "5000"), ("WALCAST_CONNECT_ERROR_DELAY_MS", "2000")], "";
    legacy_topics_pass_checks_100_to_102: legacy::CHECKS, [], "";
    broadcasts_pass_checks_18_to_44_103_and_104: broadcast::CHECKS, [], "";
    large_broadcasts_pass_check_106: broadcast::LARGE, [], "";
    rest_calls_pass_checks_107_to_112_and_139: rest::CHECKS, [], private::SCHEMA;
    the_database_passes_checks_113_to_118: stored::CHECKS, [], &[private::SCHEMA, stored::SCHEMA].concat();
    presence_passes_checks_119_to_128: presence::CHECKS, [], "";
    limited_presence_passes_check_127: presence::LIMITED,
        [("CLIENT_PRESENCE_MAX_CALLS", "5"), ("CLIENT_PRESENCE_WINDOW_MS", "30000")], "";
    private_rooms_pass_checks_64_105_and_129_to_135: private::CHECKS, [], private::SCHEMA;
    private_only_servers_pass_check_134: private::ONLY, [("WALCAST_PRIVATE_ONLY", "true")], private::SCHEMA;
    few_users_pass_check_12: limits::USERS, [("TENANT_MAX_CONCURRENT_USERS", "2")], "";
    many_channels_pass_check_48: limits::CHANNELS, [], "";
    few_messages_pass_check_136: limits::EVENTS, [("TENANT_MAX_EVENTS_PER_SECOND", "1")], "";
    few_changes_pass_check_315: limits::CHANGES, [("TENANT_MAX_EVENTS_PER_SECOND", "1")], "";
    few_joins_pass_check_137: limits::JOINS, [("TENANT_MAX_JOINS_PER_SECOND", "1")], "";
    servers_pass_check_49: life::CHECKS, [], "";
    ending_servers_pass_check_50: life::DRAIN, [], "";
    other_libraries_pass_checks_144_and_145: conversations::CHECKS, [], "";
    what_differs_on_purpose_passes_checks_303_to_314: departures::CHECKS, [], private::SCHEMA;
    databases_without_partitions_pass_check_311: departures::NO_PARTITION, [], private::SCHEMA;
    validated_claims_pass_check_312: departures::VALIDATED, [departures::CLAIMS], "";
    attempts_pass_checks_from_250_on: odd::CHECKS, [], private::SCHEMA;
}

#[tokio::test(flavor = "multi_thread")]
async fn key_sets_pass_check_65() {
    run(token::KEY_SET, &[("API_JWT_JWKS", &token::key_set())], "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn narrowed_publications_pass_check_207() {
    if default_major() < 15 {
        eprintln!("SKIPPED: check 207, row filters and column lists came with PostgreSQL 15");
        return;
    }
    run(change::NARROWED, &[], change::NARROWED_SCHEMA).await;
}

const KEYS: (&str, &str) = ("WALCAST_API_KEYS", "sb_publishable_x=anon,sb_secret_y=service_role");

#[test]
fn no_number_stands_for_two_checks() {
    let mut numbers: Vec<u16> = GROUPS.iter().flat_map(|group| group.iter()).map(|check| check.number).collect();
    numbers.sort_unstable();
    let twice: Vec<&[u16]> = numbers.windows(2).filter(|pair| pair[0] == pair[1]).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

/// A binding on a whole table of `public`.
fn all_of(table: &str) -> Value {
    json!([{"event": "*", "schema": "public", "table": table}])
}

/// A binding on `open_notes` with this filter.
fn filtered(filter: &str) -> Value {
    json!([{"event": "*", "schema": "public", "table": "open_notes", "filter": filter}])
}

/// The `body` column of the record of a change.
fn body(change: &Json) -> Option<&str> {
    change.at("data").at("record").at("body").as_str()
}

/// The messages that are about changes, in either form.
fn changes(messages: &[Message]) -> Vec<&Message> {
    messages.iter().filter(|m| m.event != "phx_reply" && m.event != "system" && m.event != "phx_close").collect()
}

/// Inserts a row that the socket, subscribed to `open_notes` on this topic without a filter, must see, and takes
/// everything up to it. What was committed before and meant for it has come by then: its own order is commit order.
async fn fence(door: &Door, socket: &mut Socket, topic: &str) -> Vec<Message> {
    let mark = format!("fence {}", uuid::Uuid::new_v4());
    door.sql(&format!("insert into public.open_notes(body, n) values ('{mark}', 0)")).await;
    socket.expect("the fence", |m| m.is(topic, "postgres_changes") && body(&m.payload) == Some(mark.as_str())).await;
    socket.drain()
}
