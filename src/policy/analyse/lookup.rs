//! Conditions → lookups: which of them find a table's rows by key, which are checked on each row, and the table's own
//! row level security among them.

use super::{
    names::Naming,
    parse,
    reader::Reader,
    refusal::{Read, Refusal, refuse},
    scope::{Level, Relation, Scopes},
    tree,
};
use crate::policy::{
    catalog::ColumnIndex,
    expr::{ColumnRef, Expr, Lookup, Source},
    facts::{Policy, TableFacts},
    value::Value,
};
use std::sync::Arc;

impl<'a> Reader<'a> {
    /// Takes the tables of the innermost query out of scope again and makes sources of them.
    pub(super) fn leave(&mut self, first: usize, conditions: Vec<Expr>) -> Read<Vec<Source>> {
        let Some(level) = self.scopes.levels.pop() else { return refuse("a sub-select is not read") };
        let all = self.scopes.rows;
        self.scopes.rows = first;
        let mut sources = Vec::new();
        for relation in &level.relations {
            self.check_rights(relation)?;
            let conditions = self.row_security(relation)?;
            sources.push(Source { table: relation.table.oid, keys: Vec::new(), conditions });
        }
        for condition in conditions {
            self.count(&condition)?;
            self.check_safe(&condition)?;
            place(condition, first, all, &mut sources)?;
        }
        Ok(sources)
    }

    /// What row level security adds to a table that is looked up, for the role that looks.
    fn row_security(&self, relation: &Relation) -> Read<Vec<Expr>> {
        let table = &relation.table;
        let role = &self.naming.role;
        let Some(rights) = table.rights.get(role) else {
            return refuse(format!("the rights of role {role} to {} are not known", table.name));
        };
        if rights.sees_all {
            return Ok(Vec::new());
        }
        if self.expanding.contains(&table.oid) {
            return refuse(format!("infinite recursion in the policies of {}.{}", table.schema, table.name));
        }
        let mut permissive = Vec::new();
        let mut all = Vec::new();
        for &index in &rights.policies {
            let Some(policy) = table.policies.get(index) else {
                return refuse(format!("a policy of {} is not known", table.name));
            };
            let Policy { name, permissive: is_permissive, using: Some(text) } = policy else { continue };
            let expr = self.policy_of(table, relation.scope, text).map_err(|Refusal(why)| {
                Refusal(format!("policy \"{name}\" of {}.{}: {why}", table.schema, table.name))
            })?;
            self.count(&expr)?;
            self.check_safe(&expr)?;
            if *is_permissive { permissive.push(expr) } else { tree::conjuncts(expr, &mut all) }
        }
        match permissive.len() {
            0 => all.push(Expr::Const(Value::Bool(false))),
            1 => permissive.into_iter().for_each(|expr| tree::conjuncts(expr, &mut all)),
            _ => all.push(Expr::Or(permissive)),
        }
        Ok(all)
    }

    /// A policy of a table that is looked up, over its rows in this scope.
    fn policy_of(&self, table: &Arc<TableFacts>, scope: usize, text: &str) -> Read<Expr> {
        self.count_text()?;
        let node = parse::expression(text)?;
        let mut expanding = self.expanding.clone();
        expanding.push(table.oid);
        let mut reader = Reader {
            shared: self.shared,
            naming: Naming { is_stored: true, ..self.naming.clone() },
            is_definer: self.is_definer,
            scopes: Scopes { levels: vec![own_row(table, scope, true)], parameters: None, rows: scope + 1 },
            expanding,
            calls: self.calls,
            depth: self.depth,
        };
        reader.condition(&node)
    }

    /// What is checked on rows of other tables must not be an error for any of them: in which order Postgres meets
    /// them, and how many of them, is its own affair.
    fn check_safe(&self, condition: &Expr) -> Read<()> {
        if tree::may_fail(condition, &|lookup| self.is_single(lookup)) {
            refuse("a condition on the rows of other tables may be an error")
        } else {
            Ok(())
        }
    }

    /// Whether no two rows can match.
    pub(super) fn is_single(&self, lookup: &Lookup) -> bool {
        self.finds_one(&lookup.sources)
    }

    /// Whether every source is found by a unique key.
    pub(super) fn finds_one(&self, sources: &[Source]) -> bool {
        sources.iter().all(|source| {
            let Some(table) = self.facts().tables.get(&source.table) else { return false };
            let is_given = |column: &ColumnIndex| source.keys.iter().any(|(given, _)| given == column);
            table.unique_keys.iter().any(|key| !key.is_empty() && key.iter().all(is_given))
        })
    }
}

/// The row a policy is asked about, as the only thing it can name.
pub(super) fn own_row(table: &Arc<TableFacts>, scope: usize, is_lookup: bool) -> Level {
    let relation = Relation {
        alias: table.name.clone(),
        is_unaliased: true,
        table: Arc::clone(table),
        scope,
        read: Default::default(),
        is_lookup,
    };
    Level { relations: vec![relation], visible: 0..1, count: None }
}

/// Puts a condition where everything it needs is in scope: as a key of a source, or among its conditions. It was made
/// with all rows of the query in scope, `all`; lookups in it begin after those that are there now.
fn place(mut condition: Expr, first: usize, all: usize, sources: &mut [Source]) -> Read<()> {
    if let Some((column, is_left)) = key_column(&condition, first, all)
        && let Some(source) = sources.get_mut(column.scope - first)
        && source.keys.iter().all(|(used, _)| *used != column.column)
        && let Expr::Call(_, operands) = &mut condition
        && let Some(mut value) = if is_left { operands.pop() } else { operands.drain(..).next() }
    {
        tree::rebase(&mut value, all, column.scope);
        source.keys.push((column.column, value));
        return Ok(());
    }
    let last = last_scope(&condition, first, all).unwrap_or(first);
    tree::rebase(&mut condition, all, last + 1);
    match sources.get_mut(last - first) {
        Some(source) => source.conditions.push(condition),
        None => return refuse("a sub-select without tables"),
    }
    Ok(())
}

/// The column of a source that a condition gives one value, computable before its rows are, and whether it stands to
/// the left.
fn key_column(condition: &Expr, first: usize, all: usize) -> Option<(ColumnRef, bool)> {
    let Expr::Call(function, operands) = condition else { return None };
    let [left, right] = operands.as_slice() else { return None };
    if !function.is_hash_equality {
        return None;
    }
    let is_key = |one: &Expr, other: &Expr| match one {
        Expr::Column(column) if (first..all).contains(&column.scope) => {
            last_scope(other, first, all).is_none_or(|last| last < column.scope).then_some(*column)
        }
        _ => None,
    };
    is_key(left, right).map(|column| (column, true)).or_else(|| is_key(right, left).map(|column| (column, false)))
}

/// The last of the query's own rows that an expression needs.
fn last_scope(expr: &Expr, first: usize, all: usize) -> Option<usize> {
    let mut last = None;
    tree::columns(expr, &mut |column| {
        if (first..all).contains(&column.scope) {
            last = last.max(Some(column.scope));
        }
    });
    last
}
