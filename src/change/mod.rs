//! What happened to which row, free of any protocol. Pure.
//!
//! pgoutput messages become `Fragment`s here (`assemble`), positions order them (`position`), clients name these by cursors
//! (`cursor`), and values turn from the text Postgres sends into the JSON clients see (`value`). Who may see a change is `policy`'s business, and who
//! gets it `router`'s.

pub mod assemble;
pub mod cursor;
pub mod position;
pub mod relation;
pub mod value;

use crate::lsn::Lsn;
use bytes::Bytes;
use cursor::{Beside, Cursor};
use position::{Era, Position};
use relation::Relation;
use std::sync::Arc;

/// What was done to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A row came into being.
    Insert,
    /// A row got new values.
    Update,
    /// A row ceased to be.
    Delete,
    /// A table was emptied; clients are never told (reference: `postgres-changes`, section 4.1).
    Truncate,
}

impl Operation {
    /// The upper-case name clients see in `type`.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Insert => "INSERT",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Truncate => "TRUNCATE",
        }
    }
}

/// What a row takes beside its values: its list.
const ROW_BYTES: usize = 40;
/// What a value takes beside its text: its place in the list, and what the stream has around it.
const DATUM_BYTES: usize = size_of::<Datum>() + 5;

/// One column's value in a row image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Datum {
    /// SQL NULL.
    Null,
    /// The stream does not carry the value (an unchanged TOAST value, a column outside the replica identity).
    /// **Not** NULL: what depends on it is unknown, and what is unknown is not shown.
    Absent,
    /// The value in the text form of its type's output function.
    Text(Bytes),
}

/// The values of one row image, in the order of `Relation::columns`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row(pub Vec<Datum>);

impl Row {
    /// About how many bytes it takes.
    pub fn bytes(&self) -> usize {
        let text = |datum: &Datum| if let Datum::Text(text) = datum { text.len() } else { 0 };
        ROW_BYTES + self.0.iter().map(|datum| DATUM_BYTES + text(datum)).sum::<usize>()
    }

    /// The same row with values of its own: those of the stream keep alive all that was read with them, which does not
    /// matter for a while, but does for whoever keeps few of many.
    pub fn detached(&self) -> Row {
        let detach = |datum: &Datum| match datum {
            Datum::Text(text) => Datum::Text(Bytes::copy_from_slice(text)),
            Datum::Null => Datum::Null,
            Datum::Absent => Datum::Absent,
        };
        Row(self.0.iter().map(detach).collect())
    }
}

/// The row as it was before, as far as the replica identity lets Postgres log it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldRow {
    /// Whether the whole row was logged (replica identity full) or only the identity's columns.
    pub whole: bool,
    /// The values; `Absent` outside the identity.
    pub row: Row,
}

/// One change of one row.
#[derive(Clone, Debug)]
pub struct Change {
    /// What was done.
    pub operation: Operation,
    /// The table as the stream described it at that moment.
    pub relation: Arc<Relation>,
    /// The row before: with UPDATE if Postgres logged it, with DELETE always.
    pub old: Option<OldRow>,
    /// The row after: with INSERT and UPDATE.
    pub new: Option<Row>,
    /// The change's number within its transaction, from 0.
    pub ordinal: u64,
}

impl Change {
    /// About how many bytes it keeps alive.
    pub fn bytes(&self) -> usize {
        let rows = self.new.iter().chain(self.old.as_ref().map(|old| &old.row));
        size_of::<Change>() + rows.map(Row::bytes).sum::<usize>()
    }
}

/// Consecutive changes of one committed transaction.
#[derive(Clone, Debug)]
pub struct Fragment {
    /// The history it is of.
    pub era: Era,
    /// How it was streamed, which its changes are numbered by.
    pub beside: Beside,
    /// The transaction's id, without its epoch.
    pub xid: u32,
    /// Where the transaction's commit record starts: what orders transactions.
    pub commit_lsn: Lsn,
    /// Microseconds since 2000-01-01 UTC at which the transaction committed.
    pub commit_time: i64,
    /// The changes, in order.
    pub changes: Vec<Change>,
    /// On the last fragment of the transaction: the position that may be confirmed once it is handed on.
    pub end_lsn: Option<Lsn>,
}

impl Fragment {
    /// About how many bytes it keeps alive.
    pub fn bytes(&self) -> usize {
        size_of::<Fragment>() + self.changes.iter().map(Change::bytes).sum::<usize>()
    }

    /// Where one of its changes stands.
    pub fn position(&self, change: &Change) -> Position {
        Position { era: self.era.number, commit_lsn: self.commit_lsn, ordinal: change.ordinal }
    }

    /// Behind its last change; behind the transaction when the fragment ends that.
    pub fn end(&self) -> Position {
        let era = self.era.number;
        match self.end_lsn {
            Some(end) => Position::before(era, end),
            None => {
                let ordinal = self.changes.last().map_or(0, |change| change.ordinal + 1);
                Position { era, commit_lsn: self.commit_lsn, ordinal }
            }
        }
    }

    /// What a client may hold once it was given so many messages about a change, of all there are for it.
    pub fn cursor(&self, change: &Change, given: u32, of: u32) -> Cursor {
        let position = self.position(change);
        let is_last = self.changes.last().is_some_and(|last| last.ordinal == change.ordinal);
        let (position, part) = match given {
            given if given < of => (position, given),
            // Where the slot is confirmed next: so it holds as long as anything does.
            _ if is_last => (self.end(), 0),
            _ => (Position { ordinal: position.ordinal + 1, ..position }, 0),
        };
        position.cursor(self.era.epoch, part, self.beside)
    }
}
