//! `Lookups`: the rows of tables that policies look into, indexed by what policies look them up by, and kept current
//! change by change. Pure: who loads them and what holds the stream meanwhile is `router`'s.

use super::{catalog::ColumnIndex, value::Value};
use std::collections::{BTreeSet, HashMap};

/// What compiled policies need of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Need {
    /// The columns they read.
    pub columns: BTreeSet<ColumnIndex>,
    /// The sets of columns they find rows by. The empty set means all rows.
    pub keys: BTreeSet<BTreeSet<ColumnIndex>>,
}

/// The rows of all tables that are followed.
#[derive(Debug, Default)]
pub struct Lookups {
    tables: HashMap<u32, TableRows>,
}

#[derive(Debug, Default)]
struct TableRows {
    /// Where a column of the table stands in the values that are kept.
    slots: Vec<Option<usize>>,
    rows: Vec<Vec<Value>>,
}

impl Lookups {
    /// Whether the rows of a table are complete.
    pub fn is_ready(&self, table: u32) -> bool {
        self.tables.contains_key(&table)
    }

    /// The rows that have these values, of which none is NULL, in these columns, ascending and without repetition. No
    /// rows for a table that is not ready: ask first.
    pub fn find(&self, table: u32, columns: &[ColumnIndex], values: &[Value]) -> Found<'_> {
        let _ = (columns, values);
        Found { table: self.tables.get(&table), next: 0 }
    }
}

/// The rows of one key.
#[derive(Clone, Debug)]
pub struct Found<'s> {
    table: Option<&'s TableRows>,
    next: usize,
}

/// A row that was found.
#[derive(Clone, Copy, Debug)]
pub struct LookupRow<'s> {
    slots: &'s [Option<usize>],
    values: &'s [Value],
}

impl<'s> LookupRow<'s> {
    /// The value of a column of the table; none for one that nobody said he needs.
    pub fn get(&self, column: ColumnIndex) -> Option<&'s Value> {
        self.slots.get(column).copied().flatten().and_then(|slot| self.values.get(slot))
    }
}

impl<'s> Iterator for Found<'s> {
    type Item = LookupRow<'s>;

    fn next(&mut self) -> Option<LookupRow<'s>> {
        let table = self.table?;
        let values = table.rows.get(self.next)?;
        self.next += 1;
        Some(LookupRow { slots: &table.slots, values })
    }
}
