//! What counts as told while it goes from the outbox to the log and back.

use super::setup::{database, outbox_fragments};
use crate::support::postgres::Postgres;
use walcast::pg::outbox;

const TABLE: &str = "create table docs (id int primary key); alter publication supabase_realtime add table docs";

/// Somebody who is about to join may number what is committed meanwhile: nobody has read it, so the log must tell of it.
#[tokio::test(flavor = "multi_thread")]
async fn what_got_its_number_behind_what_was_read_is_not_told_yet() {
    let database = database(Postgres::default(), TABLE).await;
    let (mut client, exported) = (database.connect().await, database.connect().await);
    exported.batch_execute("begin isolation level repeatable read").await.unwrap();
    let row = exported.query_one("select pg_current_snapshot()::text", &[]).await.unwrap();
    let snapshot: String = row.get(0);
    client.batch_execute("insert into docs values (1)").await.unwrap();
    let read = outbox_fragments(&mut client, 1).await;
    let end = read.last().unwrap().commit_lsn.0 + 1;
    client.batch_execute("insert into docs values (2)").await.unwrap();
    outbox::number(&mut client).await.unwrap();
    let told = outbox::unseen(&client, &snapshot, end).await.unwrap();
    assert_eq!(told, [read.last().unwrap().xid].into());
}

/// A copy of a database has the outbox of the one it was copied from. Its rows go before anything is captured that matters:
/// nothing of this database goes with them later.
#[tokio::test(flavor = "multi_thread")]
async fn what_another_database_wrote_goes_when_the_log_is_read_and_nothing_later() {
    let database = database(Postgres::default(), TABLE).await;
    let mut client = database.connect().await;
    client.batch_execute("insert into docs values (1)").await.unwrap();
    client.batch_execute("update walcast.outbox_state set history = 'another', is_whole = true").await.unwrap();
    outbox::leave(&mut client, "this").await.unwrap();
    client.batch_execute("insert into docs values (2)").await.unwrap();
    let (_, is_new) = outbox::begin(&mut client, "this", &outbox::Given::default()).await.unwrap();
    assert!(is_new);
    let changes: Vec<_> = outbox_fragments(&mut client, 1).await.into_iter().flat_map(|told| told.changes).collect();
    assert_eq!(changes.len(), 1, "the second row, which nobody has told of");
}
