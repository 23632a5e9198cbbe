//! `json`, which is a text: every function reads it anew, answers with parts as they are written, and fails where any
//! string of the whole has no value, as Postgres does.

use super::{
    Context, Function, Resolved,
    table::{INT4, JSON, JSONS, Row, TEXT, TEXTS, partial, row, text},
};
use crate::policy::value::{
    Stop, Type, Value, is_space,
    json::{Kind, Node, parse},
};

const NOT_OF_THIS_KIND: Stop = Stop::Failed("22023");

pub(super) static OPERATORS: &[Row] = &[
    row(partial("->", member), &[JSON, TEXT], JSON),
    row(partial("->", member), &[JSON, INT4], JSON),
    row(partial("->>", member_text), &[JSON, TEXT], TEXT),
    row(partial("->>", member_text), &[JSON, INT4], TEXT),
    row(partial("#>", at_path), &[JSON, TEXTS], JSON),
    row(partial("#>>", text_at_path), &[JSON, TEXTS], TEXT),
];

pub(super) static FUNCTIONS: &[Row] = &[
    row(partial("json_array_length", array_length), &[JSON], INT4),
    row(partial("json_typeof", type_of), &[JSON], TEXT),
];

/// Of a `json` and one or more steps of a path.
static VARIADIC: [(Function, Type); 2] =
    [(partial("json_extract_path", at_path), JSON), (partial("json_extract_path_text", text_at_path), TEXT)];

pub(super) static SET_FUNCTIONS: &[Row] = &[
    row(partial("json_array_elements", elements).with_nulls(), &[JSON], JSONS),
    row(partial("json_array_elements_text", element_texts).with_nulls(), &[JSON], TEXTS),
    row(partial("json_object_keys", keys).with_nulls(), &[JSON], TEXTS),
];

pub(super) fn variadic(name: &str, arguments: &[Type]) -> Option<Resolved> {
    let (first, steps) = arguments.split_first()?;
    if *first != JSON || steps.is_empty() || steps.iter().any(|step| *step != TEXT) {
        return None;
    }
    let (function, result) = VARIADIC.iter().find(|(function, _)| function.name == name)?;
    Some(Resolved { function, result: *result })
}

/// The steps of a path, given as one array or one by one; none if one of them is NULL.
pub(super) fn steps(arguments: &[Value]) -> Result<Option<Vec<&str>>, Stop> {
    let steps = match arguments {
        [Value::Array(steps)] => steps,
        steps => steps,
    };
    steps.iter().map(step).collect()
}

fn step(step: &Value) -> Result<Option<&str>, Stop> {
    match step {
        Value::Text(text) => Ok(Some(text)),
        Value::Null => Ok(None),
        _ => Err(Stop::Unsupported),
    }
}

/// A step of a path as the index of an array, as C's `strtol` reads it.
pub(super) fn index(step: &str) -> Option<i64> {
    let number = step.trim_start_matches(is_space);
    let digits = number.strip_prefix(['-', '+']).unwrap_or(number);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { number.parse::<i32>().ok().map(i64::from) } else { None }
}

fn element<'n, 'a>(elements: &'n [Node<'a>], index: i64) -> Option<&'n Node<'a>> {
    let index = match usize::try_from(index) {
        Ok(index) => index,
        Err(_) => elements.len().checked_sub(usize::try_from(index.unsigned_abs()).ok()?)?,
    };
    elements.get(index)
}

/// The last place in the text to which the path leads: keys may come twice.
fn at<'n, 'a>(node: &'n Node<'a>, path: &[&str]) -> Option<&'n Node<'a>> {
    let Some((step, rest)) = path.split_first() else { return Some(node) };
    match &node.kind {
        Kind::Object(fields) => {
            fields.iter().rev().filter(|(key, _)| key == step).find_map(|(_, value)| at(value, rest))
        }
        Kind::Array(elements) => at(element(elements, index(step)?)?, rest),
        _ => None,
    }
}

fn raw(node: &Node<'_>) -> Value {
    Value::text(node.raw)
}

/// A string's own text, nothing of `null`, and others as written.
fn plain(node: &Node<'_>) -> Value {
    match &node.kind {
        Kind::Null => Value::Null,
        Kind::String(text) => Value::text(text),
        _ => Value::text(node.raw),
    }
}

fn select(arguments: &[Value], answer: fn(&Node<'_>) -> Value) -> Result<Value, Stop> {
    let (json, key) = match arguments {
        [Value::Text(json), key] => (parse(json, true)?, key),
        _ => return Err(Stop::Unsupported),
    };
    let found = match (&json.kind, key) {
        (Kind::Object(_), Value::Text(key)) => at(&json, &[key]),
        (Kind::Array(elements), Value::Int(index)) => element(elements, *index),
        (_, Value::Text(_) | Value::Int(_)) => None,
        _ => return Err(Stop::Unsupported),
    };
    Ok(found.map_or(Value::Null, answer))
}

fn member(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    select(arguments, raw)
}

fn member_text(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    select(arguments, plain)
}

fn follow(arguments: &[Value], answer: fn(&Node<'_>) -> Value) -> Result<Value, Stop> {
    let (json, path) = match arguments {
        [Value::Text(json), path @ ..] => (json, steps(path)?),
        _ => return Err(Stop::Unsupported),
    };
    let Some(path) = path else { return Ok(Value::Null) };
    // Below the top, Postgres counts it from the end of another array: the first it meets that deep.
    if path.iter().skip(1).any(|step| index(step).is_some_and(|index| index < 0)) {
        return Err(Stop::Unsupported);
    }
    Ok(at(&parse(json, true)?, &path).map_or(Value::Null, answer))
}

fn at_path(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    follow(arguments, raw)
}

fn text_at_path(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    follow(arguments, plain)
}

fn array_length(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    let [Value::Text(json)] = arguments else { return Err(Stop::Unsupported) };
    match parse(json, false)?.kind {
        Kind::Array(elements) => i64::try_from(elements.len()).map(Value::Int).map_err(|_| Stop::Unsupported),
        _ => Err(NOT_OF_THIS_KIND),
    }
}

fn type_of(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    let [Value::Text(json)] = arguments else { return Err(Stop::Unsupported) };
    text(Some(match parse(json, false)?.kind {
        Kind::Null => "null",
        Kind::Bool(_) => "boolean",
        Kind::Number => "number",
        Kind::String(_) => "string",
        Kind::Array(_) => "array",
        Kind::Object(_) => "object",
    }))
}

/// The parts of a value that begins with `mark`. One that begins with `other` is turned down before the rest of it is
/// read.
fn rows(
    arguments: &[Value],
    (mark, other): (char, char),
    unescape: bool,
    parts: fn(&Kind<'_>) -> Option<Vec<Value>>,
) -> Result<Value, Stop> {
    let json = match arguments {
        [Value::Null] => return Ok(Value::Array([].into())),
        [Value::Text(json)] => json,
        _ => return Err(Stop::Unsupported),
    };
    let start = json.trim_start_matches(is_space);
    if !start.starts_with(mark) && start.starts_with(other) {
        return Err(NOT_OF_THIS_KIND);
    }
    let parts = parts(&parse(json, unescape)?.kind).ok_or(NOT_OF_THIS_KIND)?;
    Ok(Value::Array(parts.into()))
}

fn elements(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    rows(arguments, ('[', '{'), false, |kind| match kind {
        Kind::Array(elements) => Some(elements.iter().map(raw).collect()),
        _ => None,
    })
}

fn element_texts(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    rows(arguments, ('[', '{'), true, |kind| match kind {
        Kind::Array(elements) => Some(elements.iter().map(plain).collect()),
        _ => None,
    })
}

fn keys(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    rows(arguments, ('{', '['), true, |kind| match kind {
        Kind::Object(fields) => Some(fields.iter().map(|(key, _)| Value::text(key)).collect()),
        _ => None,
    })
}
