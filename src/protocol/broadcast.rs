//! What is broadcast, in no particular encoding: each codec makes one frame of it, whatever the audience
//! (protocol reference, sections 2.3, 2.4 and 6).

use bytes::Bytes;
use serde_json::Value;
use uuid::Uuid;

/// A message that is broadcast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broadcast {
    /// The payload object of a text push, and of a REST batch: forwarded as it was written.
    Text(Box<str>),
    /// Event, payload and metadata apart: binary pushes, single REST messages, rows of the database.
    User(UserBroadcast),
}

/// A broadcast with its parts apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserBroadcast {
    /// The event the application listens for.
    pub event: String,
    /// What is sent.
    pub content: Content,
    /// What the server says of it, as the text of a JSON object: clients show it as `meta`.
    pub meta: Option<String>,
}

/// The payload of a broadcast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// What claims to be JSON. Only [`Content::json`] says whether it is.
    Json(Bytes),
    /// Bytes that mean something to the application alone.
    Binary(Bytes),
}

impl Content {
    /// The text, if it is JSON that a text frame can carry: well-formed, and no deeper than readers bear.
    pub fn json(&self) -> Option<&str> {
        let Content::Json(bytes) = self else { return None };
        let text = std::str::from_utf8(bytes).ok()?;
        serde_json::from_str::<Value>(text).is_ok().then_some(text)
    }
}

impl UserBroadcast {
    /// The payload of the text form; none for bytes, and for what only claims to be JSON.
    pub fn text(&self) -> Option<String> {
        let json = self.content.json()?;
        let event = Value::from(self.event.as_str());
        let meta = self.meta.as_ref().map(|meta| format!(r#","meta":{meta}"#)).unwrap_or_default();
        Some(format!(r#"{{"event":{event},"payload":{json},"type":"broadcast"{meta}}}"#))
    }
}

impl Broadcast {
    /// The payload of the text form; none where there is none.
    pub fn text(&self) -> Option<String> {
        match self {
            Broadcast::Text(text) => Some(text.to_string()),
            Broadcast::User(user) => user.text(),
        }
    }

    /// Bytes of what is sent, as limits count them.
    pub fn size(&self) -> usize {
        match self {
            Broadcast::Text(text) => text.len(),
            Broadcast::User(UserBroadcast { content: Content::Json(bytes) | Content::Binary(bytes), .. }) => {
                bytes.len()
            }
        }
    }
}

/// A broadcast that the database keeps, to be sent again to somebody who was away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBroadcast {
    /// The id of its row.
    pub id: Uuid,
    /// What was sent, without metadata.
    pub message: UserBroadcast,
}
