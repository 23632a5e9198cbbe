//! `= <> < <= > >=` of scalars: what compares with what, and by what of the collation.

use super::{
    Context, Function, Resolved,
    table::{BOOL, bool, total},
};
use crate::policy::value::{Scalar, Stop, Type, Value, calendar::DAY};
use std::cmp::Ordering;

/// Equality is `Value`'s own.
static PLAIN: [Function; 6] = [
    total("=", equal).hashing(),
    total("<>", unequal),
    total("<", less),
    total("<=", not_greater),
    total(">", greater),
    total(">=", not_less),
];

/// Equality is not `Value`'s own, or between two types.
static OTHERS: [Function; 6] = [
    total("=", equal),
    total("<>", unequal),
    total("<", less),
    total("<=", not_greater),
    total(">", greater),
    total(">=", not_less),
];

/// Under a collation.
static TEXTS: [Function; 6] = [
    total("=", equal).by_equality().hashing(),
    total("<>", unequal).by_equality(),
    total("<", less).by_order(),
    total("<=", not_greater).by_order(),
    total(">", greater).by_order(),
    total(">=", not_less).by_order(),
];

/// Which functions compare two types, and how many of them: equality comes first.
fn functions(left: Scalar, right: Scalar) -> Option<(&'static [Function; 6], usize)> {
    use Scalar::{
        Bool, Bytea, Date, Enum, Float4, Float8, Int2, Int4, Int8, Interval, Jsonb, Name, Numeric, Text, Timestamp,
        Timestamptz, Uuid,
    };
    Some(match (left, right) {
        (Int2 | Int4 | Int8, Int2 | Int4 | Int8) => (&PLAIN, 6),
        (Bool, Bool) | (Numeric, Numeric) | (Uuid, Uuid) | (Bytea, Bytea) => (&PLAIN, 6),
        (Date, Date) | (Timestamp, Timestamp) | (Timestamptz, Timestamptz) => (&PLAIN, 6),
        (Text | Name, Text | Name) => (&TEXTS, 6),
        (Enum(left), Enum(right)) if left == right => (&PLAIN, 2),
        (Jsonb, Jsonb) => (&OTHERS, 2),
        (Float4 | Float8, Float4 | Float8) | (Interval, Interval) => (&OTHERS, 6),
        (Date, Timestamp) | (Timestamp, Date) => (&OTHERS, 6),
        _ => return None,
    })
}

pub(super) fn operator(name: &str, arguments: &[Type]) -> Option<Resolved> {
    let [left, right] = arguments else { return None };
    if left.is_array || right.is_array {
        return None;
    }
    let (functions, count) = functions(left.scalar, right.scalar)?;
    let function = functions.iter().take(count).find(|function| function.name == name)?;
    Some(Resolved { function, result: BOOL })
}

/// Whether values of a type have an equality, and whether it is `Value`'s own.
pub(super) fn equality(scalar: Scalar) -> Option<&'static Function> {
    functions(scalar, scalar).and_then(|(functions, _)| functions.first())
}

/// SQL's `=` of two values of comparable types that are not NULL.
pub(super) fn equals(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Interval(left), Value::Interval(right)) => left.length() == right.length(),
        (Value::Date(_), Value::Moment(_)) | (Value::Moment(_), Value::Date(_)) => {
            order(left, right) == Some(Ordering::Equal)
        }
        _ => left == right,
    }
}

fn order(left: &Value, right: &Value) -> Option<Ordering> {
    Some(match (left, right) {
        (Value::Bool(left), Value::Bool(right)) => left.cmp(right),
        (Value::Int(left), Value::Int(right)) => left.cmp(right),
        (Value::Numeric(left), Value::Numeric(right)) => left.cmp(right),
        (Value::Float(left), Value::Float(right)) => float_order(f64::from_bits(*left), f64::from_bits(*right)),
        (Value::Text(left), Value::Text(right)) => left.cmp(right),
        (Value::Bytes(left), Value::Bytes(right)) => left.cmp(right),
        (Value::Uuid(left), Value::Uuid(right)) => left.cmp(right),
        (Value::Date(left), Value::Date(right)) => left.cmp(right),
        (Value::Moment(left), Value::Moment(right)) => left.cmp(right),
        (Value::Date(left), Value::Moment(right)) => midnight(*left).cmp(&i128::from(*right)),
        (Value::Moment(left), Value::Date(right)) => i128::from(*left).cmp(&midnight(*right)),
        (Value::Interval(left), Value::Interval(right)) => left.length().cmp(&right.length()),
        _ => return None,
    })
}

/// NaN is above everything.
fn float_order(left: f64, right: f64) -> Ordering {
    left.partial_cmp(&right).unwrap_or_else(|| left.is_nan().cmp(&right.is_nan()))
}

/// The first moment of a date. The range of dates is the wider one: those after the last timestamp are above all of
/// them, and below `infinity`.
fn midnight(date: i32) -> i128 {
    match date {
        i32::MIN => i128::from(i64::MIN),
        i32::MAX => i128::from(i64::MAX),
        days => (i128::from(days) * i128::from(DAY)).min(i128::from(i64::MAX) - 1),
    }
}

fn ordered(arguments: &[Value], holds: fn(Ordering) -> bool) -> Result<Value, Stop> {
    let [left, right] = arguments else { return Err(Stop::Unsupported) };
    bool(holds(order(left, right).ok_or(Stop::Unsupported)?))
}

fn equal(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    let [left, right] = arguments else { return Err(Stop::Unsupported) };
    bool(equals(left, right))
}

fn unequal(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    let [left, right] = arguments else { return Err(Stop::Unsupported) };
    bool(!equals(left, right))
}

fn less(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    ordered(arguments, Ordering::is_lt)
}

fn not_greater(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    ordered(arguments, Ordering::is_le)
}

fn greater(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    ordered(arguments, Ordering::is_gt)
}

fn not_less(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    ordered(arguments, Ordering::is_ge)
}
