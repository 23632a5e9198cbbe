//! The binary broadcasts of `vsn=2.0.0` as clients write and read them: kind 3 to the server, kind 4 from it.
//! Written from the layout alone, not from the server's code.

use super::json::Json;

/// A kind 3 frame in parts.
pub struct UserPush<'a> {
    pub join_ref: &'a str,
    pub reference: &'a str,
    pub topic: &'a str,
    pub event: &'a str,
    pub metadata: &'a str,
    /// 1 says that the payload is JSON text, 0 that it is bytes.
    pub encoding: u8,
    pub payload: &'a [u8],
}

impl UserPush<'_> {
    pub fn bytes(&self) -> Vec<u8> {
        let fields = [self.join_ref, self.reference, self.topic, self.event, self.metadata];
        let mut frame = vec![3];
        frame.extend(fields.map(|field| u8::try_from(field.len()).expect("a field has at most 255 bytes")));
        frame.push(self.encoding);
        fields.iter().for_each(|field| frame.extend_from_slice(field.as_bytes()));
        frame.extend_from_slice(self.payload);
        frame
    }
}

/// A kind 4 frame in parts.
#[derive(Clone, Debug, PartialEq)]
pub struct UserBroadcast {
    pub topic: String,
    pub event: String,
    pub metadata: String,
    pub encoding: u8,
    pub payload: Vec<u8>,
}

impl UserBroadcast {
    /// Reads a frame; none when clients could not.
    pub fn read(frame: &[u8]) -> Option<Self> {
        let [4, topic, event, metadata, encoding @ (0 | 1), rest @ ..] = frame else { return None };
        let (topic, rest) = rest.split_at_checked(usize::from(*topic))?;
        let (event, rest) = rest.split_at_checked(usize::from(*event))?;
        let (metadata, payload) = rest.split_at_checked(usize::from(*metadata))?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let (topic, event, metadata) = (text(topic)?, text(event)?, text(metadata)?);
        Some(Self { topic, event, metadata, encoding: *encoding, payload: payload.to_vec() })
    }

    /// The payload clients make of it: the same as that of the text form. Bytes, and what is no JSON, are null in it.
    pub fn as_text_form(&self) -> Json {
        let json = |text: &[u8]| std::str::from_utf8(text).ok().and_then(|text| Json::parse(text).ok());
        let payload = if self.encoding == 1 { json(&self.payload) } else { None };
        let string = |text: &str| Json::String(text.to_owned());
        let mut members = vec![
            ("type", string("broadcast")),
            ("event", string(&self.event)),
            ("payload", payload.unwrap_or(Json::Null)),
        ];
        if !self.metadata.is_empty() {
            members.push(("meta", json(self.metadata.as_bytes()).expect("the metadata are JSON")));
        }
        Json::Object(members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }
}

#[test]
fn the_examples_of_the_protocol_reference_are_read_and_written() {
    let push = UserPush {
        join_ref: "1",
        reference: "5",
        topic: "realtime:r",
        event: "hi",
        metadata: "",
        encoding: 1,
        payload: br#"{"a":1}"#,
    };
    assert_eq!(push.bytes(), b"\x03\x01\x01\x0a\x02\x00\x0115realtime:rhi{\"a\":1}");
    let heard = UserBroadcast::read(b"\x04\x0a\x02\x0a\x00realtime:rhi{\"id\":\"x\"}\x00\xff").unwrap();
    assert_eq!((heard.topic.as_str(), heard.event.as_str(), heard.encoding), ("realtime:r", "hi", 0));
    assert_eq!((heard.metadata.as_str(), heard.payload.as_slice()), (r#"{"id":"x"}"#, &[0, 0xff][..]));
    for kind in [0, 1, 2, 3, 5] {
        assert_eq!(UserBroadcast::read(&[kind, 1, 1, 0, 1, b't', b'e']), None, "kind {kind} is not for clients");
    }
    assert_eq!(UserBroadcast::read(&[4, 9, 1, 0, 1, b't', b'e']), None, "cut short");
}
