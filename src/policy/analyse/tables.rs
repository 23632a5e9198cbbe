//! FROM: the tables of a sub-select, joined inside, and whether the role may read them and we can follow them.

use super::{
    calls::Call,
    names,
    reader::Reader,
    refusal::{Read, refuse},
    scope::{Level, Relation},
    select::Plain,
    subquery::{Gathered, check_alias},
    tree,
};
use crate::policy::{expr::Expr, facts::TableFacts};
use sqlparser::ast::{
    self, FunctionArg, FunctionArgExpr, Ident, Join, JoinConstraint, JoinOperator, ObjectName, SelectItem, TableAlias,
    TableFactor, TableFunctionArgs, TableWithJoins,
};
use std::{collections::BTreeSet, ops::Range, sync::Arc};

/// A condition of ON and the tables it sees.
type On<'q> = (&'q ast::Expr, Range<usize>);

impl Reader<'_> {
    /// Brings the tables of FROM into scope. What comes back are the conditions of ON and WHERE.
    pub(super) fn enter(&mut self, plain: &Plain<'_>) -> Read<Vec<Expr>> {
        let mut level = Level::default();
        let mut joins = Vec::new();
        for item in plain.from {
            self.joined(item, &mut level, &mut joins)?;
        }
        let count = level.relations.len();
        self.scopes.rows += count;
        self.scopes.levels.push(level);
        let mut conditions = Vec::new();
        for (condition, visible) in joins {
            self.see(visible);
            tree::conjuncts(self.condition(condition)?, &mut conditions);
        }
        self.see(0..count);
        if let Some(condition) = plain.condition {
            tree::conjuncts(self.condition(condition)?, &mut conditions);
        }
        Ok(conditions)
    }

    fn see(&mut self, visible: Range<usize>) {
        if let Some(level) = self.scopes.levels.last_mut() {
            level.visible = visible;
        }
    }

    fn joined<'q>(&self, item: &'q TableWithJoins, level: &mut Level, ons: &mut Vec<On<'q>>) -> Read<()> {
        let TableWithJoins { relation, joins } = item;
        let start = level.relations.len();
        self.factor(relation, level, ons)?;
        for Join { relation, global, join_operator } in joins {
            if *global {
                return refuse("GLOBAL JOIN is not read");
            }
            self.factor(relation, level, ons)?;
            match join_operator {
                JoinOperator::Join(JoinConstraint::On(condition))
                | JoinOperator::Inner(JoinConstraint::On(condition)) => {
                    ons.push((condition, start..level.relations.len()));
                }
                JoinOperator::CrossJoin(JoinConstraint::None) => {}
                JoinOperator::Join(_) | JoinOperator::Inner(_) => return refuse("JOIN with USING or NATURAL"),
                _ => return refuse("a join that is not an inner one"),
            }
        }
        Ok(())
    }

    fn factor<'q>(&self, factor: &'q TableFactor, level: &mut Level, ons: &mut Vec<On<'q>>) -> Read<()> {
        match factor {
            TableFactor::NestedJoin { table_with_joins, alias: None } => self.joined(table_with_joins, level, ons),
            TableFactor::NestedJoin { .. } => refuse("a join with a name"),
            TableFactor::Table {
                name,
                alias,
                args: None,
                with_hints,
                version: None,
                with_ordinality: false,
                partitions,
                json_path: None,
                sample: None,
                index_hints,
            } if with_hints.is_empty() && partitions.is_empty() && index_hints.is_empty() => {
                self.table(name, alias.as_ref(), level)
            }
            TableFactor::Table { args: Some(_), .. } | TableFactor::Function { .. } | TableFactor::UNNEST { .. } => {
                refuse("a function in FROM beside others")
            }
            TableFactor::Derived { .. } => refuse("a sub-select in FROM"),
            _ => refuse("something in FROM that is no plain table"),
        }
    }

    fn table(&self, name: &ObjectName, alias: Option<&TableAlias>, level: &mut Level) -> Read<()> {
        let parts = names::parts(name)?;
        let table = self.naming.table(self.facts(), &parts)?;
        // Whether the stream carries its changes is decided where the publications are known.
        if !table.is_ordinary {
            return refuse(format!("{}.{} is no ordinary table", table.schema, table.name));
        }
        let alias = match alias {
            None => None,
            Some(alias) => match alias_of(alias)? {
                (name, columns) if columns.is_empty() => Some(name),
                _ => return refuse("a table whose columns are renamed"),
            },
        };
        let is_unaliased = alias.is_none();
        let alias = alias.unwrap_or_else(|| table.name.clone());
        if level.relations.iter().any(|relation| relation.alias == alias) {
            return refuse(format!("several tables are called {alias}"));
        }
        let scope = self.scopes.rows + level.relations.len();
        level.relations.push(Relation {
            alias,
            is_unaliased,
            table: Arc::clone(table),
            scope,
            read: BTreeSet::new(),
            is_lookup: true,
        });
        Ok(())
    }

    /// Whether the role may read what was read of a table.
    pub(super) fn check_rights(&self, relation: &Relation) -> Read<()> {
        let TableFacts { schema, name, columns, rights, .. } = &*relation.table;
        let role = &self.naming.role;
        let Some(rights) = rights.get(role) else {
            return refuse(format!("the rights of role {role} to {schema}.{name} are not known"));
        };
        let may = |column: usize| rights.select.get(column).copied().unwrap_or(false);
        // A query that names no column needs the right to any one.
        if relation.read.is_empty() && !(0..columns.len()).any(may) {
            return refuse(format!("role {role} has no SELECT on {schema}.{name}"));
        }
        match relation.read.iter().copied().find(|&column| !may(column)) {
            None => Ok(()),
            Some(column) => {
                let column = columns.get(column).map_or("", |column| &column.name);
                refuse(format!("role {role} has no SELECT on column {column} of {schema}.{name}"))
            }
        }
    }

    /// FROM of nothing but a call, of which all columns are selected, which is one: what the call gives. For EXISTS a
    /// constant may be selected as well.
    pub(super) fn table_function(&mut self, plain: &Plain<'_>, is_existence: bool) -> Read<Option<Gathered>> {
        let [TableWithJoins { relation, joins }] = plain.from else { return Ok(None) };
        let TableFactor::Table {
            name,
            alias,
            args: Some(TableFunctionArgs { args, settings: None }),
            with_hints,
            version: None,
            with_ordinality: false,
            partitions,
            json_path: None,
            sample: None,
            index_hints,
        } = relation
        else {
            return Ok(None);
        };
        let is_plain = joins.is_empty() && with_hints.is_empty() && partitions.is_empty() && index_hints.is_empty();
        if !is_plain || plain.condition.is_some() || plain.is_limited || !plain.order.is_empty() {
            return refuse("a function in FROM with other clauses");
        }
        let parts = names::parts(name)?;
        let Some(own) = parts.last().cloned() else { return Ok(None) };
        let (alias, columns) = match alias {
            None => (own.clone(), Vec::new()),
            Some(alias) => alias_of(alias)?,
        };
        // `jsonb_array_elements_text` and its like name their column.
        let column = match (columns.as_slice(), own.ends_with("_elements") || own.ends_with("_elements_text")) {
            ([], true) => "value".to_owned(),
            ([], false) => alias.clone(),
            ([column], _) => column.clone(),
            _ => return refuse("a function in FROM with several columns"),
        };
        let is_constant = matches!(plain.items, [SelectItem::UnnamedExpr(ast::Expr::Value(_))]);
        let is_read = (is_existence && is_constant) || selects_only(plain.items, &alias, &column)?;
        if !is_read {
            return refuse("a function in FROM of which something else is selected");
        }
        let arguments = args.iter().map(|argument| match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Ok(expr),
            _ => refuse("a function in FROM with special arguments"),
        });
        let arguments = Some(arguments.collect::<Read<Vec<_>>>()?);
        if names::bare_word(name).is_some_and(|word| names::has_call_syntax(&word)) {
            return refuse("a function in FROM that is not read");
        }
        let callee = self.callee(&Call { name, arguments })?;
        match self.set_of(callee)? {
            // A function in FROM that returns one value gives one row.
            gathered @ (Gathered::Rows(_) | Gathered::Elements(_)) => Ok(Some(gathered)),
            Gathered::One(_) => refuse("a function in FROM that returns one value"),
        }
    }
}

fn alias_of(alias: &TableAlias) -> Read<(String, Vec<String>)> {
    let TableAlias { explicit: _, name, columns, at } = alias;
    if at.is_some() || columns.iter().any(|column| column.data_type.is_some()) {
        return refuse("an alias that is not read");
    }
    let columns = columns.iter().map(|column| names::identifier(&column.name)).collect::<Read<Vec<_>>>()?;
    Ok((names::identifier(name)?, columns))
}

/// Whether a select list is the only column of a function in FROM.
fn selects_only(items: &[SelectItem], alias: &str, column: &str) -> Read<bool> {
    let expr = match items {
        [SelectItem::Wildcard(_)] => return Ok(true),
        [SelectItem::UnnamedExpr(expr)] => expr,
        [SelectItem::ExprWithAlias { expr, alias }] => {
            check_alias(alias)?;
            expr
        }
        _ => return Ok(false),
    };
    let named = |idents: &[Ident]| idents.iter().map(names::identifier).collect::<Read<Vec<_>>>();
    Ok(match expr {
        ast::Expr::Identifier(ident) => names::identifier(ident)? == column,
        ast::Expr::CompoundIdentifier(idents) => named(idents)? == [alias, column],
        _ => false,
    })
}
