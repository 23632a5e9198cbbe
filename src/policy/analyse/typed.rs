//! Expressions with what is known of them: type, collation (documentation, section 24.2), order.

use crate::policy::{
    catalog::Collation,
    expr::Expr,
    value::{Scalar, Type, Value},
};
use std::sync::Arc;

/// The oid of the database's default collation (`pg_collation.dat`).
pub(super) const DEFAULT_COLLATION: u32 = 100;
/// The oid of `"C"`, which type `name` has.
const C_COLLATION: u32 = 950;

/// Which collation an expression has, as Postgres derives it from the leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Collating {
    /// None.
    None,
    /// The database's default, which any other one beats.
    Default,
    /// That of a column, with its oid: Postgres refuses to choose between two, however they compare.
    Of(Collation, u32),
    /// Several that differ.
    Conflict,
}

impl Collating {
    /// What a type has by itself. `name` is always bytewise.
    fn of_type(kind: Type) -> Collating {
        match kind.scalar {
            Scalar::Text => Collating::Default,
            Scalar::Name => Collating::Of(Collation::Bytewise, C_COLLATION),
            _ => Collating::None,
        }
    }

    /// What two operands have together.
    pub(super) fn with(self, other: Collating) -> Collating {
        match (self, other) {
            (Collating::None, any) | (any, Collating::None) => any,
            (Collating::Default, any) | (any, Collating::Default) => any,
            (Collating::Of(_, left), Collating::Of(_, right)) if left == right => self,
            _ => Collating::Conflict,
        }
    }
}

/// An expression with what is known of it.
#[derive(Clone, Debug)]
pub(super) struct Typed {
    /// It.
    pub(super) expr: Expr,
    /// Its type.
    pub(super) kind: Type,
    /// Its collation.
    pub(super) collating: Collating,
    /// Whether it is an array in an order that nobody fixed: of it, only membership may be asked.
    pub(super) is_unordered: bool,
}

impl Typed {
    /// An expression with its type's own collation.
    pub(super) fn new(expr: Expr, kind: Type) -> Typed {
        Typed { expr, kind, collating: Collating::of_type(kind), is_unordered: false }
    }

    /// A boolean.
    pub(super) fn boolean(expr: Expr) -> Typed {
        Typed::new(expr, Type::BOOL)
    }

    /// The expression of another type with the collation of what it is made of.
    pub(super) fn derived(expr: Expr, kind: Type, inputs: Collating) -> Typed {
        let own = Collating::of_type(kind);
        let collating = match (own, inputs) {
            (Collating::None, _) => Collating::None,
            (own, Collating::None) => own,
            (_, inputs) => inputs,
        };
        Typed { expr, kind, collating, is_unordered: false }
    }
}

/// What an expression means before its surroundings are known.
#[derive(Clone, Debug)]
pub(super) enum Meaning {
    /// A constant without a type: its text, or none for NULL.
    Literal(Option<String>),
    /// Anything else.
    Typed(Typed),
}

impl Meaning {
    /// Its type, when it has one.
    pub(super) fn kind(&self) -> Option<Type> {
        match self {
            Meaning::Literal(_) => None,
            Meaning::Typed(typed) => Some(typed.kind),
        }
    }
}

/// A type in words, for reasons.
pub(super) fn words(kind: Type) -> String {
    let scalar = match kind.scalar {
        Scalar::Bool => "boolean",
        Scalar::Int2 => "smallint",
        Scalar::Int4 => "integer",
        Scalar::Int8 => "bigint",
        Scalar::Numeric => "numeric",
        Scalar::Float4 => "real",
        Scalar::Float8 => "double precision",
        Scalar::Text => "text",
        Scalar::Name => "name",
        Scalar::Uuid => "uuid",
        Scalar::Bytea => "bytea",
        Scalar::Date => "date",
        Scalar::Timestamp => "timestamp",
        Scalar::Timestamptz => "timestamptz",
        Scalar::Interval => "interval",
        Scalar::Json => "json",
        Scalar::Jsonb => "jsonb",
        Scalar::Enum(_) => "an enum",
    };
    if kind.is_array { format!("{scalar}[]") } else { scalar.to_owned() }
}

/// A constant text of a type.
pub(super) fn text(value: &Arc<str>, scalar: Scalar) -> Typed {
    Typed::new(Expr::Const(Value::Text(Arc::clone(value))), Type::of(scalar))
}
