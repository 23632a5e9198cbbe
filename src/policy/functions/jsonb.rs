//! `jsonb`. A scalar alone is kept as an array of one, and some functions take it for one.

use super::{
    Context, Function, Resolved, json,
    table::{BOOL, INT4, JSONB, JSONBS, Row, TEXT, TEXTS, bool, partial, row, text, total},
};
use crate::policy::value::{Decimal, Jsonb, Scalar, Stop, Type, Value};
use std::sync::Arc;

const NOT_OF_THIS_KIND: Stop = Stop::Failed("22023");

pub(super) static OPERATORS: &[Row] = &[
    row(total("->", member), &[JSONB, TEXT], JSONB),
    row(total("->", member), &[JSONB, INT4], JSONB),
    row(total("->>", member_text), &[JSONB, TEXT], TEXT),
    row(total("->>", member_text), &[JSONB, INT4], TEXT),
    row(total("#>", at_path), &[JSONB, TEXTS], JSONB),
    row(total("#>>", text_at_path), &[JSONB, TEXTS], TEXT),
    row(total("?", exists), &[JSONB, TEXT], BOOL),
    row(total("?|", exists_any), &[JSONB, TEXTS], BOOL),
    row(total("?&", exists_all), &[JSONB, TEXTS], BOOL),
    row(total("@>", contains), &[JSONB, JSONB], BOOL),
    row(total("<@", is_contained), &[JSONB, JSONB], BOOL),
];

pub(super) static FUNCTIONS: &[Row] = &[
    row(total("jsonb_exists", exists), &[JSONB, TEXT], BOOL),
    row(total("jsonb_exists_any", exists_any), &[JSONB, TEXTS], BOOL),
    row(total("jsonb_exists_all", exists_all), &[JSONB, TEXTS], BOOL),
    row(total("jsonb_contains", contains), &[JSONB, JSONB], BOOL),
    row(total("jsonb_contained", is_contained), &[JSONB, JSONB], BOOL),
    row(partial("jsonb_array_length", array_length), &[JSONB], INT4),
    row(total("jsonb_typeof", type_of), &[JSONB], TEXT),
];

pub(super) static SET_FUNCTIONS: &[Row] = &[
    row(partial("jsonb_array_elements", elements).with_nulls(), &[JSONB], JSONBS),
    row(partial("jsonb_array_elements_text", element_texts).with_nulls(), &[JSONB], TEXTS),
    row(partial("jsonb_object_keys", keys).with_nulls(), &[JSONB], TEXTS),
];

static EXTRACT: Function = total("jsonb_extract_path", at_path);
static EXTRACT_TEXT: Function = total("jsonb_extract_path_text", text_at_path);
static CONVERT: Function = total("to_jsonb", convert);
static BUILD_ARRAY: Function = total("jsonb_build_array", build_array).with_nulls();
static BUILD_OBJECT: Function = partial("jsonb_build_object", build_object).with_nulls();

pub(super) fn variadic(name: &str, arguments: &[Type]) -> Option<Resolved> {
    let all = |is_fit: fn(&Type) -> bool| arguments.iter().all(is_fit);
    let is_path = || matches!(arguments, [JSONB, TEXT, rest @ ..] if rest.iter().all(|step| *step == TEXT));
    let (function, is_fit) = match name {
        "jsonb_extract_path" => (&EXTRACT, is_path()),
        "jsonb_extract_path_text" => (&EXTRACT_TEXT, is_path()),
        "to_jsonb" => (&CONVERT, arguments.len() == 1 && all(is_convertible)),
        "jsonb_build_array" => (&BUILD_ARRAY, all(is_convertible)),
        "jsonb_build_object" => {
            let are_keys = arguments.iter().step_by(2).all(is_key);
            (&BUILD_OBJECT, arguments.len().is_multiple_of(2) && are_keys && all(is_convertible))
        }
        _ => return None,
    };
    let result = if name == EXTRACT_TEXT.name { TEXT } else { JSONB };
    is_fit.then_some(Resolved { function, result })
}

/// Types whose values say by themselves what they are in JSON: a `json` would look like a text.
fn is_convertible(of: &Type) -> bool {
    is_key(&Type::of(of.scalar)) || of.scalar == Scalar::Jsonb
}

fn is_key(of: &Type) -> bool {
    use Scalar::{Bool, Enum, Int2, Int4, Int8, Name, Numeric, Text, Uuid};
    let is_known = matches!(of.scalar, Bool | Int2 | Int4 | Int8 | Numeric | Text | Name | Uuid | Enum(_));
    is_known && !of.is_array
}

fn one(arguments: &[Value]) -> Result<&Arc<Jsonb>, Stop> {
    match arguments {
        [Value::Jsonb(jsonb)] => Ok(jsonb),
        _ => Err(Stop::Unsupported),
    }
}

fn part(found: &Jsonb) -> Value {
    Value::Jsonb(Arc::new(found.clone()))
}

fn plain(found: &Jsonb) -> Value {
    found.to_text().map_or(Value::Null, Value::Text)
}

fn select(arguments: &[Value], answer: fn(&Jsonb) -> Value) -> Result<Value, Stop> {
    let found = match arguments {
        [Value::Jsonb(jsonb), Value::Text(key)] => jsonb.field(key),
        [Value::Jsonb(jsonb), Value::Int(0 | -1)] if jsonb.is_scalar() => Some(jsonb.as_ref()),
        [Value::Jsonb(jsonb), Value::Int(index)] => jsonb.element(*index),
        _ => return Err(Stop::Unsupported),
    };
    Ok(found.map_or(Value::Null, answer))
}

fn member(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    select(arguments, part)
}

fn member_text(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    select(arguments, plain)
}

fn follow(arguments: &[Value], answer: fn(&Jsonb) -> Value) -> Result<Value, Stop> {
    let (jsonb, path) = match arguments {
        [Value::Jsonb(jsonb), path @ ..] => (jsonb, json::steps(path)?),
        _ => return Err(Stop::Unsupported),
    };
    let Some(path) = path else { return Ok(Value::Null) };
    let mut found = Some(jsonb.as_ref());
    for step in path {
        found = match found {
            Some(object @ Jsonb::Object(_)) => object.field(step),
            Some(array @ Jsonb::Array(_)) => json::index(step).and_then(|index| array.element(index)),
            _ => None,
        };
    }
    Ok(found.map_or(Value::Null, answer))
}

fn at_path(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    follow(arguments, part)
}

fn text_at_path(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    follow(arguments, plain)
}

/// Whether it has a key, or a string among its elements, or is that string.
fn has(jsonb: &Jsonb, key: &str) -> bool {
    let is_key = |value: &Jsonb| matches!(value, Jsonb::String(text) if text.as_ref() == key);
    match jsonb {
        Jsonb::Object(_) => jsonb.field(key).is_some(),
        Jsonb::Array(elements) => elements.iter().any(is_key),
        scalar => is_key(scalar),
    }
}

fn exists(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    match arguments {
        [Value::Jsonb(jsonb), Value::Text(key)] => bool(has(jsonb, key)),
        _ => Err(Stop::Unsupported),
    }
}

/// For each key that is not NULL whether it exists.
fn existing(arguments: &[Value]) -> Result<impl Iterator<Item = bool> + '_, Stop> {
    match arguments {
        [Value::Jsonb(jsonb), Value::Array(keys)] => Ok(keys.iter().filter_map(|key| match key {
            Value::Text(key) => Some(has(jsonb, key)),
            _ => None,
        })),
        _ => Err(Stop::Unsupported),
    }
}

fn exists_any(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    bool(existing(arguments)?.any(|exists| exists))
}

fn exists_all(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    bool(existing(arguments)?.all(|exists| exists))
}

fn contains(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    match arguments {
        [Value::Jsonb(left), Value::Jsonb(right)] => bool(left.contains(right)),
        _ => Err(Stop::Unsupported),
    }
}

fn is_contained(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    match arguments {
        [Value::Jsonb(left), Value::Jsonb(right)] => bool(right.contains(left)),
        _ => Err(Stop::Unsupported),
    }
}

fn array_length(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    match one(arguments)?.as_ref() {
        Jsonb::Array(elements) => i64::try_from(elements.len()).map(Value::Int).map_err(|_| Stop::Unsupported),
        _ => Err(NOT_OF_THIS_KIND),
    }
}

fn type_of(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    text(Some(match one(arguments)?.as_ref() {
        Jsonb::Null => "null",
        Jsonb::Bool(_) => "boolean",
        Jsonb::Number(_) => "number",
        Jsonb::String(_) => "string",
        Jsonb::Array(_) => "array",
        Jsonb::Object(_) => "object",
    }))
}

fn rows(arguments: &[Value], parts: fn(&Jsonb) -> Option<Vec<Value>>) -> Result<Value, Stop> {
    if let [Value::Null] = arguments {
        return Ok(Value::Array([].into()));
    }
    Ok(Value::Array(parts(one(arguments)?).ok_or(NOT_OF_THIS_KIND)?.into()))
}

fn elements(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    rows(arguments, |value| match value {
        Jsonb::Array(elements) => Some(elements.iter().map(part).collect()),
        _ => None,
    })
}

fn element_texts(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    rows(arguments, |value| match value {
        Jsonb::Array(elements) => Some(elements.iter().map(plain).collect()),
        _ => None,
    })
}

fn keys(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    rows(arguments, |value| match value {
        Jsonb::Object(fields) => Some(fields.iter().map(|(key, _)| Value::Text(key.clone())).collect()),
        _ => None,
    })
}

/// A value as JSON.
fn converted(value: &Value) -> Result<Jsonb, Stop> {
    Ok(match value {
        Value::Null => Jsonb::Null,
        Value::Bool(value) => Jsonb::Bool(*value),
        Value::Int(number) => Jsonb::Number(Decimal::from(*number)),
        Value::Numeric(number) if number.is_finite() => Jsonb::Number(number.clone()),
        Value::Numeric(_) | Value::Uuid(_) => Jsonb::String(super::cast::printed(value)?.into()),
        Value::Text(text) => Jsonb::String(text.clone()),
        Value::Jsonb(jsonb) => jsonb.as_ref().clone(),
        Value::Array(elements) => Jsonb::Array(elements.iter().map(converted).collect::<Result<_, _>>()?),
        _ => return Err(Stop::Unsupported),
    })
}

fn convert(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    match arguments {
        [value] => Ok(Value::Jsonb(Arc::new(converted(value)?))),
        _ => Err(Stop::Unsupported),
    }
}

fn build_array(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    let elements = arguments.iter().map(converted).collect::<Result<_, _>>()?;
    Ok(Value::Jsonb(Arc::new(Jsonb::Array(elements))))
}

fn build_object(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    let fields = arguments.chunks(2).map(|pair| match pair {
        [Value::Null, _] => Err(NOT_OF_THIS_KIND),
        [key, value] => Ok((super::cast::printed(key)?.into(), converted(value)?)),
        _ => Err(Stop::Unsupported),
    });
    Ok(Value::Jsonb(Arc::new(Jsonb::object(fields.collect::<Result<_, _>>()?))))
}
