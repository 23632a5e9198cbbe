//! Checks 144 and 145: what the Dart and the Swift library say and need, as conversations (protocol reference, 13.3 to
//! 13.5). The libraries themselves need their own platforms; what they send and what they trip over is known.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::room::{diff, hear, hears, say_binary, state, track};
use super::{Check, Door, body};
use crate::support::json::Json;
use crate::support::socket::{Channel, Message, Socket, Vsn};
use crate::wire::fixture;
use crate::wire::http::Request;

pub(super) const CHECKS: &[Check] = &[
    Check::v2(144, "dart: bindings get their ids, presence turned on later joins a second time", |d| Box::pin(dart(d))),
    Check::v2(145, "swift: subscribed without bindings at once, unsubscribed by phx_close", |d| Box::pin(swift(d))),
    Check::both(243, "a client whose socket was lost finds its room again", |d| Box::pin(comes_back(d))),
    Check::new(244, "dart and swift of before speak V1 in the same words", super::In::V1, |d| Box::pin(older(d))),
];

/// Dart throws on anything but a string or null, and on lists and objects that are null.
fn dart_can_read(message: &Message) {
    for slot in [&message.join_ref, &message.reference] {
        assert!(*slot == Json::Null || slot.as_str().is_some(), "a ref that is no string: {}", message.text);
    }
    assert!(message.topic.as_str().is_some() && message.event.as_str().is_some(), "{}", message.text);
    assert!(matches!(message.payload, Json::Object(_)), "{}", message.text);
    if message.event == "postgres_changes" {
        let data = message.payload.at("data");
        assert!(!data.at("columns").elements().is_empty(), "{}", message.text);
        for key in ["record", "old_record"] {
            assert!(!data.has(key) || matches!(data.at(key), Json::Object(_)), "{}", message.text);
        }
    }
}

/// The join of both libraries.
fn join_of_a_library(bindings: &Value, presence: bool) -> Value {
    json!({
        "config": {
            "broadcast": {"ack": false, "self": false},
            "presence": {"key": "", "enabled": presence},
            "postgres_changes": bindings,
            "private": false,
        },
        "access_token": fixture::token("alice"),
    })
}

async fn hear_for_dart(socket: &mut Socket, what: &str, fits: impl Fn(&Message) -> bool) -> Message {
    let message = socket.expect(what, fits).await;
    dart_can_read(&message);
    message
}

async fn dart(door: Door) {
    let topic = "realtime:dart";
    let mut socket = door.anon().await;
    let bindings = json!([{"event": "*", "schema": "public", "table": "open_notes", "filter": "n=eq.144"}]);
    let (first, response) = socket.join(topic, &join_of_a_library(&bindings, false)).await;
    let id = entry_fits(&response, &bindings);
    // It sets its own token as soon as it has joined.
    socket.push_on(&first, "access_token", &json!({"access_token": fixture::token("alice")})).await;
    hear_for_dart(&mut socket, "system", |m| m.is(topic, "system")).await;
    door.sql("insert into public.open_notes(body, n) values ('no', 1), ('yes', 144)").await;
    let change = hear_for_dart(&mut socket, "the change", |m| m.is(topic, "postgres_changes")).await;
    assert_eq!(*change.payload.at("ids"), json!([id]));
    assert_eq!(body(&change.payload), Some("yes"));

    // Presence callbacks after the join: a second join, whose bindings are the same.
    let (second, response) = socket.join(topic, &join_of_a_library(&bindings, true)).await;
    let id = entry_fits(&response, &bindings);
    let close = hear_for_dart(&mut socket, "the end of the first join", |m| m.is(topic, "phx_close")).await;
    // It takes the close for its own unless the ref is another join's.
    assert_eq!(close.reference, *first.join_ref);
    assert_eq!(state(&mut socket, &second).await, json!({}));
    hear_for_dart(&mut socket, "system", |m| m.is(topic, "system")).await;
    track(&mut socket, &second, &json!({"user": "dart"})).await;
    let joined = diff(&mut socket, topic).await;
    assert_eq!(joined.at("joins").keys().len(), 1, "{joined}");
    door.sql("insert into public.open_notes(body, n) values ('again', 144)").await;
    let change = hear_for_dart(&mut socket, "the change", |m| m.is(topic, "postgres_changes")).await;
    assert_eq!((body(&change.payload), change.payload.at("ids")), (Some("again"), &json!([id]).into()));

    // Text for objects, the binary form for bytes alone.
    let (mut other, channel) = super::room::member(&door, topic, &join_of_a_library(&json!([]), false)).await;
    socket.push_on(&second, "broadcast", &json!({"type": "broadcast", "event": "e", "payload": {"n": 1}})).await;
    hears(&mut other, topic, "e", &json!({"n": 1})).await;
    say_binary(&mut other, &channel, "b", 0, &[1, 2]).await;
    assert_eq!(hear(&mut socket, topic).await.binary.expect("bytes").payload, [1, 2]);

    leaves(&mut socket, &second).await;
    socket.drain().iter().for_each(dart_can_read);
}

/// The one binding comes back as it was sent, with an id; returns the id.
fn entry_fits(response: &Json, bindings: &Value) -> i64 {
    let entries = response.at("postgres_changes").elements();
    assert_eq!(entries.len(), 1, "{response}");
    let id = entries[0].at("id").as_i64().expect("an integer id");
    let mut expected = bindings[0].clone();
    expected["id"] = id.into();
    assert_eq!(entries[0], expected);
    id
}

/// `phx_leave`, its reply, and the `phx_close` of this very join, which is what Swift waits for.
async fn leaves(socket: &mut Socket, channel: &Channel) {
    let topic = channel.topic.as_str();
    let reference = socket.push_on(channel, "phx_leave", &json!({})).await;
    assert_eq!(*socket.reply(topic, &reference).await.at("status"), "ok");
    let close = socket.expect("phx_close", |m| m.is(topic, "phx_close")).await;
    assert_eq!((&close.reference, &close.payload), (&json!(channel.join_ref).into(), &json!({}).into()));
    if socket.vsn() == Vsn::V2 {
        assert_eq!(close.join_ref, *channel.join_ref);
    }
}

async fn swift(door: Door) {
    let topic = "realtime:swift";
    let anon = fixture::token("anon");
    let bearer = format!("Bearer {}", fixture::token("alice"));
    let url = door.server.websocket_url("2.0.0", &anon);
    let headers = [("X-Client-Info", "supabase-swift/2.55.1"), ("Authorization", bearer.as_str())];
    let mut socket = Socket::connect(&url, &headers).await.expect("an upgrade with its headers");
    let asked = Instant::now();
    let (channel, response) = socket.join(topic, &join_of_a_library(&json!([]), true)).await;
    assert_eq!(response, json!({"postgres_changes": []}), "without this key it is never subscribed");
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    state(&mut socket, &channel).await;

    let (mut other, listener) = super::room::member(&door, topic, &join_of_a_library(&json!([]), true)).await;
    state(&mut other, &listener).await;
    say_binary(&mut socket, &channel, "hi", 1, br#"{"n":1}"#).await;
    hears(&mut other, topic, "hi", &json!({"n": 1})).await;
    track(&mut socket, &channel, &json!({"user": "swift"})).await;
    let joined = diff(&mut other, topic).await;
    let key = joined.at("joins").keys()[0].to_owned();
    let meta = joined.at("joins").at(&key).at("metas").nth(0);
    assert!(meta.at("phx_ref").as_str().is_some(), "its presence needs a phx_ref: {joined}");

    // Before a channel is joined it says things by REST, to the single endpoint, and wants exactly 202.
    let headers = vec![("apikey", anon.as_str()), ("authorization", &bearer), ("content-type", "application/json")];
    let target = "/realtime/v1/api/broadcast/swift/events/rest";
    let response = door.ask(&Request { method: "POST", target, headers, body: br#"{"n":2}"# }).await;
    assert_eq!(response.status, 202, "{response:?}");
    hears(&mut other, topic, "rest", &json!({"n": 2})).await;

    let asked = Instant::now();
    leaves(&mut socket, &channel).await;
    assert!(asked.elapsed() < Duration::from_secs(1), "unsubscribing waits for the close: {:?}", asked.elapsed());
    assert_eq!(diff(&mut other, topic).await.at("leaves").keys(), [key.as_str()]);
}

async fn comes_back(door: Door) {
    let topic = format!("realtime:back {:?}", door.vsn);
    let (mut witness, _) = super::room::member(&door, &topic, &join_of_a_library(&json!([]), false)).await;
    for n in 0..3 {
        let mut socket = door.anon().await;
        // Libraries number on, so no reference of the socket before comes again.
        for _ in 0..n * 5 {
            socket.fresh_ref();
        }
        let (channel, _) = socket.join(&topic, &join_of_a_library(&json!([]), true)).await;
        assert_eq!(state(&mut socket, &channel).await, json!({}), "no ghost of the socket before");
        track(&mut socket, &channel, &json!({"n": n})).await;
        assert_eq!(*diff(&mut witness, &topic).await.at("leaves"), json!({}));
        drop(socket);
        assert_eq!(*diff(&mut witness, &topic).await.at("joins"), json!({}));
    }
}

async fn older(door: Door) {
    let topic = "realtime:older";
    let mut socket = door.anon().await;
    let bindings = json!([{"event": "INSERT", "schema": "public", "table": "open_notes", "filter": "n=eq.244"}]);
    let (channel, response) = socket.join(topic, &join_of_a_library(&bindings, true)).await;
    entry_fits(&response, &bindings);
    state(&mut socket, &channel).await;
    hear_for_dart(&mut socket, "system", |m| m.is(topic, "system")).await;
    track(&mut socket, &channel, &json!({"user": "old"})).await;
    diff(&mut socket, topic).await;
    door.sql("insert into public.open_notes(body, n) values ('old', 244)").await;
    hear_for_dart(&mut socket, "the change", |m| m.is(topic, "postgres_changes")).await;
    leaves(&mut socket, &channel).await;
}
