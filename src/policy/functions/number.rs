//! Integers and `numeric`: arithmetic with Postgres' errors where a result has too many bits.

use super::{
    Context,
    table::{INT2, INT4, INT8, NUMERIC, Row, partial, row, total},
};
use crate::policy::value::{Decimal, Stop, Value};

/// Out of the range of the result's type.
pub(super) const OUT_OF_RANGE: Stop = Stop::Failed("22003");

pub(super) static OPERATORS: &[Row] = &[
    row(partial("+", add::<16>), &[INT2, INT2], INT2),
    row(partial("+", add::<32>), &[INT2, INT4], INT4),
    row(partial("+", add::<32>), &[INT4, INT2], INT4),
    row(partial("+", add::<32>), &[INT4, INT4], INT4),
    row(partial("+", add::<64>), &[INT2, INT8], INT8),
    row(partial("+", add::<64>), &[INT4, INT8], INT8),
    row(partial("+", add::<64>), &[INT8, INT2], INT8),
    row(partial("+", add::<64>), &[INT8, INT4], INT8),
    row(partial("+", add::<64>), &[INT8, INT8], INT8),
    row(partial("-", subtract::<16>), &[INT2, INT2], INT2),
    row(partial("-", subtract::<32>), &[INT2, INT4], INT4),
    row(partial("-", subtract::<32>), &[INT4, INT2], INT4),
    row(partial("-", subtract::<32>), &[INT4, INT4], INT4),
    row(partial("-", subtract::<64>), &[INT2, INT8], INT8),
    row(partial("-", subtract::<64>), &[INT4, INT8], INT8),
    row(partial("-", subtract::<64>), &[INT8, INT2], INT8),
    row(partial("-", subtract::<64>), &[INT8, INT4], INT8),
    row(partial("-", subtract::<64>), &[INT8, INT8], INT8),
    row(partial("*", multiply::<16>), &[INT2, INT2], INT2),
    row(partial("*", multiply::<32>), &[INT2, INT4], INT4),
    row(partial("*", multiply::<32>), &[INT4, INT2], INT4),
    row(partial("*", multiply::<32>), &[INT4, INT4], INT4),
    row(partial("*", multiply::<64>), &[INT2, INT8], INT8),
    row(partial("*", multiply::<64>), &[INT4, INT8], INT8),
    row(partial("*", multiply::<64>), &[INT8, INT2], INT8),
    row(partial("*", multiply::<64>), &[INT8, INT4], INT8),
    row(partial("*", multiply::<64>), &[INT8, INT8], INT8),
    row(partial("/", divide::<16>), &[INT2, INT2], INT2),
    row(partial("/", divide::<32>), &[INT2, INT4], INT4),
    row(partial("/", divide::<32>), &[INT4, INT2], INT4),
    row(partial("/", divide::<32>), &[INT4, INT4], INT4),
    row(partial("/", divide::<64>), &[INT2, INT8], INT8),
    row(partial("/", divide::<64>), &[INT4, INT8], INT8),
    row(partial("/", divide::<64>), &[INT8, INT2], INT8),
    row(partial("/", divide::<64>), &[INT8, INT4], INT8),
    row(partial("/", divide::<64>), &[INT8, INT8], INT8),
    row(partial("%", remainder), &[INT2, INT2], INT2),
    row(partial("%", remainder), &[INT4, INT4], INT4),
    row(partial("%", remainder), &[INT8, INT8], INT8),
    row(total("&", and), &[INT2, INT2], INT2),
    row(total("&", and), &[INT4, INT4], INT4),
    row(total("&", and), &[INT8, INT8], INT8),
    row(total("|", or), &[INT2, INT2], INT2),
    row(total("|", or), &[INT4, INT4], INT4),
    row(total("|", or), &[INT8, INT8], INT8),
    row(partial("-", negate::<16>), &[INT2], INT2),
    row(partial("-", negate::<32>), &[INT4], INT4),
    row(partial("-", negate::<64>), &[INT8], INT8),
    row(partial("+", add_numeric), &[NUMERIC, NUMERIC], NUMERIC),
    row(partial("-", subtract_numeric), &[NUMERIC, NUMERIC], NUMERIC),
    row(partial("*", multiply_numeric), &[NUMERIC, NUMERIC], NUMERIC),
    row(total("-", negate_numeric), &[NUMERIC], NUMERIC),
];

pub(super) static FUNCTIONS: &[Row] = &[
    row(partial("abs", absolute::<16>), &[INT2], INT2),
    row(partial("abs", absolute::<32>), &[INT4], INT4),
    row(partial("abs", absolute::<64>), &[INT8], INT8),
    row(total("abs", absolute_numeric), &[NUMERIC], NUMERIC),
    row(partial("mod", remainder), &[INT2, INT2], INT2),
    row(partial("mod", remainder), &[INT4, INT4], INT4),
    row(partial("mod", remainder), &[INT8, INT8], INT8),
];

/// A number, if it has at most so many bits.
pub(super) fn integer<const BITS: u32>(number: i128) -> Result<Value, Stop> {
    let bound = 1i128 << (BITS - 1);
    let number = (-bound..bound).contains(&number).then_some(number).ok_or(OUT_OF_RANGE)?;
    i64::try_from(number).map(Value::Int).map_err(|_| OUT_OF_RANGE)
}

fn integers(arguments: &[Value]) -> Result<(i128, i128), Stop> {
    match arguments {
        [Value::Int(left), Value::Int(right)] => Ok((i128::from(*left), i128::from(*right))),
        _ => Err(Stop::Unsupported),
    }
}

fn add<const BITS: u32>(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    let (left, right) = integers(arguments)?;
    integer::<BITS>(left + right)
}

fn subtract<const BITS: u32>(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    let (left, right) = integers(arguments)?;
    integer::<BITS>(left - right)
}

fn multiply<const BITS: u32>(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    let (left, right) = integers(arguments)?;
    integer::<BITS>(left * right)
}

fn divide<const BITS: u32>(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    let (left, right) = integers(arguments)?;
    integer::<BITS>(left.checked_div(right).ok_or(Stop::Failed("22012"))?)
}

fn remainder(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    let (left, right) = integers(arguments)?;
    integer::<64>(left.checked_rem(right).ok_or(Stop::Failed("22012"))?)
}

fn and(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    let (left, right) = integers(arguments)?;
    integer::<64>(left & right)
}

fn or(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    let (left, right) = integers(arguments)?;
    integer::<64>(left | right)
}

fn negate<const BITS: u32>(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    match arguments {
        [Value::Int(number)] => integer::<BITS>(-i128::from(*number)),
        _ => Err(Stop::Unsupported),
    }
}

fn absolute<const BITS: u32>(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    match arguments {
        [Value::Int(number)] => integer::<BITS>(i128::from(*number).abs()),
        _ => Err(Stop::Unsupported),
    }
}

fn numerics(arguments: &[Value], compute: fn(&Decimal, &Decimal) -> Result<Decimal, Stop>) -> Result<Value, Stop> {
    match arguments {
        [Value::Numeric(left), Value::Numeric(right)] => compute(left, right).map(Value::Numeric),
        _ => Err(Stop::Unsupported),
    }
}

fn add_numeric(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    numerics(arguments, Decimal::add)
}

fn subtract_numeric(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    numerics(arguments, Decimal::subtract)
}

fn multiply_numeric(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    numerics(arguments, Decimal::multiply)
}

fn negate_numeric(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    match arguments {
        [Value::Numeric(number)] => Ok(Value::Numeric(number.negated())),
        _ => Err(Stop::Unsupported),
    }
}

fn absolute_numeric(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    match arguments {
        [Value::Numeric(number)] => Ok(Value::Numeric(number.absolute())),
        _ => Err(Stop::Unsupported),
    }
}
