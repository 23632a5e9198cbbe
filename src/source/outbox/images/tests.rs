//! What the stream would have had of a row, for every identity and every way a publication lists a table.

use super::*;

fn table(oid: u32, identity: &str, columns: &[&str]) -> TableShape {
    let column = |(index, name): (usize, &&str)| {
        ColumnShape(i16::try_from(index + 1).unwrap(), (*name).to_owned(), 25, -1, false)
    };
    TableShape {
        oid,
        schema: "public".to_owned(),
        name: format!("t{oid}"),
        identity: identity.to_owned(),
        key: (identity == "d").then(|| vec![1]),
        columns: columns.iter().enumerate().map(column).collect(),
    }
}

fn listed(table: u32, columns: &[i16]) -> Listed {
    Listed {
        is_messages: false,
        table,
        name: String::new(),
        operations: Operations { insert: true, update: true, delete: true },
        is_filtered: false,
        has_all_columns: false,
        columns: columns.to_vec(),
        target: table,
        target_name: String::new(),
        is_captured: true,
        triggers: 1,
    }
}

fn written(operation: u8, old: Option<&'static str>, new: Option<&'static str>) -> Written {
    Written {
        xid: 1,
        id: 1,
        shape: 1,
        operation,
        old: old.map(Bytes::from_static_str),
        new: new.map(Bytes::from_static_str),
    }
}

trait FromStatic {
    fn from_static_str(text: &'static str) -> Bytes;
}

impl FromStatic for Bytes {
    fn from_static_str(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }
}

fn reading(identity: &str) -> Reading {
    Reading::new(&[table(1, identity, &["id", "a"])], &Listing::new(&[listed(1, &[1, 2])])).unwrap()
}

fn text(value: &'static str) -> Datum {
    Datum::Text(Bytes::from_static(value.as_bytes()))
}

fn old(reading: &Reading, operation: u8, old: &'static str, new: Option<&'static str>) -> Option<(bool, Vec<Datum>)> {
    let change = reading.change(&written(operation, Some(old), new), 0).unwrap();
    change.and_then(|change| change.old).map(|old| (old.whole, old.row.0))
}

#[test]
fn of_a_row_before_is_told_what_its_identity_lets_the_log_have() {
    let full = reading("f");
    assert_eq!(old(&full, b'U', "(1,x)", Some("(1,y)")), Some((true, vec![text("1"), text("x")])));
    assert_eq!(old(&full, b'D', "(1,x)", None), Some((true, vec![text("1"), text("x")])));
    let key = reading("d");
    assert_eq!(old(&key, b'U', "(1,x)", Some("(1,y)")), None, "the key is the same");
    assert_eq!(old(&key, b'U', "(1,x)", Some("(2,x)")), Some((false, vec![text("1"), Datum::Absent])));
    assert_eq!(old(&key, b'D', "(1,x)", None), Some((false, vec![text("1"), Datum::Absent])));
    let nothing = reading("n");
    assert_eq!(old(&nothing, b'U', "(1,x)", Some("(2,y)")), None);
    assert!(nothing.change(&written(b'D', Some("(1,x)"), None), 0).unwrap().is_none(), "the log has nothing to tell");
}

#[test]
fn only_columns_and_operations_that_are_published_are_told() {
    let mut one = listed(1, &[1]);
    one.operations.update = false;
    let reading = Reading::new(&[table(1, "f", &["id", "secret"])], &Listing::new(&[one])).unwrap();
    let insert = reading.change(&written(b'I', None, Some("(1,x)")), 7).unwrap().unwrap();
    assert_eq!(insert.relation.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>(), ["id"]);
    assert_eq!((insert.new.unwrap().0, insert.ordinal), (vec![text("1")], 7));
    assert!(reading.change(&written(b'U', Some("(1,x)"), Some("(1,y)")), 0).unwrap().is_none());
    assert_eq!(old(&reading, b'D', "(1,x)", None), Some((true, vec![text("1")])));
}

#[test]
fn a_table_that_is_not_published_any_more_or_with_a_filter_tells_nothing() {
    let shape = [table(1, "f", &["id"])];
    assert!(Reading::new(&shape, &Listing::new(&[listed(2, &[1])])).is_none());
    let filtered = Listed { is_filtered: true, ..listed(1, &[1]) };
    let reading = Reading::new(&shape, &Listing::new(&[filtered])).unwrap();
    for (operation, old, new) in
        [(b'I', None, Some("(1)")), (b'U', Some("(1)"), Some("(2)")), (b'D', Some("(1)"), None)]
    {
        assert!(reading.change(&written(operation, old, new), 0).unwrap().is_none());
    }
}

#[test]
fn a_partition_is_named_by_the_largest_table_that_is_published_and_in_that_ones_order() {
    let shape = [table(2, "d", &["b", "id"]), table(1, "d", &["id", "b"])];
    let root = Reading::new(&shape, &Listing::new(&[listed(1, &[1, 2]), listed(2, &[1, 2])])).unwrap();
    let change = root.change(&written(b'I', None, Some("(x,1)")), 0).unwrap().unwrap();
    assert_eq!((change.relation.oid, change.new.unwrap().0), (1, vec![text("1"), text("x")]));
    let leaf = Reading::new(&shape, &Listing::new(&[listed(2, &[1, 2])])).unwrap();
    let change = leaf.change(&written(b'I', None, Some("(x,1)")), 0).unwrap().unwrap();
    assert_eq!((change.relation.oid, change.new.unwrap().0), (2, vec![text("x"), text("1")]));
}

#[test]
fn what_a_partition_with_another_identity_does_not_log_is_absent_and_not_null() {
    let mut leaf = table(2, "d", &["id", "a"]);
    let root = table(1, "f", &["id", "a"]);
    let listing = Listing::new(&[listed(1, &[1, 2])]);
    let reading = Reading::new(&[leaf.clone(), root], &listing).unwrap();
    assert_eq!(old(&reading, b'D', "(1,x)", None), Some((false, vec![text("1"), Datum::Absent])));
    leaf.identity = "f".to_owned();
    let reading = Reading::new(&[leaf, table(1, "d", &["id", "a"])], &listing).unwrap();
    assert_eq!(old(&reading, b'U', "(1,x)", Some("(1,y)")), Some((false, vec![text("1"), Datum::Absent])));
}

#[test]
fn an_image_that_is_none_of_the_table_is_refused() {
    let reading = reading("d");
    let cases = [
        (written(b'I', None, Some("(1)")), Unreadable::Image),
        (written(b'I', None, None), Unreadable::Image),
        (written(b'U', None, Some("(1,x)")), Unreadable::Image),
        (written(b'X', None, Some("(1,x)")), Unreadable::Operation),
    ];
    for (written, expected) in cases {
        assert_eq!(reading.change(&written, 0).unwrap_err(), expected);
    }
}
