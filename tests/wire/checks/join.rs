//! Checks 30 to 47: joining, leaving, joining twice. Protocol reference, section 3.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Check, Door, In, all_of, body, changes, fence};
use crate::support::json::Json;
use crate::support::socket::Vsn;

pub(super) const CHECKS: &[Check] = &[
    Check { number: 30, says: "an empty config gives an empty list", encodings: In::Both, run: |d| Box::pin(empty(d)) },
    Check {
        number: 31,
        says: "bindings are echoed in order with an id",
        encodings: In::Both,
        run: |d| Box::pin(echo(d)),
    },
    Check { number: 32, says: "select is echoed", encodings: In::Both, run: |door| Box::pin(echo_select(door)) },
    Check { number: 33, says: "null bindings are dropped", encodings: In::Both, run: |door| Box::pin(nulls(door)) },
    Check { number: 34, says: "booleans may be strings", encodings: In::Both, run: |door| Box::pin(strings(door)) },
    Check {
        number: 35,
        says: "nulls and unknown keys are fine",
        encodings: In::Both,
        run: |d| Box::pin(null_parts(d)),
    },
    Check { number: 36, says: "a wrong type takes the default", encodings: In::Both, run: |d| Box::pin(wrong_type(d)) },
    Check {
        number: 37,
        says: "a topic outside realtime: is unmatched",
        encodings: In::Both,
        run: |d| Box::pin(foreign(d)),
    },
    Check { number: 38, says: "an empty sub-topic is refused", encodings: In::Both, run: |d| Box::pin(no_name(d)) },
    Check {
        number: 39,
        says: "leave is answered, then closed",
        encodings: In::Both,
        run: |door| Box::pin(leave(door)),
    },
    Check {
        number: 40,
        says: "leaving what was never joined is ok",
        encodings: In::Both,
        run: |d| Box::pin(no_leave(d)),
    },
    Check {
        number: 41,
        says: "a leave with an old join_ref is ignored",
        encodings: In::V2,
        run: |d| Box::pin(stale(d)),
    },
    Check { number: 42, says: "a second join replaces the first", encodings: In::Both, run: |d| Box::pin(twice(d)) },
    Check {
        number: 43,
        says: "a push on a topic not joined is unmatched",
        encodings: In::Both,
        run: |d| Box::pin(push(d)),
    },
    Check { number: 45, says: "an unknown event gets no reply", encodings: In::Both, run: |d| Box::pin(unknown(d)) },
    Check {
        number: 99,
        says: "after a leave nothing comes",
        encodings: In::Both,
        run: |d| Box::pin(silent_after_leave(d)),
    },
    Check {
        number: 206,
        says: "a mistyped private refuses the join",
        encodings: In::Both,
        run: |d| Box::pin(private(d)),
    },
];

pub(super) const USUAL_DELAYS: &[Check] = &[
    Check { number: 46, says: "a refusal comes within 10 s", encodings: In::Both, run: |door| Box::pin(in_time(door)) },
    Check { number: 47, says: "a refused join delays no other", encodings: In::Both, run: |d| Box::pin(alone(d)) },
];

async fn empty(door: Door) {
    let mut socket = door.anon().await;
    let (_, reply) = socket.join_raw("realtime:empty", &json!({"config": {}})).await;
    assert_eq!(reply, json!({"status": "ok", "response": {"postgres_changes": []}}));
}

async fn echo(door: Door) {
    let bindings = json!([
        {"event": "INSERT", "schema": "public", "table": "open_notes", "filter": "n=gt.5", "own": {"key": [1]}},
        {"event": "*", "schema": "public"},
    ]);
    echoed(door, &bindings).await;
}

async fn echo_select(door: Door) {
    echoed(door, &json!([{"event": "*", "schema": "public", "table": "open_notes", "select": ["id", "n"]}])).await;
}

async fn echoed(door: Door, bindings: &Value) {
    let mut socket = door.alice().await;
    let (_, response) = socket.join("realtime:echo", &json!({"config": {"postgres_changes": bindings}})).await;
    let entries = response.at("postgres_changes").elements();
    let bindings = bindings.as_array().expect("a list of bindings");
    assert_eq!(entries.len(), bindings.len(), "{response}");
    for (entry, binding) in entries.iter().zip(bindings) {
        let id = entry.at("id").as_i64().unwrap_or_else(|| panic!("an integer id: {entry}"));
        assert!((1..=i64::from(i32::MAX)).contains(&id), "{id}");
        let mut expected = binding.clone();
        expected["id"] = id.into();
        assert_eq!(*entry, expected);
    }
}

async fn nulls(door: Door) {
    for bindings in [json!([null]), json!(null), json!([])] {
        let mut socket = door.anon().await;
        let (_, response) = socket.join("realtime:n", &json!({"config": {"postgres_changes": bindings}})).await;
        assert_eq!(response, json!({"postgres_changes": []}), "{bindings}");
    }
}

async fn strings(door: Door) {
    let mut socket = door.anon().await;
    let config =
        json!({"private": "false", "broadcast": {"ack": "TRUE", "self": "False"}, "presence": {"enabled": "FALSE"}});
    socket.join("realtime:strings", &json!({"config": config})).await;
}

async fn null_parts(door: Door) {
    let mut socket = door.anon().await;
    let config = json!({"presence": null, "broadcast": null, "postgres_changes_options": null, "extra": {"a": 1}});
    let payload = json!({"config": config, "version": "x/1", "more": []});
    let (_, response) = socket.join("realtime:nulls", &payload).await;
    assert_eq!(response, json!({"postgres_changes": []}));
}

async fn wrong_type(door: Door) {
    let mut socket = door.anon().await;
    let config = json!({"broadcast": 5, "presence": "x", "postgres_changes_options": [1]});
    socket.join("realtime:wrong", &json!({"config": config})).await;
}

async fn foreign(door: Door) {
    for topic in ["foo", "realtime", "other:topic", ""] {
        let mut socket = door.anon().await;
        let (_, reply) = socket.join_raw(topic, &json!({"config": {}})).await;
        assert_eq!(reply, json!({"status": "error", "response": {"reason": "unmatched topic"}}), "{topic:?}");
    }
}

async fn no_name(door: Door) {
    let mut socket = door.anon().await;
    let (_, reply) = socket.join_raw("realtime:", &json!({"config": {}})).await;
    let reason = "TopicNameRequired: You must provide a topic name";
    assert_eq!(reply, json!({"status": "error", "response": {"reason": reason}}));
}

async fn leave(door: Door) {
    let mut socket = door.anon().await;
    let (channel, _) = socket.join("realtime:leave", &json!({"config": {}})).await;
    let reference = socket.push_on(&channel, "phx_leave", &json!({})).await;
    let reply = socket.expect("the first answer", |m| m.topic == "realtime:leave").await;
    assert_eq!((reply.event, reply.reference), (Json::from(json!("phx_reply")), Json::from(json!(reference))));
    assert_eq!(reply.payload, json!({"status": "ok", "response": {}}));
    let close = socket.expect("the close", |m| m.topic == "realtime:leave").await;
    assert_eq!(
        (&close.event, &close.reference),
        (&Json::from(json!("phx_close")), &Json::from(json!(channel.join_ref)))
    );
    assert_eq!(close.payload, json!({}));
    if door.vsn == Vsn::V2 {
        assert_eq!(close.join_ref, *channel.join_ref, "{}", close.text);
    }
}

async fn no_leave(door: Door) {
    let mut socket = door.anon().await;
    socket.push(&Value::Null, &json!("5"), "realtime:never", "phx_leave", &json!({})).await;
    assert_eq!(socket.reply("realtime:never", "5").await, json!({"status": "ok", "response": {}}));
}

async fn stale(door: Door) {
    let mut socket = door.alice().await;
    socket.subscribe("realtime:stale", &all_of("open_notes")).await;
    socket.push(&json!("not-it"), &json!("99"), "realtime:stale", "phx_leave", &json!({})).await;
    let others = fence(&door, &mut socket, "realtime:stale").await;
    assert!(others.is_empty(), "the leave was answered: {others:?}");
}

async fn twice(door: Door) {
    let mut socket = door.alice().await;
    let (old, _) = socket.subscribe("realtime:twice", &all_of("open_notes")).await;
    let new = socket.fresh_ref();
    let payload = json!({"config": {"postgres_changes": all_of("open_notes")}});
    socket.push(&json!(new), &json!(new), "realtime:twice", "phx_join", &payload).await;
    let reply = socket.expect("the first answer", |m| m.event == "phx_reply" || m.event == "phx_close").await;
    assert_eq!((&reply.event, &reply.reference), (&Json::from(json!("phx_reply")), &Json::from(json!(new))));
    // V1 clients take any phx_close for their own, so there the server may keep it to itself (reference, 3.8).
    if door.vsn == Vsn::V2 {
        let close = socket.expect("the close of the old join", |m| m.event == "phx_close").await;
        assert_eq!((close.reference, close.join_ref), (json!(old.join_ref).into(), json!(old.join_ref).into()));
    }
    socket.expect("the system message of the new join", |m| m.event == "system").await;
    door.sql("insert into public.open_notes(body) values ('once')").await;
    let others = fence(&door, &mut socket, "realtime:twice").await;
    let once = changes(&others).iter().filter(|m| body(&m.payload) == Some("once")).count();
    assert_eq!(once, 1, "delivered once, not twice: {others:?}");
}

async fn push(door: Door) {
    let mut socket = door.anon().await;
    let payload = json!({"type": "broadcast", "event": "e", "payload": {}});
    socket.push(&Value::Null, &json!("4"), "realtime:never", "broadcast", &payload).await;
    let reply = socket.reply("realtime:never", "4").await;
    assert_eq!(reply, json!({"status": "error", "response": {"reason": "unmatched topic"}}));
}

async fn unknown(door: Door) {
    let mut socket = door.alice().await;
    let (channel, _) = socket.subscribe("realtime:unknown", &all_of("open_notes")).await;
    for event in ["nonsense", "postgres_changes", "system", "phx_reply", "INSERT"] {
        socket.push_on(&channel, event, &json!({"a": 1})).await;
    }
    let others = fence(&door, &mut socket, "realtime:unknown").await;
    assert!(others.is_empty(), "unknown events were answered: {others:?}");
}

async fn silent_after_leave(door: Door) {
    let mut socket = door.alice().await;
    let (left, _) = socket.subscribe("realtime:left", &all_of("open_notes")).await;
    socket.subscribe("realtime:stays", &all_of("open_notes")).await;
    let reference = socket.push_on(&left, "phx_leave", &json!({})).await;
    socket.reply("realtime:left", &reference).await;
    let others = fence(&door, &mut socket, "realtime:stays").await;
    let late: Vec<_> = others.iter().filter(|m| m.is("realtime:left", "postgres_changes")).collect();
    assert!(late.is_empty(), "{late:?}");
}

async fn private(door: Door) {
    for mistyped in [json!(1), json!("yes"), json!({}), json!([])] {
        let mut socket = door.anon().await;
        let (_, reply) = socket.join_raw("realtime:private", &json!({"config": {"private": mistyped}})).await;
        assert_eq!(*reply.at("status"), "error", "private: {mistyped}");
        assert!(reply.at("response").at("reason").as_str().is_some(), "{reply}");
    }
}

async fn in_time(door: Door) {
    let mut socket = door.anon().await;
    let before = Instant::now();
    socket.join_raw("realtime:", &json!({"config": {}})).await;
    assert!(before.elapsed() < Duration::from_secs(10), "{:?}", before.elapsed());
}

async fn alone(door: Door) {
    let mut socket = door.anon().await;
    socket.push(&json!("1"), &json!("1"), "realtime:", "phx_join", &json!({"config": {}})).await;
    let (_, reply) = socket.join_raw("realtime:good", &json!({"config": {}})).await;
    assert_eq!(*reply.at("status"), "ok");
    assert!(socket.take(|m| m.topic == "realtime:").is_none(), "the refusal is held back, the other join is not");
    assert_eq!(*socket.reply("realtime:", "1").await.at("status"), "error");
}
