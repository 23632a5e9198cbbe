//! `vsn=2.0.0`: JSON arrays in text frames, and Phoenix' binary push (protocol reference, sections 2.2 and 2.3).

use super::ENVELOPE_BYTES;
use crate::protocol::{BadFrame, Codec, Event, Frame, Push, Reply};
use serde_json::Value;
use std::fmt::Write;

/// The codec of version 2.
pub struct V2;

/// A binary push of plain Phoenix; no Supabase client sends it, but the server we replace takes it.
const KIND_PUSH: u8 = 0;

impl Codec for V2 {
    fn name(&self) -> &'static str {
        "2.0.0"
    }

    fn names_joins(&self) -> bool {
        true
    }

    fn decode_text(&self, text: &str) -> Result<Push, BadFrame> {
        let Ok(Value::Array(frame)) = serde_json::from_str(text) else {
            return Err(BadFrame("not a JSON array"));
        };
        // Elements behind the fifth are ignored, as Phoenix does.
        let mut elements = frame.into_iter();
        let mut next = || elements.next().ok_or(BadFrame("fewer than five elements"));
        Ok(Push { join_ref: next()?, reference: next()?, topic: next()?, event: next()?, payload: next()? })
    }

    fn decode_binary(&self, bytes: &[u8]) -> Result<Push, BadFrame> {
        let short = BadFrame("binary frame is cut short");
        let (&kind, rest) = bytes.split_first().ok_or(short.clone())?;
        if kind != KIND_PUSH {
            return Err(BadFrame("unknown binary kind"));
        }
        let (lengths, mut rest) = rest.split_at_checked(4).ok_or(short.clone())?;
        let mut fields = Vec::with_capacity(lengths.len());
        for &length in lengths {
            let (field, behind) = rest.split_at_checked(usize::from(length)).ok_or(short.clone())?;
            fields.push(Value::from(std::str::from_utf8(field).map_err(|_| BadFrame("field is not UTF-8"))?));
            rest = behind;
        }
        let payload = serde_json::from_slice(rest).map_err(|_| BadFrame("payload is not JSON"))?;
        let mut fields = fields.into_iter();
        let mut next = || fields.next().unwrap_or_default();
        Ok(Push { join_ref: next(), reference: next(), topic: next(), event: next(), payload })
    }

    fn reply(&self, reply: &Reply<'_>) -> Frame {
        let status = if reply.is_ok { "ok" } else { "error" };
        let Reply { join_ref, reference, topic, response, .. } = reply;
        let text =
            format!(r#"[{join_ref},{reference},{topic},"phx_reply",{{"status":"{status}","response":{response}}}]"#);
        Frame(text.into())
    }

    fn event(&self, event: &Event<'_>) -> Frame {
        let Event { join_ref, reference, topic, event, payload } = event;
        let topic = Value::from(*topic);
        let mut text = String::with_capacity(payload.len() + ENVELOPE_BYTES);
        // Writing to a string cannot fail.
        let _ = write!(text, r#"[{join_ref},{reference},{topic},"{event}",{payload}]"#);
        Frame(text.into())
    }
}
