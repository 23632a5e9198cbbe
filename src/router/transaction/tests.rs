//! What is put aside comes back as it was, whatever it holds.

use super::{encoding, *};
use crate::{
    change::{
        Change, Datum, OldRow, Operation, Row,
        cursor::{Beside, Epoch},
    },
    router::fixture::{insert, part, relation_of},
};
use proptest::prelude::*;
use std::{
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

fn datum() -> impl Strategy<Value = Datum> {
    prop_oneof![
        Just(Datum::Null),
        Just(Datum::Absent),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(|bytes| Datum::Text(bytes.into())),
    ]
}

fn row() -> impl Strategy<Value = Row> {
    prop::collection::vec(datum(), 0..5).prop_map(Row)
}

fn fragment() -> impl Strategy<Value = Fragment> {
    let tables = [relation_of(1), relation_of(2), relation_of(3)];
    let operation =
        prop::sample::select(vec![Operation::Insert, Operation::Update, Operation::Delete, Operation::Truncate]);
    let old = prop::option::of((any::<bool>(), row()).prop_map(|(whole, row)| OldRow { whole, row }));
    let change = (operation, 0..3_usize, old, prop::option::of(row()), any::<u64>());
    let change = change.prop_map(move |(operation, table, old, new, ordinal)| Change {
        operation,
        relation: tables[table].clone(),
        old,
        new,
        ordinal,
    });
    let changes = prop::collection::vec(change, 0..20);
    let era = (any::<u32>(), any::<u64>(), any::<u32>(), any::<u64>());
    let era = era.prop_map(|(number, origin, timeline, beside)| {
        (Era { number, epoch: Epoch { origin, timeline } }, Beside(beside))
    });
    (era, any::<u32>(), any::<u64>(), any::<i64>(), changes, prop::option::of(any::<u64>())).prop_map(
        |((era, beside), xid, commit_lsn, commit_time, changes, end)| Fragment {
            era,
            beside,
            xid,
            commit_lsn: Lsn(commit_lsn),
            commit_time,
            changes,
            end_lsn: end.map(Lsn),
        },
    )
}

fn joined(pieces: encoding::Pieces) -> Vec<u8> {
    let (length, pieces) = pieces.into_parts();
    let bytes = pieces.concat();
    assert_eq!(bytes.len() as u64, length);
    bytes
}

fn config(directory: &Path) -> SpillConfig {
    directory.to_owned().into()
}

#[track_caller]
fn assert_same(one: &Fragment, other: &Fragment) {
    assert_eq!(format!("{one:?}"), format!("{other:?}"));
    assert!(one.changes.iter().zip(&other.changes).all(|(one, other)| Arc::ptr_eq(&one.relation, &other.relation)));
}

proptest! {
    #[test]
    fn a_fragment_comes_back_as_it_was(fragments in prop::collection::vec(fragment(), 1..4)) {
        let mut relations = encoding::Relations::default();
        let encoded: Vec<Vec<u8>> =
            fragments.iter().map(|fragment| joined(encoding::encode(fragment, &mut relations))).collect();
        for (fragment, bytes) in fragments.iter().zip(encoded) {
            assert_same(fragment, &encoding::decode(bytes.into(), &relations).unwrap());
        }
    }

    #[test]
    fn damaged_bytes_are_refused_or_read_but_never_a_panic(fragment in fragment(), cut in any::<prop::sample::Index>(), flip in any::<u8>()) {
        let mut relations = encoding::Relations::default();
        let mut bytes = joined(encoding::encode(&fragment, &mut relations));
        let at = cut.index(bytes.len());
        prop_assert!(encoding::decode(bytes[..at].to_vec().into(), &relations).is_err(), "a part is not the whole");
        bytes[at] ^= flip;
        let _ = encoding::decode(bytes.into(), &relations);
    }
}

#[tokio::test]
async fn a_transaction_beyond_its_room_is_read_again_from_the_file_as_often_as_asked() {
    let directory = tempfile::tempdir().unwrap();
    let fragments: Vec<_> =
        (0..10).map(|n| part(5, n, vec![insert(&format!("{n} {} b c", "x".repeat(400)))], n == 9)).collect();
    let mut transaction = Transaction::of(&fragments[0], 2500, &config(directory.path()));
    for fragment in &fragments {
        transaction.push(fragment).await.unwrap();
    }
    assert!((1..9).contains(&transaction.memory.len()), "some of both, or this shows nothing");
    assert_eq!(transaction.end_lsn, Some(Lsn(6)));
    let metadata = transaction.spill.as_ref().unwrap().file().metadata().unwrap();
    assert_eq!((metadata.nlink(), metadata.permissions().mode() & 0o777), (0, 0o600), "nobody else can open it");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    for _ in 0..2 {
        let mut cursor = Cursor::default();
        for fragment in &fragments {
            assert_same(fragment, &transaction.next(&mut cursor).await.unwrap().unwrap());
        }
        assert!(transaction.next(&mut cursor).await.unwrap().is_none());
    }
}

#[test]
fn a_large_value_is_written_without_a_copy_and_comes_back() {
    let large = bytes::Bytes::from(vec![b'y'; 100_000]);
    let change = |values: Vec<Datum>| Change {
        operation: Operation::Insert,
        relation: relation_of(1),
        old: None,
        new: Some(Row(values)),
        ordinal: 0,
    };
    let small = || Datum::Text("small".into());
    let fragment = part(5, 0, vec![change(vec![small(), Datum::Text(large.clone()), Datum::Null, small()])], true);
    let mut relations = encoding::Relations::default();
    let (_, pieces) = encoding::encode(&fragment, &mut relations).into_parts();
    assert!(pieces.iter().any(|piece| piece.as_ptr() == large.as_ptr()));
    assert_same(&fragment, &encoding::decode(pieces.concat().into(), &relations).unwrap());
}

#[tokio::test]
async fn a_file_is_not_written_beyond_its_bound_and_holds_what_it_held_before() {
    let directory = tempfile::tempdir().unwrap();
    let fragments: Vec<_> = (0..9).map(|n| part(5, n, vec![insert(&"x".repeat(1000))], n == 8)).collect();
    let file = SpillConfig { limit_bytes: 4000, ..config(directory.path()) };
    let mut transaction = Transaction::of(&fragments[0], 0, &file);
    let mut kept = 0;
    let error = loop {
        match transaction.push(&fragments[kept]).await {
            Ok(()) => kept += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((kept, error.kind()), (3, io::ErrorKind::QuotaExceeded));
    assert_eq!(error.to_string(), "it takes more than 4000 bytes; raise spill_bytes");
    let mut cursor = Cursor::default();
    for fragment in &fragments[..kept] {
        assert_same(fragment, &transaction.next(&mut cursor).await.unwrap().unwrap());
    }
    assert!(transaction.next(&mut cursor).await.unwrap().is_none());
}

#[tokio::test]
async fn what_cannot_be_read_again_is_an_error_and_not_less() {
    let directory = tempfile::tempdir().unwrap();
    let fragments: Vec<_> = (0..4).map(|n| part(5, n, vec![insert("1 a b c")], n == 3)).collect();
    let mut transaction = Transaction::of(&fragments[0], 0, &config(directory.path()));
    for fragment in &fragments {
        transaction.push(fragment).await.unwrap();
    }
    transaction.damage();
    let mut cursor = Cursor::default();
    let mut read = 0;
    let failed = loop {
        match transaction.next(&mut cursor).await {
            Ok(Some(_)) => read += 1,
            Ok(None) => break false,
            Err(_) => break true,
        }
    };
    assert!(failed && read < 4);
}
