//! One-dimensional arrays of any known type. Inside of arrays NULL equals NULL, and contains nothing.

use super::{
    Context, Function, Resolved, comparison,
    table::{BOOL, INT4, bool, total},
};
use crate::policy::value::{Scalar, Stop, Type, Value};
use std::collections::HashSet;

/// From this many elements on, an array is looked through by hash.
const MANY: usize = 16;

static OPERATORS: [Function; 5] =
    [total("=", equal), total("<>", unequal), total("@>", contains), total("<@", is_contained), total("&&", overlaps)];

/// The same of elements under a collation.
static TEXT_OPERATORS: [Function; 5] = [
    total("=", equal).by_equality(),
    total("<>", unequal).by_equality(),
    total("@>", contains).by_equality(),
    total("<@", is_contained).by_equality(),
    total("&&", overlaps).by_equality(),
];

static POSITION: Function = total("array_position", position).with_nulls();
static TEXT_POSITION: Function = total("array_position", position).with_nulls().by_equality();

/// Of any array.
static MEASURES: [(Function, &[Type]); 3] = [
    (total("cardinality", cardinality), &[]),
    (total("array_length", length), &[INT4]),
    (total("array_upper", length), &[INT4]),
];

static UNNEST: Function = total("unnest", unnest).with_nulls();

pub(super) fn operator(name: &str, arguments: &[Type]) -> Option<Resolved> {
    let [left, right] = arguments else { return None };
    if left != right || !left.is_array {
        return None;
    }
    comparison::equality(left.scalar)?;
    // Their equality is not `Value`'s, by which elements are looked for.
    if left.scalar == Scalar::Interval && !matches!(name, "=" | "<>") {
        return None;
    }
    let functions = if is_collated(left.scalar) { &TEXT_OPERATORS } else { &OPERATORS };
    let function = functions.iter().find(|function| function.name == name)?;
    Some(Resolved { function, result: BOOL })
}

pub(super) fn function(name: &str, arguments: &[Type]) -> Option<Resolved> {
    let (array, others) = arguments.split_first().filter(|(array, _)| array.is_array)?;
    let function = if name == POSITION.name {
        comparison::equality(array.scalar)?;
        let function = if is_collated(array.scalar) { &TEXT_POSITION } else { &POSITION };
        (others == [Type::of(array.scalar)]).then_some(function)?
    } else {
        let (function, expected) = MEASURES.iter().find(|(function, _)| function.name == name)?;
        (others == *expected).then_some(function)?
    };
    Some(Resolved { function, result: INT4 })
}

pub(super) fn set_function(name: &str, arguments: &[Type]) -> Option<Resolved> {
    match arguments {
        [array] if array.is_array && name == UNNEST.name => Some(Resolved { function: &UNNEST, result: *array }),
        _ => None,
    }
}

fn is_collated(scalar: Scalar) -> bool {
    matches!(scalar, Scalar::Text | Scalar::Name)
}

/// Both arrays.
fn pair(arguments: &[Value]) -> Result<(&[Value], &[Value]), Stop> {
    match arguments {
        [Value::Array(left), Value::Array(right)] => Ok((left, right)),
        _ => Err(Stop::Unsupported),
    }
}

fn are_equal(arguments: &[Value]) -> Result<bool, Stop> {
    let (left, right) = pair(arguments)?;
    Ok(left.len() == right.len() && left.iter().zip(right).all(|(left, right)| comparison::equals(left, right)))
}

fn equal(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    bool(are_equal(arguments)?)
}

fn unequal(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    bool(!are_equal(arguments)?)
}

/// For each of `wanted` whether it is among the elements; NULL never is.
fn found<'a>(elements: &'a [Value], wanted: &'a [Value]) -> impl Iterator<Item = bool> + 'a {
    let by_hash: Option<HashSet<&Value>> =
        (elements.len() > MANY && wanted.len() > MANY).then(|| elements.iter().collect());
    wanted.iter().map(move |value| {
        let is_element = || match &by_hash {
            Some(elements) => elements.contains(value),
            None => elements.contains(value),
        };
        !value.is_null() && is_element()
    })
}

fn contains(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    let (left, right) = pair(arguments)?;
    bool(found(left, right).all(|is_found| is_found))
}

fn is_contained(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    let (left, right) = pair(arguments)?;
    bool(found(right, left).all(|is_found| is_found))
}

fn overlaps(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    let (left, right) = pair(arguments)?;
    bool(found(left, right).any(|is_found| is_found))
}

fn position(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    let (elements, wanted) = match arguments {
        [Value::Null, _] => return Ok(Value::Null),
        [Value::Array(elements), wanted] => (elements, wanted),
        _ => return Err(Stop::Unsupported),
    };
    match elements.iter().position(|element| comparison::equals(element, wanted)) {
        Some(index) => count(index + 1),
        None => Ok(Value::Null),
    }
}

fn cardinality(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    match arguments {
        [Value::Array(elements)] => count(elements.len()),
        _ => Err(Stop::Unsupported),
    }
}

fn length(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    match arguments {
        [Value::Array(elements), Value::Int(1)] if !elements.is_empty() => count(elements.len()),
        [Value::Array(_), Value::Int(_)] => Ok(Value::Null),
        _ => Err(Stop::Unsupported),
    }
}

fn count(count: usize) -> Result<Value, Stop> {
    i64::try_from(count).map(Value::Int).map_err(|_| Stop::Unsupported)
}

fn unnest(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    match arguments {
        [Value::Null] => Ok(Value::Array([].into())),
        [array @ Value::Array(_)] => Ok(array.clone()),
        _ => Err(Stop::Unsupported),
    }
}
