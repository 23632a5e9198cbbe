//! The one table of operators, functions and casts that are evaluated as Postgres does. What is not here, with exactly
//! these argument types, is the database's.
//!
//! One file a family: each has its rows (`table`), and what they compute. Values must come from `value::read`,
//! `literal` or a function of this table; given others, a function answers `Unsupported`.

mod array;
mod cast;
mod comparison;
mod input;
mod json;
mod jsonb;
mod like;
mod number;
mod table;
mod text;
mod time;

use super::value::{Scalar, Stop, Type, Value};

/// What of its collation a function's answer depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CollationUse {
    /// Nothing.
    None,
    /// Equality: bytewise under every deterministic collation.
    Equality,
    /// Order or letter case: only `C` is known here, as collation and as character type.
    Order,
}

/// What a call may depend on beside its arguments.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// `now()`: microseconds since 2000-01-01 UTC.
    pub now: i64,
}

/// One function, operator or cast for one list of argument types.
#[derive(Clone, Copy, Debug)]
pub struct Function {
    /// Its name in SQL, for explanations: `=`, `lower`, `text::uuid`.
    pub name: &'static str,
    /// Whether it can raise an error (or be unsupported) for some arguments.
    pub may_fail: bool,
    /// Whether NULL in any argument gives NULL without a call. The few others see NULLs.
    pub is_strict: bool,
    /// What of the collation it needs.
    pub collation: CollationUse,
    /// Whether it computes in the session's time zone and is right for UTC only.
    pub needs_utc: bool,
    /// Whether equality of its two arguments is `Value`'s own: then it can be a hash key.
    pub is_hash_equality: bool,
    /// Computes it. With `is_strict` no argument is NULL.
    pub eval: fn(&[Value], &Context) -> Result<Value, Stop>,
}

/// A function and what it returns for these arguments.
#[derive(Clone, Copy, Debug)]
pub struct Resolved {
    /// The function.
    pub function: &'static Function,
    /// The type of its result.
    pub result: Type,
}

/// The names of operators in the table.
pub const OPERATORS: &[&str] = &[
    "=", "<>", "<", "<=", ">", ">=", "+", "-", "*", "/", "%", "&", "|", "||", "~~", "!~~", "~~*", "!~~*", "^@", "->",
    "->>", "#>", "#>>", "?", "?|", "?&", "@>", "<@", "&&",
];

/// The names of functions in the table, set-returning ones left out.
pub const FUNCTIONS: &[&str] = &[
    "abs",
    "array_length",
    "array_position",
    "array_upper",
    "btrim",
    "cardinality",
    "char_length",
    "character_length",
    "date",
    "date_trunc",
    "json_array_length",
    "json_extract_path",
    "json_extract_path_text",
    "json_typeof",
    "jsonb_array_length",
    "jsonb_build_array",
    "jsonb_build_object",
    "jsonb_contained",
    "jsonb_contains",
    "jsonb_exists",
    "jsonb_exists_all",
    "jsonb_exists_any",
    "jsonb_extract_path",
    "jsonb_extract_path_text",
    "jsonb_typeof",
    "left",
    "length",
    "lower",
    "ltrim",
    "mod",
    "octet_length",
    "position",
    "replace",
    "right",
    "rtrim",
    "split_part",
    "starts_with",
    "string_to_array",
    "strpos",
    "substr",
    "substring",
    "timezone",
    "to_jsonb",
    "to_timestamp",
    "upper",
];

/// The names of set-returning functions in the table.
pub const SET_FUNCTIONS: &[&str] = &[
    "json_array_elements",
    "json_array_elements_text",
    "json_object_keys",
    "jsonb_array_elements",
    "jsonb_array_elements_text",
    "jsonb_object_keys",
    "unnest",
];

/// The operator `name` for exactly these argument types; `left` is none for a prefix operator. Element types of arrays
/// must agree.
pub fn operator(name: &str, left: Option<Type>, right: Type) -> Option<Resolved> {
    let arguments = match left {
        Some(left) => vec![left, right],
        None => vec![right],
    };
    let arguments = arguments.as_slice();
    let rows = [number::OPERATORS, text::OPERATORS, time::OPERATORS, json::OPERATORS, jsonb::OPERATORS];
    rows.into_iter()
        .find_map(|rows| table::find(rows, name, arguments))
        .or_else(|| comparison::operator(name, arguments))
        .or_else(|| array::operator(name, arguments))
}

/// The function of `pg_catalog` with this name for exactly these argument types.
pub fn function(name: &str, arguments: &[Type]) -> Option<Resolved> {
    let rows = [number::FUNCTIONS, text::FUNCTIONS, time::FUNCTIONS, json::FUNCTIONS, jsonb::FUNCTIONS];
    rows.into_iter()
        .find_map(|rows| table::find(rows, name, arguments))
        .or_else(|| json::variadic(name, arguments))
        .or_else(|| jsonb::variadic(name, arguments))
        .or_else(|| array::function(name, arguments))
}

/// The set-returning function of one argument whose rows are elements: as a function to an array. Only where it may
/// stand alone as `array(select f(x))` or `in (select f(x))`. Of NULL it makes no rows, so an empty array.
pub fn set_function(name: &str, arguments: &[Type]) -> Option<Resolved> {
    let rows = [json::SET_FUNCTIONS, jsonb::SET_FUNCTIONS];
    rows.into_iter()
        .find_map(|rows| table::find(rows, name, arguments))
        .or_else(|| array::set_function(name, arguments))
}

/// How a value becomes one of another type.
#[derive(Clone, Copy, Debug)]
pub enum Cast {
    /// It is one already.
    Same,
    /// By this function.
    By(&'static Function),
}

/// The explicit cast, as `value::type` does it without a length or scale.
pub fn cast(from: Type, to: Type) -> Option<Cast> {
    if from == to { Some(Cast::Same) } else { cast::explicit(from, to).map(Cast::By) }
}

/// The cast Postgres applies by itself where a value of `to` is wanted (`pg_cast.castcontext = 'i'`).
pub fn implicit_cast(from: Type, to: Type) -> Option<Cast> {
    if from == to { Some(Cast::Same) } else { cast::implicit(from, to).map(Cast::By) }
}

/// Reads a literal as a type's input function would: what `'text'::type` means. Deviates into `Unsupported` where the
/// input depends on settings.
///
/// Whether an enum has the label is not known here: it has if Postgres itself printed the literal.
pub fn literal(to: Type, text: &str) -> Result<Value, Stop> {
    input::read(to, text)
}

/// The element type of an array.
pub fn element(array: Type) -> Option<Type> {
    array.is_array.then_some(Type::of(array.scalar))
}

/// The types of the scalars whose oids are fixed, and of enums.
pub fn scalar_of(oid: u32, is_enum: bool) -> Option<Scalar> {
    use crate::change::value::oid;
    Some(match oid {
        oid::BOOL => Scalar::Bool,
        oid::INT2 => Scalar::Int2,
        oid::INT4 => Scalar::Int4,
        oid::INT8 => Scalar::Int8,
        oid::NUMERIC => Scalar::Numeric,
        oid::FLOAT4 => Scalar::Float4,
        oid::FLOAT8 => Scalar::Float8,
        oid::TEXT | oid::VARCHAR => Scalar::Text,
        oid::NAME => Scalar::Name,
        oid::UUID => Scalar::Uuid,
        oid::BYTEA => Scalar::Bytea,
        oid::DATE => Scalar::Date,
        oid::TIMESTAMP => Scalar::Timestamp,
        oid::TIMESTAMPTZ => Scalar::Timestamptz,
        1186 => Scalar::Interval,
        oid::JSON => Scalar::Json,
        oid::JSONB => Scalar::Jsonb,
        _ if is_enum => Scalar::Enum(oid),
        _ => return None,
    })
}
