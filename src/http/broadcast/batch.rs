//! The body of a batch: messages, and what is wrong with each, in the words of the server we replace. Pure.

use super::{
    Message,
    refusal::{BLANK, INVALID, Refusal, TOO_LARGE},
};
use crate::protocol::Broadcast;
use serde::de::IgnoredAny;
use serde_json::{Value, json, value::RawValue};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Messages of one batch. Far more than fit into what clients send, and few enough to answer each with its errors.
const MAX_MESSAGES: usize = 10_000;
const TOO_MANY_MESSAGES: &str = "should have at most 10000 item(s)";

type Fields<'a> = BTreeMap<String, &'a RawValue>;
/// What is wrong with the fields of one message.
type Errors = BTreeMap<&'static str, [&'static str; 1]>;

/// Reads a batch: all messages, or why none of them is sent.
pub(super) fn messages(body: &[u8], max_payload_bytes: usize) -> Result<Vec<Message>, Refusal> {
    let text = std::str::from_utf8(body).map_err(|_| Refusal::BadRequest)?;
    let fields: Fields<'_> = match serde_json::from_str(text) {
        Ok(fields) => fields,
        // No body is one without messages, and so is any other JSON.
        Err(_) if text.trim_ascii().is_empty() => Fields::new(),
        Err(_) if is_json_but_no_object(text) => Fields::new(),
        Err(_) => return Err(Refusal::BadRequest),
    };
    let list = fields.get("messages").ok_or_else(|| Refusal::field("messages", BLANK))?;
    let list: Vec<&RawValue> = serde_json::from_str(list.get()).map_err(|_| Refusal::field("messages", INVALID))?;
    if list.is_empty() {
        return Err(Refusal::field("messages", BLANK));
    }
    if list.len() > MAX_MESSAGES {
        return Err(Refusal::field("messages", TOO_MANY_MESSAGES));
    }
    let mut messages = Vec::with_capacity(list.len());
    let mut faults: Vec<Errors> = Vec::with_capacity(list.len());
    for raw in list {
        let fields: Fields<'_> = match serde_json::from_str(raw.get()) {
            Ok(fields) => fields,
            Err(_) if is_json_but_no_object(raw.get()) => return Err(Refusal::field("messages", INVALID)),
            Err(_) => return Err(Refusal::BadRequest),
        };
        let (message, errors) = message(&fields, max_payload_bytes);
        messages.extend(message);
        faults.push(errors);
    }
    match faults.iter().all(Errors::is_empty) {
        true => Ok(messages),
        false => Err(Refusal::Errors(json!({ "messages": faults }))),
    }
}

fn is_json_but_no_object(text: &str) -> bool {
    !text.trim_ascii_start().starts_with('{') && serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// A message, if nothing is wrong with it.
fn message(fields: &Fields<'_>, max_payload_bytes: usize) -> (Option<Message>, Errors) {
    let mut errors = Errors::new();
    let mut note = |name, error| {
        errors.insert(name, [error]);
    };
    let topic = text(fields, "topic").map_err(|error| note("topic", error));
    let event = text(fields, "event").map_err(|error| note("event", error));
    let payload = payload(fields, max_payload_bytes).map_err(|error| note("payload", error));
    let is_private = is_private(fields).map_err(|error| note("private", error));
    let id = id(fields).map_err(|error| note("id", error));
    let (Ok(topic), Ok(event), Ok(payload), Ok(is_private), Ok(id)) = (topic, event, payload, is_private, id) else {
        return (None, errors);
    };
    let event = Value::from(event);
    let meta = id.map(|id| format!(r#","meta":{{"id":"{id}"}}"#)).unwrap_or_default();
    let text = format!(r#"{{"event":{event},"payload":{payload},"type":"broadcast"{meta}}}"#);
    (Some(Message { topic, is_private, broadcast: Broadcast::Text(text.into()) }), errors)
}

/// A field's value; none where it is null or missing.
fn field<'a>(fields: &Fields<'a>, name: &str) -> Option<&'a RawValue> {
    fields.get(name).copied().filter(|raw| raw.get() != "null")
}

fn text(fields: &Fields<'_>, name: &str) -> Result<String, &'static str> {
    let raw = field(fields, name).ok_or(BLANK)?;
    let text: String = serde_json::from_str(raw.get()).map_err(|_| INVALID)?;
    if text.trim().is_empty() { Err(BLANK) } else { Ok(text) }
}

/// The payload as it was written.
fn payload<'a>(fields: &Fields<'a>, max_bytes: usize) -> Result<&'a str, &'static str> {
    let raw = field(fields, "payload").ok_or(BLANK)?.get();
    if raw.len() > max_bytes {
        return Err(TOO_LARGE);
    }
    // Members shall be able to read it: no deeper and with no larger numbers than parsers bear.
    match serde_json::from_str::<Value>(raw) {
        Ok(Value::Object(_)) => Ok(raw),
        _ => Err(INVALID),
    }
}

fn is_private(fields: &Fields<'_>) -> Result<bool, &'static str> {
    let Some(raw) = field(fields, "private") else { return Ok(false) };
    match serde_json::from_str(raw.get()) {
        Ok(Value::Bool(is_private)) => Ok(is_private),
        Ok(Value::String(text)) => flag(&text).ok_or(INVALID),
        _ => Err(INVALID),
    }
}

/// A boolean that came as text. Nothing is guessed: a guess could make a private message public.
pub(super) fn flag(text: &str) -> Option<bool> {
    let is = |words: [&str; 2]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is(["true", "1"]) {
        Some(true)
    } else if is(["false", "0"]) {
        Some(false)
    } else {
        None
    }
}

fn id(fields: &Fields<'_>) -> Result<Option<Uuid>, &'static str> {
    let Some(raw) = field(fields, "id") else { return Ok(None) };
    let text: String = serde_json::from_str(raw.get()).map_err(|_| INVALID)?;
    if text.len() != 36 {
        return Err(INVALID);
    }
    text.parse().map(Some).map_err(|_| INVALID)
}

#[cfg(test)]
mod tests;
