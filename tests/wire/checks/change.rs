//! Checks 67 to 71, 76, 77, 95, 98: the event itself, for rows that everybody may see. Protocol reference, sections 4.1
//! to 4.4; ours on TOAST, publications and the moment a subscription begins.

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Check, Door, In, all_of, body, changes, fence};
use crate::support::json::Json;
use crate::support::socket::{Heard, PATIENCE, Socket};
use crate::wire::fixture::ALICE;

/// Big values are stored out of line and not compressed, so an UPDATE that leaves them alone does not carry them.
pub(super) const SCHEMA: &str = r"
create table public.toast_default(id int primary key, big text, n int);
create table public.toast_full(id int primary key, big text, n int);
alter table public.toast_default alter column big set storage external;
alter table public.toast_full alter column big set storage external;
alter table public.toast_full replica identity full;
alter publication supabase_realtime add table public.toast_default, public.toast_full;
grant select on public.toast_default, public.toast_full to anon, authenticated, service_role;
";

/// From PostgreSQL 15 on a publication may leave out columns and rows.
pub(super) const NARROWED_SCHEMA: &str = r"
create table public.narrowed(id int primary key, shown text, unlisted text);
create table public.rows_filtered(id int primary key, n int);
alter publication supabase_realtime add table public.narrowed(id, shown), public.rows_filtered where (id > 10);
grant select on public.narrowed, public.rows_filtered to anon, authenticated, service_role;
";

pub(super) const CHECKS: &[Check] = &[
    Check { number: 67, says: "a subscription is announced", encodings: In::Both, run: |d| Box::pin(announced(d)) },
    Check {
        number: 68,
        says: "INSERT has record and no old_record",
        encodings: In::Both,
        run: |d| Box::pin(insert(d)),
    },
    Check {
        number: 69,
        says: "UPDATE has both, the key as old_record",
        encodings: In::Both,
        run: |d| Box::pin(update(d)),
    },
    Check {
        number: 70,
        says: "DELETE has old_record and no record",
        encodings: In::Both,
        run: |d| Box::pin(delete(d)),
    },
    Check { number: 71, says: "TRUNCATE says nothing", encodings: In::Both, run: |d| Box::pin(truncate(d)) },
    Check {
        number: 76,
        says: "two bindings, one message with both ids",
        encodings: In::Both,
        run: |d| Box::pin(two(d)),
    },
    Check { number: 77, says: "two channels, one message each", encodings: In::Both, run: |d| Box::pin(channels(d)) },
    Check { number: 95, says: "a record over 1 MiB is an error 413", encodings: In::Both, run: |d| Box::pin(large(d)) },
    Check { number: 98, says: "an untouched TOAST column", encodings: In::Both, run: |door| Box::pin(toast(door)) },
    Check {
        number: 204,
        says: "an untouched TOAST column in a filter",
        encodings: In::Both,
        run: |d| Box::pin(in_filter(d)),
    },
    Check {
        number: 208,
        says: "nothing from before the subscription",
        encodings: In::Both,
        run: |d| Box::pin(before(d)),
    },
    Check {
        number: 221,
        says: "a client that does not read hurts no other",
        encodings: In::Both,
        run: |d| Box::pin(slow(d)),
    },
    Check { number: 216, says: "changes come in commit order", encodings: In::Both, run: |d| Box::pin(in_order(d)) },
];

pub(super) const NARROWED: &[Check] = &[Check {
    number: 207,
    says: "publication filters and lists hold",
    encodings: In::Both,
    run: |d| Box::pin(published(d)),
}];

pub(super) const STRICT: &[Check] = &[Check {
    number: 212,
    says: "with strict deletes a key-only DELETE under row level security reaches nobody",
    encodings: In::Both,
    run: |door| Box::pin(strict(door)),
}];

async fn announced(door: Door) {
    let mut socket = door.alice().await;
    socket.join("realtime:room:1", &json!({"config": {"postgres_changes": all_of("open_notes")}})).await;
    let system = socket.expect("the system message", |m| m.event == "system").await;
    let message = "Subscribed to PostgreSQL";
    let expected = json!({"extension": "postgres_changes", "status": "ok", "message": message, "channel": "room:1"});
    assert_eq!(system.payload, expected);
}

/// A change on `open_notes` with its envelope checked; returns its `data`.
async fn data_of(socket: &mut Socket, topic: &str, ids: &[i64], kind: &str) -> Json {
    let change = socket.change(topic).await;
    assert_eq!(change.keys(), ["data", "ids"], "{change}");
    assert_eq!(*change.at("ids"), json!(ids), "{change}");
    let data = change.at("data");
    for (key, value) in [("schema", json!("public")), ("type", json!(kind)), ("errors", Value::Null)] {
        assert!(data.has(key) && *data.at(key) == value, "{key} of {data}");
    }
    data.clone()
}

const COMMON: [&str; 6] = ["columns", "commit_timestamp", "errors", "schema", "table", "type"];

fn has_keys(data: &Json, more: &[&str]) {
    let mut expected: Vec<&str> = COMMON.iter().chain(more).copied().collect();
    expected.sort_unstable();
    assert_eq!(data.keys(), expected, "{data}");
}

async fn insert(door: Door) {
    let mut socket = door.alice().await;
    let (_, ids) = socket.subscribe("realtime:insert", &all_of("open_full")).await;
    door.sql("insert into public.open_full(body, n) values ('new', 1)").await;
    let data = data_of(&mut socket, "realtime:insert", &ids, "INSERT").await;
    has_keys(&data, &["record"]);
    let id = data.at("record").at("id").clone();
    assert_eq!(*data.at("record"), json!({"id": id.as_i64(), "body": "new", "n": 1}));
    let columns = json!([
        {"name": "id", "type": "int8"}, {"name": "body", "type": "text"}, {"name": "n", "type": "int4"}
    ]);
    assert_eq!(*data.at("columns"), columns, "in the table's order");
}

async fn update(door: Door) {
    let mut socket = door.alice().await;
    let (_, ids) = socket.subscribe("realtime:default", &all_of("open_notes")).await;
    let (_, full) = socket.subscribe("realtime:full", &all_of("open_full")).await;
    for table in ["open_notes", "open_full"] {
        door.sql(&format!("insert into public.{table}(body, n) values ('before', 1)")).await;
        door.sql(&format!("update public.{table} set body = 'after' where body = 'before'")).await;
    }
    data_of(&mut socket, "realtime:default", &ids, "INSERT").await;
    let data = data_of(&mut socket, "realtime:default", &ids, "UPDATE").await;
    has_keys(&data, &["old_record", "record"]);
    assert_eq!(*data.at("record").at("body"), *"after");
    assert_eq!(data.at("old_record").keys(), ["id"], "identity default: the key only");
    assert_eq!(data.at("old_record").at("id"), data.at("record").at("id"));

    data_of(&mut socket, "realtime:full", &full, "INSERT").await;
    let data = data_of(&mut socket, "realtime:full", &full, "UPDATE").await;
    assert_eq!(data.at("old_record").keys(), ["body", "id", "n"], "identity full: the whole old row");
    assert_eq!(*data.at("old_record").at("body"), *"before");
}

async fn delete(door: Door) {
    let mut socket = door.alice().await;
    let (_, ids) = socket.subscribe("realtime:default", &all_of("open_notes")).await;
    let (_, full) = socket.subscribe("realtime:full", &all_of("open_full")).await;
    for table in ["open_notes", "open_full"] {
        door.sql(&format!("insert into public.{table}(body, n) values ('gone', 1)")).await;
        door.sql(&format!("delete from public.{table} where body = 'gone'")).await;
    }
    data_of(&mut socket, "realtime:default", &ids, "INSERT").await;
    let data = data_of(&mut socket, "realtime:default", &ids, "DELETE").await;
    has_keys(&data, &["old_record"]);
    assert_eq!(data.at("old_record").keys(), ["id"]);
    assert_eq!(data.at("columns").elements().len(), 6, "columns are listed all the same");

    data_of(&mut socket, "realtime:full", &full, "INSERT").await;
    let data = data_of(&mut socket, "realtime:full", &full, "DELETE").await;
    assert_eq!(data.at("old_record").keys(), ["body", "id", "n"]);
}

async fn truncate(door: Door) {
    let mut socket = door.alice().await;
    let bindings = json!([{"event": "*", "schema": "public", "table": "open_full"}, all_of("open_notes")[0]]);
    socket.subscribe("realtime:truncate", &bindings).await;
    door.sql("truncate public.open_full").await;
    let others = fence(&door, &mut socket, "realtime:truncate").await;
    assert!(others.is_empty(), "{others:?}");
}

async fn two(door: Door) {
    let mut socket = door.alice().await;
    let bindings = json!([all_of("open_full")[0], {"event": "INSERT", "schema": "public", "table": "open_full"}]);
    let (_, ids) = socket.subscribe("realtime:two", &bindings).await;
    door.sql("insert into public.open_full(body) values ('two')").await;
    door.sql("update public.open_full set n = 2 where body = 'two'").await;
    let insert = socket.change("realtime:two").await;
    let mut got: Vec<_> = insert.at("ids").elements().iter().filter_map(Json::as_i64).collect();
    let mut expected = ids.clone();
    got.sort_unstable();
    expected.sort_unstable();
    assert_eq!(got, expected);
    let update = socket.change("realtime:two").await;
    assert_eq!(*update.at("data").at("type"), *"UPDATE", "one message a change");
    assert_eq!(*update.at("ids"), json!([ids[0]]));
}

async fn channels(door: Door) {
    let mut socket = door.alice().await;
    for topic in ["realtime:a", "realtime:b"] {
        socket.subscribe(topic, &all_of("open_notes")).await;
    }
    door.sql("insert into public.open_notes(body) values ('each')").await;
    for topic in ["realtime:a", "realtime:b"] {
        assert_eq!(body(&socket.change(topic).await), Some("each"));
    }
    let others = fence(&door, &mut socket, "realtime:b").await;
    let again: Vec<_> = others.iter().filter(|m| body(&m.payload) == Some("each")).collect();
    assert!(again.is_empty(), "{again:?}");
}

async fn large(door: Door) {
    let mut socket = door.alice().await;
    socket.subscribe("realtime:large", &all_of("open_notes")).await;
    door.sql("insert into public.open_notes(body, n) values (repeat('x', 1100000), 7)").await;
    let change = socket.change("realtime:large").await;
    let data = change.at("data");
    assert_eq!(*data.at("errors"), json!(["Error 413: Payload Too Large"]));
    assert_eq!(data.at("record").keys(), ["at", "id", "n"], "small values only, nulls dropped");
    assert_eq!(data.at("columns").elements().len(), 6);
    assert!(data.at("commit_timestamp").as_str().is_some());
    // A megabyte less a little passes whole.
    door.sql("insert into public.open_notes(body) values (repeat('y', 1000000))").await;
    let change = socket.change("realtime:large").await;
    assert_eq!(*change.at("data").at("errors"), Json::Null);
    assert_eq!(body(&change).map(str::len), Some(1_000_000));
}

async fn toast(door: Door) {
    let mut socket = door.alice().await;
    for (topic, table) in [("realtime:default", "toast_default"), ("realtime:full", "toast_full")] {
        door.sql(&format!(
            "delete from public.{table}; insert into public.{table} values (1, repeat('0123456789', 2000), 0)"
        ))
        .await;
        socket.subscribe(topic, &all_of(table)).await;
        door.sql(&format!("update public.{table} set n = 1")).await;
        let change = socket.change(topic).await;
        let record = change.at("data").at("record");
        assert_eq!(change.at("data").at("columns").elements().len(), 3);
        if table == "toast_default" {
            assert_eq!(record.keys(), ["id", "n"], "a value that did not come is left out, not null");
        } else {
            assert_eq!(record.at("big").as_str().map(str::len), Some(20_000), "the old image has it");
        }
    }
}

async fn in_filter(door: Door) {
    let mut socket = door.alice().await;
    for (topic, table) in [("realtime:default", "toast_default"), ("realtime:full", "toast_full")] {
        door.sql(&format!(
            "delete from public.{table}; insert into public.{table} values (1, repeat('0123456789', 2000), 0)"
        ))
        .await;
        let filter = json!([{"event": "*", "schema": "public", "table": table, "filter": "big=like.0123%"}]);
        socket.subscribe(topic, &filter).await;
        door.sql(&format!("update public.{table} set n = 1")).await;
    }
    // Without an old image the condition is unknown, and unknown is no.
    assert_eq!(*socket.change("realtime:full").await.at("data").at("record").at("n"), json!(1));
    assert!(socket.take(|m| m.is("realtime:default", "postgres_changes")).is_none());
}

async fn published(door: Door) {
    door.sql("delete from public.narrowed; delete from public.rows_filtered").await;
    let mut socket = door.alice().await;
    socket.subscribe("realtime:narrowed", &all_of("narrowed")).await;
    socket.subscribe("realtime:filtered", &all_of("rows_filtered")).await;
    door.sql("insert into public.narrowed values (1, 'shown', 'unlisted')").await;
    door.sql("insert into public.rows_filtered values (1, 1), (11, 1)").await;
    let change = socket.change("realtime:narrowed").await;
    assert_eq!(*change.at("data").at("record"), json!({"id": 1, "shown": "shown"}));
    assert!(!change.to_string().contains("unlisted"), "{change}");
    let change = socket.change("realtime:filtered").await;
    assert_eq!(*change.at("data").at("record").at("id"), json!(11));
}

async fn before(door: Door) {
    let mut socket = door.alice().await;
    for round in 0..5 {
        let topic = format!("realtime:before{round}");
        door.sql("insert into public.open_notes(body) values ('before')").await;
        socket.subscribe(&topic, &all_of("open_notes")).await;
        door.sql("insert into public.open_notes(body) values ('since')").await;
        assert_eq!(body(&socket.change(&topic).await), Some("since"));
    }
}

async fn in_order(door: Door) {
    let mut socket = door.alice().await;
    socket.subscribe("realtime:order", &all_of("open_full")).await;
    door.sql("insert into public.open_full(body, n) select 'order', n from generate_series(1, 500) n").await;
    for n in 501..=520 {
        door.sql(&format!("insert into public.open_full(body, n) values ('order', {n})")).await;
    }
    for n in 1..=520 {
        assert_eq!(*socket.change("realtime:order").await.at("data").at("record").at("n"), json!(n));
    }
}

/// Thirty megabytes for somebody who does not look. He gets them all when he does, or is cut off; never a part.
async fn slow(door: Door) {
    const ROWS: i64 = 60;
    let (mut slow, mut quick) = (door.alice().await, door.alice().await);
    for socket in [&mut slow, &mut quick] {
        socket.subscribe("realtime:slow", &all_of("open_full")).await;
    }
    for n in 1..=ROWS {
        door.sql(&format!("insert into public.open_full(body, n) values (repeat('x', 500000), {n})")).await;
        assert_eq!(*quick.change("realtime:slow").await.at("data").at("record").at("n"), json!(n));
    }
    for n in 1..=ROWS {
        match slow.read(Instant::now() + PATIENCE).await {
            Heard::Message(message) => assert_eq!(*message.payload.at("data").at("record").at("n"), json!(n)),
            Heard::Closed(_) => return,
            other => panic!("row {n} was lost without a word: {other:?}"),
        }
    }
}

async fn strict(door: Door) {
    let mut socket = door.alice().await;
    let bindings = json!([all_of("notes")[0], all_of("open_notes")[0]]);
    socket.subscribe("realtime:strict", &bindings).await;
    door.sql(&format!("insert into public.notes(owner, body) values ('{ALICE}', 'strict')")).await;
    assert_eq!(*socket.change("realtime:strict").await.at("data").at("type"), *"INSERT");
    door.sql("delete from public.notes where body = 'strict'").await;
    let others = fence(&door, &mut socket, "realtime:strict").await;
    assert!(changes(&others).is_empty(), "{others:?}");
}
