//! SQL of policies → expressions: parsed by `sqlparser`, names resolved in `Facts`, types and rights checked, functions
//! and the row level security of other tables put in their places. What is not proved to mean the same as in Postgres
//! is refused with the reason, and then the database decides.
//!
//! ```text
//!  text ─parse─> tree (precedence checked) ─reader─> typed expression
//!                     conditions, calls ─┘│└─ subquery ─ tables ─ lookup (keys, conditions, row level security)
//!                                inline ──┘  (bodies of functions: a reader of their own)
//! ```

mod calls;
mod conditions;
mod inline;
mod lookup;
mod mentioned;
mod names;
mod parse;
mod precedence;
mod reader;
mod refusal;
mod scope;
mod select;
mod subquery;
mod tables;
mod tree;
mod typed;
mod types;
mod typing;

#[cfg(test)]
mod tests;

use super::{
    expr::Expr,
    facts::{Facts, Policy, TableFacts, TableRights},
};
use names::Naming;
use reader::{Reader, Shared};
use refusal::{Read, Refusal, refuse};
use scope::Scopes;
use std::{cell::Cell, collections::BTreeSet, sync::Arc};

/// How many parts an expression may have: beyond that it is slower here than it is worth.
const MAX_SIZE: usize = 2_000;

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

/// What the policies of a table say for a role. A role whose rights are not known is the database's.
pub fn ruling(facts: &Facts, table: &TableFacts, role: &Arc<str>) -> Ruling {
    on_own_stack(|| ruled(facts, table, role, false)).unwrap_or_else(|| Ruling::Database(Vec::new()))
}

/// What the policies of `realtime.messages` say of private channels for a role: topic and headers are known to them.
pub fn channel_ruling(facts: &Facts, table: &TableFacts, role: &Arc<str>) -> Ruling {
    on_own_stack(|| ruled(facts, table, role, true)).unwrap_or_else(|| Ruling::Database(Vec::new()))
}

/// Parsing takes some tens of KiB for every parenthesis, and bodies of functions are parsed inside of what calls them:
/// more than the thread that asks may have left. Memory is taken only as far as it is used.
const STACK: usize = 32 << 20;

fn on_own_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("policy".to_owned()).stack_size(STACK);
        thread.spawn_scoped(scope, work).ok()?.join().ok()
    })
}

fn ruled(facts: &Facts, table: &TableFacts, role: &Arc<str>, is_channel: bool) -> Ruling {
    let Some(TableRights { sees_all, policies, select: _ }) = table.rights.get(role) else {
        return Ruling::Database(Vec::new());
    };
    if *sees_all {
        return Ruling::All;
    }
    let own = Arc::new(table.clone());
    let mut clauses = Vec::new();
    for &index in policies {
        let Some(policy) = table.policies.get(index) else { return Ruling::Database(Vec::new()) };
        let Some(text) = &policy.using else { continue };
        let expr = own_expression(facts, &own, role, text, is_channel);
        clauses.push(clause(policy, text, expr));
    }
    let name = |clause: &Result<Clause, Unprovable>| match clause {
        Ok(clause) => clause.policy.clone(),
        Err(unprovable) => unprovable.policy.clone(),
    };
    clauses.sort_by_key(name);
    let grants = policies.iter().filter_map(|&index| table.policies.get(index));
    if !grants.into_iter().any(|policy| policy.permissive && policy.using.is_some()) {
        return Ruling::None;
    }
    match clauses.iter().cloned().collect::<Result<Vec<_>, _>>() {
        Ok(clauses) => Ruling::Clauses(clauses),
        Err(_) => Ruling::Database(clauses),
    }
}

fn clause(policy: &Policy, text: &str, expr: Read<Expr>) -> Result<Clause, Unprovable> {
    let Policy { name, permissive, using: _ } = policy;
    match expr {
        Ok(expr) => Ok(Clause { policy: name.clone(), permissive: *permissive, text: text.to_owned(), expr }),
        Err(Refusal(why)) => Err(Unprovable { policy: name.clone(), why }),
    }
}

/// What a policy's text says of the row in scope 0.
fn own_expression(facts: &Facts, table: &Arc<TableFacts>, role: &Arc<str>, text: &str, is_channel: bool) -> Read<Expr> {
    let shared = Shared { facts, is_channel, work: Cell::new(0) };
    let node = parse::expression(text)?;
    let mut reader = Reader {
        shared: &shared,
        naming: Naming { is_stored: true, role: Arc::clone(role), search_path: facts.search_path.clone() },
        is_definer: false,
        scopes: Scopes { levels: vec![lookup::own_row(table, 0, false)], parameters: None, rows: 1 },
        expanding: vec![table.oid],
        calls: 0,
        depth: 0,
    };
    let expr = reader.condition(&node)?;
    if tree::size(&expr) > MAX_SIZE { refuse("the expression is too large") } else { Ok(expr) }
}

/// The last parts of the names of tables and functions that a policy's text or a function's body mentions, built-in
/// ones included: what `Facts` must know. A text that cannot be parsed mentions nothing.
pub fn mentioned(sql: &str) -> BTreeSet<String> {
    on_own_stack(|| mentioned::names(sql)).unwrap_or_default()
}
