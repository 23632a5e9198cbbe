use super::*;
use crate::{
    change::{
        OldRow,
        relation::{Column, ReplicaIdentity},
    },
    policy::catalog::{Collation, TableColumn},
};
use std::collections::HashMap;

const SECOND: i64 = 1_000_000;

fn table() -> Arc<Table> {
    let column = |number, name: &str, type_oid| TableColumn {
        number,
        name: name.to_owned(),
        type_oid,
        type_name: String::new(),
        collation: Collation::None,
        collation_oid: 0,
        generated: None,
    };
    Arc::new(Table {
        oid: 7,
        schema: "public".to_owned(),
        name: "posts".to_owned(),
        columns: vec![column(1, "id", 23), column(2, "publish_at", 1184), column(3, "expires_at", 1184)],
        published: None,
        listed: vec![0, 1, 2],
        primary_key: vec![0],
        replica_identity: ReplicaIdentity::Default,
        row_security: true,
        access: HashMap::new(),
    })
}

fn relation() -> Arc<Relation> {
    let column = |name: &str, type_oid, is_key| Column { name: name.to_owned(), type_oid, type_modifier: -1, is_key };
    Arc::new(Relation {
        oid: 7,
        schema: "public".to_owned(),
        name: "posts".to_owned(),
        replica_identity: ReplicaIdentity::Default,
        columns: vec![column("id", 23, true), column("publish_at", 1184, false), column("expires_at", 1184, false)],
    })
}

fn moments() -> BTreeSet<Moment> {
    BTreeSet::from([Moment { column: 1, offset: 0 }, Moment { column: 2, offset: SECOND }])
}

/// What the database says is all there is.
fn said(rows: Vec<Row>) -> Option<Refilled> {
    Some(Refilled { rows, relation: relation(), horizon: None })
}

/// Watching, and the database has said that there is nothing.
fn watching() -> Deadlines {
    let mut deadlines = Deadlines::default();
    deadlines.watch(HashMap::from([(7, (table(), moments()))]));
    let asked = deadlines.refills(0);
    assert_eq!(asked.len(), 1, "a new watch asks what there is");
    deadlines.refilled(asked[0].ticket, said(Vec::new()), 0);
    assert!(deadlines.refills(0).is_empty());
    deadlines
}

fn row(id: i64, publish: &str, expire: Option<&str>) -> Row {
    let text = |text: &str| Datum::Text(Bytes::copy_from_slice(text.as_bytes()));
    Row(vec![text(&id.to_string()), text(publish), expire.map_or(Datum::Null, text)])
}

fn change(operation: Operation, old: Option<i64>, new: Option<Row>) -> Change {
    let old = old.map(|id| {
        let mut row = row(id, "", None);
        row.0[1] = Datum::Absent;
        row.0[2] = Datum::Absent;
        OldRow { whole: false, row }
    });
    Change { operation, relation: relation(), old, new, ordinal: 0 }
}

fn insert(id: i64, publish: &str, expire: Option<&str>) -> Change {
    change(Operation::Insert, None, Some(row(id, publish, expire)))
}

fn due(deadlines: &mut Deadlines, now: i64) -> Vec<(String, i64)> {
    let id = |due: &Due| match &due.row.0[0] {
        Datum::Text(text) => String::from_utf8_lossy(text).into_owned(),
        _ => String::new(),
    };
    deadlines.due(now).iter().map(|due| (id(due), due.at)).collect()
}

#[test]
fn a_row_is_due_at_each_of_its_moments_once() {
    let mut deadlines = watching();
    deadlines.note(&insert(1, "2000-01-01 00:00:10+00", Some("2000-01-01 00:00:20+00")), 5, 0);
    assert_eq!(deadlines.next(), Some(10 * SECOND));
    assert_eq!(due(&mut deadlines, 9 * SECOND), []);
    assert_eq!(due(&mut deadlines, 10 * SECOND), [("1".to_owned(), 10 * SECOND)]);
    assert_eq!(deadlines.next(), Some(21 * SECOND), "an offset moves the moment");
    assert_eq!(due(&mut deadlines, 30 * SECOND), [("1".to_owned(), 21 * SECOND)]);
    assert_eq!(deadlines.next(), None);
}

#[test]
fn what_happens_to_a_row_replaces_its_moments() {
    let mut deadlines = watching();
    for id in 1..=4 {
        deadlines.note(&insert(id, "2000-01-01 00:00:10+00", None), 5, 0);
    }
    deadlines.note(&change(Operation::Delete, Some(1), None), 5, 0);
    deadlines.note(&change(Operation::Update, None, Some(row(2, "2000-01-01 00:00:50+00", None))), 5, 0);
    deadlines.note(&change(Operation::Update, Some(3), Some(row(9, "2000-01-01 00:00:11+00", None))), 5, 0);
    let all = due(&mut deadlines, 60 * SECOND);
    assert_eq!(all, [("4".to_owned(), 10 * SECOND), ("9".to_owned(), 11 * SECOND), ("2".to_owned(), 50 * SECOND)]);
    deadlines.note(&insert(5, "2000-01-01 00:02:00+00", None), 5, 0);
    deadlines.note(&change(Operation::Truncate, None, None), 5, 0);
    assert_eq!(deadlines.next(), None);
}

#[test]
fn moments_that_are_past_or_never_come_are_not_kept() {
    let mut deadlines = watching();
    deadlines.note(&insert(1, "2000-01-01 00:00:10+00", Some("infinity")), 5, 10 * SECOND);
    deadlines.note(&insert(2, "-infinity", None), 5, 0);
    assert_eq!(deadlines.next(), None);
}

#[test]
fn beyond_the_bound_the_nearest_are_kept_and_the_database_is_asked_for_the_rest() {
    let mut deadlines = watching();
    let at = |second: usize| format!("2000-01-01 {:02}:{:02}:{:02}+00", second / 3600, second / 60 % 60, second % 60);
    for id in 0..ROWS_A_TABLE + 5 {
        deadlines.note(&insert(i64::try_from(id).unwrap(), &at(id + 1), None), 5, 0);
    }
    assert_eq!(deadlines.take_beyond(), 5);
    assert!(deadlines.refills(0).is_empty(), "enough is left");
    let reached = i64::try_from(ROWS_A_TABLE - REFILL_BELOW + 1).unwrap() * SECOND;
    deadlines.due(reached);
    let asked = deadlines.refills(reached);
    assert_eq!(asked.len(), 1);
    // While the database is asked, row 3 changes, and row 4 is new to us.
    deadlines.note(&insert(3, &at(40_000), None), 5, reached);
    let rows = vec![row(3, &at(20_000), None), row(4, &at(20_001), None)];
    deadlines.refilled(asked[0].ticket, said(rows), reached);
    let after = due(&mut deadlines, 50_000 * SECOND);
    let of = |id: &str| after.iter().filter(|(due, _)| due == id).map(|(_, at)| *at).collect::<Vec<_>>();
    assert_eq!(of("4"), [20_001 * SECOND]);
    assert_ne!(of("3"), [20_000 * SECOND], "what the database said before the change is old");
}

#[test]
fn what_the_database_said_of_before_does_not_come_back() {
    let soon = || row(1, "2000-01-01 00:00:10+00", None);
    let watched = || HashMap::from([(7, (table(), moments()))]);
    let forgotten: [fn(&mut Deadlines); 2] =
        [|deadlines| deadlines.note(&change(Operation::Truncate, None, None), 5, 0), Deadlines::forget];
    for forget in forgotten {
        let mut deadlines = Deadlines::default();
        deadlines.watch(watched());
        let first = deadlines.refills(0).remove(0);
        forget(&mut deadlines);
        deadlines.watch(watched());
        let second = deadlines.refills(0).remove(0);
        deadlines.refilled(first.ticket, said(vec![soon()]), 0);
        assert_eq!(deadlines.next(), None, "the row may be gone");
        deadlines.refilled(second.ticket, said(vec![soon()]), 0);
        assert_eq!(deadlines.next(), Some(10 * SECOND));
    }
}

#[test]
fn a_moment_that_passes_while_the_database_is_asked_is_told_once() {
    let mut deadlines = Deadlines::default();
    deadlines.watch(HashMap::from([(7, (table(), moments()))]));
    deadlines.note(&insert(1, "2000-01-01 00:00:10+00", None), 5, 0);
    let asked = deadlines.refills(0).remove(0);
    assert_eq!((asked.after, asked.transactions), (0, vec![5]), "the answer must show what the stream has had");
    assert_eq!(due(&mut deadlines, 11 * SECOND), [("1".to_owned(), 10 * SECOND)]);
    let rows = vec![row(1, "2000-01-01 00:00:10+00", None), row(2, "2000-01-01 00:00:11+00", None)];
    deadlines.refilled(asked.ticket, said(rows), 12 * SECOND);
    assert_eq!(due(&mut deadlines, 12 * SECOND), [("2".to_owned(), 11 * SECOND)]);
}

#[test]
fn rows_are_bounded_by_what_they_take_too_and_are_asked_for_again_only_when_one_has_gone() {
    let mut deadlines = watching();
    let large = |id: i64, second: i64| {
        let mut change = insert(id, &format!("2000-01-01 00:00:{second}+00"), None);
        if let Some(row) = &mut change.new {
            row.0.push(Datum::Text(vec![b'x'; BYTES_A_TABLE / 8 * 7].into()));
        }
        change
    };
    deadlines.note(&insert(1, "2000-01-01 00:00:10+00", None), 5, 0);
    for (id, second) in [(2, 40), (3, 20), (4, 30)] {
        deadlines.note(&large(id, second), 5, 0);
    }
    assert_eq!(deadlines.take_beyond(), 2);
    assert!(deadlines.refills(SECOND).is_empty());
    assert_eq!(due(&mut deadlines, 20 * SECOND), [("1".to_owned(), 10 * SECOND), ("3".to_owned(), 20 * SECOND)]);
    assert_eq!(deadlines.refills(20 * SECOND).len(), 1);
}
