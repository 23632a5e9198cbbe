//! Postgres' text form of a value → the JSON clients see. Pure.
//!
//! Owns the registry of types and the rule of the protocol reference, section 4.3: every value is what `to_jsonb`
//! would give for the column's type. Three exceptions, at any depth: `NaN` and the infinities of a number are `null`,
//! `bytea` is hex digits without `\x`, and `oid` is a number. The text must come from a session with `DateStyle ISO`,
//! `IntervalStyle postgres`, `bytea_output hex`, `TimeZone UTC` and `extra_float_digits` above 0.
//!
//! What comes out is valid JSON whatever goes in: a text that is not what its type prints becomes a JSON string of
//! that text, and bytes that are not UTF-8 (only a `SQL_ASCII` database can send them) become `null`, because no JSON
//! string could carry them unchanged. A type's cast to json (`hstore`, PostGIS) is not applied: such values are strings.

mod array;
pub mod composite;
mod number;
mod scalar;
mod string;
mod time;

#[cfg(test)]
mod tests;

pub use string::push_string;

use std::collections::HashMap;

/// How deep types may nest in each other before a value is left as a string: far beyond any real schema.
const MAX_DEPTH: usize = 32;

/// How a type's text form is built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TypeKind {
    /// A scalar whose text form is one token; which one is told by the oid.
    Base,
    /// An array.
    Array {
        /// The oid of the element type.
        element: u32,
        /// What stands between elements: `,` for all but `box`.
        delimiter: u8,
    },
    /// A domain, which renders as its base type.
    Domain {
        /// The oid of the type below.
        base: u32,
    },
    /// A row type: its attributes, in order, as (name, type oid).
    Composite {
        /// Name and type oid of each attribute that was not dropped.
        fields: Vec<(String, u32)>,
    },
    /// An enum.
    Enum,
    /// A range or multirange.
    Range,
}

/// What the catalogue says about a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeInfo {
    /// The oid in `pg_type`.
    pub oid: u32,
    /// The bare name, as in `columns[].type` (`int4`, `_text`, an enum's own name).
    pub name: String,
    /// The quoted name SQL may use for a cast, from `format_type(oid, null)`.
    pub sql_name: String,
    /// How the text form is built.
    pub kind: TypeKind,
}

/// The types of a database by oid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TypeRegistry {
    types: HashMap<u32, TypeInfo>,
}

impl TypeRegistry {
    /// A registry of these types.
    pub fn new(types: impl IntoIterator<Item = TypeInfo>) -> TypeRegistry {
        TypeRegistry { types: types.into_iter().map(|info| (info.oid, info)).collect() }
    }

    /// The type with this oid, if the catalogue had it.
    pub fn get(&self, oid: u32) -> Option<&TypeInfo> {
        self.types.get(&oid)
    }

    /// All of them, in no order.
    pub fn all(&self) -> impl Iterator<Item = &TypeInfo> {
        self.types.values()
    }

    /// The type below any number of domains: what a value of this type is made of.
    pub fn base(&self, oid: u32) -> u32 {
        let mut oid = oid;
        for _ in 0..MAX_DEPTH {
            match self.types.get(&oid).map(|info| &info.kind) {
                Some(TypeKind::Domain { base }) => oid = *base,
                _ => break,
            }
        }
        oid
    }

    /// What stands between the elements of an array of this type.
    pub fn array_delimiter(&self, element: u32) -> u8 {
        let arrays = self.types.values().filter_map(|info| match &info.kind {
            TypeKind::Array { element, delimiter } => Some((*element, *delimiter)),
            _ => None,
        });
        arrays.filter(|(of, _)| *of == element).map(|(_, delimiter)| delimiter).next().unwrap_or(b',')
    }
}

/// Appends the JSON of a value, given in Postgres' text form, to `out`.
pub fn render(types: &TypeRegistry, type_oid: u32, text: &[u8], out: &mut Vec<u8>) {
    match std::str::from_utf8(text) {
        Ok(_) => render_nested(types, type_oid, text, 0, out),
        Err(_) => out.extend_from_slice(b"null"),
    }
}

/// The text was not what its type's output function prints.
#[derive(Debug)]
pub struct Malformed;

/// `render` for a text known to be UTF-8, `depth` types inside the column's own.
fn render_nested(types: &TypeRegistry, type_oid: u32, text: &[u8], depth: usize, out: &mut Vec<u8>) {
    let start = out.len();
    if try_render(types, type_oid, text, depth, out).is_err() {
        out.truncate(start);
        push_string(text, out);
    }
}

fn try_render(
    types: &TypeRegistry,
    type_oid: u32,
    text: &[u8],
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<(), Malformed> {
    if depth > MAX_DEPTH {
        return Err(Malformed);
    }
    let oid = types.base(type_oid);
    match types.get(oid).map(|info| &info.kind) {
        Some(TypeKind::Array { element, delimiter }) => match oid {
            oid::INT2VECTOR | oid::OIDVECTOR => array::render_vector(text, out),
            _ => array::render(types, *element, *delimiter, text, depth, out),
        },
        Some(TypeKind::Composite { fields }) => composite::render(types, fields, text, depth, out),
        Some(TypeKind::Enum | TypeKind::Range) => {
            push_string(text, out);
            Ok(())
        }
        Some(TypeKind::Base | TypeKind::Domain { .. }) | None => scalar::render(oid, text, out),
    }
}

/// The oids of the built-in types that are more than a string here: fixed by Postgres (`pg_type.dat`).
pub mod oid {
    /// `boolean`.
    pub const BOOL: u32 = 16;
    /// `bytea`.
    pub const BYTEA: u32 = 17;
    /// `"char"`, the one-byte type.
    pub const CHAR: u32 = 18;
    /// `name`.
    pub const NAME: u32 = 19;
    /// `bigint`.
    pub const INT8: u32 = 20;
    /// `smallint`.
    pub const INT2: u32 = 21;
    /// `int2vector`, an array with a text form of its own.
    pub const INT2VECTOR: u32 = 22;
    /// `integer`.
    pub const INT4: u32 = 23;
    /// `text`.
    pub const TEXT: u32 = 25;
    /// `oid`.
    pub const OID: u32 = 26;
    /// `oidvector`, an array with a text form of its own.
    pub const OIDVECTOR: u32 = 30;
    /// `json`.
    pub const JSON: u32 = 114;
    /// `real`.
    pub const FLOAT4: u32 = 700;
    /// `double precision`.
    pub const FLOAT8: u32 = 701;
    /// `character(n)[]`.
    pub const BPCHAR_ARRAY: u32 = 1014;
    /// `character(n)`.
    pub const BPCHAR: u32 = 1042;
    /// `character varying`.
    pub const VARCHAR: u32 = 1043;
    /// `date`.
    pub const DATE: u32 = 1082;
    /// `timestamp without time zone`.
    pub const TIMESTAMP: u32 = 1114;
    /// `timestamp with time zone`.
    pub const TIMESTAMPTZ: u32 = 1184;
    /// `bit(n)`.
    pub const BIT: u32 = 1560;
    /// `bit(n)[]`.
    pub const BIT_ARRAY: u32 = 1561;
    /// `numeric`.
    pub const NUMERIC: u32 = 1700;
    /// `uuid`.
    pub const UUID: u32 = 2950;
    /// `jsonb`.
    pub const JSONB: u32 = 3802;
}
