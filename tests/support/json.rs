//! JSON as the tests compare it: key order means nothing, numbers keep their exact text and are equal when they are
//! the same decimal value. `serde_json::Value` would round `12345678901234567890.123456789` to a float and call it equal.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::value::RawValue;

/// A parsed JSON text.
#[derive(Clone, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    Number(Decimal),
    String(String),
    Array(Vec<Json>),
    Object(BTreeMap<String, Json>),
}

/// A number as it was written, compared by value: `1.50` equals `1.5`, `1e-9` equals `0.000000001`.
#[derive(Clone)]
pub struct Decimal {
    /// The text on the wire, for checks that care how a number is written.
    pub text: String,
    negative: bool,
    /// Significant digits without leading or trailing zeros; empty is zero.
    digits: String,
    /// Power of ten of the last digit.
    exponent: i64,
}

impl Decimal {
    fn parse(text: &str) -> Self {
        let (negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().expect("serde_json checked the exponent")),
            None => (rest, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let mut digits = format!("{whole}{fraction}").trim_start_matches('0').to_owned();
        let mut exponent = exponent - i64::try_from(fraction.len()).expect("a fraction fits");
        while digits.ends_with('0') {
            digits.pop();
            exponent += 1;
        }
        if digits.is_empty() {
            exponent = 0;
        }
        Self { text: text.to_owned(), negative: negative && !digits.is_empty(), digits, exponent }
    }
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Self) -> bool {
        (self.negative, &self.digits, self.exponent) == (other.negative, &other.digits, other.exponent)
    }
}

impl Json {
    /// Parses a text, or says that it is not JSON.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        let raw: &RawValue = serde_json::from_str(text)?;
        Self::from_raw(raw)
    }

    fn from_raw(raw: &RawValue) -> Result<Self, serde_json::Error> {
        let text = raw.get().trim();
        Ok(match text.as_bytes().first() {
            Some(b'{') => {
                let members: BTreeMap<String, &RawValue> = serde_json::from_str(text)?;
                let members = members.into_iter().map(|(key, value)| Ok((key, Self::from_raw(value)?)));
                Self::Object(members.collect::<Result<_, serde_json::Error>>()?)
            }
            Some(b'[') => {
                let elements: Vec<&RawValue> = serde_json::from_str(text)?;
                Self::Array(elements.into_iter().map(Self::from_raw).collect::<Result<_, _>>()?)
            }
            Some(b'"') => Self::String(serde_json::from_str(text)?),
            Some(b't' | b'f') => Self::Bool(serde_json::from_str(text)?),
            Some(b'n') => Self::Null,
            _ => Self::Number(Decimal::parse(text)),
        })
    }

    /// The member of an object; `Null` stands for a missing one, so chains of `at` need no checks. Ask `has` for absence.
    pub fn at(&self, key: &str) -> &Self {
        match self {
            Self::Object(members) => members.get(key).unwrap_or(&Self::Null),
            _ => &Self::Null,
        }
    }

    /// The element of an array, `Null` where there is none.
    pub fn nth(&self, index: usize) -> &Self {
        self.elements().get(index).unwrap_or(&Self::Null)
    }

    /// Whether an object has this key, even with a null.
    pub fn has(&self, key: &str) -> bool {
        matches!(self, Self::Object(members) if members.contains_key(key))
    }

    /// The elements of an array, none for anything else.
    pub fn elements(&self) -> &[Self] {
        match self {
            Self::Array(elements) => elements,
            _ => &[],
        }
    }

    /// The keys of an object, sorted.
    pub fn keys(&self) -> Vec<&str> {
        match self {
            Self::Object(members) => members.keys().map(String::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// The string, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The integer, if the number is written as one that fits.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Number(number) => number.text.parse().ok(),
            _ => None,
        }
    }
}

impl From<serde_json::Value> for Json {
    fn from(value: serde_json::Value) -> Self {
        Self::parse(&value.to_string()).expect("serde_json writes JSON")
    }
}

impl PartialEq<serde_json::Value> for Json {
    fn eq(&self, other: &serde_json::Value) -> bool {
        let other = Self::from(other.clone());
        *self == other
    }
}

impl PartialEq<str> for Json {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == Some(other)
    }
}

impl PartialEq<&str> for Json {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == Some(*other)
    }
}

/// Prints compact JSON, so that a failed comparison can be read.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Number(number) => f.write_str(&number.text),
            Self::String(text) => write!(f, "{}", serde_json::Value::from(text.as_str())),
            Self::Array(elements) => {
                f.write_str("[")?;
                for (index, element) in elements.iter().enumerate() {
                    write!(f, "{}{element}", if index == 0 { "" } else { "," })?;
                }
                f.write_str("]")
            }
            Self::Object(members) => {
                f.write_str("{")?;
                for (index, (key, value)) in members.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    write!(f, "{comma}{}:{value}", serde_json::Value::from(key.as_str()))?;
                }
                f.write_str("}")
            }
        }
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[test]
fn numbers_are_equal_when_their_decimal_values_are() {
    let json = |text| Json::parse(text).unwrap();
    assert_eq!(json("1e-9"), json("0.000000001"));
    assert_eq!(json("1.50"), json("1.5"));
    assert_eq!(json("-0"), json("0.0"));
    assert_eq!(json("1200"), json("12e2"));
    assert_ne!(json("12345678901234567890.123456789"), json("12345678901234567890.123456788"));
    assert_ne!(json("9007199254740993"), json("9007199254740992"));
    assert_ne!(json("1"), json("\"1\""));
    assert_eq!(json("{\"a\":1,\"b\":[null,true]}"), json("{ \"b\": [null, true], \"a\": 1 }"));
}
