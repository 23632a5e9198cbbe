//! Types by name and by oid: which of them the process computes with, and under which names a text may write them.

use super::{
    names::{self, Naming},
    refusal::{Read, refuse},
};
use crate::{
    change::value::{TypeInfo, TypeKind, oid},
    policy::{
        facts::Facts,
        functions,
        value::{Scalar, Type},
    },
};
use sqlparser::ast::{ArrayElemTypeDef, DataType, ExactNumberInfo, Ident, ObjectName, ObjectNamePart, TimezoneInfo};

/// The type of a column; none for one the process does not compute with. Domains read as what they are made of.
pub(super) fn of_column(facts: &Facts, type_oid: u32) -> Option<Type> {
    let base = facts.types.base(type_oid);
    if let Some(scalar) = scalar(facts, base) {
        return Some(Type::of(scalar));
    }
    match facts.types.get(base).map(|info| &info.kind) {
        // Vectors count their elements from 0 and print in a form of their own.
        Some(TypeKind::Array { element, .. }) if !matches!(base, oid::INT2VECTOR | oid::OIDVECTOR) => {
            scalar(facts, *element).map(Type::array)
        }
        _ => None,
    }
}

/// The type of an argument or a result: a domain is refused, because its constraints are checked on the way.
pub(super) fn of_signature(facts: &Facts, type_oid: u32) -> Option<Type> {
    (facts.types.base(type_oid) == type_oid).then(|| of_column(facts, type_oid)).flatten()
}

fn scalar(facts: &Facts, type_oid: u32) -> Option<Scalar> {
    let is_enum = matches!(facts.types.get(type_oid).map(|info| &info.kind), Some(TypeKind::Enum));
    functions::scalar_of(type_oid, is_enum)
}

/// The type a text names in a cast or before a literal.
pub(super) fn named(facts: &Facts, naming: &Naming, data_type: &DataType) -> Read<Type> {
    if let DataType::Array(array) = data_type {
        let element = match array {
            // The number of elements is a comment in Postgres.
            ArrayElemTypeDef::SquareBracket(element, _) => named(facts, naming, element)?,
            _ => return refuse(format!("type {data_type} is not computed with")),
        };
        return if element.is_array {
            refuse("arrays of arrays are not computed with")
        } else {
            Ok(Type::array(element.scalar))
        };
    }
    let scalar = match data_type {
        DataType::Uuid => "uuid",
        DataType::Text => "text",
        DataType::Varchar(None) | DataType::CharacterVarying(None) | DataType::CharVarying(None) => "varchar",
        DataType::Bool | DataType::Boolean => "bool",
        DataType::SmallInt(None) | DataType::Int2(None) => "int2",
        DataType::Int(None) | DataType::Integer(None) | DataType::Int4(None) => "int4",
        DataType::BigInt(None) | DataType::Int8(None) => "int8",
        DataType::Numeric(ExactNumberInfo::None)
        | DataType::Decimal(ExactNumberInfo::None)
        | DataType::Dec(ExactNumberInfo::None) => "numeric",
        DataType::Real | DataType::Float4 => "float4",
        DataType::DoublePrecision | DataType::Float8 | DataType::Float(ExactNumberInfo::None) => "float8",
        DataType::Date => "date",
        DataType::Timestamp(None, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => "timestamp",
        DataType::Timestamp(None, TimezoneInfo::WithTimeZone | TimezoneInfo::Tz) => "timestamptz",
        DataType::Interval { fields: None, precision: None } => "interval",
        DataType::JSON => "json",
        DataType::JSONB => "jsonb",
        DataType::Bytea => "bytea",
        DataType::Custom(name, modifiers) if modifiers.is_empty() => return custom(facts, naming, name),
        _ => return refuse(format!("type {data_type} is not computed with")),
    };
    builtin(facts, naming, scalar)
}

fn builtin(facts: &Facts, naming: &Naming, name: &str) -> Read<Type> {
    let Some(scalar) = by_name(name) else { return refuse(format!("type {name} is not computed with")) };
    if !naming.has_catalog_first() && is_shadowed(facts, name) {
        return refuse(format!("type {name} is one of several in the search path"));
    }
    Ok(Type::of(scalar))
}

/// A type whose name is no key word: `name`, `pg_catalog.uuid`, an enum.
fn custom(facts: &Facts, naming: &Naming, name: &ObjectName) -> Read<Type> {
    let unknown = || refuse(format!("type {name} is not computed with"));
    let mut parts = Vec::new();
    for part in &name.0 {
        match part {
            ObjectNamePart::Identifier(Ident { value, quote_style: None, span: _ }) => {
                parts.push(value.to_ascii_lowercase());
            }
            ObjectNamePart::Identifier(Ident { value, quote_style: Some('"'), span: _ }) => parts.push(value.clone()),
            _ => return unknown(),
        }
    }
    match parts.as_slice() {
        [name] => builtin(facts, naming, name),
        [schema, name] if schema == "pg_catalog" => by_name(name).map_or_else(unknown, |scalar| Ok(Type::of(scalar))),
        // The labels of an enum are checked when a text is stored. In one that is read at run time a label may be wrong.
        [schema, name] if naming.is_stored => match enum_named(facts, schema, name) {
            Some(type_oid) => Ok(Type::of(Scalar::Enum(type_oid))),
            None => unknown(),
        },
        _ => unknown(),
    }
}

/// Whether there is a type of this name outside of `pg_catalog`.
fn is_shadowed(facts: &Facts, name: &str) -> bool {
    facts.types.all().any(|info| info.name == name && qualified(&info.sql_name).is_some())
}

fn enum_named(facts: &Facts, schema: &str, name: &str) -> Option<u32> {
    let is_meant = |info: &&TypeInfo| {
        info.kind == TypeKind::Enum
            && qualified(&info.sql_name).is_some_and(|(in_schema, named)| in_schema == schema && named == name)
    };
    facts.types.all().find(is_meant).map(|info| info.oid)
}

/// The parts of `schema.name`, either of which may be quoted.
fn qualified(sql_name: &str) -> Option<(String, String)> {
    let (schema, rest) = names::part(sql_name, '.')?;
    let (name, rest) = names::part(rest.strip_prefix('.')?, '.')?;
    rest.is_empty().then_some((schema, name))
}

/// By `pg_type.typname`.
fn by_name(name: &str) -> Option<Scalar> {
    Some(match name {
        "bool" => Scalar::Bool,
        "int2" => Scalar::Int2,
        "int4" => Scalar::Int4,
        "int8" => Scalar::Int8,
        "numeric" => Scalar::Numeric,
        "float4" => Scalar::Float4,
        "float8" => Scalar::Float8,
        "text" | "varchar" => Scalar::Text,
        "name" => Scalar::Name,
        "uuid" => Scalar::Uuid,
        "bytea" => Scalar::Bytea,
        "date" => Scalar::Date,
        "timestamp" => Scalar::Timestamp,
        "timestamptz" => Scalar::Timestamptz,
        "interval" => Scalar::Interval,
        "json" => Scalar::Json,
        "jsonb" => Scalar::Jsonb,
        _ => return None,
    })
}

/// The oids that are one scalar here.
pub(super) fn oids(scalar: Scalar) -> &'static [u32] {
    match scalar {
        Scalar::Bool => &[oid::BOOL],
        Scalar::Int2 => &[oid::INT2],
        Scalar::Int4 => &[oid::INT4],
        Scalar::Int8 => &[oid::INT8],
        Scalar::Numeric => &[oid::NUMERIC],
        Scalar::Float4 => &[oid::FLOAT4],
        Scalar::Float8 => &[oid::FLOAT8],
        Scalar::Text => &[oid::TEXT, oid::VARCHAR],
        Scalar::Name => &[oid::NAME],
        Scalar::Uuid => &[oid::UUID],
        Scalar::Bytea => &[oid::BYTEA],
        Scalar::Date => &[oid::DATE],
        Scalar::Timestamp => &[oid::TIMESTAMP],
        Scalar::Timestamptz => &[oid::TIMESTAMPTZ],
        Scalar::Interval => &[1186],
        Scalar::Json => &[oid::JSON],
        Scalar::Jsonb => &[oid::JSONB],
        Scalar::Enum(_) => &[],
    }
}
