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

/// The image filters and policies are tested on: the new row, or with DELETE the old one.
pub(super) fn judged_image<'a>(change: &'a Change, map: &'a [Option<usize>]) -> Option<Image<'a>> {
    let row = match change.operation {
        Operation::Delete => change.old.as_ref().map(|old| &old.row),
        _ => change.new.as_ref(),
    };
    row.map(|row| Image::new(row, map))
}
