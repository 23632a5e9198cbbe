//! Tables that change while they are streamed: the stream goes on, whoever is affected hears of it, and nobody sees a column
//! he may not, neither live nor when he comes back.

use super::setup::{all_of, database, items, summary, token_of, wait_for_stream};
use crate::support::{
    json::Json,
    postgres::{Database, Postgres},
    server::Server,
    socket::{Message, Socket},
};
use serde_json::{Value, json};

const TOPIC: &str = "realtime:line";

fn alice() -> String {
    token_of(json!({"role": "authenticated", "sub": "11111111-1111-1111-1111-111111111111"}))
}

/// Somebody who can come back, with these bindings.
async fn reader(server: &Server, bindings: &Value, resume: Value) -> (Socket, Json) {
    let mut socket = Socket::open(&server.websocket_url("2.0.0", &alice())).await;
    let config = json!({"postgres_changes": bindings, "postgres_changes_options": {"resume": resume}});
    socket.join(TOPIC, &json!({ "config": config })).await;
    let standing = socket.expect("where it stands", is_standing).await.payload;
    (socket, standing)
}

fn is_standing(message: &Message) -> bool {
    message.is(TOPIC, "system") && *message.payload.at("message") == "Subscribed to PostgreSQL"
}

fn is_error(message: &Message) -> bool {
    message.is(TOPIC, "system") && *message.payload.at("status") == "error"
}

/// The table and key of the next change.
async fn next(socket: &mut Socket) -> (String, String, i64) {
    let change = socket.change(TOPIC).await;
    let (kind, key) = summary(&change);
    (change.at("data").at("table").as_str().expect("a table").to_owned(), kind, key)
}

fn is(table: &str, kind: &str, key: i64) -> (String, String, i64) {
    (table.to_owned(), kind.to_owned(), key)
}

async fn stage(sql: &str) -> (Database, Server) {
    let database = database(Postgres::default(), sql).await;
    let server = Server::start(&database, &[]).await;
    wait_for_stream(&server).await;
    (database, server)
}

#[tokio::test]
async fn a_table_that_is_dropped_and_made_again_or_moved_is_told_to_who_named_it_and_comes_back_to_them() {
    let (database, server) = stage(&format!("{} {} create schema attic;", items("docs"), items("other"))).await;
    let (mut named, _) = reader(&server, &all_of("docs"), json!(true)).await;
    let (mut all, _) = reader(&server, &json!([{"event": "*", "schema": "public"}]), json!(true)).await;
    let client = database.connect().await;
    let run = async |sql: &str| client.batch_execute(sql).await.unwrap();
    run("insert into docs values (1)").await;
    assert_eq!((next(&mut named).await, next(&mut all).await), (is("docs", "INSERT", 1), is("docs", "INSERT", 1)));
    run("drop table docs; insert into other values (1)").await;
    assert_eq!(next(&mut all).await, is("other", "INSERT", 1));
    named.expect("word that the table is gone", is_error).await;
    run("create table docs (id int primary key, body text, more text); alter publication supabase_realtime add table docs")
        .await;
    let standing = named.expect("word that it is back", is_standing).await.payload;
    assert_eq!(*standing.at("resumed"), Json::Bool(false), "meanwhile it was not there: {standing}");
    assert!(standing.at("cursor").as_str().is_some() && standing.at("reason").as_str().is_some(), "{standing}");
    run("insert into docs values (2)").await;
    assert_eq!((next(&mut named).await, next(&mut all).await), (is("docs", "INSERT", 2), is("docs", "INSERT", 2)));
    run("alter table docs set schema attic; insert into other values (2)").await;
    assert_eq!(next(&mut all).await, is("other", "INSERT", 2));
    named.expect("word that the table has moved", is_error).await;
    run("insert into attic.docs values (3); insert into other values (3)").await;
    assert_eq!(next(&mut all).await, is("other", "INSERT", 3), "what is in the other schema is not for them");
    run("alter table attic.docs set schema public").await;
    named.expect("word that it is back", is_standing).await;
    run("insert into docs values (4)").await;
    assert_eq!((next(&mut named).await, next(&mut all).await), (is("docs", "INSERT", 4), is("docs", "INSERT", 4)));
}

#[tokio::test]
async fn truncate_is_passed_over_and_another_replica_identity_counts_from_its_own_commit_on() {
    let (database, server) = stage(&items("docs")).await;
    let (mut socket, _) = reader(&server, &all_of("docs"), json!(true)).await;
    let client = database.connect().await;
    let run = async |sql: &str| client.batch_execute(sql).await.unwrap();
    run("insert into docs values (1, 'a'), (2, 'b'); truncate docs; insert into docs values (3, 'c')").await;
    for key in 1..=3 {
        assert_eq!(next(&mut socket).await, is("docs", "INSERT", key));
    }
    run("update docs set body = 'd'; alter table docs replica identity full; update docs set body = 'e'").await;
    run("alter table docs replica identity default; update docs set body = 'f'").await;
    let mut old = Vec::new();
    for _ in 0..3 {
        old.push(socket.change(TOPIC).await.at("data").at("old_record").clone());
    }
    assert_eq!(old[0], json!({"id": 3}));
    assert_eq!(old[1], json!({"id": 3, "body": "d"}), "the whole row was logged");
    assert_eq!(old[2], json!({"id": 3}));
    run("alter table docs replica identity nothing; insert into docs values (4)").await;
    assert_eq!(next(&mut socket).await, is("docs", "INSERT", 4));
}

#[tokio::test]
async fn a_partitioned_table_is_told_by_its_own_name_or_by_its_partitions_as_the_publication_says_also_when_that_changes()
 {
    let (database, server) = stage(
        "create table parts (id int primary key, body text) partition by range (id); \
         create table parts_low partition of parts for values from (0) to (100); \
         create table parts_high partition of parts for values from (100) to (200); \
         alter publication supabase_realtime add table parts; \
         alter publication supabase_realtime set (publish_via_partition_root = false);",
    )
    .await;
    let (mut all, _) = reader(&server, &json!([{"event": "*", "schema": "public"}]), json!(true)).await;
    let (mut low, _) = reader(&server, &all_of("parts_low"), json!(true)).await;
    let client = database.connect().await;
    let run = async |sql: &str| client.batch_execute(sql).await.unwrap();
    run("insert into parts values (1), (101)").await;
    assert_eq!(
        (next(&mut all).await, next(&mut all).await),
        (is("parts_low", "INSERT", 1), is("parts_high", "INSERT", 101))
    );
    assert_eq!(next(&mut low).await, is("parts_low", "INSERT", 1));
    run("alter publication supabase_realtime set (publish_via_partition_root = true)").await;
    low.expect("word that partitions are not told any more", is_error).await;
    run("insert into parts values (2); update parts set id = 102 where id = 2").await;
    assert_eq!(next(&mut all).await, is("parts", "INSERT", 2));
    let moved = [next(&mut all).await, next(&mut all).await];
    assert_eq!(moved, [is("parts", "DELETE", 2), is("parts", "INSERT", 102)], "a row that moves is two changes");
    run("alter publication supabase_realtime set (publish_via_partition_root = false)").await;
    low.expect("word that they are again", is_standing).await;
    run(
        "create table parts_top partition of parts for values from (200) to (300); insert into parts values (201), (3)",
    )
    .await;
    assert_eq!(
        (next(&mut all).await, next(&mut all).await),
        (is("parts_top", "INSERT", 201), is("parts_low", "INSERT", 3))
    );
    assert_eq!(next(&mut low).await, is("parts_low", "INSERT", 3));
}

#[tokio::test]
async fn a_schema_that_is_restored_from_a_dump_is_streamed_on_and_others_miss_nothing() {
    let (database, server) = stage(&format!("create schema shop; {}", items("other"))).await;
    let make = "create table shop.docs (id int primary key, body text); grant usage on schema shop to authenticated, walcast; \
                grant select on shop.docs to authenticated, walcast; \
                alter publication supabase_realtime add table shop.docs;";
    let client = database.connect().await;
    let run = async |sql: &str| client.batch_execute(sql).await.unwrap();
    run(make).await;
    let docs = json!([{"event": "*", "schema": "shop", "table": "docs"}]);
    let (mut docs, mut other) =
        (eventually(&server, &docs).await, reader(&server, &all_of("other"), json!(true)).await.0);
    for round in 0..2 {
        run(&format!("insert into shop.docs values ({round}); insert into other values ({round})")).await;
        assert_eq!(next(&mut docs).await, is("docs", "INSERT", round));
        // As a restore does: everything is dropped, made, filled and published in one go.
        run(&format!(
            "begin; drop schema shop cascade; create schema shop; {make} \
             insert into shop.docs select g from generate_series(100, 102) g; commit; insert into other values ({})",
            round + 10
        ))
        .await;
        run(&format!("insert into shop.docs values ({})", 200 + round)).await;
        for key in [100, 101, 102, 200 + round] {
            assert_eq!(next(&mut docs).await, is("docs", "INSERT", key), "it was never without the table");
        }
        assert_eq!(next(&mut other).await, is("other", "INSERT", round));
        assert_eq!(next(&mut other).await, is("other", "INSERT", round + 10));
    }
}

/// Joins until the bindings work: the catalogue may not have been read yet.
async fn eventually(server: &Server, bindings: &Value) -> Socket {
    let mut socket = Socket::open(&server.websocket_url("2.0.0", &alice())).await;
    let config = json!({"postgres_changes": bindings, "postgres_changes_options": {"resume": true}});
    socket.join(TOPIC, &json!({ "config": config })).await;
    socket.expect("an active subscription", is_standing).await;
    socket
}

#[tokio::test]
async fn who_comes_back_gets_what_he_missed_by_the_rights_and_the_columns_of_now() {
    let (database, server) = stage(&format!(
        "{} alter table docs add owner uuid default '11111111-1111-1111-1111-111111111111', add secret text default 's', add note text; \
         alter table docs enable row level security; \
         create policy mine on docs for select to authenticated using (owner = (select auth.uid()));",
        items("docs")
    ))
    .await;
    let (socket, standing) = reader(&server, &all_of("docs"), json!(true)).await;
    let cursor = standing.at("cursor").as_str().expect("a cursor").to_owned();
    drop(socket);
    database
        .execute(
            "insert into docs (id, body) values (1, 'a'); insert into docs (id, owner) values (2, gen_random_uuid()); \
             insert into docs (id, body) values (3, 'hidden'); \
             revoke select on docs from authenticated; grant select (id, body, note, owner) on docs to authenticated; \
             drop policy mine on docs; \
             create policy mine on docs for select to authenticated \
             using (owner = (select auth.uid()) and body is distinct from 'hidden'); \
             alter table docs rename note to remark; insert into docs (id, body) values (4, 'b')",
        )
        .await;
    let (mut socket, standing) = reader(&server, &all_of("docs"), json!(cursor)).await;
    assert_eq!(*standing.at("resumed"), Json::Bool(true), "{standing}");
    let first = socket.change(TOPIC).await.at("data").at("record").clone();
    assert_eq!(first.at("id").as_i64(), Some(1), "{first}");
    assert!(!first.has("secret"), "what may not be read any more is not sent late either: {first}");
    let second = socket.change(TOPIC).await.at("data").at("record").clone();
    assert_eq!(second.at("id").as_i64(), Some(4), "{second}");
    assert_eq!((second.has("remark"), second.has("secret")), (true, false), "{second}");
}

#[tokio::test]
async fn when_columns_exchange_their_names_nobody_gets_late_what_he_could_never_see_and_it_is_said() {
    let (database, server) = stage(&format!(
        "{} alter table docs add viewer uuid, add editor uuid; alter table docs enable row level security; \
         create policy viewers on docs for select to authenticated using (viewer = (select auth.uid()));",
        items("docs")
    ))
    .await;
    let everything = token_of(json!({"role": "service_role"}));
    let mut watcher = Socket::open(&server.websocket_url("2.0.0", &everything)).await;
    watcher.subscribe(TOPIC, &all_of("docs")).await;
    let (socket, standing) = reader(&server, &all_of("docs"), json!(true)).await;
    let cursor = standing.at("cursor").as_str().expect("a cursor").to_owned();
    drop(socket);
    let own = |id: i32| format!("insert into docs (id, editor) values ({id}, '11111111-1111-1111-1111-111111111111');");
    let exchange = "alter table docs rename viewer to other; alter table docs rename editor to viewer; \
                    alter table docs rename other to editor;";
    database.execute(&own(1)).await;
    assert_eq!(next(&mut watcher).await, is("docs", "INSERT", 1));
    database.execute(&format!("{exchange} insert into docs (id) values (2)")).await;
    assert_eq!(next(&mut watcher).await, is("docs", "INSERT", 2));
    // The policy goes with its column, which is called `editor` now: the name under which the first row had somebody else's.
    let (mut socket, _) = reader(&server, &all_of("docs"), json!(cursor)).await;
    let word = socket.expect("word of the gap", is_error).await.payload;
    assert_eq!(*word.at("reason"), "columns were given the names of others meanwhile", "{word}");
    let behind = word.at("cursor").as_str().expect("a cursor behind it").to_owned();
    database.execute(&own(3)).await;
    assert_eq!(next(&mut socket).await, is("docs", "INSERT", 3));
    let (mut again, standing) = reader(&server, &all_of("docs"), json!(behind)).await;
    assert_eq!(*standing.at("resumed"), Json::Bool(true), "{standing}");
    assert_eq!(next(&mut again).await, is("docs", "INSERT", 3));
    assert_eq!(next(&mut watcher).await, is("docs", "INSERT", 3));
    // In one transaction the row may be older than what the catalogue says when it comes: it is told, or that it is not.
    database.execute(&format!("{} {exchange}", own(4))).await;
    let is_row = |message: &Message| {
        message.is(TOPIC, "postgres_changes") && message.payload.at("data").at("record").at("id").as_i64() == Some(4)
    };
    for socket in [&mut socket, &mut watcher] {
        socket.expect("the row, or word of the gap", |message| is_row(message) || is_error(message)).await;
    }
}
