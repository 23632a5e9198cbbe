//! `Member`: one connection's membership in one channel, as long as its join lasts.

use super::Outbox;
use crate::protocol::{Codec, Event, Frame};
use serde_json::Value;
use std::sync::{Arc, Mutex, PoisonError};

/// How row changes are worded for a channel (protocol reference, sections 4.1 and 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageForm {
    /// Event `postgres_changes` with `ids` and `data`.
    Modern,
    /// Event `INSERT`, `UPDATE` or `DELETE` with the data as payload.
    Legacy,
}

/// A membership. What is delivered through it stops the moment it is ended, wherever the delivery comes from.
pub struct Member {
    topic: Arc<str>,
    join_ref: Value,
    codec: &'static dyn Codec,
    form: MessageForm,
    outbox: Outbox,
    // The lock makes "ended" and "delivered" exclude each other: nothing follows the `phx_close` of a join.
    ended: Mutex<bool>,
}

impl Member {
    /// A membership that lasts until `end`.
    pub fn new(
        topic: Arc<str>,
        join_ref: Value,
        codec: &'static dyn Codec,
        form: MessageForm,
        outbox: Outbox,
    ) -> Arc<Member> {
        Arc::new(Member { topic, join_ref, codec, form, outbox, ended: Mutex::new(false) })
    }

    /// The whole topic, `realtime:` included.
    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// How the connection wants its frames.
    pub fn codec(&self) -> &'static dyn Codec {
        self.codec
    }

    /// How row changes are worded.
    pub fn form(&self) -> MessageForm {
        self.form
    }

    /// Queues a frame, unless the membership has ended; false when it has.
    pub fn deliver(&self, frame: Frame) -> bool {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        !*ended && self.outbox.push(frame)
    }

    /// Queues a `system` message of this join.
    pub fn deliver_system(&self, extension: &str, is_ok: bool, message: &str) -> bool {
        self.deliver(system_frame(self.codec, &self.topic, &self.join_ref, extension, is_ok, message))
    }

    /// Ends it with `phx_error`: clients join again, and so get a fresh start.
    pub fn fail(&self) {
        let frame = self.codec.event(&Event {
            join_ref: &self.join_ref,
            reference: &self.join_ref,
            topic: &self.topic,
            event: "phx_error",
            payload: "{}",
        });
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if !*ended {
            self.outbox.push(frame);
            *ended = true;
        }
    }

    /// Ends it: no frame is queued through it after this returns.
    pub fn end(&self) {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// Whether it has ended, or its connection is gone.
    pub fn is_ended(&self) -> bool {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) || self.outbox.is_closed()
    }
}

/// A `system` message (protocol reference, section 3.10).
pub(crate) fn system_frame(
    codec: &dyn Codec,
    topic: &str,
    join_ref: &Value,
    extension: &str,
    is_ok: bool,
    message: &str,
) -> Frame {
    let payload = serde_json::json!({
        "extension": extension,
        "status": if is_ok { "ok" } else { "error" },
        "message": message,
        "channel": topic.strip_prefix("realtime:").unwrap_or(topic),
    });
    codec.event(&Event { join_ref, reference: &Value::Null, topic, event: "system", payload: &payload.to_string() })
}
