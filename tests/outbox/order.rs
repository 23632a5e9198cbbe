//! The order of numbers under concurrent writers: who writes a row later is told later, and nobody is skipped.

use super::setup::{database, outbox_fragments};
use crate::support::postgres::{Postgres, drive};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use walcast::{change::Datum, pg::outbox};

const WRITERS: u32 = 6;
const ROUNDS: u32 = 60;

#[tokio::test(flavor = "multi_thread")]
async fn conflicting_writers_are_told_in_the_order_of_their_writes() {
    let database = database(
        Postgres::default(),
        "create table t (id int primary key, v bigint, other text); alter publication supabase_realtime add table t;
         insert into t select g, 0 from generate_series(1, 5) g",
    )
    .await;
    // One that began before all others and stays open holds back nobody.
    let old = database.connect().await;
    old.batch_execute("begin; insert into t values (1000, 0)").await.unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let client = database.connect().await;
        let (done, is_done) = tokio::sync::oneshot::channel();
        drive(async move {
            for round in 0..ROUNDS {
                // In the order of keys, so that nobody waits in a circle; some rows by savepoints that go back.
                let (first, second) = ((writer + round) % 4 + 1, 5);
                let sql = format!(
                    "begin; insert into t values ({}, 1); update t set v = v + 1 where id = {first};
                     savepoint s; update t set v = 100000 where id = {first}; rollback to s;
                     select pg_sleep({}); update t set v = v + 1 where id = {second}; {}",
                    10_000 + writer * 1000 + round,
                    f64::from((writer * 7 + round * 3) % 5) / 2000.0,
                    if (writer + round) % 7 == 0 { "rollback" } else { "commit" },
                );
                client.batch_execute(&sql).await.unwrap();
            }
            let _ = done.send(());
        });
        writers.push(is_done);
    }
    // Numbers are given all the while.
    let mut numbering = database.connect().await;
    let (over, is_numbered) = (is_over.clone(), tokio::sync::oneshot::channel());
    let (numbered, done) = is_numbered;
    drive(async move {
        while !over.load(Ordering::Relaxed) {
            outbox::number(&mut numbering).await.unwrap();
        }
        let _ = numbered.send(());
    });
    for writer in writers {
        writer.await.unwrap();
    }
    is_over.store(true, Ordering::Relaxed);
    done.await.unwrap();
    let mut client = database.connect().await;
    let fragments = outbox_fragments(&mut client, 1).await;
    old.batch_execute("commit").await.unwrap();
    let later = outbox_fragments(&mut client, fragments.last().unwrap().end_lsn.unwrap().0).await;
    assert_eq!(later.len(), 1, "the one that was open comes when it commits");
    let number = |datum: &Datum| match datum {
        Datum::Text(text) => std::str::from_utf8(text).unwrap().parse::<i64>().unwrap(),
        _ => panic!("{datum:?}"),
    };
    let mut values: HashMap<i64, Vec<i64>> = HashMap::new();
    for change in fragments.iter().flat_map(|fragment| &fragment.changes) {
        let row = &change.new.as_ref().unwrap().0;
        values.entry(number(&row[0])).or_default().push(number(&row[1]));
    }
    for row in client.query("select id::bigint, v from t where id < 1000", &[]).await.unwrap() {
        let (id, last): (i64, i64) = (row.get(0), row.get(1));
        assert_eq!(values[&id], (1..=last).collect::<Vec<_>>(), "every value of row {id}, once, in order");
    }
    let inserted: i64 = client.query_one("select count(*) from t where id >= 10000", &[]).await.unwrap().get(0);
    assert_eq!(values.keys().filter(|id| **id >= 10_000).count() as i64, inserted);
}
