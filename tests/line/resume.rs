//! Coming back with a cursor: exactly what was missed, once each and in order, or word that it cannot be had.

use super::setup::{all_of, database, items, summary, token_of, wait_for_stream};
use crate::support::{
    json::Json,
    postgres::{Database, Postgres},
    server::Server,
    socket::Socket,
};
use serde_json::{Value, json};

const TOPIC: &str = "realtime:line";

/// A subscriber that can come back.
struct Reader {
    socket: Socket,
    cursor: String,
}

impl Reader {
    /// Joins with this resume option; with what the server says of it.
    async fn join(server: &Server, token: &str, resume: Value) -> (Reader, Json) {
        let mut socket = Socket::open(&server.websocket_url("2.0.0", token)).await;
        let config = json!({"postgres_changes": all_of("items"), "postgres_changes_options": {"resume": resume}});
        socket.join(TOPIC, &json!({ "config": config })).await;
        let system = socket.expect("the system message", |message| message.is(TOPIC, "system")).await.payload;
        assert_eq!(*system.at("message"), "Subscribed to PostgreSQL", "{system}");
        let cursor = system.at("cursor").as_str().expect("a cursor").to_owned();
        (Reader { socket, cursor }, system)
    }

    /// The keys of the next changes, up to this one; the cursor is then behind it.
    async fn until(&mut self, last: i64) -> Vec<i64> {
        let mut keys = Vec::new();
        loop {
            let change = self.socket.change(TOPIC).await;
            self.cursor = change.at("data").at("cursor").as_str().expect("a cursor").to_owned();
            keys.push(summary(&change).1);
            if keys.last() == Some(&last) {
                return keys;
            }
        }
    }
}

async fn insert(database: &Database, keys: std::ops::RangeInclusive<i64>) {
    let (first, last) = keys.into_inner();
    database.execute(&format!("insert into items select g, 'x' from generate_series({first}, {last}) g")).await;
}

#[tokio::test]
async fn what_was_missed_comes_behind_the_cursor_and_then_what_is_new() {
    let database = database(Postgres::default(), &items("items")).await;
    let server = Server::start(&database, &[]).await;
    let token = token_of(json!({"role": "service_role"}));
    let (mut reader, system) = Reader::join(&server, &token, json!(true)).await;
    assert_eq!(*system.at("resumed"), Json::Bool(false), "there was nothing before: {system}");
    assert!(!system.has("reason"), "{system}");
    insert(&database, 1..=3).await;
    assert_eq!(reader.until(2).await, [1, 2]);
    let cursor = reader.cursor.clone();
    drop(reader);
    insert(&database, 4..=5).await;
    let (mut reader, system) = Reader::join(&server, &token, json!(cursor)).await;
    assert_eq!(*system.at("resumed"), Json::Bool(true), "{system}");
    assert_eq!(reader.until(5).await, [3, 4, 5]);
    insert(&database, 6..=6).await;
    assert_eq!(reader.until(6).await, [6]);
}

#[tokio::test]
async fn who_comes_back_right_after_a_column_was_taken_from_him_is_not_given_what_it_held() {
    let table = format!("{} revoke select on items from authenticated;", items("items"));
    let database = database(Postgres::default(), &table).await;
    let server = Server::start(&database, &[]).await;
    let token = token_of(json!({"role": "authenticated"}));
    for round in 0..3 {
        let (public, secret) = (10 * round + 1, 10 * round + 2);
        database.execute("grant select (id, body) on items to authenticated").await;
        let (mut reader, _) = Reader::join(&server, &token, json!(true)).await;
        insert(&database, public..=public).await;
        let change = reader.socket.change(TOPIC).await;
        let data = change.at("data");
        assert_eq!(*data.at("record").at("body"), "x", "what the log describes again is read at once: {change}");
        let cursor = data.at("cursor").as_str().expect("a cursor").to_owned();
        drop(reader);
        insert(&database, secret..=secret).await;
        database.execute("revoke select (body) on items from authenticated").await;
        let (mut reader, system) = Reader::join(&server, &token, json!(cursor)).await;
        assert_eq!(*system.at("resumed"), Json::Bool(true), "{system}");
        let change = reader.socket.change(TOPIC).await;
        assert_eq!(*change.at("data").at("record").at("id"), json!(secret), "{change}");
        assert!(!change.at("data").at("record").has("body"), "{change}");
    }
}

#[tokio::test]
async fn a_cursor_holds_when_the_server_was_killed() {
    let database = database(Postgres::default(), &items("items")).await;
    let server = Server::start(&database, &[]).await;
    let token = token_of(json!({"role": "service_role"}));
    let (mut reader, _) = Reader::join(&server, &token, json!(true)).await;
    insert(&database, 1..=5).await;
    assert_eq!(reader.until(3).await, [1, 2, 3]);
    let cursor = reader.cursor.clone();
    drop(server);
    insert(&database, 6..=7).await;
    let server = Server::start(&database, &[]).await;
    let (mut reader, system) = Reader::join(&server, &token, json!(cursor)).await;
    assert_eq!(*system.at("resumed"), Json::Bool(true), "{system}");
    insert(&database, 8..=8).await;
    assert_eq!(reader.until(8).await, [4, 5, 6, 7, 8]);
    // Whoever joins now does not get what was before.
    let (mut other, _) = Reader::join(&server, &token, json!(true)).await;
    insert(&database, 9..=9).await;
    assert_eq!(other.until(9).await, [9]);
}

#[tokio::test]
async fn what_cannot_be_resumed_is_said_and_never_given_in_part() {
    let database = database(Postgres::default(), &items("items")).await;
    let small = [("WALCAST_BACKLOG_BYTES", "4000")];
    let server = Server::start(&database, &small).await;
    let token = token_of(json!({"role": "service_role"}));
    let (mut reader, _) = Reader::join(&server, &token, json!(true)).await;
    insert(&database, 1..=1).await;
    reader.until(1).await;
    let old = reader.cursor.clone();
    for key in 2..=60 {
        insert(&database, key..=key).await;
    }
    reader.until(60).await;
    for (cursor, reason) in [(old.as_str(), "too old"), ("nonsense", "not a cursor")] {
        let (mut late, system) = Reader::join(&server, &token, json!(cursor)).await;
        assert_eq!(*system.at("resumed"), Json::Bool(false), "{system}");
        assert!(system.at("reason").as_str().is_some_and(|said| said.contains(reason)), "{system}");
        let next = if reason == "too old" { 61 } else { 62 };
        insert(&database, next..=next).await;
        assert_eq!(late.until(next).await, [next]);
    }
}

#[tokio::test]
async fn who_hears_nothing_gets_new_cursors_and_who_does_not_ask_gets_none() {
    let database = database(Postgres::default(), &items("items")).await;
    let server = Server::start(&database, &[("WALCAST_RESUME_WINDOW_MS", "2000")]).await;
    wait_for_stream(&server).await;
    let token = token_of(json!({"role": "service_role"}));
    let (mut reader, system) = Reader::join(&server, &token, json!(true)).await;
    let mut plain = Socket::open(&server.websocket_url("2.0.0", &token)).await;
    plain.subscribe(TOPIC, &all_of("items")).await;
    let said = |message: &crate::support::socket::Message| message.is(TOPIC, "system");
    for _ in 0..3 {
        let fresh = reader.socket.expect("a new cursor", said).await.payload;
        assert_eq!(*fresh.at("message"), "cursor", "{fresh}");
        reader.cursor = fresh.at("cursor").as_str().expect("a cursor").to_owned();
    }
    assert!(system.at("cursor").as_str().is_some());
    insert(&database, 1..=1).await;
    let change = plain.change(TOPIC).await;
    assert!(!change.at("data").has("cursor"), "{change}");
    let (mut late, system) = Reader::join(&server, &token, json!(reader.cursor)).await;
    assert_eq!(*system.at("resumed"), Json::Bool(true), "{system}");
    assert_eq!(late.until(1).await, [1]);
    insert(&database, 2..=2).await;
    plain.change(TOPIC).await;
}
