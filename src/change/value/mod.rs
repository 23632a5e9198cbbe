//! Postgres' text form of a value → the JSON clients see. Pure.
//!
//! Owns the registry of types and the rule of the protocol reference, section 4.3: every value is what `to_jsonb`
//! would give for the column's type.

use std::collections::HashMap;

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
}
