//! `Deadlines`: rows whose visibility changes at a known moment though nobody touches them, nearest first. Pure: who is
//! told, `core` decides; `task` has the timer and asks the database for more.
//!
//! Only the nearest are kept, up to a bound of rows a table. Where there were more, the moment from which on nothing is
//! kept is the *horizon*: before it is reached, the database is asked for the next ones.

use crate::{
    change::{Change, Datum, Operation, Row, relation::Relation},
    policy::{
        catalog::{ColumnIndex, Table},
        program::Moment,
        value::{self, Scalar, Type, Value},
    },
};
use bytes::Bytes;
use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
};

/// Rows of one table that are kept.
const ROWS_A_TABLE: usize = 10_000;
/// What they may take, about. The nearest one is kept however large it is.
const BYTES_A_TABLE: usize = 16 * 1024 * 1024;
/// When so few are left and there are more, more are asked for.
const REFILL_BELOW: usize = ROWS_A_TABLE / 4;
/// The same when they take so much less.
const REFILL_BELOW_BYTES: usize = BYTES_A_TABLE / 4;

/// How long after a failure the database is asked again, in microseconds.
const RETRY_AFTER: i64 = 10_000_000;
/// Rows that change while the database is asked, at most: beyond that its answer is dropped, and it is asked again.
const CHANGED_ROWS: usize = 100_000;
/// Transactions the database must show before it is asked: the last ones that changed rows of these tables. There are
/// no more that came and are not visible yet than there are sessions that wait for a standby.
const LAST_TRANSACTIONS: usize = 1024;

/// The texts of a row's primary key.
type Key = Arc<[Bytes]>;

/// A row whose moment has come.
#[derive(Clone, Debug)]
pub(super) struct Due {
    /// The moment, in microseconds since 2000-01-01 UTC.
    pub(super) at: i64,
    pub(super) row: Row,
    pub(super) relation: Arc<Relation>,
}

/// Tells what was asked from what was asked before and is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    table: u32,
    number: u64,
}

/// What the database is asked for.
#[derive(Clone, Debug)]
pub(super) struct Refill {
    pub(super) ticket: Ticket,
    /// Transactions that the answer must show: the stream has had them.
    pub(super) transactions: Vec<i64>,
    pub(super) table: Arc<Table>,
    pub(super) moments: Vec<Moment>,
    /// Moments after this one.
    pub(super) after: i64,
    /// At most so many rows a moment's column.
    pub(super) limit: usize,
}

/// What the database said.
#[derive(Debug)]
pub(super) struct Refilled {
    /// Rows in the order of `relation`.
    pub(super) rows: Vec<Row>,
    pub(super) relation: Arc<Relation>,
    /// The moment up to which these are all; none when they are all there are.
    pub(super) horizon: Option<i64>,
}

struct Watched {
    row: Row,
    relation: Arc<Relation>,
    /// Its next moment.
    next: i64,
}

struct Watch {
    table: Arc<Table>,
    moments: Vec<Moment>,
    rows: HashMap<Key, Watched>,
    /// About what they take.
    bytes: usize,
    /// Whether some were taken out for what they take, and none has gone since: more would only be taken out again.
    is_full: bool,
    /// The next moment of every row.
    queue: BTreeSet<(i64, Key)>,
    /// From here on nothing is kept.
    horizon: Option<i64>,
    /// What the database has been asked and has not answered.
    asked: Option<Asked>,
    /// Whether the database must be asked before `horizon` means anything.
    is_new: bool,
    /// When it could not be asked, it is not asked again before this moment.
    not_before: i64,
}

struct Asked {
    ticket: Ticket,
    /// Moments after this one.
    after: i64,
    /// Rows that changed or came due since: what the database says of them is old.
    changed: HashSet<Key>,
}

/// The deadlines of all tables that somebody watches.
#[derive(Default)]
pub(super) struct Deadlines {
    watches: HashMap<u32, Watch>,
    /// Questions so far: no two answers are taken for each other.
    questions: u64,
    /// The last transactions that changed rows of these tables.
    transactions: VecDeque<u32>,
    /// Rows that were beyond the bound: for the operator.
    beyond: usize,
}

impl Deadlines {
    /// Watches these tables and no others, for these moments.
    pub(super) fn watch(&mut self, wanted: HashMap<u32, (Arc<Table>, BTreeSet<Moment>)>) {
        self.watches.retain(|oid, _| wanted.contains_key(oid));
        for (oid, (table, moments)) in wanted {
            let moments: Vec<Moment> = moments.into_iter().collect();
            let is_known = self.watches.get(&oid).is_some_and(|watch| watch.moments == moments && watch.table == table);
            if is_known || table.primary_key.is_empty() {
                continue;
            }
            self.watches.insert(oid, Watch::new(table, moments));
        }
    }

    /// Forgets all rows: what is known of them may be wrong. Those who watch are to be named again.
    pub(super) fn forget(&mut self) {
        self.watches.clear();
    }

    /// Rows that did not fit since this was asked last.
    pub(super) fn take_beyond(&mut self) -> usize {
        std::mem::take(&mut self.beyond)
    }

    /// Takes a change in, of this transaction.
    pub(super) fn note(&mut self, change: &Change, xid: u32, now: i64) {
        let Some(watch) = self.watches.get_mut(&change.relation.oid) else { return };
        if self.transactions.back() != Some(&xid) {
            self.transactions.push_back(xid);
            if self.transactions.len() > LAST_TRANSACTIONS {
                self.transactions.pop_front();
            }
        }
        if change.operation == Operation::Truncate {
            watch.clear();
            return;
        }
        let relation = &change.relation;
        let keys = [change.old.as_ref().map(|old| &old.row), change.new.as_ref()];
        let keys: Vec<Key> = keys.into_iter().flatten().filter_map(|row| watch.key(row, relation)).collect();
        for key in keys {
            watch.remove(&key);
            if let Some(asked) = &mut watch.asked {
                asked.changed.insert(key);
            }
        }
        if watch.asked.as_ref().is_some_and(|asked| asked.changed.len() > CHANGED_ROWS) {
            watch.ask_again(now);
        }
        if let Some(row) = &change.new {
            self.beyond += watch.insert(row.clone(), relation.clone(), now);
        }
    }

    /// The next moment.
    pub(super) fn next(&self) -> Option<i64> {
        self.watches.values().filter_map(|watch| watch.queue.first().map(|(at, _)| *at)).min()
    }

    /// The rows whose moment has come, in its order.
    pub(super) fn due(&mut self, now: i64) -> Vec<Due> {
        let mut due = Vec::new();
        for watch in self.watches.values_mut() {
            while watch.queue.first().is_some_and(|(at, _)| *at <= now) {
                let Some((at, key)) = watch.queue.pop_first() else { break };
                let Some(watched) = watch.take(&key) else { continue };
                if let Some(asked) = &mut watch.asked {
                    asked.changed.insert(key);
                }
                due.push(Due { at, row: watched.row.clone(), relation: watched.relation.clone() });
                self.beyond += watch.insert(watched.row, watched.relation, at);
            }
        }
        due.sort_by_key(|due| due.at);
        due
    }

    /// What the database must be asked for now.
    pub(super) fn refills(&mut self, now: i64) -> Vec<Refill> {
        let wanting = self.watches.values_mut().filter(|watch| {
            let may_ask = watch.asked.is_none() && watch.not_before <= now;
            may_ask && (watch.is_new || (watch.horizon.is_some() && watch.has_room()))
        });
        let (questions, transactions) = (&mut self.questions, &self.transactions);
        let refill = |watch: &mut Watch| {
            *questions += 1;
            let ticket = Ticket { table: watch.table.oid, number: *questions };
            watch.asked = Some(Asked { ticket, after: now, changed: HashSet::new() });
            watch.is_new = false;
            let (table, moments) = (watch.table.clone(), watch.moments.clone());
            let transactions = transactions.iter().copied().map(i64::from).collect();
            Refill { ticket, transactions, table, moments, after: now, limit: ROWS_A_TABLE / 2 }
        };
        wanting.map(refill).collect()
    }

    /// Takes in what the database said; none when it could not be asked, which is tried again. An answer to another
    /// question than the last one says what was before the watch, or before all rows were taken out: it is dropped.
    pub(super) fn refilled(&mut self, ticket: Ticket, answer: Option<Refilled>, now: i64) {
        let Some(watch) = self.watches.get_mut(&ticket.table) else { return };
        let Some(Asked { after, changed, .. }) = watch.asked.take_if(|asked| asked.ticket == ticket) else { return };
        let Some(answer) = answer else {
            watch.ask_again(now);
            return;
        };
        watch.horizon = answer.horizon;
        for row in answer.rows {
            let Some(key) = watch.key(&row, &answer.relation) else { continue };
            // What the stream said of a row is at least what it will go on from.
            if !changed.contains(&key) && !watch.rows.contains_key(&key) {
                // Moments that passed while it was asked are told late, and not never.
                self.beyond += watch.insert(row, answer.relation.clone(), after);
            }
        }
    }
}

impl Watch {
    fn new(table: Arc<Table>, moments: Vec<Moment>) -> Watch {
        Watch {
            table,
            moments,
            rows: HashMap::new(),
            bytes: 0,
            is_full: false,
            queue: BTreeSet::new(),
            horizon: None,
            asked: None,
            is_new: true,
            not_before: i64::MIN,
        }
    }

    fn clear(&mut self) {
        self.rows.clear();
        (self.bytes, self.is_full) = (0, false);
        self.queue.clear();
        self.horizon = None;
        // What the database says of before must not come back.
        self.is_new = true;
        self.asked = None;
    }

    fn ask_again(&mut self, now: i64) {
        self.asked = None;
        self.is_new = true;
        self.not_before = now.saturating_add(RETRY_AFTER);
    }

    fn datum<'r>(&self, row: &'r Row, relation: &Relation, column: ColumnIndex) -> Option<&'r Datum> {
        let name = &self.table.columns.get(column)?.name;
        let place = relation.columns.iter().position(|column| column.name == *name)?;
        row.0.get(place)
    }

    fn key(&self, row: &Row, relation: &Relation) -> Option<Key> {
        let text = |column: &ColumnIndex| match self.datum(row, relation, *column) {
            Some(Datum::Text(text)) => Some(text.clone()),
            _ => None,
        };
        self.table.primary_key.iter().map(text).collect::<Option<Vec<Bytes>>>().map(Arc::from)
    }

    fn remove(&mut self, key: &Key) {
        if let Some(watched) = self.take(key) {
            self.queue.remove(&(watched.next, key.clone()));
        }
    }

    fn take(&mut self, key: &Key) -> Option<Watched> {
        let watched = self.rows.remove(key)?;
        self.bytes -= watched.row.bytes();
        self.is_full = false;
        Some(watched)
    }

    /// Whether there is room for a good deal more.
    fn has_room(&self) -> bool {
        self.rows.len() < REFILL_BELOW && self.bytes < REFILL_BELOW_BYTES && !self.is_full
    }

    /// Keeps a row for its next moment; how many rows are now beyond the bound.
    fn insert(&mut self, row: Row, relation: Arc<Relation>, now: i64) -> usize {
        let at = |moment: &Moment| match self.datum(&row, &relation, moment.column)? {
            Datum::Text(text) => match value::read(Type::of(Scalar::Timestamptz), text) {
                // An infinity never comes.
                Ok(Value::Moment(at)) if at != i64::MIN && at != i64::MAX => at.checked_add(moment.offset),
                _ => None,
            },
            _ => None,
        };
        let Some(next) = self.moments.iter().filter_map(at).filter(|at| *at > now).min() else { return 0 };
        if self.horizon.is_some_and(|horizon| next >= horizon) {
            return 1;
        }
        // Few of many are kept, and for long.
        let row = row.detached();
        let Some(key) = self.key(&row, &relation) else { return 0 };
        self.remove(&key);
        self.bytes += row.bytes();
        self.queue.insert((next, key.clone()));
        self.rows.insert(key, Watched { row, relation, next });
        let mut beyond = 0;
        while self.rows.len() > ROWS_A_TABLE || (self.bytes > BYTES_A_TABLE && self.rows.len() > 1) {
            let Some((farthest, key)) = self.queue.pop_last() else { break };
            self.take(&key);
            self.is_full = self.rows.len() < ROWS_A_TABLE;
            self.horizon = Some(farthest);
            beyond += 1;
        }
        beyond
    }
}

#[cfg(test)]
mod tests;
