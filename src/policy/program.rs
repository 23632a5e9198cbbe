//! `Program`: the policies of a table for one role, ready to be asked. What depends on claims alone is taken out of
//! them once (`parameters`), so that a subscriber is no more than a list of values, and those with equal values get
//! one answer. Pure.

use super::{
    analyse::Clause,
    catalog::ColumnIndex,
    expr::Expr,
    facts::{Facts, TableFacts},
    lookup::{Lookups, Need},
    value::{Stop, Type, Value},
};
use crate::{change::Datum, claims::Claims};
use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The policies of a table for one role.
#[derive(Debug)]
pub struct Program {
    /// The policies, by name, over `parameters`.
    pub clauses: Vec<Clause>,
    /// `(permissive or ...) and restrictive and ...`.
    pub predicate: Expr,
    /// What depends on claims and role alone, by number.
    pub parameters: Vec<Expr>,
    /// The columns of the judged row that are read.
    pub reads: BTreeSet<ColumnIndex>,
    /// What is needed of other tables, by oid.
    pub lookups: BTreeMap<u32, Need>,
    /// Whether the answer depends on the time.
    pub is_timed: bool,
    /// The types of the judged table's columns; none for those the process does not compute with.
    types: Vec<Option<Type>>,
}

/// A subscriber, as far as one program is concerned.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Arguments(Arc<[Result<Value, Stop>]>);

/// What a program says of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// He sees it.
    Yes,
    /// He does not.
    No,
    /// The image lacks what decides it.
    Absent,
    /// Postgres would raise an error, with this SQLSTATE.
    Failed(&'static str),
    /// A value is of a kind the process does not compute with.
    Unsupported,
}

/// What is asked about: an image, its texts read as values when they are first needed.
pub struct Row<'a> {
    program: &'a Program,
    column: &'a dyn Fn(ColumnIndex) -> &'a Datum,
    values: Vec<OnceCell<Result<Value, Stop>>>,
}

/// Under which keys a subscriber is entered for one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// This path lets him see nothing.
    Nowhere,
    /// Rows that are probed with one of these may be his.
    Keys(Vec<Value>),
    /// Any row may be his.
    Everywhere,
}

/// Whose keys may let a row through by one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Nobody sees it by this path.
    Nobody,
    /// Those who are entered under one of these, and those entered everywhere.
    Keys(Vec<Value>),
    /// All who are entered for this path.
    Everybody,
}

impl Program {
    /// Joins the policies of a table.
    pub fn new(facts: &Facts, table: &TableFacts, clauses: Vec<Clause>) -> Program {
        let _ = facts;
        Program {
            clauses,
            predicate: Expr::Const(Value::Null),
            parameters: Vec::new(),
            reads: BTreeSet::new(),
            lookups: BTreeMap::new(),
            is_timed: false,
            types: vec![None; table.columns.len()],
        }
    }

    /// The values a subscriber has for the parameters. None when one of them is an error that Postgres might or might
    /// not raise, depending on the order in which it computes: then the database decides.
    pub fn bind(&self, claims: &Claims) -> Option<Arguments> {
        let _ = claims;
        None
    }

    /// Makes a row image ready to be asked about.
    pub fn row<'a>(&'a self, column: &'a dyn Fn(ColumnIndex) -> &'a Datum) -> Row<'a> {
        let values = self.types.iter().map(|_| OnceCell::new()).collect();
        Row { program: self, column, values }
    }

    /// Whether a subscriber sees a row. `now` is in microseconds since 2000-01-01 UTC.
    pub fn judge(&self, arguments: &Arguments, row: &Row<'_>, lookups: &Lookups, now: i64) -> Verdict {
        let _ = (arguments, row.program, row.column, &row.values, lookups, now);
        Verdict::Unsupported
    }

    /// In how many ways the predicate can become true: the paths `enter` and `probe` speak of, in the same order.
    pub fn paths(&self) -> usize {
        0
    }

    /// Where a subscriber is entered, path by path.
    pub fn enter(&self, arguments: &Arguments) -> Vec<Entry> {
        let _ = arguments;
        Vec::new()
    }

    /// Who may see a row, path by path: candidates, who are then judged one by one. A path whose keys are more than
    /// `limit` gives `Everybody`.
    pub fn probe(&self, row: &Row<'_>, lookups: &Lookups, now: i64, limit: usize) -> Vec<Probe> {
        let _ = (row.program, lookups, now, limit);
        Vec::new()
    }
}
