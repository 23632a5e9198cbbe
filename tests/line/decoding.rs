//! Every message of pgoutput, as real servers sent it: `golden/<major>.hex` has one frame a line. The recording is made
//! anew for every major version under test and must say the same; `UPDATE_GOLDEN=1` writes it down.

use crate::support::postgres::{Database, Postgres, majors};
use bytes::Bytes;
use proptest::prelude::*;
use std::{collections::HashMap, env, fs, path::PathBuf};
use walcast::{
    change::{Datum, Fragment, Operation, assemble::Assembler},
    lsn::Lsn,
    pgoutput::{
        Message, decode,
        message::{Delete, Insert, OldTuple, Origin, RelationMessage, Truncate, TypeMessage, Update},
        tuple::{Tuple, TupleValue},
    },
};

const ORIGIN: &str = "walcast golden";
const LONG: usize = 2100;

const TABLES: &str = "
    create type mood as enum ('sad', 'happy');
    create table plain (id int primary key, note text, feeling mood, amount numeric(10,2), body text);
    alter table plain alter body set storage external;
    create table whole (id int primary key, note text, body text);
    alter table whole replica identity full;
    alter table whole alter body set storage external;
    create publication golden for table plain, whole";

const TRANSACTIONS: [&str; 5] = [
    "insert into plain values (1, 'a', 'happy', 1.5, repeat('x', 2100)), (2, null, null, null, null)",
    "update plain set note = 'b' where id = 1; update plain set id = 3 where id = 2; delete from plain where id = 3",
    "insert into whole values (1, 'a', repeat('y', 2100)); update whole set note = 'é' where id = 1;
     delete from whole where id = 1",
    "truncate plain, whole restart identity cascade",
    "select pg_logical_emit_message(true, 'inside', 'with it')",
];

fn golden_path(major: u32) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/line/golden/{major}.hex"))
}

async fn record(database: &Database) -> Vec<Bytes> {
    let client = database.connect().await;
    client.batch_execute(TABLES).await.unwrap();
    let (slot, origin) = (database.slot(), format!("{ORIGIN} {}", database.name));
    client.execute("select pg_create_logical_replication_slot($1, 'pgoutput')", &[&slot]).await.unwrap();
    for sql in TRANSACTIONS {
        client.batch_execute(&format!("begin; {sql}; commit")).await.unwrap();
    }
    let from_elsewhere = format!(
        "select pg_replication_origin_create('{origin}'); select pg_replication_origin_session_setup('{origin}');
         begin; select pg_replication_origin_xact_setup('0/ABC', '2024-01-01'); insert into plain values (9); commit;
         select pg_replication_origin_session_reset(); select pg_replication_origin_drop('{origin}');
         select pg_logical_emit_message(false, 'outside', decode('00ff', 'hex')); create table later ()"
    );
    for statement in from_elsewhere.split_inclusive(';') {
        client.batch_execute(statement).await.unwrap();
    }
    let sql = "select data from pg_logical_slot_get_binary_changes($1, null, null, 'proto_version', '1', \
               'publication_names', 'golden', 'messages', 'true')";
    let rows = client.query(sql, &[&slot]).await.unwrap();
    rows.iter().map(|row| Bytes::copy_from_slice(row.get::<_, &[u8]>(0))).collect()
}

fn golden(major: u32) -> Vec<Bytes> {
    let text = fs::read_to_string(golden_path(major)).expect("the recording is in the repository; UPDATE_GOLDEN=1");
    let byte = |line: &str, at: usize| u8::from_str_radix(&line[at..at + 2], 16).expect("hexadecimal digits");
    let frame = |line: &str| (0..line.len()).step_by(2).map(|at| byte(line, at)).collect::<Vec<u8>>().into();
    text.lines().map(frame).collect()
}

fn goldens() -> Vec<Vec<Bytes>> {
    let files = fs::read_dir(golden_path(0).parent().unwrap()).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let majors: Vec<u32> = names.filter_map(|name| name.strip_suffix(".hex")?.parse().ok()).collect();
    assert!(!majors.is_empty());
    majors.into_iter().map(golden).collect()
}

/// What is different in every recording made alike: oids, positions, transaction ids, times.
fn normalised(messages: &[Message]) -> Vec<Message> {
    let mut tables = HashMap::new();
    let mut type_name = HashMap::new();
    for message in messages {
        match message {
            Message::Relation(relation) => {
                tables.insert(relation.oid, if relation.name == "plain" { 1 } else { 2 });
            }
            Message::Type(message) => {
                type_name.insert(message.oid, 3);
            }
            _ => {}
        }
    }
    let table = |oid: &u32| tables[oid];
    let mut messages = messages.to_vec();
    for message in &mut messages {
        match message {
            Message::Begin(begin) => {
                assert!(begin.commit_lsn > Lsn::ZERO && begin.xid > 0 && begin.commit_time > 0, "{begin:?}");
                (begin.commit_lsn, begin.commit_time, begin.xid) = (Lsn(1), 2, 3);
            }
            Message::Commit(commit) => {
                assert!(commit.end_lsn > commit.commit_lsn && commit.commit_lsn > Lsn::ZERO, "{commit:?}");
                (commit.commit_lsn, commit.end_lsn, commit.commit_time) = (Lsn(1), Lsn(2), 2);
            }
            Message::Origin(origin) => {
                assert!(origin.name.starts_with(ORIGIN), "{origin:?}");
                origin.name = ORIGIN.to_owned();
            }
            Message::Relation(relation) => {
                relation.oid = table(&relation.oid);
                for column in &mut relation.columns {
                    column.type_oid = *type_name.get(&column.type_oid).unwrap_or(&column.type_oid);
                }
            }
            Message::Type(message) => message.oid = 3,
            Message::Insert(insert) => insert.relation = table(&insert.relation),
            Message::Update(update) => update.relation = table(&update.relation),
            Message::Delete(delete) => delete.relation = table(&delete.relation),
            Message::Truncate(truncate) => truncate.relations = truncate.relations.iter().map(table).collect(),
            Message::Logical(message) => message.lsn = Lsn(1),
        }
    }
    messages
}

fn decoded(frames: &[Bytes]) -> Vec<Message> {
    frames.iter().map(|frame| decode(frame.clone()).unwrap_or_else(|error| panic!("{error}: {frame:?}"))).collect()
}

fn text(value: &str) -> TupleValue {
    TupleValue::Text(Bytes::copy_from_slice(value.as_bytes()))
}

fn nulls(id: &str, width: usize) -> Tuple {
    let mut tuple = vec![TupleValue::Null; width];
    tuple[0] = text(id);
    tuple
}

/// What the recording says, in the order of its transactions.
fn check(messages: &[Message]) {
    use TupleValue::Unchanged;
    let all = normalised(messages);
    let relation = |name: &str| -> &RelationMessage {
        let mut found = all.iter().filter_map(|message| match message {
            Message::Relation(relation) if relation.name == name => Some(relation),
            _ => None,
        });
        found.next().unwrap_or_else(|| panic!("no relation {name}"))
    };
    let plain = relation("plain");
    assert_eq!((plain.schema.as_str(), plain.replica_identity), ("public", b'd'));
    let columns = |relation: &RelationMessage| -> Vec<(String, bool, u32, i32)> {
        let columns = relation.columns.iter();
        columns.map(|column| (column.name.clone(), column.is_key, column.type_oid, column.type_modifier)).collect()
    };
    let expected = [("id", true, 23, -1), ("note", false, 25, -1), ("feeling", false, 3, -1)];
    assert_eq!(columns(plain)[..3], expected.map(|(name, key, oid, modifier)| (name.to_owned(), key, oid, modifier)));
    assert_eq!(columns(plain)[3], ("amount".to_owned(), false, 1700, (10 << 16 | 2) + 4));
    let whole = relation("whole");
    assert_eq!(whole.replica_identity, b'f');
    assert!(whole.columns.iter().all(|column| column.is_key), "with identity full every column is part of the key");
    let mood = TypeMessage { oid: 3, schema: "public".to_owned(), name: "mood".to_owned() };
    assert!(all.contains(&Message::Type(mood)));

    let long = |letter: &str| text(&letter.repeat(LONG));
    let rows: Vec<&Message> = all
        .iter()
        .filter(|message| {
            !matches!(message, Message::Begin(_) | Message::Commit(_) | Message::Relation(_) | Message::Type(_))
        })
        .collect();
    let whole_row = |note: &str| vec![text("1"), text(note), long("y")];
    let expected = [
        Message::Insert(Insert {
            relation: 1,
            new: vec![text("1"), text("a"), text("happy"), text("1.50"), long("x")],
        }),
        Message::Insert(Insert { relation: 1, new: nulls("2", 5) }),
        Message::Update(Update {
            relation: 1,
            old: None,
            new: vec![text("1"), text("b"), text("happy"), text("1.50"), Unchanged],
        }),
        Message::Update(Update { relation: 1, old: Some(OldTuple::Key(nulls("2", 5))), new: nulls("3", 5) }),
        Message::Delete(Delete { relation: 1, old: OldTuple::Key(nulls("3", 5)) }),
        Message::Insert(Insert { relation: 2, new: whole_row("a") }),
        Message::Update(Update {
            relation: 2,
            old: Some(OldTuple::Whole(whole_row("a"))),
            new: vec![text("1"), text("é"), Unchanged],
        }),
        Message::Delete(Delete { relation: 2, old: OldTuple::Whole(whole_row("é")) }),
        Message::Truncate(Truncate { cascade: true, restart_identity: true, relations: vec![1, 2] }),
    ];
    for (row, expected) in rows.iter().zip(&expected) {
        assert_eq!(*row, expected);
    }
    let [inside, origin, nine, outside] = rows[expected.len()..] else { panic!("{:?}", &rows[expected.len()..]) };
    let Message::Logical(inside) = inside else { panic!("{inside:?}") };
    assert_eq!((inside.transactional, inside.prefix.as_str(), &inside.content[..]), (true, "inside", &b"with it"[..]));
    assert_eq!(*origin, Message::Origin(Origin { commit_lsn: Lsn(0xABC), name: ORIGIN.to_owned() }));
    assert_eq!(*nine, Message::Insert(Insert { relation: 1, new: nulls("9", 5) }));
    let Message::Logical(outside) = outside else { panic!("{outside:?}") };
    assert_eq!(
        (outside.transactional, outside.prefix.as_str(), &outside.content[..]),
        (false, "outside", &b"\0\xff"[..])
    );
}

#[tokio::test]
async fn every_message_decodes_to_what_was_done_and_is_what_was_recorded() {
    for major in majors() {
        let database = Postgres::shared(major).database().await;
        let frames = record(&database).await;
        check(&decoded(&frames));
        if env::var_os("UPDATE_GOLDEN").is_some() {
            let line = |frame: &Bytes| frame.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n";
            fs::write(golden_path(major), frames.iter().map(line).collect::<String>()).unwrap();
        }
        if golden_path(major).exists() {
            let recorded = normalised(&decoded(&golden(major)));
            let without_empty = |messages: Vec<Message>| -> Vec<Message> {
                messages.into_iter().filter(|m| !matches!(m, Message::Begin(_) | Message::Commit(_))).collect()
            };
            assert_eq!(without_empty(normalised(&decoded(&frames))), without_empty(recorded), "PostgreSQL {major}");
        }
    }
}

#[test]
fn the_recordings_hold_every_kind_of_message() {
    for frames in goldens() {
        check(&decoded(&frames));
        for tag in *b"BCOYRIUDTM" {
            assert!(frames.iter().any(|frame| frame[0] == tag), "{} is missing", char::from(tag));
        }
    }
}

#[test]
fn a_recorded_frame_cut_anywhere_or_with_a_byte_more_is_an_error() {
    for frames in goldens() {
        for frame in &frames {
            for length in 0..frame.len() {
                assert!(decode(frame.slice(..length)).is_err(), "{length} bytes of {frame:?}");
            }
            for extra in [0, b'n', 0xff] {
                let mut longer = frame.to_vec();
                longer.push(extra);
                assert!(decode(longer.into()).is_err(), "a byte behind {frame:?}");
            }
        }
    }
}

#[test]
fn the_recorded_stream_assembles_into_its_transactions() {
    for frames in goldens() {
        let mut assembler = Assembler::default();
        let fragments: Vec<Fragment> =
            decoded(&frames).into_iter().filter_map(|message| assembler.push(message).unwrap()).collect();
        assert!(assembler.is_idle());
        assert!(fragments.iter().all(|fragment| fragment.end_lsn > Some(fragment.commit_lsn)));
        assert!(fragments.windows(2).all(|pair| pair[0].commit_lsn < pair[1].commit_lsn));
        let operations: Vec<Vec<Operation>> = fragments
            .iter()
            .map(|fragment| fragment.changes.iter().map(|change| change.operation).collect::<Vec<_>>())
            .filter(|operations| !operations.is_empty())
            .collect();
        use Operation::{Delete, Insert, Truncate, Update};
        assert_eq!(
            operations,
            [
                vec![Insert, Insert],
                vec![Update, Update, Delete],
                vec![Insert, Update, Delete],
                vec![Truncate, Truncate],
                vec![Insert]
            ]
        );
        let changes: Vec<_> = fragments.iter().flat_map(|fragment| &fragment.changes).collect();
        let new = |at: usize| &changes[at].new.as_ref().unwrap().0;
        assert_eq!(new(2)[4], Datum::Absent, "an unchanged value is unknown, not NULL");
        assert_eq!(new(6)[2], Datum::Text("y".repeat(LONG).into()), "the old image has it");
        let key = changes[4].old.as_ref().unwrap();
        assert!(!key.whole && key.row.0[1..].iter().all(|datum| *datum == Datum::Absent), "{key:?}");
    }
}

proptest! {
    #[test]
    fn bytes_of_any_kind_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(bytes.into());
    }

    #[test]
    fn a_recorded_frame_with_bytes_exchanged_never_panics(
        at in any::<prop::sample::Index>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let frames: Vec<Bytes> = goldens().into_iter().flatten().filter(|frame| frame.len() < 500).collect();
        let mut frame = at.get(&frames).to_vec();
        for (place, byte) in changes {
            let place = place.index(frame.len());
            frame[place] = byte;
        }
        if let Ok(message) = decode(frame.into()) {
            let _ = Assembler::default().push(message);
        }
    }
}
