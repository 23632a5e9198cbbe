//! A row of `realtime.messages` → what is broadcast. Pure.

use crate::{
    change::{Change, Datum, Operation, relation::Relation},
    hub::RoomName,
    protocol::{Broadcast, Content, UserBroadcast},
};
use bytes::Bytes;
use uuid::Uuid;

/// A message of the database, and who hears it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// The room it is said in.
    pub(super) room: RoomName,
    /// The id of its row.
    pub(super) id: Uuid,
    /// What is said.
    pub(super) broadcast: Broadcast,
}

/// Whether a table goes by the name of one that holds messages. Only the catalogue knows whether it does.
pub fn may_be_message_table(relation: &Relation) -> bool {
    let Relation { schema, name, .. } = relation;
    schema == "realtime" && (name == "messages" || name.starts_with("messages_"))
}

/// What a change of the table broadcasts (protocol reference, section 6.5): only a new row does, and only a whole one.
/// Any `extension` counts.
pub(super) fn message(change: &Change) -> Option<Message> {
    if change.operation != Operation::Insert {
        return None;
    }
    let row = change.new.as_ref()?;
    // By their names: partitions may have their columns in another order than the table.
    let value = |name: &str| {
        let place = change.relation.columns.iter().position(|column| column.name == name)?;
        match row.0.get(place)? {
            Datum::Text(bytes) => Some(bytes),
            Datum::Null | Datum::Absent => None,
        }
    };
    let text = |name: &str| std::str::from_utf8(value(name)?).ok();
    text("inserted_at")?;
    let id: Uuid = text("id")?.parse().ok()?;
    let is_private = match text("private")? {
        "t" => true,
        "f" => false,
        _ => return None,
    };
    let content = match value("payload") {
        Some(json) => Content::Json(json.clone()),
        None => Content::Binary(bytea(text("binary_payload")?)?),
    };
    let (topic, event) = (text("topic")?, text("event")?.to_owned());
    let meta = Some(format!(r#"{{"id":"{id}"}}"#));
    Some(Message {
        room: RoomName { topic: format!("realtime:{topic}").into(), is_private },
        id,
        broadcast: Broadcast::User(UserBroadcast { event, content, meta }),
    })
}

/// The bytes of a `bytea` in its hex form, which the stream is told to use.
pub(super) fn bytea(text: &str) -> Option<Bytes> {
    let digits = text.strip_prefix("\\x")?.as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = digits.chunks(2).map(|pair| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    });
    pairs.collect::<Option<Vec<u8>>>().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::{
        OldRow, Row,
        relation::{Column, Relation, ReplicaIdentity},
    };
    use std::sync::Arc;

    const ID: &str = "6a1f6a52-8f6c-4c5b-9d1b-0e7a3a6a0c11";

    /// An inserted row of these columns.
    fn insert(values: &[(&str, Option<&str>)]) -> Change {
        let column = |(name, _): &(&str, Option<&str>)| Column {
            name: (*name).to_owned(),
            type_oid: 25,
            type_modifier: -1,
            is_key: false,
        };
        let datum = |(_, value): &(&str, Option<&str>)| {
            value.map_or(Datum::Null, |text| Datum::Text(Bytes::copy_from_slice(text.as_bytes())))
        };
        let relation = Relation {
            oid: 1,
            schema: "realtime".to_owned(),
            name: "messages_2026_11_21".to_owned(),
            replica_identity: ReplicaIdentity::Default,
            columns: values.iter().map(column).collect(),
        };
        Change {
            operation: Operation::Insert,
            relation: Arc::new(relation),
            old: None,
            new: Some(Row(values.iter().map(datum).collect())),
            ordinal: 0,
        }
    }

    const JSON: [(&str, Option<&str>); 8] = [
        ("binary_payload", None),
        ("id", Some(ID)),
        ("inserted_at", Some("2026-11-21 12:00:00")),
        ("private", Some("t")),
        ("event", Some("hi")),
        ("payload", Some(r#"{"a": 1}"#)),
        ("extension", Some("anything")),
        ("topic", Some("room-1")),
    ];

    fn with(name: &str, value: Option<&'static str>) -> Change {
        insert(&JSON.map(|(known, old)| (known, if known == name { value } else { old })))
    }

    #[test]
    fn a_row_is_said_in_the_room_of_its_topic_and_privacy_with_its_id() {
        let said = message(&insert(&JSON)).unwrap();
        assert_eq!(said.room, RoomName { topic: "realtime:room-1".into(), is_private: true });
        assert_eq!(said.id.to_string(), ID);
        let expected = format!(r#"{{"event":"hi","payload":{{"a": 1}},"type":"broadcast","meta":{{"id":"{ID}"}}}}"#);
        assert_eq!(said.broadcast.text().unwrap(), expected);
        assert!(!message(&with("private", Some("f"))).unwrap().room.is_private);
        let list = message(&with("payload", Some("[1]"))).unwrap();
        assert!(list.broadcast.text().unwrap().contains(r#""payload":[1]"#), "any JSON is sent as it is");
    }

    #[test]
    fn bytes_are_sent_as_they_are_and_have_no_text() {
        let mut values = JSON;
        values[0].1 = Some("\\x00ff10");
        values[5].1 = None;
        let Broadcast::User(said) = message(&insert(&values)).unwrap().broadcast else { panic!("not a user's") };
        assert_eq!(said.content, Content::Binary(Bytes::from_static(&[0, 255, 16])));
        assert_eq!(said.text(), None);
        for damaged in ["00ff", "\\x0", "\\xzz", "\\x+1"] {
            values[0].1 = Some(damaged);
            assert_eq!(message(&insert(&values)), None, "{damaged}");
        }
    }

    #[test]
    fn what_is_no_whole_new_row_says_nothing() {
        for name in ["inserted_at", "id", "private", "event", "payload", "topic"] {
            assert_eq!(message(&with(name, None)), None, "without {name}");
        }
        assert_eq!(message(&insert(&JSON[1..7])), None, "without the column of the topic");
        for operation in [Operation::Update, Operation::Delete, Operation::Truncate] {
            let old = insert(&JSON).new.map(|row| OldRow { whole: true, row });
            assert_eq!(message(&Change { operation, old, ..insert(&JSON) }), None);
        }
    }
}
