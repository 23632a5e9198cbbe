//! Checks 100 to 102: joins without `config`, whose topic is the subscription. Protocol reference, section 5.

use serde_json::json;

use super::{Check, Door, In, all_of};
use crate::support::json::Json;
use crate::wire::fixture::{self, ALICE};

pub(super) const CHECKS: &[Check] = &[
    Check {
        number: 100,
        says: "a topic names its table, events are bare",
        encodings: In::Both,
        run: |d| Box::pin(table(d)),
    },
    Check {
        number: 101,
        says: "a topic may have a filter, or be *",
        encodings: In::Both,
        run: |d| Box::pin(filter(d)),
    },
    Check { number: 102, says: "with config no bare events come", encodings: In::Both, run: |d| Box::pin(modern(d)) },
    Check { number: 219, says: "both forms stand on one socket", encodings: In::Both, run: |d| Box::pin(both(d)) },
];

async fn table(door: Door) {
    let mut socket = door.anon().await;
    let topic = "realtime:public:notes";
    let (_, response) = socket.join(topic, &json!({"user_token": fixture::token("alice")})).await;
    let entry = response.at("postgres_changes").nth(0).clone();
    assert_eq!(entry.keys(), ["id", "schema", "table"], "{response}");
    let system = socket.expect("the system message", |m| m.event == "system").await.payload;
    assert_eq!(*system.at("channel"), "public:notes");
    door.sql(&format!("insert into public.notes(owner, body) values ('{ALICE}', 'old')")).await;
    let insert = socket.expect("the insert", |m| m.is(topic, "INSERT")).await;
    assert_eq!(*insert.payload.at("record").at("body"), "old");
    assert!(!insert.payload.has("ids") && !insert.payload.has("data"), "{}", insert.text);
    let keys = ["columns", "commit_timestamp", "errors", "record", "schema", "table", "type"];
    assert_eq!(insert.payload.keys(), keys);
    assert_eq!((insert.reference, insert.join_ref), (Json::Null, Json::Null));
    door.sql("update public.notes set body = 'older' where body = 'old'").await;
    socket.expect("the update", |m| m.is(topic, "UPDATE")).await;
    door.sql("delete from public.notes where body = 'older'").await;
    let delete = socket.expect("the delete", |m| m.is(topic, "DELETE")).await;
    assert!(delete.payload.has("old_record") && !delete.payload.has("record"), "{}", delete.text);
}

async fn filter(door: Door) {
    let mut socket = door.alice().await;
    for topic in ["realtime:public:open_full:body=eq.a:b", "realtime:*", "realtime:public"] {
        socket.join(topic, &json!({})).await;
        let system = socket.expect("the system message", |m| m.is(topic, "system")).await.payload;
        assert_eq!(*system.at("message"), "Subscribed to PostgreSQL", "{topic}");
    }
    for text in ["other", "a:b"] {
        door.sql(&format!("insert into public.open_full(body) values ('{text}')")).await;
    }
    let insert = socket.expect("the row", |m| m.is("realtime:public:open_full:body=eq.a:b", "INSERT")).await;
    assert_eq!(*insert.payload.at("record").at("body"), "a:b");
    for topic in ["realtime:*", "realtime:public"] {
        for text in ["other", "a:b"] {
            let insert = socket.expect("a row", |m| m.is(topic, "INSERT")).await;
            assert_eq!(*insert.payload.at("record").at("body"), text, "{topic}");
        }
    }
    socket.join("realtime:room1", &json!({})).await;
    let system = socket.expect("the system message", |m| m.is("realtime:room1", "system")).await.payload;
    let text = system.at("message").as_str().unwrap_or_default();
    assert!(text.contains("[event: *, schema: room1, table: *, filters: [], select: nil]"), "{text}");
}

async fn modern(door: Door) {
    let mut socket = door.alice().await;
    socket.subscribe("realtime:public:open_notes", &all_of("open_notes")).await;
    socket.join("realtime:public:open_full", &json!({"config": {}})).await;
    door.sql("insert into public.open_full(body) values ('modern')").await;
    let others = super::fence(&door, &mut socket, "realtime:public:open_notes").await;
    assert!(others.is_empty(), "{others:?}");
}

async fn both(door: Door) {
    let mut socket = door.alice().await;
    socket.subscribe("realtime:modern", &all_of("open_notes")).await;
    socket.join("realtime:public:open_notes", &json!({})).await;
    socket.expect("the system message", |m| m.is("realtime:public:open_notes", "system")).await;
    door.sql("insert into public.open_notes(body) values ('both')").await;
    assert_eq!(super::body(&socket.change("realtime:modern").await), Some("both"));
    socket.expect("the bare event", |m| m.is("realtime:public:open_notes", "INSERT")).await;
}
