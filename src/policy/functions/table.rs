//! What the families' tables are made of.

use super::{CollationUse, Context, Function, Resolved};
use crate::policy::value::{Scalar, Stop, Type, Value};

/// What computes a function.
pub(super) type Eval = fn(&[Value], &Context) -> Result<Value, Stop>;

/// A function for one list of argument types.
#[derive(Debug)]
pub(super) struct Row {
    arguments: &'static [Type],
    result: Type,
    function: Function,
}

/// A row of a table.
pub(super) const fn row(function: Function, arguments: &'static [Type], result: Type) -> Row {
    Row { arguments, result, function }
}

/// The function with this name for exactly these argument types.
pub(super) fn find(rows: &'static [Row], name: &str, arguments: &[Type]) -> Option<Resolved> {
    let row = rows.iter().find(|row| row.function.name == name && row.arguments == arguments)?;
    Some(Resolved { function: &row.function, result: row.result })
}

/// The function for exactly these argument types and this result.
pub(super) fn find_types(rows: &'static [Row], arguments: &[Type], result: Type) -> Option<&'static Function> {
    let row = rows.iter().find(|row| row.arguments == arguments && row.result == result)?;
    Some(&row.function)
}

/// A strict function that always has an answer.
pub(super) const fn total(name: &'static str, eval: Eval) -> Function {
    Function {
        name,
        may_fail: false,
        is_strict: true,
        collation: CollationUse::None,
        needs_utc: false,
        is_hash_equality: false,
        eval,
    }
}

/// A strict function that can raise an error or be unsupported.
pub(super) const fn partial(name: &'static str, eval: Eval) -> Function {
    Function { may_fail: true, ..total(name, eval) }
}

impl Function {
    /// By equality under the collation.
    pub(super) const fn by_equality(self) -> Function {
        Function { collation: CollationUse::Equality, ..self }
    }

    /// By order or letter case of the collation.
    pub(super) const fn by_order(self) -> Function {
        Function { collation: CollationUse::Order, ..self }
    }

    /// Called with NULLs too.
    pub(super) const fn with_nulls(self) -> Function {
        Function { is_strict: false, ..self }
    }

    /// Right in UTC only.
    pub(super) const fn in_utc(self) -> Function {
        Function { needs_utc: true, ..self }
    }

    /// `Value`'s own equality.
    pub(super) const fn hashing(self) -> Function {
        Function { is_hash_equality: true, ..self }
    }
}

pub(super) const BOOL: Type = Type::BOOL;
pub(super) const INT2: Type = Type::of(Scalar::Int2);
pub(super) const INT4: Type = Type::of(Scalar::Int4);
pub(super) const INT8: Type = Type::of(Scalar::Int8);
pub(super) const NUMERIC: Type = Type::of(Scalar::Numeric);
pub(super) const FLOAT4: Type = Type::of(Scalar::Float4);
pub(super) const FLOAT8: Type = Type::of(Scalar::Float8);
pub(super) const TEXT: Type = Type::TEXT;
pub(super) const NAME: Type = Type::of(Scalar::Name);
pub(super) const UUID: Type = Type::of(Scalar::Uuid);
pub(super) const BYTEA: Type = Type::of(Scalar::Bytea);
pub(super) const DATE: Type = Type::of(Scalar::Date);
pub(super) const TIMESTAMP: Type = Type::of(Scalar::Timestamp);
pub(super) const TIMESTAMPTZ: Type = Type::of(Scalar::Timestamptz);
pub(super) const INTERVAL: Type = Type::of(Scalar::Interval);
pub(super) const JSON: Type = Type::of(Scalar::Json);
pub(super) const JSONB: Type = Type::of(Scalar::Jsonb);
pub(super) const TEXTS: Type = Type::array(Scalar::Text);
pub(super) const JSONS: Type = Type::array(Scalar::Json);
pub(super) const JSONBS: Type = Type::array(Scalar::Jsonb);

/// A boolean answer.
pub(super) fn bool(answer: bool) -> Result<Value, Stop> {
    Ok(Value::Bool(answer))
}

/// A text or NULL.
pub(super) fn text(text: Option<&str>) -> Result<Value, Stop> {
    Ok(text.map_or(Value::Null, Value::text))
}
