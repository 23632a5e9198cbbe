//! `Lookups`: the rows of tables that policies look into, indexed by what policies look them up by, and kept current
//! change by change. Pure: who loads them and what holds the stream meanwhile is `router`'s.
//!
//! Whatever does not fit (a row that should be there and is not, a value that cannot be read) ends the table: it is
//! not there any more, with the reason, and never a guess.

mod layout;
mod rows;
mod snapshot;
#[cfg(test)]
mod tests;

pub use layout::Layout;
pub use snapshot::{ParseSnapshotError, Snapshot};

use super::{catalog::ColumnIndex, facts::TableFacts, value::Value};
use crate::{
    change::{Change, Datum, Operation, Row, relation::Relation},
    lsn::Lsn,
};
use rows::{Bucket, Stored, TableRows, Text};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

/// What compiled policies need of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Need {
    /// The columns they read.
    pub columns: BTreeSet<ColumnIndex>,
    /// The sets of columns they find rows by. The empty set means all rows.
    pub keys: BTreeSet<BTreeSet<ColumnIndex>>,
}

/// Why the rows of a table cannot be had, or not any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// The table is of a kind that cannot be followed.
    #[error("{0}")]
    Unfollowable(&'static str),
    /// A column's values are computed by Postgres and not in the stream.
    #[error("column \"{0}\" is generated, and so not in the stream")]
    Generated(String),
    /// A column is of a type the process does not compute with.
    #[error("column \"{0}\" is of a type that is not computed with")]
    UnknownType(String),
    /// A value is of a kind the process does not compute with.
    #[error("a value of column \"{0}\" is of a kind that is not computed with")]
    Unreadable(String),
    /// The stream left out a value that is nowhere else.
    #[error("a value of column \"{0}\" is not in the stream")]
    Unresolved(String),
    /// A change of a row that is not there.
    #[error("a row that changed was not known")]
    Missing,
    /// A new row that is there already.
    #[error("a new row was known already")]
    Twice,
    /// The stream describes another table than the one that was loaded.
    #[error("its columns or its replica identity have changed")]
    Changed,
    /// There is no room.
    #[error("it takes more room than there is; raise lookup_bytes (now {0} for all tables)")]
    NoRoom(usize),
    /// More rows than can be counted.
    #[error("it has too many rows")]
    TooManyRows,
}

/// The rows of all tables that are followed.
#[derive(Debug)]
pub struct Lookups {
    tables: HashMap<u32, Followed>,
    limit_bytes: usize,
}

impl Default for Lookups {
    /// No tables, and no bound.
    fn default() -> Lookups {
        Lookups::new(usize::MAX)
    }
}

#[derive(Debug)]
struct Followed {
    rows: TableRows,
    snapshot: Snapshot,
    /// The relation of the last change, and where it has the columns that are read.
    relation: Option<(Arc<Relation>, Vec<usize>)>,
}

/// The rows of a table while they are loaded.
#[derive(Debug)]
pub struct Loading {
    rows: TableRows,
    snapshot: Snapshot,
    limit_bytes: usize,
    budget: usize,
}

impl Loading {
    /// Begins with no rows; their values may take at most what `lookups` has left.
    pub fn new(layout: Layout, snapshot: Snapshot, room: Room) -> Loading {
        Loading { rows: TableRows::new(layout), snapshot, limit_bytes: room.limit_bytes, budget: room.left }
    }

    /// How the rows are kept.
    pub fn layout(&self) -> &Layout {
        &self.rows.layout
    }

    /// Adds a row: the texts of `Layout::names`, in that order; none for NULL.
    pub fn add_row<'a>(&mut self, texts: impl IntoIterator<Item = Option<&'a [u8]>>) -> Result<(), Trouble> {
        let image: Vec<Text<'_>> = texts.into_iter().map(|text| text.map_or(Text::Null, Text::Is)).collect();
        if image.len() != self.rows.layout.columns.len() {
            return Err(Trouble::Changed);
        }
        self.rows.insert(&image)?;
        if self.rows.bytes > self.budget { Err(Trouble::NoRoom(self.limit_bytes)) } else { Ok(()) }
    }

    /// About how many bytes the rows take.
    pub fn bytes(&self) -> usize {
        self.rows.bytes
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.rows.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.rows.is_empty()
    }
}

/// How much room there is for the rows of further tables.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// For all tables.
    pub limit_bytes: usize,
    /// Of this, what is not taken.
    pub left: usize,
}

impl Lookups {
    /// No tables, and room for rows of about this many bytes.
    pub fn new(limit_bytes: usize) -> Lookups {
        Lookups { tables: HashMap::new(), limit_bytes }
    }

    /// Whether the rows of a table are complete.
    pub fn is_ready(&self, table: u32) -> bool {
        self.tables.contains_key(&table)
    }

    /// The tables that are there.
    pub fn tables(&self) -> impl Iterator<Item = u32> {
        self.tables.keys().copied()
    }

    /// How many rows a table has, and about how many bytes they take.
    pub fn size(&self, table: u32) -> Option<(usize, usize)> {
        self.tables.get(&table).map(|followed| (followed.rows.rows.len(), followed.rows.bytes))
    }

    /// From where on the rows of a table are what the stream says: what commits before that may be in them already.
    pub fn current_from(&self, table: u32) -> Option<Lsn> {
        self.tables.get(&table).map(|followed| followed.snapshot.settled())
    }

    /// The room that is left when these tables are not counted.
    pub fn room_without(&self, tables: &[u32]) -> Room {
        let counted = self.tables.iter().filter(|(table, _)| !tables.contains(table));
        let used: usize = counted.map(|(_, followed)| followed.rows.bytes).sum();
        Room { limit_bytes: self.limit_bytes, left: self.limit_bytes.saturating_sub(used) }
    }

    /// Takes in the complete rows of a table, in the place of those it had.
    pub fn complete(&mut self, loading: Loading) {
        let Loading { rows, snapshot, .. } = loading;
        self.tables.insert(rows.layout.facts().oid, Followed { rows, snapshot, relation: None });
    }

    /// Forgets a table.
    pub fn drop_table(&mut self, table: u32) {
        self.tables.remove(&table);
    }

    /// Whether the rows that are kept serve this need too, of the table as a later catalogue has it. If not, they must
    /// be loaded anew.
    pub fn serves(&self, facts: &TableFacts, need: &Need) -> bool {
        self.tables.get(&facts.oid).is_some_and(|followed| followed.rows.layout.serves(facts, need))
    }

    /// Applies a change of a transaction; whether anything that anybody looks up is another now. After an error the
    /// table is not there any more.
    pub fn apply(&mut self, change: &Change, xid: u32, commit_lsn: Lsn) -> Result<bool, Trouble> {
        let table = change.relation.oid;
        let room = self.limit_bytes.saturating_sub(self.tables.values().map(|followed| followed.rows.bytes).sum());
        let Some(followed) = self.tables.get_mut(&table) else { return Ok(false) };
        if followed.snapshot.shows(xid, commit_lsn) {
            return Ok(false);
        }
        let before = followed.rows.bytes;
        let applied = followed.apply(change).and_then(|applied| {
            let grown = followed.rows.bytes.saturating_sub(before);
            if grown > room { Err(Trouble::NoRoom(self.limit_bytes)) } else { Ok(applied) }
        });
        if applied.is_err() {
            self.tables.remove(&table);
        }
        applied
    }

    /// The rows that have these values, of which none is NULL, in these columns, ascending and without repetition. No
    /// rows for a table that is not ready: ask first.
    pub fn find(&self, table: u32, columns: &[ColumnIndex], values: &[Value]) -> Found<'_> {
        let Some(Followed { rows, .. }) = self.tables.get(&table) else { return Found::nothing() };
        if columns.is_empty() {
            return Found { table: Some(rows), places: Places::All(rows.rows.iter()) };
        }
        let slots: Option<Vec<usize>> =
            columns.iter().map(|&column| rows.layout.slots.get(column).copied().flatten()).collect();
        let Some(slots) = slots else { return Found::nothing() };
        let places = match rows.index(&slots) {
            Some(index) => Places::Some(index.get(values).map_or(&[][..], Bucket::as_slice).iter()),
            // Nobody said he would look by these; the answer is right all the same.
            None => Places::Alike(rows.rows.iter(), slots.into_iter().zip(values.iter().cloned()).collect()),
        };
        Found { table: Some(rows), places }
    }
}

impl Followed {
    fn apply(&mut self, change: &Change) -> Result<bool, Trouble> {
        if change.operation == Operation::Truncate {
            self.rows.clear();
            return Ok(true);
        }
        let is_known = self.relation.as_ref().is_some_and(|(known, _)| Arc::ptr_eq(known, &change.relation));
        if !is_known {
            let places = self.rows.layout.places_in(&change.relation)?;
            self.relation = Some((change.relation.clone(), places));
        }
        let Some((_, places)) = &self.relation else { return Err(Trouble::Changed) };
        let old = change.old.as_ref().map(|old| image(&old.row, places));
        let new = change.new.as_ref().map(|new| image(new, places));
        match (change.operation, old, new) {
            (Operation::Insert, _, Some(new)) => self.rows.insert(&new).map(|()| true),
            (Operation::Update, old, Some(new)) => self.rows.update(old.as_deref(), &new),
            (Operation::Delete, Some(old), _) => self.rows.delete(&old).map(|()| true),
            _ => Err(Trouble::Missing),
        }
    }
}

/// The columns of a row that are read; one it does not have is absent.
fn image<'a>(row: &'a Row, places: &[usize]) -> Vec<Text<'a>> {
    let text = |&place: &usize| match row.0.get(place) {
        None | Some(Datum::Absent) => Text::Absent,
        Some(Datum::Null) => Text::Null,
        Some(Datum::Text(text)) => Text::Is(text),
    };
    places.iter().map(text).collect()
}

/// The rows of one key.
#[derive(Clone, Debug)]
pub struct Found<'s> {
    table: Option<&'s TableRows>,
    places: Places<'s>,
}

#[derive(Clone, Debug)]
enum Places<'s> {
    Some(std::slice::Iter<'s, u32>),
    All(slab::Iter<'s, Stored>),
    Alike(slab::Iter<'s, Stored>, Vec<(usize, Value)>),
}

impl Found<'_> {
    fn nothing() -> Found<'static> {
        Found { table: None, places: Places::Some([].iter()) }
    }
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
        let stored = match &mut self.places {
            Places::Some(places) => table.rows.get(*places.next()? as usize)?,
            Places::All(rows) => rows.next()?.1,
            Places::Alike(rows, key) => {
                let is_alike = |row: &Stored| key.iter().all(|(slot, value)| row.values.get(*slot) == Some(value));
                rows.find(|(_, row)| is_alike(row))?.1
            }
        };
        Some(LookupRow { slots: &table.layout.slots, values: &stored.values })
    }
}
