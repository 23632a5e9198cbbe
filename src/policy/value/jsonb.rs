//! `jsonb` as Postgres keeps it: keys in its order, the last of equal keys, numbers as `numeric`. What it prints is one
//! text for each value.

use super::{
    Decimal, Stop,
    json::{Kind, Node, parse},
};
use std::{
    cmp::Ordering,
    collections::HashSet,
    fmt::{self, Write},
    sync::Arc,
};

/// Longer texts are left to the database: in memory a value takes many times its text.
const MAX_TEXT: usize = 1 << 20;

/// From this many elements on, an array is looked through by hash.
const MANY: usize = 16;

/// A `jsonb` value. `Eq` is its `=`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Jsonb {
    /// `null`, which is not SQL's.
    Null,
    /// `true`, `false`.
    Bool(bool),
    /// A number, always finite.
    Number(Decimal),
    /// A string.
    String(Arc<str>),
    /// An array.
    Array(Vec<Jsonb>),
    /// An object, as `Jsonb::object` orders it.
    Object(Vec<(Arc<str>, Jsonb)>),
}

impl Jsonb {
    /// Reads what `jsonb`'s input function reads.
    pub fn parse(text: &str) -> Result<Jsonb, Stop> {
        if text.len() > MAX_TEXT {
            return Err(Stop::Unsupported);
        }
        Jsonb::of(&parse(text, true)?)
    }

    fn of(node: &Node<'_>) -> Result<Jsonb, Stop> {
        Ok(match &node.kind {
            Kind::Null => Jsonb::Null,
            Kind::Bool(value) => Jsonb::Bool(*value),
            Kind::Number => Jsonb::Number(Decimal::parse(node.raw)?),
            Kind::String(text) => Jsonb::String(text.as_str().into()),
            Kind::Array(elements) => Jsonb::Array(elements.iter().map(Jsonb::of).collect::<Result<_, _>>()?),
            Kind::Object(fields) => {
                let field = |(key, value): &(String, Node<'_>)| Ok((Arc::from(key.as_str()), Jsonb::of(value)?));
                Jsonb::object(fields.iter().map(field).collect::<Result<_, _>>()?)
            }
        })
    }

    /// An object of these fields: the last of equal keys counts.
    pub fn object(mut fields: Vec<(Arc<str>, Jsonb)>) -> Jsonb {
        fields.reverse();
        fields.sort_by(|(left, _), (right, _)| key_order(left, right));
        fields.dedup_by(|(later, _), (kept, _)| later == kept);
        Jsonb::Object(fields)
    }

    /// The value behind a key of an object.
    pub fn field(&self, key: &str) -> Option<&Jsonb> {
        let Jsonb::Object(fields) = self else { return None };
        let index = fields.binary_search_by(|(known, _)| key_order(known, key)).ok()?;
        fields.get(index).map(|(_, value)| value)
    }

    /// The element of an array, counted from 0 or, negative, from its end.
    pub fn element(&self, index: i64) -> Option<&Jsonb> {
        let Jsonb::Array(elements) = self else { return None };
        let index = match usize::try_from(index) {
            Ok(index) => index,
            Err(_) => elements.len().checked_sub(usize::try_from(index.unsigned_abs()).ok()?)?,
        };
        elements.get(index)
    }

    /// Whether it is neither an array nor an object.
    pub fn is_scalar(&self) -> bool {
        !matches!(self, Jsonb::Array(_) | Jsonb::Object(_))
    }

    /// `self @> other`.
    pub fn contains(&self, other: &Jsonb) -> bool {
        match (self, other) {
            // An array holds a scalar, at the top only.
            (Jsonb::Array(elements), scalar) if scalar.is_scalar() => elements.contains(scalar),
            (own, other) => own.contains_inside(other),
        }
    }

    fn contains_inside(&self, other: &Jsonb) -> bool {
        match (self, other) {
            (Jsonb::Object(_), Jsonb::Object(fields)) => {
                fields.iter().all(|(key, value)| self.field(key).is_some_and(|own| own.contains_inside(value)))
            }
            (Jsonb::Array(own), Jsonb::Array(others)) => array_contains(own, others),
            _ => self.is_scalar() && self == other,
        }
    }

    /// What `->>` makes of it: a string's own text, nothing of `null`, and of others what they print.
    pub fn to_text(&self) -> Option<Arc<str>> {
        match self {
            Jsonb::Null => None,
            Jsonb::String(text) => Some(text.clone()),
            other => Some(other.to_string().into()),
        }
    }
}

fn array_contains(own: &[Jsonb], others: &[Jsonb]) -> bool {
    let by_hash: Option<HashSet<&Jsonb>> =
        (own.len() > MANY && others.len() > MANY).then(|| own.iter().filter(|element| element.is_scalar()).collect());
    others.iter().all(|other| match &by_hash {
        Some(scalars) if other.is_scalar() => scalars.contains(other),
        _ => own.iter().any(|element| element.contains_inside(other)),
    })
}

/// Shorter keys first, and equally long ones by their bytes.
fn key_order(left: &str, right: &str) -> Ordering {
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}

impl fmt::Display for Jsonb {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Jsonb::Null => out.write_str("null"),
            Jsonb::Bool(value) => write!(out, "{value}"),
            Jsonb::Number(number) => write!(out, "{number}"),
            Jsonb::String(text) => write_string(text, out),
            Jsonb::Array(elements) => {
                let mut separator = "[";
                for element in elements {
                    write!(out, "{separator}{element}")?;
                    separator = ", ";
                }
                out.write_str(if elements.is_empty() { "[]" } else { "]" })
            }
            Jsonb::Object(fields) => {
                let mut separator = "{";
                for (key, value) in fields {
                    out.write_str(separator)?;
                    write_string(key, out)?;
                    write!(out, ": {value}")?;
                    separator = ", ";
                }
                out.write_str(if fields.is_empty() { "{}" } else { "}" })
            }
        }
    }
}

fn write_string(text: &str, out: &mut fmt::Formatter<'_>) -> fmt::Result {
    out.write_char('"')?;
    for character in text.chars() {
        match character {
            '"' => out.write_str("\\\"")?,
            '\\' => out.write_str("\\\\")?,
            '\u{8}' => out.write_str("\\b")?,
            '\u{c}' => out.write_str("\\f")?,
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\t' => out.write_str("\\t")?,
            '\u{0}'..='\u{1f}' => write!(out, "\\u{:04x}", u32::from(character))?,
            other => out.write_char(other)?,
        }
    }
    out.write_char('"')
}
