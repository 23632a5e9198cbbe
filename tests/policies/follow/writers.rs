//! Writers that do at random what clients of a database do, and what their changes add up to.

use super::line::Line;
use crate::support::postgres::{Database, PASSWORD, connect};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use walcast::change::{Datum, Operation};

/// Writes to `members` until told to stop, in transactions of one to five statements: some are rolled back, in whole or in part. Writers
/// have keys of their own, so that they do not wait for each other.
pub fn write(database: &Database, seed: u64, stop: Arc<AtomicBool>) -> impl Future<Output = ()> + Send + 'static {
    let url = database.url_as("postgres", PASSWORD);
    async move {
        let client = connect(&url).await;
        let mut random = StdRng::seed_from_u64(seed);
        let first = seed * 1000;
        while !stop.load(Ordering::SeqCst) {
            let mut sql = "begin;".to_owned();
            for _ in 0..random.random_range(1..6) {
                let id = first + random.random_range(0..40);
                let who = ["null", "1", "2", "3"][random.random_range(0..4)];
                sql += &match random.random_range(0..8) {
                    0 | 1 => format!(
                        "insert into members values ({id}, {who}, repeat('x', {})) on conflict do nothing;",
                        [3, 5000][random.random_range(0..2)]
                    ),
                    2 => format!(
                        "insert into members select n, {who}, 'many' from generate_series({id}, {id} + 3) n on conflict do nothing;"
                    ),
                    // Leaves the long value alone, which then is not in the stream.
                    3 | 4 => format!("update members set who = {who} where id between {id} and {id} + 5;"),
                    5 => format!(
                        "update members set id = id + 100 where id = {id} and not exists (select from members where id = {id} + 100);"
                    ),
                    6 => format!("delete from members where id between {id} and {id} + 2;"),
                    _ => format!("savepoint s; delete from members where id < {id} and id >= {first}; rollback to s;"),
                };
            }
            sql += if random.random_bool(0.15) { "rollback" } else { "commit" };
            client.batch_execute(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        }
    }
}

/// All changes from the first on, added up: what the table was after each transaction.
#[derive(Default)]
pub struct Replay {
    rows: BTreeMap<String, [String; 3]>,
    added: usize,
}

impl Replay {
    /// Adds what has passed since last time, and compares with the index where that is complete; how often it did.
    pub fn compare(&mut self, line: &Line, table: u32) -> usize {
        let passed = &line.passed[self.added..];
        if passed.is_empty() {
            return 0;
        }
        for fragment in passed {
            for change in fragment.changes.iter().filter(|change| change.relation.oid == table) {
                let text = |datum: &Datum| match datum {
                    Datum::Null => "null".to_owned(),
                    Datum::Absent => "absent".to_owned(),
                    Datum::Text(text) => String::from_utf8(text.to_vec()).unwrap(),
                };
                let new = change.new.as_ref().map(|row| [0, 1, 2].map(|at| text(&row.0[at])));
                let old = change.old.as_ref().map(|old| text(&old.row.0[0]));
                let key =
                    old.or_else(|| (change.operation != Operation::Insert).then(|| new.clone().unwrap()[0].clone()));
                let before = key.and_then(|key| self.rows.remove(&key));
                if let Some(mut new) = new {
                    if new[2] == "absent" {
                        new[2] = before.unwrap()[2].clone();
                    }
                    assert!(self.rows.insert(new[0].clone(), new).is_none(), "a key twice");
                }
            }
        }
        let is_whole = passed.last().is_some_and(|fragment| fragment.end_lsn.is_some());
        self.added = line.passed.len();
        // Only rows behind the snapshot are those of the stream's own position.
        if !line.is_ready() || !is_whole || !line.is_past_snapshot(table) {
            return 0;
        }
        let mut rows: Vec<Vec<String>> = self.rows.values().map(|row| row.to_vec()).collect();
        rows.sort();
        assert_eq!(line.rows(table, &[0, 1, 2]), rows, "after {} transactions", self.added);
        1
    }
}
