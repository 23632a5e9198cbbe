//! Texts: by characters, which are Unicode's code points, and by bytes where that is the same. Letter case is that of
//! `C`: ASCII.

use super::{
    Context, cast, like,
    table::{BOOL, BYTEA, INT2, INT4, INT8, NUMERIC, Row, TEXT, TEXTS, UUID, bool, partial, row, text, total},
};
use crate::policy::value::{Stop, Value};
use std::collections::HashSet;

/// Longer results are left to the database.
const MAX_TEXT: usize = 1 << 20;
/// More parts of a text are left to the database.
const MAX_PARTS: usize = 1 << 16;

pub(super) static OPERATORS: &[Row] = &[
    row(total("||", concatenate), &[TEXT, TEXT], TEXT),
    row(total("||", concatenate), &[TEXT, UUID], TEXT),
    row(total("||", concatenate), &[TEXT, INT2], TEXT),
    row(total("||", concatenate), &[TEXT, INT4], TEXT),
    row(total("||", concatenate), &[TEXT, INT8], TEXT),
    row(total("||", concatenate), &[TEXT, NUMERIC], TEXT),
    row(total("||", concatenate), &[TEXT, BOOL], TEXT),
    row(total("||", concatenate), &[UUID, TEXT], TEXT),
    row(total("||", concatenate), &[INT2, TEXT], TEXT),
    row(total("||", concatenate), &[INT4, TEXT], TEXT),
    row(total("||", concatenate), &[INT8, TEXT], TEXT),
    row(total("||", concatenate), &[NUMERIC, TEXT], TEXT),
    row(total("||", concatenate), &[BOOL, TEXT], TEXT),
    row(partial("~~", is_like).by_equality(), &[TEXT, TEXT], BOOL),
    row(partial("!~~", is_not_like).by_equality(), &[TEXT, TEXT], BOOL),
    row(partial("~~*", is_ilike).by_order(), &[TEXT, TEXT], BOOL),
    row(partial("!~~*", is_not_ilike).by_order(), &[TEXT, TEXT], BOOL),
    row(total("^@", starts_with).by_equality(), &[TEXT, TEXT], BOOL),
];

pub(super) static FUNCTIONS: &[Row] = &[
    row(total("lower", lower).by_order(), &[TEXT], TEXT),
    row(total("upper", upper).by_order(), &[TEXT], TEXT),
    row(total("length", length), &[TEXT], INT4),
    row(total("char_length", length), &[TEXT], INT4),
    row(total("character_length", length), &[TEXT], INT4),
    row(total("octet_length", octet_length), &[TEXT], INT4),
    row(total("octet_length", octet_length), &[BYTEA], INT4),
    row(total("length", octet_length), &[BYTEA], INT4),
    row(partial("split_part", split_part).by_equality(), &[TEXT, TEXT, INT4], TEXT),
    row(partial("substring", substring), &[TEXT, INT4, INT4], TEXT),
    row(partial("substr", substring), &[TEXT, INT4, INT4], TEXT),
    row(total("substring", substring_from), &[TEXT, INT4], TEXT),
    row(total("substr", substring_from), &[TEXT, INT4], TEXT),
    row(total("left", left), &[TEXT, INT4], TEXT),
    row(total("right", right), &[TEXT, INT4], TEXT),
    row(total("btrim", trim::<true, true>), &[TEXT], TEXT),
    row(total("btrim", trim::<true, true>), &[TEXT, TEXT], TEXT),
    row(total("ltrim", trim::<true, false>), &[TEXT], TEXT),
    row(total("ltrim", trim::<true, false>), &[TEXT, TEXT], TEXT),
    row(total("rtrim", trim::<false, true>), &[TEXT], TEXT),
    row(total("rtrim", trim::<false, true>), &[TEXT, TEXT], TEXT),
    row(partial("replace", replace).by_equality(), &[TEXT, TEXT, TEXT], TEXT),
    row(total("starts_with", starts_with).by_equality(), &[TEXT, TEXT], BOOL),
    row(total("strpos", position).by_equality(), &[TEXT, TEXT], INT4),
    row(total("position", position).by_equality(), &[TEXT, TEXT], INT4),
    row(partial("string_to_array", string_to_array).by_equality().with_nulls(), &[TEXT, TEXT], TEXTS),
];

fn one(arguments: &[Value]) -> Result<&str, Stop> {
    match arguments {
        [Value::Text(text)] => Ok(text),
        _ => Err(Stop::Unsupported),
    }
}

fn two(arguments: &[Value]) -> Result<(&str, &str), Stop> {
    match arguments {
        [Value::Text(first), Value::Text(second)] => Ok((first, second)),
        _ => Err(Stop::Unsupported),
    }
}

fn concatenate(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    let [left, right] = arguments else { return Err(Stop::Unsupported) };
    let (left, right) = (cast::printed(left)?, cast::printed(right)?);
    text(Some(&format!("{left}{right}")))
}

fn is_like(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    let (text, pattern) = two(arguments)?;
    bool(like::like(text, pattern)?)
}

fn is_not_like(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    let (text, pattern) = two(arguments)?;
    bool(!like::like(text, pattern)?)
}

fn ilike(arguments: &[Value]) -> Result<bool, Stop> {
    let (text, pattern) = two(arguments)?;
    like::like(&text.to_ascii_lowercase(), &pattern.to_ascii_lowercase())
}

fn is_ilike(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    bool(ilike(arguments)?)
}

fn is_not_ilike(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    bool(!ilike(arguments)?)
}

fn starts_with(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    let (text, prefix) = two(arguments)?;
    bool(text.starts_with(prefix))
}

fn lower(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    text(Some(&one(arguments)?.to_ascii_lowercase()))
}

fn upper(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    text(Some(&one(arguments)?.to_ascii_uppercase()))
}

fn length(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    count(one(arguments)?.chars().count())
}

fn octet_length(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    match arguments {
        [Value::Text(text)] => count(text.len()),
        [Value::Bytes(bytes)] => count(bytes.len()),
        _ => Err(Stop::Unsupported),
    }
}

fn count(count: usize) -> Result<Value, Stop> {
    i64::try_from(count).map(Value::Int).map_err(|_| Stop::Unsupported)
}

fn split_part(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    let [Value::Text(whole), Value::Text(separator), Value::Int(number)] = arguments else {
        return Err(Stop::Unsupported);
    };
    let separator = separator.as_ref();
    let count = if separator.is_empty() { 1 } else { whole.matches(separator).count() + 1 };
    let from_end = usize::try_from(number.unsigned_abs()).map_err(|_| Stop::Unsupported)?;
    let index = match number {
        0 => return Err(Stop::Failed("22023")),
        1.. => Some(from_end - 1),
        _ => count.checked_sub(from_end),
    };
    let part = index.and_then(|index| match separator {
        "" => (index == 0).then_some(whole.as_ref()),
        separator => whole.split(separator).nth(index),
    });
    text(Some(part.unwrap_or_default()))
}

/// The characters from `start`, counted from 1, up to before `end`.
fn characters(whole: &str, start: i64, end: i64) -> &str {
    let offset = |index: i64| {
        let index = usize::try_from(index - 1).unwrap_or(0);
        whole.char_indices().nth(index).map_or(whole.len(), |(offset, _)| offset)
    };
    if end <= start { "" } else { whole.get(offset(start)..offset(end)).unwrap_or_default() }
}

fn substring(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    match arguments {
        [Value::Text(_), Value::Int(_), Value::Int(length)] if *length < 0 => Err(Stop::Failed("22011")),
        [Value::Text(whole), Value::Int(start), Value::Int(length)] => {
            text(Some(characters(whole, *start, start.saturating_add(*length))))
        }
        _ => Err(Stop::Unsupported),
    }
}

fn substring_from(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    match arguments {
        [Value::Text(whole), Value::Int(start)] => text(Some(characters(whole, *start, i64::MAX))),
        _ => Err(Stop::Unsupported),
    }
}

/// A text and how many of its characters are before the place that is meant: from its beginning, or with a negative
/// number from its end.
fn text_and_place(arguments: &[Value]) -> Result<(&str, i64, i64), Stop> {
    match arguments {
        [Value::Text(whole), Value::Int(number)] => {
            let count = i64::try_from(whole.chars().count()).map_err(|_| Stop::Unsupported)?;
            Ok((whole, *number, count))
        }
        _ => Err(Stop::Unsupported),
    }
}

fn left(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    let (whole, number, count) = text_and_place(arguments)?;
    let wanted = if number < 0 { count.saturating_add(number) } else { number };
    text(Some(characters(whole, 1, wanted.saturating_add(1))))
}

fn right(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    let (whole, number, count) = text_and_place(arguments)?;
    let skipped = match number {
        // Its contrary has too many bits, and Postgres then skips nothing.
        _ if number == i64::from(i32::MIN) => 0,
        ..0 => number.saturating_neg(),
        _ => count.saturating_sub(number).max(0),
    };
    text(Some(characters(whole, skipped.saturating_add(1), i64::MAX)))
}

fn trim<const START: bool, const END: bool>(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    let (mut trimmed, set) = match arguments {
        [Value::Text(whole)] => (whole.as_ref(), " "),
        [Value::Text(whole), Value::Text(set)] => (whole.as_ref(), set.as_ref()),
        _ => return Err(Stop::Unsupported),
    };
    let set: HashSet<char> = set.chars().collect();
    let is_trimmed = |character| set.contains(&character);
    if START {
        trimmed = trimmed.trim_start_matches(is_trimmed);
    }
    if END {
        trimmed = trimmed.trim_end_matches(is_trimmed);
    }
    text(Some(trimmed))
}

fn replace(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    let [Value::Text(whole), Value::Text(from), Value::Text(to)] = arguments else { return Err(Stop::Unsupported) };
    if from.is_empty() {
        return text(Some(whole));
    }
    let found = whole.matches(from.as_ref()).count();
    if whole.len().saturating_add(found.saturating_mul(to.len())) > MAX_TEXT {
        return Err(Stop::Unsupported);
    }
    text(Some(&whole.replace(from.as_ref(), to)))
}

fn position(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    let (whole, part) = two(arguments)?;
    let before = whole.find(part).and_then(|offset| whole.get(..offset));
    count(before.map_or(0, |before| before.chars().count() + 1))
}

fn string_to_array(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    let (whole, separator) = match arguments {
        [Value::Null, _] => return Ok(Value::Null),
        [Value::Text(whole), Value::Null] => (whole.as_ref(), None),
        [Value::Text(whole), Value::Text(separator)] => (whole.as_ref(), Some(separator.as_ref())),
        _ => return Err(Stop::Unsupported),
    };
    let parts =
        |parts: &mut dyn Iterator<Item = &str>| -> Vec<Value> { parts.take(MAX_PARTS + 1).map(Value::text).collect() };
    let parts = match separator {
        _ if whole.is_empty() => Vec::new(),
        Some("") => vec![Value::text(whole)],
        Some(separator) => parts(&mut whole.split(separator)),
        None => parts(&mut whole.split("").filter(|character| !character.is_empty())),
    };
    if parts.len() > MAX_PARTS { Err(Stop::Unsupported) } else { Ok(Value::Array(parts.into())) }
}
