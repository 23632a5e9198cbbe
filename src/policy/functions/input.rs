//! What the types' input functions read, with their errors: the meaning of `'text'::type`. What depends on settings, on
//! the time, or on the version of Postgres is `Unsupported`.

use super::number::OUT_OF_RANGE;
use crate::policy::value::{
    Decimal, Jsonb, Scalar, Stop, Type, Value, array, calendar, json,
    read::{bytes, end, uuid},
    time::{Written, WrittenInterval, infinity},
    trim,
};
use std::sync::Arc;

const MALFORMED: Stop = Stop::Failed("22P02");

/// How many bytes a `name` has at most.
const NAME_LENGTH: usize = 63;

pub(super) fn read(to: Type, text: &str) -> Result<Value, Stop> {
    if !to.is_array {
        return read_scalar(to.scalar, text);
    }
    let element = |text: Option<String>| text.map_or(Ok(Value::Null), |text| read_scalar(to.scalar, &text));
    Ok(Value::Array(array::elements(text)?.into_iter().map(element).collect::<Result<_, _>>()?))
}

fn read_scalar(to: Scalar, text: &str) -> Result<Value, Stop> {
    Ok(match to {
        Scalar::Bool => Value::Bool(boolean(text)?),
        Scalar::Int2 => Value::Int(integer(text, i16::MIN.into(), i16::MAX.into())?),
        Scalar::Int4 => Value::Int(integer(text, i32::MIN.into(), i32::MAX.into())?),
        Scalar::Int8 => Value::Int(integer(text, i64::MIN, i64::MAX)?),
        Scalar::Numeric => Value::Numeric(Decimal::parse(text)?),
        Scalar::Float4 => Value::float(float(text, |text| text.parse::<f32>().ok().map(f64::from))?),
        Scalar::Float8 => Value::float(float(text, |text| text.parse().ok())?),
        Scalar::Text | Scalar::Enum(_) => Value::text(text),
        Scalar::Name => Value::text(cut(text)),
        Scalar::Uuid => {
            let bare = text.strip_prefix('{').map_or(Some(text), |rest| rest.strip_suffix('}'));
            Value::Uuid(bare.and_then(uuid).ok_or(MALFORMED)?)
        }
        Scalar::Bytea => Value::Bytes(bytea(text)?),
        Scalar::Date => Value::Date(match infinity(text) {
            Some(is_late) => end(is_late, i32::MIN, i32::MAX),
            None => calendar::date(written(text)?.days()?)?,
        }),
        Scalar::Timestamp => Value::Moment(match infinity(text) {
            Some(is_late) => end(is_late, i64::MIN, i64::MAX),
            None => written(text)?.moment(false)?,
        }),
        Scalar::Timestamptz => Value::Moment(match infinity(text) {
            Some(is_late) => end(is_late, i64::MIN, i64::MAX),
            None => {
                let written = written(text)?;
                // Without an offset it means the session's zone.
                written.offset.ok_or(Stop::Unsupported)?;
                written.moment(true)?
            }
        }),
        Scalar::Interval => match WrittenInterval::read(text) {
            Some(written) if !written.is_ambiguous && !text.is_empty() => Value::Interval(written.interval),
            _ => return Err(Stop::Unsupported),
        },
        Scalar::Json => {
            json::parse(text, false)?;
            Value::text(text)
        }
        Scalar::Jsonb => Value::Jsonb(Arc::new(Jsonb::parse(text)?)),
    })
}

/// A `name`: cut behind the last character that fits.
fn cut(text: &str) -> &str {
    let end = text
        .char_indices()
        .map(|(start, character)| start + character.len_utf8())
        .take_while(|end| *end <= NAME_LENGTH);
    text.get(..end.last().unwrap_or(0)).unwrap_or_default()
}

/// The words for the two values, or the beginning of one that says which it is.
fn boolean(text: &str) -> Result<bool, Stop> {
    match trim(text).to_ascii_lowercase().as_str() {
        "t" | "tr" | "tru" | "true" | "y" | "ye" | "yes" | "on" | "1" => Ok(true),
        "f" | "fa" | "fal" | "fals" | "false" | "n" | "no" | "of" | "off" | "0" => Ok(false),
        _ => Err(MALFORMED),
    }
}

fn integer(text: &str, least: i64, most: i64) -> Result<i64, Stop> {
    let text = trim(text);
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    // Notations of PostgreSQL 16, errors before.
    let has_base = matches!(digits.as_bytes(), [b'0', b'x' | b'X' | b'o' | b'O' | b'b' | b'B', ..]);
    if has_base || digits.contains('_') {
        return Err(Stop::Unsupported);
    }
    let length = digits.bytes().take_while(u8::is_ascii_digit).count();
    if length == 0 {
        return Err(MALFORMED);
    }
    if length < digits.len() {
        // Which of two faults is named differs between versions: more digits than any number of the type has.
        let is_long = digits.trim_start_matches('0').len() >= most.to_string().len();
        return Err(if is_long { Stop::Unsupported } else { MALFORMED });
    }
    let number = text.parse::<i64>().ok().filter(|number| (least..=most).contains(number));
    number.ok_or(OUT_OF_RANGE)
}

fn float(text: &str, parse: impl FnOnce(&str) -> Option<f64>) -> Result<f64, Stop> {
    let text = trim(text);
    match text.to_ascii_lowercase().as_str() {
        "nan" => return Ok(f64::NAN),
        "infinity" | "+infinity" | "inf" | "+inf" => return Ok(f64::INFINITY),
        "-infinity" | "-inf" => return Ok(f64::NEG_INFINITY),
        _ => {}
    }
    // What else C's `strtod` knows: hex, and more of the words above.
    if text.contains(['x', 'X', 'n', 'N', 'i', 'I']) {
        return Err(Stop::Unsupported);
    }
    if text.contains(|character: char| !matches!(character, '0'..='9' | '+' | '-' | '.' | 'e' | 'E')) {
        return Err(MALFORMED);
    }
    let number = parse(text).ok_or(MALFORMED)?;
    let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
    let has_vanished = number == 0.0 && mantissa.contains(|digit: char| matches!(digit, '1'..='9'));
    if number.is_infinite() || has_vanished { Err(OUT_OF_RANGE) } else { Ok(number) }
}

fn bytea(text: &str) -> Result<Arc<[u8]>, Stop> {
    match text.strip_prefix("\\x") {
        Some(hex) => bytes(hex).ok_or(Stop::Unsupported),
        None if text.contains('\\') => Err(Stop::Unsupported),
        None => Ok(text.as_bytes().into()),
    }
}

/// ISO 8601 with a year of four digits, which means the same under every `DateStyle`.
fn written(text: &str) -> Result<Written, Stop> {
    if trim(text).is_empty() {
        return Err(Stop::Failed("22007"));
    }
    let written = Written::read(text).ok_or(Stop::Unsupported)?;
    if written.year_digits != 4 || written.day.year < 1 {
        return Err(Stop::Unsupported);
    }
    Ok(written)
}
