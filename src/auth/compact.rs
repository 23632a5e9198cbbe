//! The compact form of a signed token: three parts → header, claims, signature (RFC 7515, section 7.1).
//!
//! Owns what may be in the text before any key is looked at: its size, its header, and that no JSON says a name twice,
//! for two readers of such a text could see two different tokens. Which key counts and what the claims mean is decided
//! by those who ask.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use percent_encoding::percent_decode_str;
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};
use std::fmt;

/// A token longer than this is not looked at: no header line carries one.
const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// A longer name of a key is no key's name. Refusals repeat the name, so it must not be long.
const MAX_KEY_ID_BYTES: usize = 256;

/// The text is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoToken;

/// A token that was taken apart. Nothing in it is proved yet.
pub(super) struct Compact {
    text: String,
    /// Where the signed part ends and the dot before the signature stands.
    signed: usize,
    /// What the header says the signature is.
    pub(super) algorithm: String,
    /// Which key the header says it was signed with.
    pub(super) key_id: Option<String>,
    /// What it claims.
    pub(super) claims: Map<String, Value>,
}

impl Compact {
    /// Takes a token apart as it came in a URL, a header or a message: percent signs decoded, white space dropped.
    ///
    /// Of the header only `alg` and `kid` are read. A key that a token brings along (`jwk`, `jku`, `x5c`, `x5u`) is never
    /// looked at, and one that demands extensions (`crit`) is refused, for none is known here.
    pub(super) fn read(token: &str) -> Result<Compact, NoToken> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(NoToken);
        }
        let decoded = percent_decode_str(token).decode_utf8().map_err(|_| NoToken)?;
        let text: String = decoded.chars().filter(|character| !character.is_whitespace()).collect();
        let (signed, _) = text.rsplit_once('.').ok_or(NoToken)?;
        let (header, payload) = signed.split_once('.').ok_or(NoToken)?;
        let mut header = json_object(header)?;
        let claims = json_object(payload)?;
        if header.contains_key("crit") {
            return Err(NoToken);
        }
        let Some(Value::String(algorithm)) = header.remove("alg") else { return Err(NoToken) };
        let key_id = match header.remove("kid") {
            None => None,
            Some(Value::String(key_id)) if key_id.len() <= MAX_KEY_ID_BYTES => Some(key_id),
            Some(_) => return Err(NoToken),
        };
        let signed = signed.len();
        Ok(Compact { text, signed, algorithm, key_id, claims })
    }

    /// Whether the signature is this key's by this algorithm. The caller chooses both; the header has no say in it.
    pub(super) fn is_signed(&self, key: &DecodingKey, algorithm: Algorithm) -> bool {
        let Some((signed, rest)) = self.text.split_at_checked(self.signed) else { return false };
        let Some(signature) = rest.strip_prefix('.') else { return false };
        key.family() == algorithm.family()
            && crypto::verify(signature, signed.as_bytes(), key, algorithm).unwrap_or(false)
    }
}

/// A NumericDate; fractions are rounded, texts are none.
pub(super) fn seconds(value: &Value) -> Option<i64> {
    let number = value.as_number()?;
    #[expect(clippy::cast_possible_truncation, reason = "checked against a range that i64 holds exactly")]
    let rounded = || number.as_f64().filter(|seconds| seconds.abs() < 9e15).map(|seconds| seconds.round() as i64);
    number.as_i64().or_else(rounded)
}

fn json_object(part: &str) -> Result<Map<String, Value>, NoToken> {
    let bytes = URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).map_err(|_| NoToken)?;
    match serde_json::from_slice(&bytes) {
        Ok(Unambiguous(Value::Object(object))) => Ok(object),
        _ => Err(NoToken),
    }
}

/// JSON in which no object has a name twice, however deep.
struct Unambiguous(Value);

impl<'de> Deserialize<'de> for Unambiguous {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Unambiguous, D::Error> {
        deserializer.deserialize_any(Unambiguous(Value::Null))
    }
}

impl<'de> Visitor<'de> for Unambiguous {
    type Value = Unambiguous;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without a name twice")
    }

    fn visit_unit<E: Error>(self) -> Result<Unambiguous, E> {
        Ok(Unambiguous(Value::Null))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Unambiguous, E> {
        Ok(Unambiguous(Value::Bool(value)))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Unambiguous, E> {
        Ok(Unambiguous(Value::Number(value.into())))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Unambiguous, E> {
        Ok(Unambiguous(Value::Number(value.into())))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Unambiguous, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("a number out of range"))?;
        Ok(Unambiguous(Value::Number(number)))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Unambiguous, E> {
        Ok(Unambiguous(Value::String(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Unambiguous, A::Error> {
        let mut array = Vec::new();
        while let Some(Unambiguous(element)) = elements.next_element()? {
            array.push(element);
        }
        Ok(Unambiguous(Value::Array(array)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Unambiguous, A::Error> {
        let mut object = Map::new();
        while let Some((name, Unambiguous(value))) = entries.next_entry::<String, _>()? {
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("a name twice"));
            }
        }
        Ok(Unambiguous(Value::Object(object)))
    }
}
