//! Rows of `realtime.messages`, whose values anybody may write who may insert there: what members of a room hear of them.

use super::{
    harness::{MEMORY, Seen, Target, fuzz, seen},
    mutate::{joined, records},
    phoenix::good,
};
use bytes::Bytes;
use serde_json::Value;
use std::sync::{Arc, LazyLock};
use walcast::{
    change::{
        Change, Datum, Operation, Row,
        relation::{Column, Relation, ReplicaIdentity},
    },
    doors::phoenix::{V1, V2},
    hub::{Entry, Greeting, Member, MemberId, MessageForm, Reads, RoomName, Rooms, outbox},
    limits::{Limits, Meters},
    lsn::Lsn,
    messages::Publisher,
    metrics::Metrics,
    protocol::Codec,
};

const COLUMNS: [&str; 7] = ["id", "topic", "event", "payload", "private", "inserted_at", "binary_payload"];

static RELATION: LazyLock<Arc<Relation>> = LazyLock::new(|| {
    let column =
        |name: &&str| Column { name: (*name).to_owned(), type_oid: 25, type_modifier: -1, is_key: *name == "id" };
    Arc::new(Relation {
        oid: 1,
        schema: "realtime".to_owned(),
        name: "messages".to_owned(),
        replica_identity: ReplicaIdentity::Default,
        columns: COLUMNS.iter().map(column).collect(),
    })
});

#[test]
fn any_row_of_the_message_table_is_said_in_frames_that_clients_can_read_or_not_at_all() {
    let id = "11111111-1111-1111-1111-111111111111";
    let seeds = [
        joined([id, "r", "e", r#"{"a": [1.50, "ü"]}"#, "f", "2026-01-01 00:00:00"]),
        joined([id, "r", "e\"\\", "[1, {}]", "t", "x"]),
        joined([id, "r", "e", "", "f", "x", r"\x00ff"]),
    ];
    let words = &["t", "f", "\\x", "{\"", "\\u0000", "\\ud800", "1e999", "\"", "r"];
    fuzz(Target { name: "message_row", seeds: seeds.to_vec(), words, memory: MEMORY, run: row });
}

/// The values of a row, in the order of `COLUMNS`; an empty one is NULL.
fn row(input: &[u8]) -> Seen {
    let mut values: Vec<Datum> = records(input)
        .into_iter()
        .map(|value| if value.is_empty() { Datum::Null } else { Datum::Text(Bytes::copy_from_slice(value)) })
        .collect();
    values.resize(COLUMNS.len(), Datum::Absent);
    let change = Change {
        operation: Operation::Insert,
        relation: RELATION.clone(),
        old: None,
        new: Some(Row(values)),
        ordinal: 0,
    };
    let (rooms, meters) = (Rooms::default(), Arc::new(Meters::new(Limits::default())));
    let publisher = Publisher::new(rooms.clone(), meters, Arc::<Metrics>::default(), Lsn(0));
    let mut frames = Vec::new();
    for is_private in [false, true] {
        let name = RoomName { topic: "realtime:r".into(), is_private };
        for (number, codec) in [&V1 as &'static dyn Codec, &V2].into_iter().enumerate() {
            let (sender, receiver) = outbox(4, 1 << 20);
            let id = MemberId { connection: number as u64, join: 0 };
            let join_ref = Value::from("1");
            let member = Member::new(id, name.topic.clone(), join_ref, codec, MessageForm::Modern, sender);
            let entry = Entry { member, reads: Reads::ALL, key: "k".to_owned(), greeting: Some(Greeting::default()) };
            rooms.enter(&name, entry);
            frames.push(receiver);
        }
    }
    let is_postponed = publisher.publish(&change, Lsn(1)).is_some();
    let heard = frames.iter_mut().map(|receiver| {
        let heard: Vec<_> = std::iter::from_fn(|| receiver.receive_ready()).collect();
        heard.iter().for_each(good);
        heard.len()
    });
    let heard: Vec<usize> = heard.collect();
    assert!(heard.iter().sum::<usize>() <= 2, "it is said in one room");
    seen((is_postponed, heard))
}
