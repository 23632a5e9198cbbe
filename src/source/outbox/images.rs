//! Rows of the outbox → changes, as the stream would have had them: named as the publication names them, with the columns
//! it publishes, and with what the replica identity lets be known of a row before. Plain values in and out.

use crate::{
    change::{
        Change, Datum, OldRow, Operation, Row,
        relation::{Column, Relation, ReplicaIdentity},
        value::{Malformed, composite},
    },
    pg::outbox::{ColumnShape, Listed, Operations, TableShape, Written},
};
use bytes::Bytes;
use std::{collections::HashMap, sync::Arc};

/// A row of the outbox that is not what the trigger writes. Without its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// What its table was is not known.
    #[error("the description of a table is missing or cannot be read")]
    Shape,
    /// An image is not that of a row of the table.
    #[error("an image is not a row of its table")]
    Image,
    /// An operation that is none.
    #[error("an operation is none of INSERT, UPDATE and DELETE")]
    Operation,
}

/// What the publications list, by table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listing(HashMap<u32, Entry>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    operations: Operations,
    has_all_columns: bool,
    columns: Vec<i16>,
}

impl Listing {
    /// Of a table with a filter nothing is told: the outbox has rows that the filter leaves out. How the clients' publication
    /// lists a table counts, also for messages.
    pub(super) fn new(tables: &[Listed]) -> Listing {
        let mut entries = HashMap::new();
        for table in tables {
            let Operations { insert, .. } = table.operations;
            let operations = match (table.is_filtered, table.is_messages) {
                (true, _) => Operations { insert: false, update: false, delete: false },
                // What becomes of a message later, nobody is told.
                (false, true) => Operations { insert, update: false, delete: false },
                (false, false) => table.operations,
            };
            let Listed { has_all_columns, columns, .. } = table.clone();
            let entry = Entry { operations, has_all_columns, columns };
            if table.is_messages {
                entries.entry(table.table).or_insert(entry);
            } else {
                entries.insert(table.table, entry);
            }
        }
        Listing(entries)
    }
}

/// How rows of one shape become changes of the table that is published.
#[derive(Debug)]
pub(super) struct Reading {
    /// How many values an image has.
    width: usize,
    /// By column of an image, whether it belongs to the identity of the table the row is in.
    key: Vec<bool>,
    /// That table's identity.
    identity: ReplicaIdentity,
    /// Where the columns of the relation are in an image.
    places: Vec<Option<usize>>,
    relation: Arc<Relation>,
    operations: Operations,
}

impl Reading {
    /// `shape` is the table and the tables it is a part of, from the smallest to the largest. The largest that is listed
    /// names the row. None when nothing of it is published.
    pub(super) fn new(shape: &[TableShape], listing: &Listing) -> Option<Reading> {
        let stored = shape.first()?;
        let (named, entry) = shape.iter().rev().find_map(|table| Some((table, listing.0.get(&table.oid)?)))?;
        let published = |column: &&ColumnShape| {
            let is_generated = column.4;
            entry.columns.contains(&column.0) || (entry.has_all_columns && !is_generated)
        };
        let place = |name: &str| stored.columns.iter().position(|column| column.1 == name);
        let columns: Vec<&ColumnShape> = named.columns.iter().filter(published).collect();
        let identity = identity(named);
        let is_key = |table: &TableShape, number: i16| table.key.iter().flatten().any(|&key| key == number);
        let column = |column: &&ColumnShape| Column {
            name: column.1.clone(),
            type_oid: column.2,
            type_modifier: column.3,
            is_key: identity == ReplicaIdentity::Full || is_key(named, column.0),
        };
        Some(Reading {
            width: stored.columns.len(),
            key: stored.columns.iter().map(|column| is_key(stored, column.0)).collect(),
            identity: self::identity(stored),
            places: columns.iter().map(|column| place(&column.1)).collect(),
            relation: Arc::new(Relation {
                oid: named.oid,
                schema: named.schema.clone(),
                name: named.name.clone(),
                replica_identity: identity,
                columns: columns.iter().map(column).collect(),
            }),
            operations: entry.operations,
        })
    }

    /// The change a row of the outbox tells of; none when it is not published, or the stream would not have it.
    pub(super) fn change(&self, written: &Written, ordinal: u64) -> Result<Option<Change>, Unreadable> {
        let operation = match written.operation {
            b'I' if self.operations.insert => Operation::Insert,
            b'U' if self.operations.update => Operation::Update,
            b'D' if self.operations.delete => Operation::Delete,
            b'I' | b'U' | b'D' => return Ok(None),
            _ => return Err(Unreadable::Operation),
        };
        let new = match operation {
            Operation::Delete => None,
            _ => Some(self.values(written.new.as_ref())?),
        };
        let old = match operation {
            Operation::Insert => None,
            _ => self.old(self.values(written.old.as_ref())?, new.as_deref()),
        };
        if operation == Operation::Delete && old.is_none() {
            return Ok(None);
        }
        let new = new.map(|values| self.row(values));
        Ok(Some(Change { operation, relation: self.relation.clone(), old, new, ordinal }))
    }

    fn values(&self, image: Option<&Bytes>) -> Result<Vec<Datum>, Unreadable> {
        let image = image.ok_or(Unreadable::Image)?;
        composite::split(image, self.width).map_err(|Malformed| Unreadable::Image)
    }

    /// What is logged of a row before: all of it, or its key when it is deleted or the key becomes another. The rest of it
    /// is absent.
    fn old(&self, mut values: Vec<Datum>, new: Option<&[Datum]>) -> Option<OldRow> {
        match self.identity {
            ReplicaIdentity::Full => {}
            ReplicaIdentity::Nothing => return None,
            ReplicaIdentity::Default | ReplicaIdentity::Index => {
                let is_same = |new: &[Datum]| {
                    self.key.iter().zip(values.iter().zip(new)).all(|(is_key, (old, new))| !is_key || old == new)
                };
                if !self.key.contains(&true) || new.is_some_and(is_same) {
                    return None;
                }
                for (value, is_key) in values.iter_mut().zip(&self.key) {
                    if !is_key {
                        *value = Datum::Absent;
                    }
                }
            }
        }
        let whole = self.identity == ReplicaIdentity::Full && self.relation.replica_identity == ReplicaIdentity::Full;
        let mut row = self.row(values);
        if !whole {
            for (value, column) in row.0.iter_mut().zip(&self.relation.columns) {
                if !column.is_key {
                    *value = Datum::Absent;
                }
            }
        }
        Some(OldRow { whole, row })
    }

    /// In the order of the relation's columns.
    fn row(&self, mut values: Vec<Datum>) -> Row {
        let mut take = |place: &Option<usize>| {
            let value = place.and_then(|place| values.get_mut(place));
            value.map_or(Datum::Absent, |value| std::mem::replace(value, Datum::Absent))
        };
        Row(self.places.iter().map(&mut take).collect())
    }
}

fn identity(table: &TableShape) -> ReplicaIdentity {
    match table.identity.as_str() {
        "f" => ReplicaIdentity::Full,
        "i" => ReplicaIdentity::Index,
        "n" => ReplicaIdentity::Nothing,
        _ => ReplicaIdentity::Default,
    }
}

#[cfg(test)]
mod tests;
