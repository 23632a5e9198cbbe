//! A row image seen through the catalogue's columns: the stream orders columns its own way, may lack some, and may
//! describe a table as it was before the last ALTER. Pure.

use crate::{
    change::{Change, Datum, Operation, Row, relation::Relation},
    policy::catalog::{ColumnIndex, Table, TableColumn},
};

/// For each column of the table, where the relation has it; none when it does not, or with another type: such a
/// value is absent, because nothing is known about it any more.
///
/// The stream knows columns by name only, and names move: `a` may be what was `b` when the row was written. Columns never
/// change places, and new ones come behind all others; a table that contradicts this has columns by the names of others,
/// so nothing at all is known of the row.
pub(super) fn column_map(table: &Table, relation: &Relation) -> Option<Vec<Option<usize>>> {
    let place = |name: &str| relation.columns.iter().position(|column| column.name == name);
    let places: Vec<Option<usize>> = table.columns.iter().map(|column| place(&column.name)).collect();
    if has_moved_names(table, &places) {
        return None;
    }
    let has_type =
        |place: usize, type_oid| relation.columns.get(place).is_some_and(|column| column.type_oid == type_oid);
    let typed = table.columns.iter().zip(places);
    Some(typed.map(|(column, place)| place.filter(|&place| has_type(place, column.type_oid))).collect())
}

/// Whether these places of the table's columns in a relation cannot be those of the same columns.
fn has_moved_names(table: &Table, places: &[Option<usize>]) -> bool {
    let streamed = |index: ColumnIndex, column: &TableColumn| match &table.published {
        Some(published) => published.contains(&index),
        None => column.generated.is_none(),
    };
    let mut next = 0;
    // Streamed columns the relation does not have under their names, since the last one it has.
    let mut unknown = 0;
    for (index, (column, place)) in table.columns.iter().zip(places).enumerate() {
        // Every column the relation has before this one has a lower number.
        let can_be_at = |place: usize| i16::try_from(place).is_ok_and(|place| place < column.number);
        match place {
            // Each of the unknown had another name then, and so a place of its own before this one.
            Some(place) if place.checked_sub(next).is_none_or(|others| others < unknown) => return true,
            Some(place) if !can_be_at(*place) => return true,
            Some(place) => (next, unknown) = (place + 1, 0),
            None => unknown += usize::from(streamed(index, column)),
        }
    }
    false
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        policy::catalog::RowRule,
        router::fixture::{relation_of, table},
    };

    /// Where columns of a table, all of one type, were in a relation with these; a dash is where one was dropped, a star
    /// before what the stream lacks.
    fn map(now: &str, then: &str) -> Option<Vec<Option<usize>>> {
        let mut relation = relation_of(1).as_ref().clone();
        let column = relation.columns[0].clone();
        let named = |name: &str| crate::change::relation::Column { name: name.into(), ..column.clone() };
        relation.columns = then.split(' ').map(named).collect();
        let mut table = table(1, "t", RowRule::All);
        let published = |(index, name): (usize, &str)| (!name.starts_with('*')).then_some(index);
        let living = now.split(' ').filter(|name| *name != "-");
        table.published = Some(living.enumerate().filter_map(published).collect());
        let first = TableColumn { type_oid: column.type_oid, ..table.columns[0].clone() };
        let named = |(number, name): (i16, &str)| TableColumn {
            name: name.trim_start_matches('*').into(),
            number,
            ..first.clone()
        };
        table.columns = (1..).zip(now.split(' ')).filter(|(_, name)| *name != "-").map(named).collect();
        column_map(&table, &relation)
    }

    #[test]
    fn columns_that_came_went_or_were_renamed_are_absent() {
        for (now, then, places) in [
            ("id a b", "id a b", [Some(0), Some(1), Some(2)]),
            ("id a new", "id a", [Some(0), Some(1), None]),
            ("id - b c", "id a b c", [Some(0), Some(2), Some(3)]),
            ("id c b", "id a b", [Some(0), None, Some(2)]),
            ("id - b c", "id a b", [Some(0), Some(2), None]),
            ("id *g b", "id b", [Some(0), None, Some(1)]),
            ("x y z", "id a b", [None, None, None]),
        ] {
            assert_eq!(map(now, then), Some(places.to_vec()), "{now} from {then}");
        }
    }

    #[test]
    fn nothing_is_known_of_a_row_when_names_of_columns_went_to_others() {
        for (now, then) in [
            ("id b a", "id a b"),
            ("b id a", "id a b"),
            ("id old a", "id a b"),
            ("new id a", "id a b"),
            ("id x y b", "id a b c"),
            ("id b c", "id a b"),
        ] {
            assert_eq!(map(now, then), None, "{now} from {then}");
        }
    }
}
