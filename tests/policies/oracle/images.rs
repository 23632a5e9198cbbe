//! Old images of rows, as the stream tells them.

use crate::policies::{
    asked::Asked,
    state::{Image, Judged, key_of},
};
use std::{collections::HashSet, sync::Arc};
use walcast::{
    change::{Change, Datum, Fragment, OldRow},
    policy::catalog::{Catalog, Table},
};

/// The first old image of every row that was changed, of tables that log whole ones.
pub fn old_images(catalog: &Catalog, asked: &[Asked], fragments: &[Fragment]) -> Vec<Judged> {
    let mut judged = Vec::new();
    for (number, asked) in asked.iter().enumerate() {
        let is_table = |table: &&Arc<Table>| asked.table == format!("{}.{}", table.schema, table.name);
        let Some(table) = catalog.tables.values().find(is_table) else { continue };
        let changes = fragments.iter().flat_map(|fragment| &fragment.changes);
        let mut images: Vec<Image> = Vec::new();
        // Rows whose old image is not of the time before the transaction.
        let mut touched: HashSet<String> = HashSet::new();
        for change in changes.filter(|change| change.relation.oid == table.oid) {
            let old = change.old.as_ref().filter(|old| old.whole).map(|old| old_image(asked, table, change, old));
            let new = change.new.as_ref().map(|new| key_of(asked, table, &by_column(table, change, &new.0)));
            images.extend(old.filter(|old| touched.insert(old.key.clone())));
            touched.extend(new);
        }
        judged.push(Judged { number, asked: asked.clone(), table: Arc::clone(table), images });
    }
    judged
}

fn old_image(asked: &Asked, table: &Table, change: &Change, old: &OldRow) -> Image {
    let values = by_column(table, change, &old.row.0);
    Image { key: key_of(asked, table, &values), values }
}

/// The values of an image in the order of the table's columns.
fn by_column(table: &Table, change: &Change, values: &[Datum]) -> Vec<Datum> {
    let value = |name: &str| {
        let place = change.relation.columns.iter().position(|column| column.name == name);
        place.map_or(Datum::Absent, |place| values[place].clone())
    };
    table.columns.iter().map(|column| value(&column.name)).collect()
}
