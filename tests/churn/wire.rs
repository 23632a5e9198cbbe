//! Frames as a client writes and reads them, in both encodings; no more of them than the members here need.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::support::socket::Vsn;

/// What a member says.
pub struct Said<'a> {
    pub reference: u64,
    pub join: u64,
    pub topic: &'a str,
    pub event: &'a str,
    pub payload: Value,
}

impl Said<'_> {
    /// As a text frame.
    pub fn text(&self, vsn: Vsn) -> Message {
        let Said { topic, event, payload, .. } = self;
        let (reference, join) = (self.reference.to_string(), self.join.to_string());
        let frame = match vsn {
            Vsn::V1 => {
                json!({"topic": topic, "event": event, "payload": payload, "ref": reference, "join_ref": join})
            }
            Vsn::V2 => json!([join, reference, topic, event, payload]),
        };
        Message::text(frame.to_string())
    }

    /// A broadcast as kind 3, as supabase-js sends it in version 2.
    pub fn binary(&self) -> Message {
        let (reference, join) = (self.reference.to_string(), self.join.to_string());
        let event = self.payload["event"].as_str().expect("a broadcast names its event");
        let fields = [&join, &reference, self.topic, event, ""];
        let mut bytes = vec![3];
        bytes.extend(fields.map(|field| u8::try_from(field.len()).expect("short fields")));
        bytes.push(1);
        bytes.extend(fields.concat().bytes());
        bytes.extend(self.payload["payload"].to_string().bytes());
        Message::binary(bytes)
    }
}

/// What a member hears.
pub struct Heard {
    pub reference: Option<u64>,
    pub topic: String,
    pub event: String,
    pub payload: Value,
}

/// Reads a frame of the server; none when it is not for members.
pub fn read(message: &Message, vsn: Vsn) -> Option<Heard> {
    match message {
        Message::Text(text) => {
            let frame: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("no JSON ({error}): {text}"));
            let at = |name: &str, place: usize| match vsn {
                Vsn::V1 => frame[name].clone(),
                Vsn::V2 => frame[place].clone(),
            };
            let text = |value: Value| value.as_str().map(str::to_owned);
            Some(Heard {
                reference: text(at("ref", 1)).and_then(|text| text.parse().ok()),
                topic: text(at("topic", 2)).expect("a topic"),
                event: text(at("event", 3)).expect("an event"),
                payload: at("payload", 4),
            })
        }
        Message::Binary(bytes) => Some(kind_4(bytes)),
        _ => None,
    }
}

/// The only binary frame there is for clients, in the shape of the text form.
fn kind_4(bytes: &[u8]) -> Heard {
    let [4, topic, event, metadata, 1, rest @ ..] = bytes else { panic!("a binary frame of another kind: {bytes:?}") };
    let (topic, rest) = rest.split_at(usize::from(*topic));
    let (event, rest) = rest.split_at(usize::from(*event));
    let (_, content) = rest.split_at(usize::from(*metadata));
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("names are UTF-8");
    let content: Value = serde_json::from_slice(content).expect("encoding 1 is JSON");
    let payload = json!({"type": "broadcast", "event": text(event), "payload": content});
    Heard { reference: None, topic: text(topic), event: "broadcast".to_owned(), payload }
}
