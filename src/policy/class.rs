//! What kind of question a policy is: how much has to be known to answer it. For explanations only; nothing is decided
//! by it.

use super::{
    analyse::Clause,
    expr::{Expr, Lookup},
    facts::{Facts, TableFacts},
    program::Program,
};
use std::fmt::{self, Display, Formatter};

/// A policy's class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class {
    /// What is looked at.
    pub kind: Kind,
    /// Whether the answer changes with time alone.
    pub is_timed: bool,
}

/// What a policy looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Claims and role only: one answer a subscriber.
    Claims,
    /// The row and the claims.
    Row,
    /// The same, where the row names its subscribers: by an equality with one of their values.
    Equality,
    /// One other table.
    Lookup,
    /// Several other tables, or several at once.
    Lookups,
    /// What only the database can answer.
    Database,
}

impl Class {
    /// The class of what needs nothing but to know who it is.
    pub const CLAIMS: Class = Class { kind: Kind::Claims, is_timed: false };
    /// The class of what was not understood.
    pub const DATABASE: Class = Class { kind: Kind::Database, is_timed: false };

    /// The class of a program.
    pub fn of(program: &Program) -> Class {
        let joins = |part: &Expr| matches!(part, Expr::Lookup(lookup) if is_joined(lookup));
        let kind = match program.lookups.len() {
            0 if program.reads.is_empty() => Kind::Claims,
            0 if program.is_keyed() => Kind::Equality,
            0 => Kind::Row,
            1 if !program.predicate.any(&joins) => Kind::Lookup,
            _ => Kind::Lookups,
        };
        Class { kind, is_timed: program.is_timed() }
    }
}

/// A policy as if it were its table's only one: also a restrictive one, which grants nothing by itself.
pub fn alone(facts: &Facts, table: &TableFacts, clause: &Clause) -> Program {
    Program::new(facts, table, vec![Clause { permissive: true, ..clause.clone() }])
}

/// Whether a lookup goes through several tables, or through one more than once.
fn is_joined(lookup: &Lookup) -> bool {
    let is_lookup = |part: &Expr| matches!(part, Expr::Lookup(_));
    lookup.sources.len() > 1 || lookup.parts().into_iter().any(|part| part.any(&is_lookup))
}

impl Display for Class {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            Kind::Claims => "C",
            Kind::Row => "P",
            Kind::Equality => "P-eq",
            Kind::Lookup => "L1",
            Kind::Lookups => "L2",
            Kind::Database => "Q",
        })?;
        f.write_str(if self.is_timed { "+T" } else { "" })
    }
}
