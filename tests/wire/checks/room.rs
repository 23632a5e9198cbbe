//! What the checks of rooms say and hear: configurations of a join, pushes, and the proof that nothing came.

use std::time::Duration;

use serde_json::{Value, json};

use super::Door;
use crate::support::frames::UserPush;
use crate::support::json::Json;
use crate::support::socket::{Channel, Message, Socket};
use crate::wire::fixture;

/// What is told at once comes within this time; a check that nothing comes can only be too lenient by it.
pub(super) const SILENCE: Duration = Duration::from_millis(150);

/// The whole payload of a join as clients send it.
pub(super) fn config(is_private: bool, own: bool, ack: bool) -> Value {
    json!({"config": {
        "broadcast": {"self": own, "ack": ack}, "presence": {"key": "", "enabled": false},
        "postgres_changes": [], "private": is_private,
    }})
}

/// The usual listener of a public room.
pub(super) fn listening() -> Value {
    config(false, false, false)
}

/// Present under this key.
pub(super) fn present(key: &Value) -> Value {
    json!({"config": {"presence": {"key": key, "enabled": true}}})
}

/// A join of a private room in somebody's name.
pub(super) fn private_as(token: &str) -> Value {
    let mut payload = config(true, false, true);
    payload["access_token"] = fixture::token(token).into();
    payload
}

/// A new socket on this topic.
pub(super) async fn member(door: &Door, topic: &str, payload: &Value) -> (Socket, Channel) {
    let mut socket = door.anon().await;
    let (channel, _) = socket.join(topic, payload).await;
    (socket, channel)
}

/// The payload of a text broadcast.
pub(super) fn said(event: &str, payload: &Value) -> Value {
    json!({"type": "broadcast", "event": event, "payload": payload})
}

/// Says something in the text form; returns the push's ref.
pub(super) async fn say(socket: &mut Socket, channel: &Channel, event: &str, payload: &Value) -> String {
    socket.push_on(channel, "broadcast", &said(event, payload)).await
}

/// Says something in the binary form; returns the push's ref.
pub(super) async fn say_binary(
    socket: &mut Socket,
    channel: &Channel,
    event: &str,
    encoding: u8,
    payload: &[u8],
) -> String {
    let reference = socket.fresh_ref();
    let Channel { topic, join_ref } = channel;
    let push = UserPush { join_ref, reference: &reference, topic, event, metadata: "", encoding, payload };
    socket.send_binary(&push.bytes()).await;
    reference
}

/// The next broadcast on a topic.
pub(super) async fn hear(socket: &mut Socket, topic: &str) -> Message {
    socket.expect(&format!("a broadcast on {topic}"), |m| m.is(topic, "broadcast")).await
}

/// Expects exactly this broadcast as the next one, in whatever form.
pub(super) async fn hears(socket: &mut Socket, topic: &str, event: &str, payload: &Value) {
    let message = hear(socket, topic).await;
    assert_eq!((&message.join_ref, &message.reference), (&Json::Null, &Json::Null), "{}", message.text);
    assert_eq!(message.payload, said(event, payload), "{}", message.text);
}

/// Everything that comes besides answers already awaited. The heartbeat proves that the server has done with the
/// socket's own pushes.
pub(super) async fn rest(socket: &mut Socket) -> Vec<Message> {
    socket.heartbeat().await;
    socket.drain_until_quiet(SILENCE).await
}

/// Expects that nothing comes.
pub(super) async fn hears_nothing(socket: &mut Socket, why: &str) {
    let heard = rest(socket).await;
    assert!(heard.is_empty(), "{why}: {heard:?}");
}

/// Tracks an object and expects ok.
pub(super) async fn track(socket: &mut Socket, channel: &Channel, payload: &Value) {
    let reply = presence(socket, channel, &json!({"type": "presence", "event": "track", "payload": payload})).await;
    assert_eq!(reply, json!({"status": "ok", "response": {}}), "track {payload}");
}

/// A presence push, and its reply.
pub(super) async fn presence(socket: &mut Socket, channel: &Channel, payload: &Value) -> Json {
    let reference = socket.push_on(channel, "presence", payload).await;
    socket.reply(&channel.topic, &reference).await
}

/// The next `presence_diff` on a topic.
pub(super) async fn diff(socket: &mut Socket, topic: &str) -> Json {
    let message = socket.expect(&format!("presence_diff on {topic}"), |m| m.is(topic, "presence_diff")).await;
    assert_eq!((&message.join_ref, &message.reference), (&Json::Null, &Json::Null), "{}", message.text);
    assert_eq!(message.payload.keys(), ["joins", "leaves"], "{}", message.text);
    message.payload
}

/// The state that follows a join.
pub(super) async fn state(socket: &mut Socket, channel: &Channel) -> Json {
    let message = socket.expect("presence_state", |m| m.is(&channel.topic, "presence_state")).await;
    assert_eq!(message.reference, Json::Null, "{}", message.text);
    let is_own = message.join_ref == Json::Null || message.join_ref == *channel.join_ref;
    assert!(is_own, "presence_state names another join: {}", message.text);
    message.payload
}

/// Expects that the server closes this channel with these words.
pub(super) async fn closes_with(socket: &mut Socket, channel: &Channel, text: &str) {
    let topic = channel.topic.as_str();
    let system = socket.expect("the system message", |m| m.is(topic, "system")).await;
    let name = topic.trim_start_matches("realtime:");
    let payload = json!({"extension": "system", "status": "error", "message": text, "channel": name});
    assert_eq!(system.payload, payload, "{}", system.text);
    let close = socket.expect("phx_close", |m| m.is(topic, "phx_close")).await;
    assert_eq!(close.reference, *channel.join_ref, "{}", close.text);
    assert_eq!(close.payload, json!({}), "{}", close.text);
}
