//! `vsn=2.0.0`: JSON arrays in text frames, Phoenix' binary push and the broadcasts of Supabase (protocol reference, sections 2.2 and 2.3).

use super::{ENVELOPE_BYTES, name, payload_of, reference};
use crate::protocol::{BadFrame, Broadcast, Codec, Content, Event, Frame, Payload, Push, Reply, UserBroadcast};
use bytes::Bytes;
use serde_json::{Value, value::RawValue};
use std::fmt::Write;

/// The codec of version 2.
pub struct V2;

/// A binary push of plain Phoenix; no Supabase client sends it, but the server we replace takes it.
const KIND_PUSH: u8 = 0;
/// A broadcast from a client.
const KIND_USER_BROADCAST_PUSH: u8 = 3;
/// A broadcast to a client: the only binary frame clients understand.
const KIND_USER_BROADCAST: u8 = 4;
/// The encodings of a broadcast's payload.
const RAW: u8 = 0;
const JSON: u8 = 1;

const CUT_SHORT: BadFrame = BadFrame("binary frame is cut short");
const NOT_UTF8: BadFrame = BadFrame("field is not UTF-8");

impl Codec for V2 {
    fn name(&self) -> &'static str {
        "2.0.0"
    }

    fn names_joins(&self) -> bool {
        true
    }

    fn decode_text(&self, text: &str) -> Result<Push, BadFrame> {
        let Ok(frame) = serde_json::from_str::<Vec<&RawValue>>(text) else {
            return Err(BadFrame("not a JSON array"));
        };
        // Elements behind the fifth are ignored, as Phoenix does.
        let [join_ref, own, topic, event, payload, ..] = frame[..] else {
            return Err(BadFrame("fewer than five elements"));
        };
        let event = name(event)?;
        let payload = payload_of(&event, payload)?;
        Ok(Push { join_ref: reference(join_ref)?, reference: reference(own)?, topic: name(topic)?, event, payload })
    }

    fn decode_binary(&self, bytes: &[u8]) -> Result<Push, BadFrame> {
        let (&kind, rest) = bytes.split_first().ok_or(CUT_SHORT)?;
        match kind {
            KIND_PUSH => {
                let ([join_ref, reference, topic, event], rest) = fields(rest, 0)?;
                let payload: &RawValue = serde_json::from_slice(rest).map_err(|_| BadFrame("payload is not JSON"))?;
                let event = utf8(event)?;
                let payload = payload_of(&event, payload)?;
                Ok(Push { join_ref: utf8(join_ref)?, reference: utf8(reference)?, topic: utf8(topic)?, event, payload })
            }
            KIND_USER_BROADCAST_PUSH => {
                // The metadata are the client's wishes to the server.
                let encoding = *rest.get(5).ok_or(CUT_SHORT)?;
                let ([join_ref, reference, topic, event, metadata], rest) = fields(rest, 1)?;
                let content = Bytes::copy_from_slice(rest);
                let content = if encoding == JSON { Content::Json(content) } else { Content::Binary(content) };
                let event = std::str::from_utf8(event).map_err(|_| NOT_UTF8)?.to_owned();
                let broadcast = Broadcast::User(UserBroadcast { event, content, meta: None });
                Ok(Push {
                    // Where a client leaves it out, the text form has null.
                    join_ref: Some(utf8(join_ref)?).filter(|text| text != "").unwrap_or_default(),
                    reference: Some(utf8(reference)?).filter(|text| text != "").unwrap_or_default(),
                    topic: utf8(topic)?,
                    event: Value::from("broadcast"),
                    payload: if is_to_be_stored(metadata) { Payload::Stored } else { Payload::Broadcast }(broadcast),
                })
            }
            _ => Err(BadFrame("unknown binary kind")),
        }
    }

    fn reply(&self, reply: &Reply<'_>) -> Frame {
        let status = if reply.is_ok { "ok" } else { "error" };
        let Reply { join_ref, reference, topic, response, .. } = reply;
        let text =
            format!(r#"[{join_ref},{reference},{topic},"phx_reply",{{"status":"{status}","response":{response}}}]"#);
        Frame::text(text)
    }

    fn event(&self, event: &Event<'_>) -> Frame {
        let Event { join_ref, reference, topic, event, payload } = event;
        let topic = Value::from(*topic);
        let mut text = String::with_capacity(payload.len() + ENVELOPE_BYTES);
        // Writing to a string cannot fail.
        let _ = write!(text, r#"[{join_ref},{reference},{topic},"{event}",{payload}]"#);
        Frame::text(text)
    }

    fn broadcast(&self, topic: &str, broadcast: &Broadcast) -> Option<Frame> {
        if let Broadcast::User(user) = broadcast
            && let Some(frame) = user_broadcast(topic, user)
        {
            return Some(frame);
        }
        // A topic or event too long for the binary form: JSON has another.
        let payload = broadcast.text()?;
        let event =
            Event { join_ref: &Value::Null, reference: &Value::Null, topic, event: "broadcast", payload: &payload };
        Some(self.event(&event))
    }
}

/// The binary form of a broadcast (kind 4); none when a field is longer than its one byte of length can say.
fn user_broadcast(topic: &str, user: &UserBroadcast) -> Option<Frame> {
    let (encoding, content) = match &user.content {
        Content::Json(bytes) => (JSON, bytes),
        Content::Binary(bytes) => (RAW, bytes),
    };
    let fields = [topic, &user.event, user.meta.as_deref().unwrap_or_default()];
    let mut frame = Vec::with_capacity(5 + fields.iter().map(|field| field.len()).sum::<usize>() + content.len());
    frame.push(KIND_USER_BROADCAST);
    for field in fields {
        frame.push(u8::try_from(field.len()).ok()?);
    }
    frame.push(encoding);
    fields.iter().for_each(|field| frame.extend_from_slice(field.as_bytes()));
    frame.extend_from_slice(content);
    Some(Frame::Binary(frame.into()))
}

/// So many fields behind their lengths, with `between` bytes between the lengths and the fields; and what follows them.
fn fields<const COUNT: usize>(bytes: &[u8], between: usize) -> Result<([&[u8]; COUNT], &[u8]), BadFrame> {
    let (lengths, mut rest) = bytes.split_at_checked(COUNT).ok_or(CUT_SHORT)?;
    rest = rest.get(between..).ok_or(CUT_SHORT)?;
    let mut fields = [&bytes[..0]; COUNT];
    for (field, &length) in fields.iter_mut().zip(lengths) {
        (*field, rest) = rest.split_at_checked(usize::from(length)).ok_or(CUT_SHORT)?;
    }
    Ok((fields, rest))
}

/// Whether the metadata of a broadcast ask for it to be stored.
fn is_to_be_stored(metadata: &[u8]) -> bool {
    let wishes = serde_json::from_slice::<Value>(metadata).unwrap_or_default();
    !matches!(wishes.get("persist"), None | Some(Value::Null | Value::Bool(false)))
}

fn utf8(field: &[u8]) -> Result<Value, BadFrame> {
    std::str::from_utf8(field).map(Value::from).map_err(|_| NOT_UTF8)
}
