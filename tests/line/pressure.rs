//! More at once than the server takes in one go: large transactions, and more rows than the database lane holds.

use super::setup::{database, get, is, items, next, subscriber, wait_for_stream};
use crate::support::{postgres::Postgres, server::Server, socket::PATIENCE, token::alice, wait::until};

/// Nobody waits for the end of somebody else's transaction, and nobody gets the half of one.
#[tokio::test]
async fn a_join_during_a_large_transaction_is_answered_and_gets_nothing_of_it() {
    let database = database(Postgres::default(), &items("docs")).await;
    let server = Server::start(&database, &[]).await;
    wait_for_stream(&server).await;
    let routed = async || {
        let (_, health) = get(&server, "/health").await;
        health.at("counters").at("changes_total").as_i64().unwrap()
    };
    // Where joining takes longer than all of it, that says nothing about who waits for whom: then it takes more rows.
    let (mut rows, mut behind) = (300_000, 0);
    loop {
        let (first, last) = (behind + 1, behind + rows);
        database.execute(&format!("insert into docs select n from generate_series({first}, {last}) n")).await;
        until(PATIENCE, async || routed().await > behind).await;
        let (mut socket, _) = subscriber(&server, &alice(), "docs").await;
        let is_amid = routed().await < last;
        until(PATIENCE * 4, async || routed().await == last).await;
        database.execute(&format!("insert into docs values ({})", last + 1)).await;
        behind = last + 1;
        if is_amid {
            assert_eq!(next(&mut socket).await, is("INSERT", behind));
            return;
        }
        until(PATIENCE, async || routed().await == behind).await;
        rows *= 2;
        assert!(rows < 2_000_000, "the join waits for the end");
    }
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
    until(PATIENCE, async || lags().await > 0).await;
    for id in 1..=8000 {
        assert_eq!(next(&mut slow).await, is("INSERT", id));
    }
    let lags = lags().await;
    assert!(lags < 50, "it lagged {lags} times");
}
