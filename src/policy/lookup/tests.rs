//! The index against a list that is searched from end to end, and what ends a table.

use super::*;
use crate::{
    change::{
        OldRow,
        relation::{Column, ReplicaIdentity},
        value::{TypeRegistry, oid},
    },
    policy::{
        catalog::{Collation, Generated, TableColumn},
        facts::Carried,
    },
};
use proptest::prelude::*;
use std::collections::HashMap;

const TABLE: u32 = 7;
const NAMES: [&str; 4] = ["id", "who", "what", "note"];
const TYPES: [u32; 4] = [oid::INT4, oid::INT8, oid::TEXT, oid::TEXT];

type Texts = [Option<String>; 4];

fn facts(replica_identity: ReplicaIdentity) -> TableFacts {
    let column = |(index, (name, type_oid)): (usize, (&&str, &u32))| TableColumn {
        number: i16::try_from(index).unwrap() + 1,
        name: (*name).to_owned(),
        type_oid: *type_oid,
        type_name: String::new(),
        collation: Collation::None,
        collation_oid: 0,
        generated: None,
    };
    TableFacts {
        oid: TABLE,
        schema: "public".to_owned(),
        name: "members".to_owned(),
        is_ordinary: true,
        columns: NAMES.iter().zip(&TYPES).enumerate().map(column).collect(),
        unique_keys: vec![vec![0]],
        replica_identity,
        identity: if replica_identity == ReplicaIdentity::Full { vec![0, 1, 2, 3] } else { vec![0] },
        carried: Carried::Main,
        has_usable_identity: true,
        reader: Some(None),
        estimated_rows: 0,
        policies: Vec::new(),
        rights: HashMap::new(),
    }
}

fn relation(facts: &TableFacts) -> Arc<Relation> {
    let column = |(index, column): (usize, &TableColumn)| Column {
        name: column.name.clone(),
        type_oid: column.type_oid,
        type_modifier: -1,
        is_key: facts.identity.contains(&index),
    };
    Arc::new(Relation {
        oid: TABLE,
        schema: "public".to_owned(),
        name: "members".to_owned(),
        replica_identity: facts.replica_identity,
        columns: facts.columns.iter().enumerate().map(column).collect(),
    })
}

fn need() -> Need {
    Need { columns: [1, 2].into(), keys: [[].into(), [1].into(), [1, 2].into()].into() }
}

fn datum(text: &Option<String>) -> Datum {
    text.as_ref().map_or(Datum::Null, |text| Datum::Text(text.clone().into()))
}

fn row(texts: &Texts) -> Row {
    Row(texts.iter().map(datum).collect())
}

fn change(relation: &Arc<Relation>, operation: Operation, old: Option<&Texts>, new: Option<&Texts>) -> Change {
    let is_full = relation.replica_identity == ReplicaIdentity::Full;
    let old = old.map(|old| {
        let mut row = row(old);
        for (datum, _) in row.0.iter_mut().zip(&relation.columns).filter(|(_, column)| !column.is_key) {
            *datum = Datum::Absent;
        }
        OldRow { whole: is_full, row }
    });
    Change { operation, relation: relation.clone(), old, new: new.map(row), ordinal: 0 }
}

fn loaded(facts: &TableFacts, rows: &[Texts]) -> Lookups {
    let mut lookups = Lookups::default();
    let layout = Layout::new(Arc::new(facts.clone()), need(), &TypeRegistry::default()).unwrap();
    let read: Vec<usize> = layout.names().map(|name| NAMES.iter().position(|known| *known == name).unwrap()).collect();
    let snapshot = Snapshot::parse("10:10:", Lsn(100)).unwrap();
    let mut loading = Loading::new(layout, snapshot, lookups.room_without(&[]));
    for row in rows {
        loading.add_row(read.iter().map(|&at| row[at].as_ref().map(String::as_bytes))).unwrap();
    }
    lookups.complete(loading);
    lookups
}

fn values(row: &Texts) -> [Value; 2] {
    let number = row[1].as_ref().map_or(Value::Null, |text| Value::Int(text.parse().unwrap()));
    [number, row[2].as_ref().map_or(Value::Null, |text| Value::Text(text.as_str().into()))]
}

fn found(found: Found<'_>) -> Vec<String> {
    let mut rows: Vec<String> =
        found.map(|row| format!("{:?} {:?}", row.get(1).unwrap(), row.get(2).unwrap())).collect();
    rows.sort();
    rows
}

/// What a search from end to end finds.
fn expected(rows: &[Texts], wanted: impl Fn(&[Value; 2]) -> bool) -> Vec<String> {
    let rows = rows.iter().map(values).filter(wanted);
    let mut rows: Vec<String> = rows.map(|[who, what]| format!("{who:?} {what:?}")).collect();
    rows.sort();
    rows
}

fn assert_alike(lookups: &Lookups, rows: &[Texts]) {
    assert_eq!(found(lookups.find(TABLE, &[], &[])), expected(rows, |_| true));
    for who in (0..3).map(Value::Int) {
        let key = [who.clone()];
        assert_eq!(found(lookups.find(TABLE, &[1], &key)), expected(rows, |row| row[0] == who));
        for what in ["a", "b"].map(|text| Value::Text(text.into())) {
            let wanted = |row: &[Value; 2]| row[0] == who && row[1] == what;
            assert_eq!(found(lookups.find(TABLE, &[1, 2], &[who.clone(), what.clone()])), expected(rows, wanted));
        }
        let what = Value::Text("a".into());
        assert_eq!(
            found(lookups.find(TABLE, &[2], std::slice::from_ref(&what))),
            expected(rows, |row| row[1] == what),
            "no index"
        );
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert(Texts),
    Update(prop::sample::Index, Texts, bool, bool),
    Delete(prop::sample::Index),
    Truncate,
}

fn texts() -> impl Strategy<Value = Texts> {
    let text = |values: &'static [&'static str]| prop::option::of(prop::sample::select(values).prop_map(str::to_owned));
    let id = (0..40i32).prop_map(|id| Some(id.to_string()));
    (id, text(&["0", "1", "2"]), text(&["a", "b"]), text(&["x"])).prop_map(|(a, b, c, d)| [a, b, c, d])
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => texts().prop_map(Step::Insert),
        8 => (any::<prop::sample::Index>(), texts(), any::<bool>(), any::<bool>())
            .prop_map(|(at, row, moves, leaves_out)| Step::Update(at, row, moves, leaves_out)),
        5 => any::<prop::sample::Index>().prop_map(Step::Delete),
        1 => Just(Step::Truncate),
    ];
    prop::collection::vec(step, 0..120)
}

/// Does a step to the list; the change of the stream, unless the step is impossible.
fn perform(step: &Step, rows: &mut Vec<Texts>, relation: &Arc<Relation>) -> Option<Change> {
    let is_full = relation.replica_identity == ReplicaIdentity::Full;
    let is_taken = |rows: &[Texts], id: &Option<String>| !is_full && rows.iter().any(|row| row[0] == *id);
    match step {
        Step::Insert(row) => {
            (!is_taken(rows, &row[0])).then(|| rows.push(row.clone()))?;
            Some(change(relation, Operation::Insert, None, Some(row)))
        }
        Step::Update(at, row, moves, leaves_out) => {
            let at = (!rows.is_empty()).then(|| at.index(rows.len()))?;
            let (old, mut row) = (rows[at].clone(), row.clone());
            if !moves || is_taken(rows, &row[0]) {
                row[0] = old[0].clone();
            }
            let names_old = is_full || row[0] != old[0];
            if *leaves_out && !is_full {
                row[2] = old[2].clone();
            }
            let mut change = change(relation, Operation::Update, names_old.then_some(&old), Some(&row));
            if let Some(new) = change.new.as_mut().filter(|_| *leaves_out && !is_full) {
                new.0[2] = Datum::Absent;
            }
            rows[at] = row;
            Some(change)
        }
        Step::Delete(at) => {
            let at = (!rows.is_empty()).then(|| at.index(rows.len()))?;
            let old = rows.swap_remove(at);
            Some(change(relation, Operation::Delete, Some(&old), None))
        }
        Step::Truncate => {
            rows.clear();
            Some(change(relation, Operation::Truncate, None, None))
        }
    }
}

proptest! {
    #[test]
    fn the_index_finds_what_a_search_from_end_to_end_finds(
        first in prop::collection::vec(texts(), 0..30),
        steps in steps(),
        identity in prop::sample::select(vec![ReplicaIdentity::Default, ReplicaIdentity::Index, ReplicaIdentity::Full]),
    ) {
        let facts = facts(identity);
        let relation = relation(&facts);
        let mut rows: Vec<Texts> = Vec::new();
        for row in first {
            perform(&Step::Insert(row), &mut rows, &relation);
        }
        let mut lookups = loaded(&facts, &rows);
        assert_alike(&lookups, &rows);
        for step in &steps {
            if let Some(change) = perform(step, &mut rows, &relation) {
                lookups.apply(&change, 20, Lsn(200)).unwrap();
                assert_alike(&lookups, &rows);
            }
        }
        let (_, bytes) = lookups.size(TABLE).unwrap();
        let fresh = loaded(&facts, &rows).size(TABLE).unwrap().1;
        prop_assert!(bytes.abs_diff(fresh) <= rows.len() * 8, "{bytes} bytes are counted, {fresh} after loading anew");
        for row in std::mem::take(&mut rows) {
            lookups.apply(&change(&relation, Operation::Delete, Some(&row), None), 20, Lsn(200)).unwrap();
        }
        prop_assert_eq!(lookups.size(TABLE), Some((0, 0)));
    }
}

fn some(texts: [&str; 4]) -> Texts {
    texts.map(|text| Some(text.to_owned()))
}

#[test]
fn what_the_snapshot_shows_is_not_applied_again() {
    let facts = facts(ReplicaIdentity::Default);
    let relation = relation(&facts);
    let rows = [some(["1", "1", "a", "x"])];
    let mut lookups = loaded(&facts, &rows);
    let again = change(&relation, Operation::Insert, None, Some(&rows[0]));
    assert_eq!(lookups.apply(&again, 9, Lsn(99)), Ok(false));
    assert_alike(&lookups, &rows);
    assert_eq!(lookups.apply(&again, 9, Lsn(100)), Err(Trouble::Twice), "another transaction by the same number");
    assert!(!lookups.is_ready(TABLE));
}

#[test]
fn a_change_of_what_nobody_reads_is_told_from_one_that_counts() {
    let facts = facts(ReplicaIdentity::Default);
    let relation = relation(&facts);
    let old = some(["1", "1", "a", "x"]);
    let mut lookups = loaded(&facts, std::slice::from_ref(&old));
    let mut update = |to: [&str; 4]| {
        lookups.apply(&change(&relation, Operation::Update, None, Some(&some(to))), 20, Lsn(200)).unwrap()
    };
    assert!(!update(["1", "1", "a", "another note"]));
    assert!(update(["1", "2", "a", "x"]));
    let row = lookups.find(TABLE, &[1], &[Value::Int(2)]).next().unwrap();
    assert_eq!(row.get(1), Some(&Value::Int(2)));
    assert_eq!((row.get(0), row.get(3), row.get(9)), (None, None, None), "nobody needs these");
}

#[test]
fn whatever_does_not_fit_ends_the_table_with_the_reason() {
    let known = some(["1", "1", "a", "x"]);
    let other = some(["2", "1", "a", "x"]);
    let facts = facts(ReplicaIdentity::Default);
    let good = relation(&facts);
    let update = change(&good, Operation::Update, None, Some(&known));
    let with = |place: usize, datum: Datum| {
        let mut change = update.clone();
        change.new.as_mut().unwrap().0[place] = datum;
        change
    };
    let of = |alter: &dyn Fn(&mut Relation)| {
        let mut relation = (*good).clone();
        alter(&mut relation);
        Change { relation: Arc::new(relation), ..update.clone() }
    };
    let mut insert = change(&good, Operation::Insert, None, Some(&other));
    insert.new.as_mut().unwrap().0[2] = Datum::Absent;
    let cases = [
        (change(&good, Operation::Insert, None, Some(&known)), Trouble::Twice),
        (change(&good, Operation::Update, None, Some(&other)), Trouble::Missing),
        (change(&good, Operation::Update, Some(&other), Some(&known)), Trouble::Missing),
        (change(&good, Operation::Delete, Some(&other), None), Trouble::Missing),
        (change(&good, Operation::Delete, None, None), Trouble::Missing),
        (insert, Trouble::Unresolved("what".to_owned())),
        (with(0, Datum::Absent), Trouble::Unresolved("id".to_owned())),
        (with(1, Datum::Text("no number".into())), Trouble::Unreadable("who".to_owned())),
        (of(&|relation| relation.columns[1].name = "whom".to_owned()), Trouble::Changed),
        (of(&|relation| relation.columns[2].type_oid = oid::INT4), Trouble::Changed),
        (of(&|relation| relation.columns[1].is_key = true), Trouble::Changed),
        (of(&|relation| relation.replica_identity = ReplicaIdentity::Full), Trouble::Changed),
    ];
    for (change, trouble) in cases {
        let mut lookups = loaded(&facts, std::slice::from_ref(&known));
        assert_eq!(lookups.apply(&change, 20, Lsn(200)), Err(trouble), "{change:?}");
        assert!(!lookups.is_ready(TABLE) && lookups.size(TABLE).is_none());
        assert_eq!(lookups.apply(&change, 20, Lsn(200)), Ok(false), "it is nobody's any more");
    }
    let mut lookups = loaded(&facts, std::slice::from_ref(&known));
    let unread = of(&|relation| relation.columns[3].type_oid = oid::INT4);
    assert_eq!(lookups.apply(&unread, 20, Lsn(200)), Ok(false), "a column nobody reads may change");
}

#[test]
fn a_table_that_cannot_be_followed_says_why() {
    let layout = |alter: &dyn Fn(&mut TableFacts)| {
        let mut facts = facts(ReplicaIdentity::Default);
        alter(&mut facts);
        Layout::new(Arc::new(facts), need(), &TypeRegistry::default()).err().map(|trouble| trouble.to_string())
    };
    let generated = Generated { expression: String::new(), sql_type: String::new(), reads: Vec::new() };
    assert_eq!(layout(&|_| {}), None);
    for (said, why) in [
        (layout(&|facts| facts.is_ordinary = false), "ordinary"),
        (layout(&|facts| facts.carried = Carried::No), "not in the stream"),
        (layout(&|facts| facts.identity.clear()), "replica identity"),
        (layout(&|facts| facts.columns[1].generated = Some(generated.clone())), "\"who\" is generated"),
        (layout(&|facts| facts.columns[2].type_oid = 600), "\"what\" is of a type"),
        (layout(&|facts| facts.columns.truncate(2)), "changed"),
    ] {
        assert!(said.as_ref().is_some_and(|said| said.contains(why)), "{why}: {said:?}");
    }
}

#[test]
fn there_is_no_more_room_than_the_setting_says() {
    let facts = facts(ReplicaIdentity::Default);
    let relation = relation(&facts);
    let layout = || Layout::new(Arc::new(facts.clone()), need(), &TypeRegistry::default()).unwrap();
    let snapshot = Snapshot::parse("10:10:", Lsn(100)).unwrap();
    let mut lookups = Lookups::new(5000);
    let mut loading = Loading::new(layout(), snapshot.clone(), lookups.room_without(&[]));
    let add = |loading: &mut Loading, id: i32| {
        let id = id.to_string();
        loading.add_row([Some(id.as_bytes()), Some(b"1".as_slice()), None])
    };
    let added = (0..).take_while(|&id| add(&mut loading, id).is_ok()).count();
    assert!(added > 2 && loading.bytes() > 5000, "{added} rows");
    assert!(add(&mut loading, -1).unwrap_err().to_string().contains("raise lookup_bytes (now 5000"));
    let mut loading = Loading::new(layout(), snapshot, lookups.room_without(&[]));
    for id in 0..i32::try_from(added).unwrap() {
        add(&mut loading, id).unwrap();
    }
    lookups.complete(loading);
    assert_eq!(lookups.room_without(&[TABLE]).left, 5000);
    let insert = change(&relation, Operation::Insert, None, Some(&some(["99", "1", "a", "x"])));
    assert_eq!(lookups.apply(&insert, 20, Lsn(200)), Err(Trouble::NoRoom(5000)));
    assert!(!lookups.is_ready(TABLE));
}

#[test]
fn rows_serve_a_later_catalogue_as_long_as_nothing_that_is_read_has_changed() {
    let facts = facts(ReplicaIdentity::Default);
    let lookups = loaded(&facts, &[]);
    let serves = |alter: &dyn Fn(&mut TableFacts, &mut Need)| {
        let (mut facts, mut need) = (facts.clone(), need());
        alter(&mut facts, &mut need);
        lookups.serves(&facts, &need)
    };
    assert!(serves(&|_, _| {}));
    assert!(serves(&|facts, _| facts.columns[3].type_oid = oid::INT4));
    assert!(serves(&|_, need| *need = Need { columns: [2].into(), keys: [[1].into()].into() }));
    assert!(!serves(&|_, need| need.columns = [1, 2, 3].into()), "a further column");
    assert!(!serves(&|_, need| need.keys = [[2].into()].into()), "a further key");
    assert!(!serves(&|facts, _| facts.columns[1].name = "whom".to_owned()));
    assert!(!serves(&|facts, _| facts.columns[0].type_oid = oid::INT8), "of the identity");
    assert!(!serves(&|facts, _| facts.columns[1].number = 9), "dropped and made again");
    assert!(!serves(&|facts, _| facts.identity = vec![1]));
    assert!(!serves(&|facts, _| facts.carried = Carried::Own));
}
