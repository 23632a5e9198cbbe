//! One message, which its address names and whose payload is the whole body. Pure.

use super::{
    Message,
    batch::flag,
    refusal::{INVALID, Refusal, TOO_LARGE},
};
use crate::protocol::{Broadcast, Content, UserBroadcast};
use axum::{
    body::Bytes,
    http::{HeaderMap, header},
};
use percent_encoding::percent_decode_str;
use serde_json::Value;

/// What the body holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Json,
    Octets,
}

/// What the query asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wishes {
    pub(super) is_private: bool,
}

/// What a request says the body holds. Nothing means JSON.
pub(super) fn kind(headers: &HeaderMap) -> Result<Kind, Refusal> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(Kind::Json) };
    let value = value.to_str().map_err(|_| Refusal::MediaType)?;
    let media_type = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match media_type.strip_prefix("application/") {
        Some("octet-stream") => Ok(Kind::Octets),
        Some(json) if json == "json" || json.ends_with("+json") => Ok(Kind::Json),
        _ => Err(Refusal::MediaType),
    }
}

/// Reads the query. What it has nothing to say about is ignored, as clients leave all sorts of parameters there.
pub(super) fn wishes(query: Option<&str>) -> Result<Wishes, Refusal> {
    let mut is_private = false;
    let mut persists = false;
    for pair in query.unwrap_or_default().split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = percent_decode_str(value).decode_utf8_lossy();
        match &*percent_decode_str(name).decode_utf8_lossy() {
            // Said twice, it is private if it is once.
            "private" => is_private |= flag(&value).ok_or_else(|| Refusal::field("private", INVALID))?,
            "persist" => persists |= flag(&value) != Some(false),
            name if name.starts_with("persist[") => persists = true,
            _ => {}
        }
    }
    match (persists, is_private) {
        (false, _) => Ok(Wishes { is_private }),
        (true, false) => Err(Refusal::Unprocessable("Only private broadcasts can be persisted")),
        (true, true) => Err(Refusal::Unprocessable("Persistence of broadcasts is not offered by this server")),
    }
}

/// What is named where.
pub(super) struct Address {
    pub(super) topic: String,
    pub(super) event: String,
    pub(super) is_private: bool,
}

/// The message.
pub(super) fn message(address: Address, kind: Kind, body: Bytes, max_payload_bytes: usize) -> Result<Message, Refusal> {
    let Address { topic, event, is_private } = address;
    if body.len() > max_payload_bytes {
        return Err(Refusal::field("payload", TOO_LARGE));
    }
    let content = match kind {
        Kind::Octets => Content::Binary(body),
        Kind::Json => Content::Json(json(body)?),
    };
    let broadcast = Broadcast::User(UserBroadcast { event, content, meta: None });
    Ok(Message { topic, is_private, broadcast })
}

/// A body that is JSON, as an object.
fn json(body: Bytes) -> Result<Bytes, Refusal> {
    if body.trim_ascii().is_empty() {
        return Ok(Bytes::from_static(b"{}"));
    }
    match serde_json::from_slice(&body).map_err(|_| Refusal::BadRequest)? {
        Value::Object(_) => Ok(body),
        _ => Ok([b"{\"_json\":", body.trim_ascii(), b"}"].concat().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(kind: Kind, body: &[u8]) -> Result<Content, Refusal> {
        let address = Address { topic: "t".to_owned(), event: "e".to_owned(), is_private: false };
        let message = message(address, kind, Bytes::copy_from_slice(body), 20)?;
        let Broadcast::User(user) = message.broadcast else { panic!("of parts") };
        Ok(user.content)
    }

    #[test]
    fn the_whole_body_is_the_payload_as_it_was_written() {
        for (body, expected) in [
            (r#" {"a" : 1.0} "#, r#" {"a" : 1.0} "#),
            ("", "{}"),
            ("\n", "{}"),
            ("[1, 2]\n", r#"{"_json":[1, 2]}"#),
            ("null", r#"{"_json":null}"#),
            (r#""x""#, r#"{"_json":"x"}"#),
        ] {
            assert_eq!(content(Kind::Json, body.as_bytes()), Ok(Content::Json(expected.to_owned().into())), "{body}");
        }
        assert_eq!(content(Kind::Octets, b"\x00\xff"), Ok(Content::Binary(Bytes::from_static(b"\x00\xff"))));
        assert_eq!(content(Kind::Octets, b""), Ok(Content::Binary(Bytes::new())));
    }

    #[test]
    fn a_body_that_is_no_json_or_too_long_is_refused() {
        for body in [&b"{nope"[..], b"{} {}", b"1e999", b"\"\xff\"", b"{\"a\":}"] {
            assert_eq!(content(Kind::Json, body), Err(Refusal::BadRequest), "{body:?}");
        }
        assert!(content(Kind::Octets, &[0; 20]).is_ok());
        for kind in [Kind::Octets, Kind::Json] {
            assert_eq!(content(kind, &[b' '; 21]), Err(Refusal::field("payload", TOO_LARGE)));
        }
    }

    #[test]
    fn json_octets_and_nothing_are_the_content_types() {
        let of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, value.parse().unwrap());
            kind(&headers)
        };
        assert_eq!(kind(&HeaderMap::new()), Ok(Kind::Json));
        for value in ["application/json", "Application/JSON; charset=utf-8", "application/vnd.api+json"] {
            assert_eq!(of(value), Ok(Kind::Json), "{value}");
        }
        assert_eq!(of("application/octet-stream"), Ok(Kind::Octets));
        for value in ["text/plain", "text/json", "application/x-www-form-urlencoded", "", "json", "application/jsonx"] {
            assert_eq!(of(value), Err(Refusal::MediaType), "{value}");
        }
    }

    #[test]
    fn of_the_query_only_privacy_and_persistence_are_read() {
        let is_private = |query| wishes(query).map(|wishes| wishes.is_private);
        for query in [None, Some(""), Some("apikey=x&vsn=2.0.0"), Some("private=false"), Some("persist=false&=&a")] {
            assert_eq!(is_private(query), Ok(false), "{query:?}");
        }
        for query in ["private=true", "private=1&private=0", "private=false&private=TRUE", "%70rivate=%74rue"] {
            assert_eq!(is_private(Some(query)), Ok(true), "{query}");
        }
        for query in ["private", "private=", "private=yes", "private=tru%65e"] {
            assert_eq!(wishes(Some(query)), Err(Refusal::field("private", INVALID)), "{query}");
        }
        for query in ["persist=true", "persist", "persist[ttl]=5", "persist%5Bttl%5D=5", "persist=5"] {
            assert!(matches!(wishes(Some(query)), Err(Refusal::Unprocessable(_))), "{query}");
            let private = format!("{query}&private=true");
            assert!(matches!(wishes(Some(&private)), Err(Refusal::Unprocessable(_))), "{query}");
            assert_ne!(wishes(Some(query)), wishes(Some(&private)));
        }
    }
}
