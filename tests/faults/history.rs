//! Cursors of a history that is not the one that is read now, though its name is the same: a transaction that is streamed
//! with other publications, and a database that is an older copy of itself.

use super::site::Site;
use crate::{
    line::setup::{summary, wait_for_health, wait_for_stream},
    support::{json::Json, server::Server, socket::Socket, token::alice},
};
use serde_json::{Value, json};
use std::{process::Command, time::Duration};

const TOPIC: &str = "realtime:line";
const PATIENCE: Duration = Duration::from_secs(30);

/// A subscriber to the table everybody sees.
struct Reader(Socket);

impl Reader {
    /// With what it is told.
    async fn join(server: &Server, resume: Value) -> (Reader, Json) {
        let mut socket = Socket::open(&server.websocket_url("2.0.0", &alice())).await;
        let bindings = json!([{"event": "*", "schema": "public", "table": "marks"}]);
        let config = json!({"postgres_changes": bindings, "postgres_changes_options": {"resume": resume}});
        socket.join(TOPIC, &json!({ "config": config })).await;
        let system = socket.expect_within(PATIENCE, "the system message", |message| message.is(TOPIC, "system")).await;
        (Reader(socket), system.payload)
    }

    /// The next change's key, and the cursor behind it.
    async fn next(&mut self) -> (i64, String) {
        let change = self.0.change(TOPIC).await;
        (summary(&change).1, change.at("data").at("cursor").as_str().expect("a cursor").to_owned())
    }
}

async fn streams_lookups(server: &Server) {
    wait_for_health(server, |_, health| {
        let lookups = health.at("lookups");
        lookups.has("public.members") && *lookups.at("public.members").at("state") == "ready"
    })
    .await;
}

#[tokio::test]
async fn a_cursor_within_a_transaction_that_is_streamed_with_other_publications_now_is_refused() {
    let site = Site::shared().await;
    site.execute("drop publication walcast_lookups").await;
    let server = Server::start_at(&site.url(), &site.slot, &[]).await;
    wait_for_stream(&server).await;
    site.execute("insert into marks values (1, 1)").await;
    // As `walcast migrate` does.
    site.execute("create publication walcast_lookups for table members").await;
    streams_lookups(&server).await;
    let (mut reader, _) = Reader::join(&server, json!(true)).await;
    site.execute(
        "begin; insert into members values (7, gen_random_uuid()); insert into marks values (10, 1), (11, 1); commit",
    )
    .await;
    let ((10, within), (11, behind)) = (reader.next().await, reader.next().await) else { panic!("both came") };
    // Here it is streamed as it was.
    let (mut same, system) = Reader::join(&server, json!(within)).await;
    assert_eq!(*system.at("resumed"), Json::Bool(true), "{system}");
    assert_eq!(same.next().await.0, 11);
    // The next one has to stream without that publication, which the slot is older than.
    drop(server);
    let server = Server::start_at(&site.url(), &site.slot, &[]).await;
    let (mut whole, system) = Reader::join(&server, json!(behind)).await;
    assert_eq!(*system.at("resumed"), Json::Bool(true), "a cursor between transactions holds: {system}");
    let (mut part, system) = Reader::join(&server, json!(within)).await;
    let refused = if *system.at("resumed") == Json::Bool(true) {
        // The transaction had not come yet.
        part.0.expect_within(PATIENCE, "the gap", |message| message.is(TOPIC, "system")).await.payload
    } else {
        system
    };
    assert_eq!(*refused.at("resumed"), Json::Bool(false), "{refused}");
    assert!(refused.at("reason").as_str().is_some_and(|reason| reason.contains("too old")), "{refused}");
    site.execute("insert into marks values (12, 1)").await;
    assert_eq!((whole.next().await.0, part.next().await.0), (12, 12));
}

#[tokio::test]
async fn a_database_that_is_an_older_copy_of_itself_is_a_gap_and_no_cursor_of_what_it_lost_holds() {
    let mut site = Site::own(&[]).await;
    let server = Server::start_at(&site.url(), &site.slot, &[]).await;
    // The copy has the slot, too.
    wait_for_stream(&server).await;
    site.own_cluster().stop().await;
    let directory = site.own_cluster().directory.clone();
    let copy = directory.with_extension("copy");
    assert!(Command::new("cp").arg("-a").arg(&directory).arg(&copy).status().unwrap().success());
    site.own_cluster().start().await;
    let (mut reader, _) = Reader::join(&server, json!(true)).await;
    site.execute("insert into marks select g, 1 from generate_series(1, 400) g").await;
    let mut lost = String::new();
    for key in 1..=400 {
        let (came, cursor) = reader.next().await;
        assert_eq!(came, key);
        lost = cursor;
    }
    site.own_cluster().stop().await;
    std::fs::remove_dir_all(&directory).unwrap();
    std::fs::rename(&copy, &directory).unwrap();
    site.own_cluster().start().await;
    let is_gap = |message: &crate::support::socket::Message| message.is(TOPIC, "system") && message.payload.has("gap");
    let gap = reader.0.expect_within(PATIENCE, "the gap", is_gap).await.payload;
    assert_eq!(*gap.at("resumed"), Json::Bool(false), "{gap}");
    assert_eq!(*gap.at("reason"), "the database's log is another one", "{gap}");
    let mark = gap.at("cursor").as_str().expect("a cursor").to_owned();
    // Less than what was lost, and then so much that the log is behind where that had ended.
    site.execute("insert into marks values (5001, 1)").await;
    site.execute("create table big as select g, repeat('x', 100) from generate_series(1, 5000) g").await;
    site.execute("insert into marks values (5002, 1)").await;
    assert_eq!([reader.next().await.0, reader.next().await.0], [5001, 5002]);
    let (_, system) = Reader::join(&server, json!(lost)).await;
    assert_eq!(*system.at("resumed"), Json::Bool(false), "{system}");
    assert!(system.at("reason").as_str().is_some_and(|reason| reason.contains("history")), "{system}");
    // What was given since holds, through a connection that breaks, too.
    site.end_sessions(true).await;
    wait_for_stream(&server).await;
    let (mut back, system) = Reader::join(&server, json!(mark)).await;
    assert_eq!(*system.at("resumed"), Json::Bool(true), "{system}");
    assert_eq!([back.next().await.0, back.next().await.0], [5001, 5002]);
    server.stop().await;
    site.end().await;
}
