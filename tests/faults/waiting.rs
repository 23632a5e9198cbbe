//! Making a slot waits for every transaction that was open before. That is said; the slot keeps no more WAL than the budget
//! allows meanwhile; and nothing of it outlives the server. An open transaction is everybody's in a cluster, so each of
//! these has its own.

use super::{site::Site, storm::PATIENCE};
use crate::{
    line::setup::{all_of, get, next, problem, wait_for_health, wait_for_stream},
    support::{json::Json, server::Server, socket::Socket, token::alice, wait::until},
};
use serde_json::json;
use std::time::Duration;
use tokio_postgres::Client;

const TOPIC: &str = "realtime:line";
const BUDGET: i64 = 40_000_000;
const SETTINGS: [(&str, &str); 3] = [
    ("WALCAST_WAL_BUDGET_BYTES", "40000000"),
    ("WALCAST_RESUME_WINDOW_BYTES", "1000000"),
    ("WALCAST_WAL_WATCH_MS", "50"),
];

/// A transaction that writes and stays open, and its process.
async fn open(site: &Site, table: &str) -> (Client, i32) {
    let client = site.admin().await;
    client.batch_execute(&format!("begin; create table {table} ()")).await.unwrap();
    let pid = client.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
    (client, pid)
}

fn sheds(health: &Json) -> i64 {
    health.at("counters").at("slot_sheds_total").as_i64().unwrap()
}

/// Writes WAL until the slot was given up so many times more, each time as soon as there is one that keeps it. It is always
/// soon within its budget again, and at last it is being made anew.
async fn write_until_shed(site: &Site, server: &Server, times: i64) {
    let admin = site.admin().await;
    admin.batch_execute("create table if not exists junk (a int)").await.unwrap();
    let is_kept = async || {
        let sql = "select count(*) from pg_replication_slots where active and
                   pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) < $1::bigint";
        admin.query_one(sql, &[&BUDGET]).await.unwrap().get::<_, i64>(0) == 1
    };
    let wanted = sheds(&get(server, "/health").await.1) + times;
    while sheds(&get(server, "/health").await.1) < wanted {
        until(PATIENCE, is_kept).await;
        admin.batch_execute("insert into junk values (1)").await.unwrap();
        admin.batch_execute("select pg_switch_wal()").await.unwrap();
        // The guard looks every 50 ms.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    until(PATIENCE, is_kept).await;
}

async fn until_no_slot(site: &Site) {
    let admin = site.admin().await;
    let sql = "select count(*) from pg_replication_slots";
    until(PATIENCE, async || admin.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 0).await;
}

#[tokio::test]
async fn a_slot_that_waits_for_an_open_transaction_stays_within_the_budget_and_says_what_it_waits_for() {
    let site = Site::own(&[]).await;
    let (older, pid) = open(&site, "later").await;
    let server = Server::start_at(&site.url(), &site.slot, &SETTINGS).await;
    let health = wait_for_health(&server, |_, health| problem(health).contains("being made")).await;
    let (named, fix) = (format!("process {pid} of role postgres"), format!("select pg_terminate_backend({pid});"));
    assert!(problem(&health).contains(&named) && problem(&health).contains(&fix), "{health}");
    let waits = health.at("replication").at("slot_waits").as_str().unwrap();
    assert!(problem(&health).starts_with(waits) && *health.at("replication").at("state") == "interrupted", "{health}");

    let mut socket = Socket::open(&server.websocket_url("2.0.0", &alice())).await;
    socket.join(TOPIC, &json!({"config": {"postgres_changes": all_of("marks")}})).await;
    write_until_shed(&site, &server, 2).await;
    let is_told = |status: &'static str| {
        move |m: &crate::support::socket::Message| m.is(TOPIC, "system") && *m.payload.at("status") == status
    };
    let told = socket.expect_within(PATIENCE, "word that it is not ready", is_told("error")).await;
    assert!(
        told.payload.at("message").as_str().unwrap().starts_with("Unable to subscribe to changes"),
        "{}",
        told.payload
    );
    older.batch_execute("rollback").await.unwrap();
    wait_for_stream(&server).await;
    socket.expect_within(PATIENCE, "the subscription", is_told("ok")).await;
    site.execute("insert into marks values (1, 1)").await;
    assert_eq!(next(&mut socket).await, ("INSERT".to_owned(), 1));

    // What holds the slot of a stream back is in the way of the next one, too.
    let (older, _) = open(&site, "latest").await;
    write_until_shed(&site, &server, 2).await;
    let health = wait_for_health(&server, |_, health| problem(health).contains("being made")).await;
    assert_eq!(*health.at("replication").at("wal").at("pressure"), "calm", "{health}");
    older.batch_execute("rollback").await.unwrap();
    wait_for_stream(&server).await;
    let log = server.log();
    let gaps: Vec<_> = log.iter().filter(|line| line.contains("are lost to clients")).collect();
    assert!(gaps.len() == 1 && gaps[0].contains("budget"), "{gaps:?}");
    let said = log.iter().filter(|line| line.contains("being made, which waits")).count();
    assert!((2..=5).contains(&said), "once for each slot that was begun, not {said} times:\n{}", log.join("\n"));
    server.stop().await;
    site.end().await;
}

#[tokio::test]
async fn a_slot_that_is_being_made_is_gone_with_the_server_and_beside_the_outbox_it_has_the_same_budget() {
    let site = Site::own(&[]).await;
    let (older, _) = open(&site, "later").await;
    let start = async || {
        let server = Server::start_at(&site.url(), &site.slot, &SETTINGS).await;
        wait_for_health(&server, |_, health| problem(health).contains("being made")).await;
        server
    };
    start().await.stop().await;
    until_no_slot(&site).await;
    // Nobody is left to end it: the database finds out by itself.
    drop(start().await);
    until_no_slot(&site).await;
    older.batch_execute("rollback").await.unwrap();

    let report = walcast::pg::migrate::notify::install(&mut site.admin().await, "supabase_realtime").await.unwrap();
    assert!(report.is_complete(), "{report}");
    site.execute(&walcast::pg::migrate::notify::grants(&site.role)).await;
    site.execute(&format!("alter role {} noreplication", site.role)).await;
    let server = Server::start_at(&site.url(), &site.slot, &SETTINGS).await;
    wait_for_stream(&server).await;
    let (older, _) = open(&site, "later").await;
    site.execute(&format!("alter role {} replication", site.role)).await;
    let waits = |health: &Json| health.at("replication").at("slot_waits").as_str().is_some();
    let health = wait_for_health(&server, |status, health| status == 200 && waits(health)).await;
    assert_eq!(*health.at("replication").at("source"), "notify", "{health}");
    let admin = site.admin().await;
    let sheds_before = sheds(&health);
    admin.batch_execute("create table junk (a int)").await.unwrap();
    until(PATIENCE, async || {
        admin.batch_execute("insert into junk values (1)").await.unwrap();
        admin.batch_execute("select pg_switch_wal()").await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        sheds(&get(&server, "/health").await.1) > sheds_before
    })
    .await;
    until_no_slot(&site).await;
    wait_for_health(&server, |status, health| status == 200 && !waits(health)).await;
    server.stop().await;
    drop(older);
    site.end().await;
}
