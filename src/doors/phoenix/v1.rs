//! `vsn=1.0.0`: JSON objects (protocol reference, section 2.1). The server's frames always have the four keys topic,
//! event, payload and ref, and never `join_ref`: strict clients throw anything else away.

use super::{ENVELOPE_BYTES, name, payload_of, reference};
use crate::protocol::{BadFrame, Broadcast, Codec, Event, Frame, Push, Reply};
use serde_json::{Value, value::RawValue};
use std::{borrow::Cow, collections::HashMap, fmt::Write};

/// The codec of version 1.
pub struct V1;

impl Codec for V1 {
    fn name(&self) -> &'static str {
        "1.0.0"
    }

    fn names_joins(&self) -> bool {
        false
    }

    fn decode_text(&self, text: &str) -> Result<Push, BadFrame> {
        let Ok(frame) = serde_json::from_str::<HashMap<Cow<'_, str>, &RawValue>>(text) else {
            return Err(BadFrame("not a JSON object"));
        };
        let get = |key| frame.get(key).copied();
        let (Some(topic), Some(event), Some(payload), Some(own)) =
            (get("topic"), get("event"), get("payload"), get("ref"))
        else {
            return Err(BadFrame("topic, event, payload or ref is missing"));
        };
        let event = name(event)?;
        let payload = payload_of(&event, payload)?;
        let join_ref = get("join_ref").map_or(Ok(Value::Null), reference)?;
        Ok(Push { join_ref, reference: reference(own)?, topic: name(topic)?, event, payload })
    }

    fn decode_binary(&self, bytes: &[u8]) -> Result<Push, BadFrame> {
        self.decode_text(std::str::from_utf8(bytes).map_err(|_| BadFrame("not UTF-8"))?)
    }

    fn reply(&self, reply: &Reply<'_>) -> Frame {
        let status = if reply.is_ok { "ok" } else { "error" };
        let Reply { reference, topic, response, .. } = reply;
        let text = format!(
            r#"{{"ref":{reference},"event":"phx_reply","payload":{{"status":"{status}","response":{response}}},"topic":{topic}}}"#
        );
        Frame::text(text)
    }

    fn event(&self, event: &Event<'_>) -> Frame {
        let Event { reference, topic, event, payload, .. } = event;
        let topic = Value::from(*topic);
        let mut text = String::with_capacity(payload.len() + ENVELOPE_BYTES);
        // Writing to a string cannot fail.
        let _ = write!(text, r#"{{"ref":{reference},"event":"{event}","payload":{payload},"topic":{topic}}}"#);
        Frame::text(text)
    }

    fn broadcast(&self, topic: &str, broadcast: &Broadcast) -> Option<Frame> {
        let payload = broadcast.text()?;
        let event =
            Event { join_ref: &Value::Null, reference: &Value::Null, topic, event: "broadcast", payload: &payload };
        Some(self.event(&event))
    }
}
