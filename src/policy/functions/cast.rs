//! Casts. From texts they read as the input functions do; to texts only what no setting changes: not floats, dates,
//! times, intervals and `bytea`.

use super::{
    Context, Function, input,
    number::integer,
    table::{
        BOOL, BYTEA, DATE, Eval, FLOAT4, FLOAT8, INT2, INT4, INT8, INTERVAL, JSON, JSONB, NAME, NUMERIC, Row, TEXT,
        TEXTS, TIMESTAMP, TIMESTAMPTZ, UUID, find_types, partial, row, total,
    },
};
use crate::policy::value::{
    Jsonb, Scalar, Stop, Type, Value,
    calendar::{DAY, moment},
};
use std::{fmt::Write, sync::Arc};

const INT4S: Type = Type::array(Scalar::Int4);
const INT8S: Type = Type::array(Scalar::Int8);
const UUIDS: Type = Type::array(Scalar::Uuid);

static CASTS: &[Row] = &[
    row(partial("text::boolean", |arguments, _| read(arguments, BOOL)), &[TEXT], BOOL),
    row(partial("text::smallint", |arguments, _| read(arguments, INT2)), &[TEXT], INT2),
    row(partial("text::integer", |arguments, _| read(arguments, INT4)), &[TEXT], INT4),
    row(partial("text::bigint", |arguments, _| read(arguments, INT8)), &[TEXT], INT8),
    row(partial("text::numeric", |arguments, _| read(arguments, NUMERIC)), &[TEXT], NUMERIC),
    row(partial("text::real", |arguments, _| read(arguments, FLOAT4)), &[TEXT], FLOAT4),
    row(partial("text::double precision", |arguments, _| read(arguments, FLOAT8)), &[TEXT], FLOAT8),
    row(partial("text::uuid", text_to_uuid), &[TEXT], UUID),
    row(partial("text::bytea", |arguments, _| read(arguments, BYTEA)), &[TEXT], BYTEA),
    row(partial("text::date", |arguments, _| read(arguments, DATE)), &[TEXT], DATE),
    row(partial("text::timestamp", |arguments, _| read(arguments, TIMESTAMP)), &[TEXT], TIMESTAMP),
    row(partial("text::timestamptz", |arguments, _| read(arguments, TIMESTAMPTZ)), &[TEXT], TIMESTAMPTZ),
    row(partial("text::interval", |arguments, _| read(arguments, INTERVAL)), &[TEXT], INTERVAL),
    row(partial("text::json", |arguments, _| read(arguments, JSON)), &[TEXT], JSON),
    row(partial("text::jsonb", |arguments, _| read(arguments, JSONB)), &[TEXT], JSONB),
    row(total("text::name", |arguments, _| read(arguments, NAME)), &[TEXT], NAME),
    row(partial("text::text[]", |arguments, _| read(arguments, TEXTS)), &[TEXT], TEXTS),
    row(partial("text::uuid[]", |arguments, _| read(arguments, UUIDS)), &[TEXT], UUIDS),
    row(partial("text::integer[]", |arguments, _| read(arguments, INT4S)), &[TEXT], INT4S),
    row(partial("text::bigint[]", |arguments, _| read(arguments, INT8S)), &[TEXT], INT8S),
    row(total("boolean::text", print), &[BOOL], TEXT),
    row(total("smallint::text", print), &[INT2], TEXT),
    row(total("integer::text", print), &[INT4], TEXT),
    row(total("bigint::text", print), &[INT8], TEXT),
    row(total("numeric::text", print), &[NUMERIC], TEXT),
    row(total("uuid::text", print), &[UUID], TEXT),
    row(total("name::text", print), &[NAME], TEXT),
    row(total("json::text", print), &[JSON], TEXT),
    row(total("jsonb::text", print), &[JSONB], TEXT),
    row(total("jsonb::json", print), &[JSONB], JSON),
    row(partial("json::jsonb", |arguments, _| read(arguments, JSONB)), &[JSON], JSONB),
    row(total("smallint::integer", same), &[INT2], INT4),
    row(total("smallint::bigint", same), &[INT2], INT8),
    row(total("integer::bigint", same), &[INT4], INT8),
    row(partial("integer::smallint", narrow::<16>), &[INT4], INT2),
    row(partial("bigint::smallint", narrow::<16>), &[INT8], INT2),
    row(partial("bigint::integer", narrow::<32>), &[INT8], INT4),
    row(total("smallint::numeric", to_numeric), &[INT2], NUMERIC),
    row(total("integer::numeric", to_numeric), &[INT4], NUMERIC),
    row(total("bigint::numeric", to_numeric), &[INT8], NUMERIC),
    row(total("smallint::double precision", to_float), &[INT2], FLOAT8),
    row(total("integer::double precision", to_float), &[INT4], FLOAT8),
    row(total("bigint::double precision", to_float), &[INT8], FLOAT8),
    row(total("real::double precision", same), &[FLOAT4], FLOAT8),
    row(partial("numeric::smallint", round::<16>), &[NUMERIC], INT2),
    row(partial("numeric::integer", round::<32>), &[NUMERIC], INT4),
    row(partial("numeric::bigint", round::<64>), &[NUMERIC], INT8),
    row(partial("numeric::double precision", numeric_to_float), &[NUMERIC], FLOAT8),
    row(total("integer::boolean", integer_to_boolean), &[INT4], BOOL),
    row(total("boolean::integer", boolean_to_integer), &[BOOL], INT4),
    row(partial("jsonb::boolean", jsonb_to_boolean), &[JSONB], BOOL),
    row(partial("jsonb::smallint", |arguments, context| of_number(arguments, context, round::<16>)), &[JSONB], INT2),
    row(partial("jsonb::integer", |arguments, context| of_number(arguments, context, round::<32>)), &[JSONB], INT4),
    row(partial("jsonb::bigint", |arguments, context| of_number(arguments, context, round::<64>)), &[JSONB], INT8),
    row(partial("jsonb::numeric", |arguments, context| of_number(arguments, context, same)), &[JSONB], NUMERIC),
    row(
        partial("jsonb::double precision", |arguments, context| of_number(arguments, context, numeric_to_float)),
        &[JSONB],
        FLOAT8,
    ),
    row(partial("date::timestamp", moment_of_date), &[DATE], TIMESTAMP),
    row(partial("date::timestamptz", moment_of_date).in_utc(), &[DATE], TIMESTAMPTZ),
    row(total("timestamp::date", date_of_moment), &[TIMESTAMP], DATE),
    row(total("timestamptz::date", date_of_moment).in_utc(), &[TIMESTAMPTZ], DATE),
    row(total("timestamp::timestamptz", same).in_utc(), &[TIMESTAMP], TIMESTAMPTZ),
    row(total("timestamptz::timestamp", same).in_utc(), &[TIMESTAMPTZ], TIMESTAMP),
    row(partial("text[]::uuid[]", |arguments, context| each(arguments, context, text_to_uuid)), &[TEXTS], UUIDS),
    row(
        partial("text[]::integer[]", |arguments, context| each(arguments, context, |text, _| read(text, INT4))),
        &[TEXTS],
        INT4S,
    ),
    row(
        partial("text[]::bigint[]", |arguments, context| each(arguments, context, |text, _| read(text, INT8))),
        &[TEXTS],
        INT8S,
    ),
    row(total("uuid[]::text[]", |arguments, context| each(arguments, context, print)), &[UUIDS], TEXTS),
    row(total("integer[]::text[]", |arguments, context| each(arguments, context, print)), &[INT4S], TEXTS),
    row(total("bigint[]::text[]", |arguments, context| each(arguments, context, print)), &[INT8S], TEXTS),
    row(total("integer[]::bigint[]", same), &[INT4S], INT8S),
];

/// Of any enum.
static ENUM_TO_TEXT: Function = total("enum::text", same);

/// Those that Postgres applies by itself.
const IMPLICIT: [(Type, Type); 12] = [
    (INT2, INT4),
    (INT2, INT8),
    (INT4, INT8),
    (INT2, NUMERIC),
    (INT4, NUMERIC),
    (INT8, NUMERIC),
    (INT2, FLOAT8),
    (INT4, FLOAT8),
    (INT8, FLOAT8),
    (FLOAT4, FLOAT8),
    (NUMERIC, FLOAT8),
    (NAME, TEXT),
];

pub(super) fn explicit(from: Type, to: Type) -> Option<&'static Function> {
    if let (Type { scalar: Scalar::Enum(_), is_array: false }, TEXT) = (from, to) {
        return Some(&ENUM_TO_TEXT);
    }
    find_types(CASTS, &[from], to)
}

pub(super) fn implicit(from: Type, to: Type) -> Option<&'static Function> {
    let is_implicit = IMPLICIT.contains(&(from, to)) || (from, to) == (DATE, TIMESTAMP);
    if is_implicit { explicit(from, to) } else { None }
}

/// The text of a value whose type prints the same under all settings. Booleans as the cast has them.
pub(super) fn printed(value: &Value) -> Result<String, Stop> {
    Ok(match value {
        Value::Bool(value) => value.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Numeric(number) => number.to_string(),
        Value::Text(text) => text.as_ref().to_owned(),
        Value::Uuid(bytes) => {
            let mut text = String::with_capacity(36);
            for (index, byte) in bytes.iter().enumerate() {
                let hyphen = if matches!(index, 4 | 6 | 8 | 10) { "-" } else { "" };
                write!(text, "{hyphen}{byte:02x}").map_err(|_| Stop::Unsupported)?;
            }
            text
        }
        Value::Jsonb(jsonb) => jsonb.to_string(),
        _ => return Err(Stop::Unsupported),
    })
}

/// The first moment of a date.
pub(super) fn midnight(date: i32) -> Result<i64, Stop> {
    match date {
        i32::MIN => Ok(i64::MIN),
        i32::MAX => Ok(i64::MAX),
        days => moment(days.into(), 0),
    }
}

pub(super) fn date_of_moment(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    match arguments {
        [Value::Moment(i64::MIN)] => Ok(Value::Date(i32::MIN)),
        [Value::Moment(i64::MAX)] => Ok(Value::Date(i32::MAX)),
        [Value::Moment(moment)] => {
            i32::try_from(moment.div_euclid(DAY)).map(Value::Date).map_err(|_| Stop::Unsupported)
        }
        _ => Err(Stop::Unsupported),
    }
}

fn read(arguments: &[Value], to: Type) -> Result<Value, Stop> {
    match arguments {
        [Value::Text(text)] => input::read(to, text),
        _ => Err(Stop::Unsupported),
    }
}

fn text_to_uuid(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    read(arguments, UUID)
}

fn print(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    match arguments {
        [text @ Value::Text(_)] => Ok(text.clone()),
        [value] => Ok(Value::Text(printed(value)?.into())),
        _ => Err(Stop::Unsupported),
    }
}

/// The same value under another type.
fn same(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    match arguments {
        [value] => Ok(value.clone()),
        _ => Err(Stop::Unsupported),
    }
}

/// The cast of each element; NULL stays.
fn each(arguments: &[Value], context: &Context, cast: Eval) -> Result<Value, Stop> {
    let [Value::Array(elements)] = arguments else { return Err(Stop::Unsupported) };
    let element = |element: &Value| match element {
        Value::Null => Ok(Value::Null),
        element => cast(std::slice::from_ref(element), context),
    };
    Ok(Value::Array(elements.iter().map(element).collect::<Result<_, _>>()?))
}

fn narrow<const BITS: u32>(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    match arguments {
        [Value::Int(number)] => integer::<BITS>(i128::from(*number)),
        _ => Err(Stop::Unsupported),
    }
}

fn to_numeric(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    match arguments {
        [Value::Int(number)] => Ok(Value::Numeric((*number).into())),
        _ => Err(Stop::Unsupported),
    }
}

fn to_float(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    match arguments {
        // To the nearest, as Postgres does.
        [Value::Int(number)] => Ok(Value::float(*number as f64)),
        _ => Err(Stop::Unsupported),
    }
}

fn round<const BITS: u32>(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    match arguments {
        [Value::Numeric(number)] => integer::<BITS>(number.rounded()?.map_or(i128::MAX, i128::from)),
        _ => Err(Stop::Unsupported),
    }
}

fn numeric_to_float(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    match arguments {
        [Value::Numeric(number)] => number.to_float().map(Value::float),
        _ => Err(Stop::Unsupported),
    }
}

fn integer_to_boolean(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    match arguments {
        [Value::Int(number)] => Ok(Value::Bool(*number != 0)),
        _ => Err(Stop::Unsupported),
    }
}

fn boolean_to_integer(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    match arguments {
        [Value::Bool(value)] => Ok(Value::Int((*value).into())),
        _ => Err(Stop::Unsupported),
    }
}

/// A JSON scalar. Of `null` versions up to 17 make an error, and later ones NULL.
fn scalar(arguments: &[Value]) -> Result<&Arc<Jsonb>, Stop> {
    match arguments {
        [Value::Jsonb(jsonb)] if **jsonb != Jsonb::Null => Ok(jsonb),
        _ => Err(Stop::Unsupported),
    }
}

fn jsonb_to_boolean(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    match scalar(arguments)?.as_ref() {
        Jsonb::Bool(value) => Ok(Value::Bool(*value)),
        _ => Err(Stop::Failed("22023")),
    }
}

fn of_number(arguments: &[Value], context: &Context, cast: Eval) -> Result<Value, Stop> {
    match scalar(arguments)?.as_ref() {
        Jsonb::Number(number) => cast(&[Value::Numeric(number.clone())], context),
        _ => Err(Stop::Failed("22023")),
    }
}

fn moment_of_date(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    match arguments {
        [Value::Date(date)] => midnight(*date).map(Value::Moment),
        _ => Err(Stop::Unsupported),
    }
}
