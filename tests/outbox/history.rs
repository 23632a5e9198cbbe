//! What counts as told while it goes from the outbox to the log and back.

use super::setup::{database, outbox_fragments};
use crate::support::postgres::Postgres;
use walcast::{change::Fragment, pg::outbox};

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
    let (_, is_new) = outbox::begin(&mut client, "this", &outbox::Given::default(), 0).await.unwrap();
    assert!(is_new);
    let changes: Vec<_> = outbox_fragments(&mut client, 1).await.into_iter().flat_map(|told| told.changes).collect();
    assert_eq!(changes.len(), 1, "the second row, which nobody has told of");
}

/// How many changes a database's outbox tells of from here on.
fn changes(fragments: &[Fragment]) -> usize {
    fragments.iter().map(|fragment| fragment.changes.len()).sum()
}

/// While the log is read a number would count as told: so who joins late gives none, and what the log breaks off before is
/// told when the outbox is read again.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_gets_a_number_once_the_outbox_is_closed_and_what_has_none_is_told_later() {
    let database = database(Postgres::default(), TABLE).await;
    let mut client = database.connect().await;
    outbox::begin(&mut client, "this", &outbox::Given::default(), 0).await.unwrap();
    client.batch_execute("insert into docs values (1)").await.unwrap();
    let read = outbox_fragments(&mut client, 1).await;
    let next = read.last().unwrap().end_lsn.unwrap().0;
    // Somebody who joins has given a number that was not read: it is not closed over his head.
    client.batch_execute("insert into docs values (2)").await.unwrap();
    assert_eq!(outbox::number(&mut client).await.unwrap(), next + 1);
    assert_eq!(outbox::close(&client, next).await.unwrap(), None);
    let more = outbox_fragments(&mut client, next).await;
    assert_eq!(changes(&more), 1);
    assert!(outbox::close(&client, next + 1).await.unwrap().is_some());
    client.batch_execute("insert into docs values (3)").await.unwrap();
    assert_eq!(outbox::number(&mut client).await.unwrap(), next + 1, "nobody gets a number any more");
    // The log breaks off at once: what the outbox told does not come again, and what nobody told comes.
    let told = outbox::Given { before: 0, also: [read.last().unwrap().xid, more.last().unwrap().xid].into() };
    let (_, is_new) = outbox::begin(&mut client, "this", &told, 0).await.unwrap();
    assert!(is_new, "another generation of numbers");
    assert_eq!(changes(&outbox_fragments(&mut client, 1).await), 1, "the third row alone");
}

/// Going over that fails leaves everything as it was.
#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_that_was_closed_in_vain_goes_on_with_its_numbers() {
    let database = database(Postgres::default(), TABLE).await;
    let mut client = database.connect().await;
    let (generation, _) = outbox::begin(&mut client, "this", &outbox::Given::default(), 0).await.unwrap();
    let closed = outbox::close(&client, 1).await.unwrap();
    assert_eq!(closed, Some(generation));
    client.batch_execute("insert into docs values (1)").await.unwrap();
    outbox::reopen(&client, generation - 1).await.unwrap();
    assert_eq!(outbox::number(&mut client).await.unwrap(), 1, "another generation is not reopened");
    outbox::reopen(&client, generation).await.unwrap();
    assert_eq!(outbox::begin(&mut client, "this", &outbox::Given::default(), 0).await.unwrap(), (generation, false));
    assert_eq!(outbox::number(&mut client).await.unwrap(), 2);
}

/// A server that reads the log and has lost its lead takes nothing from the one that reads the outbox now. And what was open
/// when the outbox was emptied does not stay in it for ever.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_taken_out_under_whoever_reads_and_what_is_forsaken_is_pruned() {
    let database = database(Postgres::default(), TABLE).await;
    let mut client = database.connect().await;
    let rows = async |client: &tokio_postgres::Client| -> i64 {
        client.query_one("select count(*) from walcast.outbox", &[]).await.unwrap().get(0)
    };
    client.batch_execute("insert into docs values (1)").await.unwrap();
    let everything = outbox::Given { before: i64::MAX as u64, ..outbox::Given::default() };
    assert!(!outbox::forget_told(&mut client, &everything).await.unwrap());
    assert!(!outbox::empty(&mut client, true).await.unwrap());
    assert_eq!(rows(&client).await, 1);
    let open = database.connect().await;
    open.batch_execute("begin; insert into docs values (2)").await.unwrap();
    assert!(outbox::empty(&mut client, false).await.unwrap());
    open.batch_execute("commit").await.unwrap();
    client.batch_execute("update walcast.outbox_state set is_whole = true").await.unwrap();
    assert!(outbox_fragments(&mut client, 1).await.is_empty());
    assert_eq!(rows(&client).await, 1, "the one that was open");
    outbox::prune(&client, 1, outbox::Kept { milliseconds: 0, bytes: 0 }, 100).await.unwrap();
    assert_eq!(rows(&client).await, 0);
    outbox::close(&client, 1).await.unwrap().unwrap();
    client.batch_execute("insert into docs values (3)").await.unwrap();
    assert!(outbox::forget_told(&mut client, &everything).await.unwrap());
    assert_eq!(rows(&client).await, 0);
}
