//! More at once than the server takes in one go: large transactions, and more rows than the database lane holds.

use super::setup::{database, get, is, items, next, subscriber, wait_for_stream};
use crate::support::{postgres::Postgres, server::Server, token::alice, wait::until};
use std::time::Duration;

/// Nobody waits for the end of somebody else's transaction, and nobody gets the half of one.
#[tokio::test]
async fn a_join_during_a_large_transaction_is_answered_and_gets_nothing_of_it() {
    const ROWS: i64 = 300_000;
    let database = database(Postgres::default(), &items("docs")).await;
    let server = Server::start(&database, &[]).await;
    wait_for_stream(&server).await;
    let routed = async || {
        let (_, health) = get(&server, "/health").await;
        health.at("counters").at("changes_total").as_i64().unwrap()
    };
    database.execute(&format!("insert into docs select n from generate_series(1, {ROWS}) n")).await;
    until(Duration::from_secs(20), async || routed().await > 0).await;
    let (mut socket, _) = subscriber(&server, &alice(), "docs").await;
    let at = routed().await;
    assert!(at < ROWS, "the join waited for the end");
    until(Duration::from_secs(60), async || routed().await == ROWS).await;
    database.execute("insert into docs values (0)").await;
    assert_eq!(next(&mut socket).await, is("INSERT", 0));
}

/// Who lags because the lane is full loses nothing of what the lane has taken, and is served again once it has room.
#[tokio::test]
async fn a_lane_that_was_full_loses_and_repeats_nothing() {
    let sql = format!(
        "{} {} alter table slow enable row level security;
         create policy slowly on slow using ((select pg_sleep(0.2)) is not null);",
        items("docs"),
        items("slow")
    );
    let database = database(Postgres::default(), &sql).await;
    let server = Server::start(&database, &[]).await;
    wait_for_stream(&server).await;
    let (mut slow, _) = subscriber(&server, &alice(), "slow").await;
    let client = database.connect().await;
    let many = "do $$ begin for n in 1..8000 loop insert into slow values (n); commit; end loop; end $$";
    client.batch_execute(many).await.unwrap();
    let lags = async || {
        let (_, health) = get(&server, "/health").await;
        health.at("counters").at("lags_total").as_i64().unwrap()
    };
    until(Duration::from_secs(20), async || lags().await > 0).await;
    for id in 1..=8000 {
        assert_eq!(next(&mut slow).await, is("INSERT", id));
    }
    let lags = lags().await;
    assert!(lags < 50, "it lagged {lags} times");
}
