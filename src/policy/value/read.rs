//! What the stream prints → values. A text that is not what its type prints is `Unsupported`, as is every value the
//! process does not compute with.

use super::{
    Decimal, Jsonb, Scalar, Stop, Type, Value, array, calendar,
    time::{Written, WrittenInterval, infinity},
};
use std::sync::Arc;

/// Reads the text a type's output function printed (the stream's text forms: ISO dates, UTC, `postgres` intervals,
/// hex `bytea`).
pub fn read(scalar: Type, text: &[u8]) -> Result<Value, Stop> {
    // Other texts come from databases of unknown encoding.
    let text = std::str::from_utf8(text).map_err(|_| Stop::Unsupported)?;
    let value = if scalar.is_array {
        let elements = array::elements(text).map_err(|_| Stop::Unsupported)?;
        let element = |text: Option<String>| text.map_or(Ok(Value::Null), |text| read_scalar(scalar.scalar, &text));
        Value::Array(elements.into_iter().map(element).collect::<Result<_, _>>()?)
    } else {
        read_scalar(scalar.scalar, text)?
    };
    Ok(value)
}

fn read_scalar(scalar: Scalar, text: &str) -> Result<Value, Stop> {
    try_read(scalar, text).ok_or(Stop::Unsupported)
}

fn try_read(scalar: Scalar, text: &str) -> Option<Value> {
    Some(match scalar {
        Scalar::Bool => Value::Bool(match text {
            "t" => true,
            "f" => false,
            _ => return None,
        }),
        Scalar::Int2 => Value::Int(text.parse::<i16>().ok()?.into()),
        Scalar::Int4 => Value::Int(text.parse::<i32>().ok()?.into()),
        Scalar::Int8 => Value::Int(text.parse().ok()?),
        Scalar::Numeric => Value::Numeric(Decimal::parse(text).ok()?),
        Scalar::Float4 => Value::float(float(text, |text| text.parse::<f32>().ok().map(f64::from))?),
        Scalar::Float8 => Value::float(float(text, |text| text.parse().ok())?),
        Scalar::Text | Scalar::Name | Scalar::Enum(_) | Scalar::Json => Value::text(text),
        Scalar::Uuid => Value::Uuid(uuid(text)?),
        Scalar::Bytea => Value::Bytes(bytes(text.strip_prefix("\\x")?)?),
        Scalar::Date => Value::Date(match infinity(text) {
            Some(is_late) => end(is_late, i32::MIN, i32::MAX),
            None => calendar::date(Written::read(text)?.days().ok()?).ok()?,
        }),
        Scalar::Timestamp | Scalar::Timestamptz => Value::Moment(match infinity(text) {
            Some(is_late) => end(is_late, i64::MIN, i64::MAX),
            None => moment(text, scalar == Scalar::Timestamptz)?,
        }),
        Scalar::Interval => Value::Interval(WrittenInterval::read(text)?.interval),
        Scalar::Jsonb => Value::Jsonb(Arc::new(Jsonb::parse(text).ok()?)),
    })
}

/// Which end of a range an infinity is.
pub(in crate::policy) fn end<T>(is_late: bool, first: T, last: T) -> T {
    if is_late { last } else { first }
}

fn moment(text: &str, zoned: bool) -> Option<i64> {
    let written = Written::read(text)?;
    (written.offset.is_some() == zoned).then(|| written.moment(zoned).ok())?
}

/// Rust reads more than Postgres prints.
fn float(text: &str, parse: impl FnOnce(&str) -> Option<f64>) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        number => parse(number).filter(|number| number.is_finite()),
    }
}

/// 32 hex digits, with a hyphen behind any four of them but the last.
pub(in crate::policy) fn uuid(text: &str) -> Option<[u8; 16]> {
    let mut uuid = [0; 16];
    let mut rest = text.as_bytes();
    for (index, byte) in uuid.iter_mut().enumerate() {
        let [high, low, behind @ ..] = rest else { return None };
        *byte = digit(*high)? << 4 | digit(*low)?;
        rest = match behind {
            [b'-', behind @ ..] if index % 2 == 1 && index < 15 => behind,
            behind => behind,
        };
    }
    rest.is_empty().then_some(uuid)
}

/// Pairs of hex digits.
pub(in crate::policy) fn bytes(hex: &str) -> Option<Arc<[u8]>> {
    if !hex.len().is_multiple_of(2) {
        return None;
    }
    hex.as_bytes().chunks_exact(2).map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?)).collect()
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}
