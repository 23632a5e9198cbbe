//! What client and server can say to each other, in no particular encoding. Pure.
//!
//! A [`Codec`] turns frames into [`Push`]es and answers into frames; the doors have one for each encoding. Texts a
//! client may hear stand in `refusal`.

mod broadcast;
pub mod refusal;

pub use broadcast::{Broadcast, Content, StoredBroadcast, UserBroadcast};

use axum::extract::ws::Utf8Bytes;
use bytes::Bytes;
use serde_json::Value;

/// An encoded message, ready for a socket; cloning it copies nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A text frame.
    Text(Utf8Bytes),
    /// A binary frame.
    Binary(Bytes),
}

impl Frame {
    /// A text frame.
    pub fn text(text: String) -> Frame {
        Frame::Text(text.into())
    }

    /// Bytes of the payload.
    pub fn len(&self) -> usize {
        match self {
            Frame::Text(text) => text.len(),
            Frame::Binary(bytes) => bytes.len(),
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a push is about.
#[derive(Clone, Debug, PartialEq)]
pub enum Payload {
    /// JSON.
    Json(Value),
    /// Of event `broadcast`: what is sent on, as it came.
    Broadcast(Broadcast),
    /// The same, with the wish that it be stored, too (reference, section 6.7).
    Stored(Broadcast),
}

impl Payload {
    /// The JSON; null for a broadcast, which is only sent on.
    pub fn json(&self) -> &Value {
        match self {
            Payload::Json(value) => value,
            Payload::Broadcast(_) | Payload::Stored(_) => &Value::Null,
        }
    }

    /// Bytes of it, more or less: what keeping it costs.
    pub fn size(&self) -> usize {
        match self {
            Payload::Json(value) => value.to_string().len(),
            Payload::Broadcast(broadcast) | Payload::Stored(broadcast) => broadcast.size(),
        }
    }
}

/// What a client says. References keep the JSON type they came with, because they are echoed.
#[derive(Clone, Debug, PartialEq)]
pub struct Push {
    /// Which join of the topic it belongs to; null when the client does not say.
    pub join_ref: Value,
    /// What the answer must name.
    pub reference: Value,
    /// The topic; a string, unless the client is confused.
    pub topic: Value,
    /// The event; a string, unless the client is confused.
    pub event: Value,
    /// What it is about.
    pub payload: Payload,
}

/// The answer to a push.
#[derive(Clone, Debug)]
pub struct Reply<'a> {
    /// The join it belongs to.
    pub join_ref: &'a Value,
    /// The push it answers.
    pub reference: &'a Value,
    /// The topic of the push.
    pub topic: &'a Value,
    /// `ok` or `error`.
    pub is_ok: bool,
    /// The response as JSON text.
    pub response: &'a str,
}

/// What the server says of itself.
#[derive(Clone, Debug)]
pub struct Event<'a> {
    /// The join it belongs to, or null.
    pub join_ref: &'a Value,
    /// Null, or with `phx_close` and `phx_error` the join's reference once more.
    pub reference: &'a Value,
    /// The topic.
    pub topic: &'a str,
    /// The event's name.
    pub event: &'a str,
    /// The payload as JSON text.
    pub payload: &'a str,
}

/// A frame that cannot be understood. It is dropped; the connection and its channels stay.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed frame: {0}")]
pub struct BadFrame(pub &'static str);

/// An encoding of the protocol.
pub trait Codec: Send + Sync {
    /// A short name, to tell encodings apart.
    fn name(&self) -> &'static str;
    /// Whether its clients tell by a `phx_close` which join of a topic it ends.
    fn names_joins(&self) -> bool;
    /// Reads a text frame.
    fn decode_text(&self, text: &str) -> Result<Push, BadFrame>;
    /// Reads a binary frame.
    fn decode_binary(&self, bytes: &[u8]) -> Result<Push, BadFrame>;
    /// Writes an answer.
    fn reply(&self, reply: &Reply<'_>) -> Frame;
    /// Writes a message of the server.
    fn event(&self, event: &Event<'_>) -> Frame;
    /// Writes a broadcast (reference, section 2.4); none where this encoding has no form for it.
    fn broadcast(&self, topic: &str, broadcast: &Broadcast) -> Option<Frame>;
}
