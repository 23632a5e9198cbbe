//! Values of policies while they are judged, and their types: the kinds of data the process computes with exactly as
//! Postgres does. A type that is not here is the database's to judge.

use std::sync::Arc;

pub(in crate::policy) mod array;
pub(in crate::policy) mod calendar;
mod decimal;
pub(in crate::policy) mod json;
mod jsonb;
pub(in crate::policy) mod read;
pub(in crate::policy) mod time;

pub use decimal::Decimal;
pub use jsonb::Jsonb;
pub use read::read;

/// A kind of data, domains already resolved to what they are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scalar {
    /// `boolean`.
    Bool,
    /// `smallint`.
    Int2,
    /// `integer`.
    Int4,
    /// `bigint`.
    Int8,
    /// `numeric`, whatever its precision.
    Numeric,
    /// `real`.
    Float4,
    /// `double precision`.
    Float8,
    /// `text` and `character varying`: one is the other without a length.
    Text,
    /// `name`.
    Name,
    /// `uuid`.
    Uuid,
    /// `bytea`.
    Bytea,
    /// `date`.
    Date,
    /// `timestamp without time zone`.
    Timestamp,
    /// `timestamp with time zone`.
    Timestamptz,
    /// `interval`.
    Interval,
    /// `json`.
    Json,
    /// `jsonb`.
    Jsonb,
    /// An enum, by the oid of its type: equality only.
    Enum(u32),
}

/// A scalar or a one-dimensional array of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Type {
    /// What it is, or what its elements are.
    pub scalar: Scalar,
    /// Whether it is an array.
    pub is_array: bool,
}

impl Type {
    /// `boolean`.
    pub const BOOL: Type = Type::of(Scalar::Bool);
    /// `text`.
    pub const TEXT: Type = Type::of(Scalar::Text);

    /// The scalar type.
    pub const fn of(scalar: Scalar) -> Type {
        Type { scalar, is_array: false }
    }

    /// The array type of a scalar.
    pub const fn array(scalar: Scalar) -> Type {
        Type { scalar, is_array: true }
    }
}

/// A length of time as Postgres keeps it (documentation, section 8.5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Interval {
    /// Months.
    pub months: i32,
    /// Days.
    pub days: i32,
    /// Microseconds.
    pub microseconds: i64,
}

/// A value. Which `Scalar` it belongs to is known from the expression, not from the value.
///
/// `Eq` and `Hash` are equality as hash keys have it, which is SQL's `=` for `Bool`, `Int`, `Numeric`, `Text` (under
/// deterministic collations), `Bytes`, `Uuid`, `Date`, `Moment` and arrays of these without NULL elements.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// SQL NULL.
    Null,
    /// `boolean`.
    Bool(bool),
    /// `smallint`, `integer`, `bigint`.
    Int(i64),
    /// `numeric`.
    Numeric(Decimal),
    /// `real`, `double precision`: the bits, with one NaN and one zero (`Value::float`).
    Float(u64),
    /// `text`, `varchar`, `name`, enums by their label, `json` as written.
    Text(Arc<str>),
    /// `bytea`.
    Bytes(Arc<[u8]>),
    /// `uuid`.
    Uuid([u8; 16]),
    /// `date`: days since 2000-01-01; the ends of the range are the infinities.
    Date(i32),
    /// `timestamp`, `timestamptz`: microseconds since 2000-01-01 (UTC); the ends of the range are the infinities.
    Moment(i64),
    /// `interval`.
    Interval(Interval),
    /// `jsonb`.
    Jsonb(Arc<Jsonb>),
    /// An array of one dimension counted from 1, or an empty one. No other arrays are computed with.
    Array(Arc<[Value]>),
}

/// Why there is no value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Stop {
    /// The stream did not carry what was needed. **Not** NULL.
    Absent,
    /// Postgres would raise an error here, with this SQLSTATE.
    Failed(&'static str),
    /// The value or case is one the process does not compute with (an array of two dimensions, a date out of range).
    /// Whoever meets it hides the row.
    Unsupported,
}

impl Value {
    /// A binary number: every NaN is one, and so are both zeros, as Postgres compares them.
    pub fn float(number: f64) -> Value {
        let number = if number.is_nan() { f64::NAN } else { number + 0.0 };
        Value::Float(number.to_bits())
    }

    /// A text.
    pub fn text(text: &str) -> Value {
        Value::Text(text.into())
    }

    /// Whether it is SQL NULL.
    pub fn is_null(&self) -> bool {
        *self == Value::Null
    }
}

/// White space to Postgres' input functions.
pub(in crate::policy) fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t'..='\r')
}

/// A text without white space around it.
pub(in crate::policy) fn trim(text: &str) -> &str {
    text.trim_matches(is_space)
}
