//! Rights that are taken away together with, or right before, the rows they guard; what the log keeps to itself; and
//! generated columns a policy reads.

use super::setup::{database, is, items, summary, wait_for_stream};
use crate::support::{
    json::Json,
    postgres::Postgres,
    server::Server,
    socket::{PATIENCE, Socket},
    token::{ALICE, alice, anon},
    wait::until,
};
use serde_json::json;
use std::time::Duration;

const TOPIC: &str = "realtime:line";

async fn everything(server: &Server, token: &str) -> Socket {
    let mut socket = Socket::open(&server.websocket_url("2.0.0", token)).await;
    socket.subscribe(TOPIC, &json!([{"event": "*", "schema": "public"}])).await;
    socket
}

/// What comes before the fence.
async fn before_fence(socket: &mut Socket) -> Vec<Json> {
    let mut changes = Vec::new();
    loop {
        let change = socket.change(TOPIC).await;
        if *change.at("data").at("table") == "fence" {
            return changes;
        }
        changes.push(change);
    }
}

/// A right is gone with the commit that takes it away, not half a second later.
#[tokio::test]
async fn a_row_behind_the_statement_that_hides_it_is_hidden() {
    let sql = format!(
        "{} {} {} alter table other enable row level security; create policy every on other using (id > 0);",
        items("docs"),
        items("other"),
        items("fence")
    );
    let database = database(Postgres::default(), &sql).await;
    let server = Server::start(&database, &[]).await;
    wait_for_stream(&server).await;
    let mut socket = everything(&server, &anon()).await;
    let client = database.connect().await;
    let cases = [
        ("alter table docs enable row level security", "alter table docs disable row level security"),
        ("revoke select on docs from anon", "grant select on docs to anon"),
        ("revoke select on docs from anon; grant select (body) on docs to anon", "grant select on docs to anon"),
        ("drop policy every on other", "create policy every on other using (id > 0)"),
        ("create policy blank on other as restrictive using (body is null)", "drop policy blank on other"),
        ("alter policy every on other using (id < 0)", "alter policy every on other using (id > 0)"),
    ];
    let mut id = 0;
    for (hide, show) in cases {
        let table = if hide.contains("other") { "other" } else { "docs" };
        for together in [true, false] {
            id += 10;
            let secret = format!("insert into {table} values ({}, 'secret')", id + 1);
            client.batch_execute(&format!("insert into {table} values ({id})")).await.unwrap();
            assert_eq!(summary(&socket.change(TOPIC).await), is("INSERT", id), "before: {hide}");
            if together {
                client.batch_execute(&format!("{hide}; {secret}")).await.unwrap();
            } else {
                client.batch_execute(hide).await.unwrap();
                client.batch_execute(&secret).await.unwrap();
            }
            client.batch_execute(&format!("insert into fence values ({id})")).await.unwrap();
            let seen = before_fence(&mut socket).await;
            let told = |change: &Json| change.to_string().contains("secret");
            assert!(!seen.iter().any(told), "after: {hide}");
            client.batch_execute(show).await.unwrap();
            // Until the right is back: the next round begins with a row that must come.
            for probe in 1.. {
                let id = id * 1000 + probe;
                let sql = format!("insert into {table} values ({id}); insert into fence values ({id})");
                client.batch_execute(&sql).await.unwrap();
                let seen = before_fence(&mut socket).await;
                if seen.iter().any(|change| change.at("data").at("record").has("id")) {
                    break;
                }
            }
        }
    }
}

/// A generated column is what the table would hold, its length and scale included.
#[tokio::test]
async fn a_generated_column_is_judged_as_the_table_holds_it() {
    let sql = format!(
        "create table docs (id int primary key, word text, price numeric,
           code char(6) generated always as (word) stored, cents numeric(8,2) generated always as (price) stored);
         alter table docs enable row level security;
         create policy open on docs for select using (code <> 'secret' and cents < 100);
         alter publication supabase_realtime add table docs; {}",
        items("fence")
    );
    let database = database(Postgres::default(), &sql).await;
    let server = Server::start(&database, &[]).await;
    wait_for_stream(&server).await;
    let mut socket = everything(&server, &alice()).await;
    database
        .execute(
            "insert into docs values (1, 'secret', 1), (2, 'open', 99.999), (3, 'open', 99.991);
             insert into fence values (1)",
        )
        .await;
    let seen: Vec<_> = before_fence(&mut socket).await.iter().map(summary).collect();
    assert_eq!(seen, [is("INSERT", 3)]);
}

#[tokio::test]
async fn the_most_talkative_log_has_neither_rows_nor_claims() {
    let sql = format!(
        "create table docs (id int primary key, owner_id uuid, body text); alter table docs enable row level security;
         create policy own on docs for select using (owner_id = auth.uid());
         alter publication supabase_realtime add table docs; {}",
        items("fence")
    );
    let database = database(Postgres::default(), &sql).await;
    let server = Server::start(&database, &[("WALCAST_LOG_LEVEL", "trace")]).await;
    wait_for_stream(&server).await;
    let mut socket = everything(&server, &alice()).await;
    database.execute(&format!("insert into docs values (1, '{ALICE}', 'sesame'); insert into fence values (1)")).await;
    assert_eq!(before_fence(&mut socket).await.len(), 1);
    let log = server.log().join("\n");
    assert!(log.contains("replication started"), "{log}");
    for secret in ["sesame", ALICE] {
        if let Some(line) = server.log().iter().find(|line| line.contains(secret)) {
            panic!("{secret} in {line}");
        }
    }
}

/// Sessions that make temporary tables all the time are no reason to read the catalogue, and compile every
/// subscription, twice a second.
#[tokio::test]
async fn a_temporary_table_does_not_have_the_catalogue_read() {
    let database = database(Postgres::default(), &items("docs")).await;
    let server = Server::start(&database, &[]).await;
    wait_for_stream(&server).await;
    let reads = || server.log().iter().filter(|line| line.contains("catalogue read")).count();
    let client = database.connect().await;
    // Other tests change roles, which belong to all databases: one quiet round is proof enough.
    until(PATIENCE, async || {
        let before = reads();
        client.batch_execute("drop table if exists scratch; create temporary table scratch (n int)").await.unwrap();
        // Longer than two looks at the version.
        tokio::time::sleep(Duration::from_millis(1200)).await;
        reads() == before
    })
    .await;
    let before = reads();
    client.batch_execute("create type mood as enum ('good')").await.unwrap();
    until(PATIENCE, async || reads() > before).await;
}
