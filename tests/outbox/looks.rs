//! What the search for transactions without a number costs, and that it leaves nobody out.

use super::setup::{database, outbox_fragments};
use crate::support::postgres::Postgres;
use walcast::pg::outbox;

const TABLE: &str = "create table docs (id int primary key); alter publication supabase_realtime add table docs";

/// Of rows that are kept, of rows somebody writes who does not end, and of those who began before and end late.
#[tokio::test(flavor = "multi_thread")]
async fn a_search_goes_through_what_is_new_alone_and_leaves_out_nobody() {
    let database = database(Postgres::default(), TABLE).await;
    let mut client = database.connect().await;
    let (early, large) = (database.connect().await, database.connect().await);
    early.batch_execute("begin; insert into docs values (1)").await.unwrap();
    for id in 2..200 {
        client.batch_execute(&format!("insert into docs values ({id})")).await.unwrap();
    }
    large.batch_execute("begin; insert into docs select g from generate_series(1000, 20999) g").await.unwrap();
    client.batch_execute("insert into docs values (200)").await.unwrap();
    client.batch_execute("vacuum analyze walcast.outbox").await.unwrap();
    assert_eq!(outbox::number(&mut client).await.unwrap(), 200, "one for each that has ended");
    let search = concat!(
        "explain (analyze, buffers, timing off, summary off, format json) ",
        include_str!("../../sql/outbox_open.sql"),
        include_str!("../../sql/outbox_unnumbered.sql")
    );
    let plan: serde_json::Value = client.query_one(search, &[]).await.unwrap().get(0);
    // Those of whom nothing is visible count, too: so it is pages and not rows.
    let of_whole = |name: &str| plan[0]["Plan"][name].as_u64().unwrap();
    let pages = of_whole("Shared Hit Blocks") + of_whole("Shared Read Blocks");
    assert!(pages < 100, "{pages} pages were looked at: {plan:#}");
    early.batch_execute("commit").await.unwrap();
    assert_eq!(outbox::number(&mut client).await.unwrap(), 201, "who began before");
    large.batch_execute("commit").await.unwrap();
    assert_eq!(outbox::number(&mut client).await.unwrap(), 202);
    client
        .batch_execute("begin; insert into docs values (300); rollback; insert into docs values (301)")
        .await
        .unwrap();
    let fragments = outbox_fragments(&mut client, 1).await;
    let told: usize = fragments.iter().map(|fragment| fragment.changes.len()).sum();
    assert_eq!(told, 200 + 20_000 + 1);
}

/// When it was full, a part of what was open then is missing.
#[tokio::test(flavor = "multi_thread")]
async fn who_was_open_when_the_outbox_was_emptied_gets_no_number_however_late_he_ends() {
    let database = database(Postgres::default(), TABLE).await;
    let (mut client, open) = (database.connect().await, database.connect().await);
    open.batch_execute("begin; insert into docs values (1)").await.unwrap();
    assert!(outbox::empty(&mut client, false).await.unwrap());
    client.batch_execute("update walcast.outbox_state set is_whole = true; insert into docs values (2)").await.unwrap();
    assert_eq!(outbox::number(&mut client).await.unwrap(), 2);
    open.batch_execute("insert into docs values (3); commit").await.unwrap();
    client.batch_execute("insert into docs values (4)").await.unwrap();
    assert_eq!(outbox::number(&mut client).await.unwrap(), 3);
    assert_eq!(outbox_fragments(&mut client, 1).await.len(), 2);
}
