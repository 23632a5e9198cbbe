//! A row image seen through the catalogue's columns: the stream orders columns its own way, may lack some, and may
//! describe a table as it was before the last ALTER. Pure.

use crate::{
    change::{Change, Datum, Operation, Row, relation::Relation},
    policy::catalog::{ColumnIndex, Table},
};

/// For each column of the table, where the relation has it; none when it does not, or with another type: such a
/// value is absent, because nothing is known about it any more.
pub(super) fn column_map(table: &Table, relation: &Relation) -> Vec<Option<usize>> {
    let place = |name: &str, type_oid: u32| {
        relation.columns.iter().position(|column| column.name == name && column.type_oid == type_oid)
    };
    table.columns.iter().map(|column| place(&column.name, column.type_oid)).collect()
}

/// One row image.
#[derive(Clone, Copy)]
pub(super) struct Image<'a> {
    row: &'a Row,
    map: &'a [Option<usize>],
}

impl<'a> Image<'a> {
    pub(super) fn new(row: &'a Row, map: &'a [Option<usize>]) -> Image<'a> {
        Image { row, map }
    }

    /// The value of a column of the table.
    pub(super) fn get(&self, index: ColumnIndex) -> &'a Datum {
        const ABSENT: &Datum = &Datum::Absent;
        self.map.get(index).copied().flatten().and_then(|place| self.row.0.get(place)).unwrap_or(ABSENT)
    }

    /// Whether the column belongs to the replica identity.
    pub(super) fn is_key(&self, index: ColumnIndex, relation: &Relation) -> bool {
        let place = self.map.get(index).copied().flatten();
        place.and_then(|place| relation.columns.get(place)).is_some_and(|column| column.is_key)
    }
}

/// The images filters and policies are tested on.
#[derive(Clone, Copy)]
pub(super) struct Images<'a> {
    /// The new row, or with DELETE the old one.
    pub(super) is: Image<'a>,
    /// The row before an UPDATE, where Postgres logged all of it.
    pub(super) was: Option<Image<'a>>,
}

impl<'a> Images<'a> {
    /// Those of a change; none when the stream has no row of it.
    pub(super) fn of(change: &'a Change, map: &'a [Option<usize>]) -> Option<Images<'a>> {
        let row = match change.operation {
            Operation::Delete => change.old.as_ref().map(|old| &old.row),
            _ => change.new.as_ref(),
        };
        let was = match (change.operation, &change.old) {
            (Operation::Update, Some(old)) if old.whole => Some(Image::new(&old.row, map)),
            _ => None,
        };
        row.map(|row| Images { is: Image::new(row, map), was })
    }
}
