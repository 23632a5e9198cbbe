//! What a client makes of its frames: messages in their order, and its view of who is present.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use walcast::protocol::Frame;

/// A frame in the shape both encodings share.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    pub join_ref: Value,
    pub reference: Value,
    pub topic: String,
    pub event: String,
    pub payload: Value,
}

impl Message {
    pub fn read(frame: &Frame) -> Message {
        let text = |value: &Value| value.as_str().expect("a string").to_owned();
        match frame {
            Frame::Text(frame) => match serde_json::from_str::<Value>(frame).expect("JSON") {
                Value::Array(parts) => {
                    let [join_ref, reference, topic, event, payload] = &parts[..] else { panic!("five: {frame}") };
                    let (topic, event) = (text(topic), text(event));
                    let (join_ref, reference, payload) = (join_ref.clone(), reference.clone(), payload.clone());
                    Message { join_ref, reference, topic, event, payload }
                }
                object => {
                    assert!(object.get("join_ref").is_none(), "version 1 never says it: {frame}");
                    let (topic, event) = (text(&object["topic"]), text(&object["event"]));
                    let (reference, payload) = (object["ref"].clone(), object["payload"].clone());
                    Message { join_ref: Value::Null, reference, topic, event, payload }
                }
            },
            Frame::Binary(bytes) => kind_4(bytes),
        }
    }

    /// `status` and `response` of a reply.
    pub fn reply(&self) -> (&str, &Value) {
        assert_eq!(self.event, "phx_reply", "{self:?}");
        (self.payload["status"].as_str().expect("a status"), &self.payload["response"])
    }
}

/// Clients see a binary broadcast in the shape of the text form; bytes stand here as a list of numbers.
fn kind_4(bytes: &[u8]) -> Message {
    let [4, topic, event, meta, encoding, rest @ ..] = bytes else { panic!("kind 4: {bytes:?}") };
    let (topic, rest) = rest.split_at(usize::from(*topic));
    let (event, rest) = rest.split_at(usize::from(*event));
    let (meta, content) = rest.split_at(usize::from(*meta));
    let content = match encoding {
        1 => serde_json::from_slice(content).unwrap_or_else(|_| Value::from(String::from_utf8_lossy(content))),
        _ => json!(content),
    };
    let event = String::from_utf8_lossy(event);
    let mut payload = json!({"type": "broadcast", "event": event, "payload": content});
    if !meta.is_empty() {
        payload["meta"] = serde_json::from_slice(meta).expect("JSON");
    }
    let topic = String::from_utf8_lossy(topic).into_owned();
    Message { join_ref: Value::Null, reference: Value::Null, topic, event: "broadcast".to_owned(), payload }
}

/// Who is present: key, reference, meta.
pub type Present = BTreeMap<String, BTreeMap<String, Map<String, Value>>>;

/// Reads a list of entries as `presence_state` and `presence_diff` have them.
pub fn present(entries: &Value) -> Present {
    let entries = entries.as_object().expect("an object");
    let metas = |entry: &Value| {
        let metas = entry["metas"].as_array().expect("metas").iter().map(|meta| {
            let meta = meta.as_object().expect("a meta").clone();
            let reference = meta["phx_ref"].as_str().expect("a reference").to_owned();
            assert_eq!(reference.len(), 16, "{reference}");
            (reference, meta)
        });
        metas.collect::<BTreeMap<_, _>>()
    };
    entries.iter().map(|(key, entry)| (key.clone(), metas(entry))).collect()
}

/// A client's view of who is present, kept as the libraries keep it.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// None until a state has come: differences mean nothing before.
    pub present: Option<Present>,
}

impl View {
    /// Takes a state or a difference, exactly: what comes was not there, what goes was.
    pub fn hear(&mut self, message: &Message) {
        match message.event.as_str() {
            "presence_state" => self.present = Some(present(&message.payload)),
            "presence_diff" => {
                let Some(view) = &mut self.present else { return };
                let (joins, leaves) = (present(&message.payload["joins"]), present(&message.payload["leaves"]));
                assert!(!joins.is_empty() || !leaves.is_empty(), "a difference says something");
                for (key, metas) in leaves {
                    let known = view.get_mut(&key).unwrap_or_else(|| panic!("{key} leaves and was not there"));
                    for (reference, meta) in metas {
                        assert_eq!(known.remove(&reference), Some(meta), "{key} leaves as it was known");
                    }
                    if known.is_empty() {
                        view.remove(&key);
                    }
                }
                for (key, metas) in joins {
                    for (reference, meta) in metas {
                        let before = view.entry(key.clone()).or_default().insert(reference, meta);
                        assert_eq!(before, None, "{key} joins once");
                    }
                }
            }
            _ => {}
        }
    }
}
