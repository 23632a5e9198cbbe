//! Sub-selects: what of rows a query gives, and what is asked of them. The tables they come from are `tables.rs`',
//! which conditions find them and how is `lookup.rs`'.

use super::{
    calls::{self, Callee},
    names,
    reader::{Reader, negation},
    refusal::{Read, refuse},
    select::{self, Plain},
    tree,
    typed::{Meaning, Typed},
};
use crate::policy::{
    expr::{Expr, Lookup, Output, Source},
    functions::{self, Resolved},
    value::{Type, Value},
};
use sqlparser::ast::{self, Query, SelectItem, SelectItemQualifiedWildcardKind, WildcardAdditionalOptions};

/// The rows of tables, with one value each.
#[derive(Debug)]
pub(super) struct Rows {
    /// Where they come from.
    pub(super) sources: Vec<Source>,
    /// The scope of the first source.
    pub(super) first_scope: usize,
    /// The value, computable with all sources in scope.
    pub(super) value: Typed,
    /// Whether there is never more than one.
    pub(super) is_single: bool,
    /// Whether equal ones count once.
    pub(super) is_distinct: bool,
}

impl Rows {
    /// The lookup that makes this of them, and the value it was made of.
    pub(super) fn lookup(self, output: impl FnOnce(&Typed) -> Output) -> (Expr, Typed) {
        let output = output(&self.value);
        let lookup = Lookup { sources: self.sources, first_scope: self.first_scope, output };
        (Expr::Lookup(Box::new(lookup)), self.value)
    }
}

/// What a query gives.
#[derive(Debug)]
pub(super) enum Gathered {
    /// One row, computed from nothing but its surroundings.
    One(Meaning),
    /// The elements of an array, which is never NULL.
    Elements(Typed),
    /// Rows of tables.
    Rows(Rows),
}

impl Reader<'_> {
    /// The rows of a query that selects one thing.
    pub(super) fn gather(&mut self, query: &Query) -> Read<Gathered> {
        let plain = select::plain(query)?;
        let item = one_item(plain.items)?;
        if plain.from.is_empty() {
            return self.without_tables(&plain, item);
        }
        if let Some(call) = self.table_function(&plain, false)? {
            return Ok(call);
        }
        let Item::One(item) = item else { return refuse("* in a sub-select that selects values") };
        let first = self.scopes.rows;
        let conditions = self.enter(&plain)?;
        if has_count(item) {
            return self.aggregate(&plain, item, first, conditions);
        }
        let value = self.typed(item)?;
        self.check_order(&plain)?;
        if tree::may_fail(&value.expr, &|lookup| self.is_single(lookup)) {
            return refuse("what a sub-select gives may be an error");
        }
        if value.is_unordered {
            return refuse("a list in no order is asked for more than what is in it");
        }
        let sources = self.leave(first, conditions)?;
        let is_single = self.finds_one(&sources);
        if plain.is_limited && !is_single {
            return refuse("LIMIT is not read");
        }
        let is_distinct = plain.is_distinct;
        Ok(Gathered::Rows(Rows { sources, first_scope: first, value, is_single, is_distinct }))
    }

    /// `select count(*) ... from ...`: one row whatever is found.
    fn aggregate(
        &mut self,
        plain: &Plain<'_>,
        item: &ast::Expr,
        first: usize,
        conditions: Vec<Expr>,
    ) -> Read<Gathered> {
        if !plain.order.is_empty() {
            return refuse("ORDER BY is not read");
        }
        let Some(level) = self.scopes.levels.last().cloned() else { return refuse("a sub-select is not read") };
        let sources = self.leave(first, conditions)?;
        let lookup = Lookup { sources, first_scope: first, output: Output::Count };
        let count = Some(Expr::Lookup(Box::new(lookup)));
        self.scopes.levels.push(super::scope::Level { count, ..level });
        let meaning = self.meaning(item)?;
        self.scopes.levels.pop();
        Ok(Gathered::One(meaning))
    }

    fn without_tables(&mut self, plain: &Plain<'_>, item: Item<'_>) -> Read<Gathered> {
        if plain.condition.is_some() {
            return refuse("WHERE without FROM");
        }
        if plain.is_limited || !plain.order.is_empty() {
            return refuse("ORDER BY and LIMIT without FROM");
        }
        match item {
            Item::One(item) => self.row_value(item),
            Item::Star => refuse("* without FROM"),
        }
    }

    /// A value in a select list, where a function may give a set.
    fn row_value(&mut self, item: &ast::Expr) -> Read<Gathered> {
        let ast::Expr::Function(function) = item else { return self.meaning(item).map(Gathered::One) };
        let is_special = calls::array_query(function).is_some()
            || calls::is_count(function)
            || names::bare_word(&function.name).is_some_and(|word| names::has_call_syntax(&word));
        if is_special {
            return self.meaning(item).map(Gathered::One);
        }
        let callee = self.callee(&calls::plain(function)?)?;
        self.set_of(callee)
    }

    /// What a call gives where it may give a set.
    pub(super) fn set_of(&mut self, callee: Callee) -> Read<Gathered> {
        match callee {
            Callee::Ours(function, arguments) if function.returns_set => self.inlined_set(&function, arguments),
            Callee::Ours(function, arguments) => {
                self.inlined(&function, arguments).map(|typed| Gathered::One(Meaning::Typed(typed)))
            }
            Callee::Builtin(name, arguments) => {
                let typing = self.typing();
                let settled: Vec<Typed> =
                    arguments.iter().cloned().map(|one| typing.settled(one)).collect::<Read<_>>()?;
                let kinds: Vec<Type> = settled.iter().map(|argument| argument.kind).collect();
                match functions::set_function(&name, &kinds) {
                    Some(found) => self.elements(&name, found, settled).map(Gathered::Elements),
                    None => {
                        let typed = self.builtin_call(&name, arguments)?;
                        Ok(Gathered::One(Meaning::Typed(typed)))
                    }
                }
            }
        }
    }

    /// The array of a set-returning function's rows. Of NULL there are none.
    fn elements(&self, name: &str, found: Resolved, arguments: Vec<Typed>) -> Read<Typed> {
        if self.facts().restricted_builtins.contains(name) {
            return refuse(format!("not everybody may execute function {name}"));
        }
        let array = self.typing().call(found, arguments)?;
        let none = Expr::Const(Value::Array(Vec::new().into()));
        let expr = if found.function.is_strict { Expr::Coalesce(vec![array.expr, none]) } else { array.expr };
        Ok(Typed { expr, ..array })
    }

    /// `[not] exists (...)`.
    pub(super) fn exists(&mut self, query: &Query, negated: bool) -> Read<Meaning> {
        let plain = select::plain(query)?;
        if plain.from.is_empty() {
            return refuse("EXISTS without FROM");
        }
        if plain.items.iter().any(|item| matches!(item, SelectItem::UnnamedExpr(item) if has_count(item))) {
            return refuse("EXISTS of an aggregate");
        }
        let first = self.scopes.rows;
        if let Some(gathered) = self.table_function(&plain, true)? {
            return self.exists_of(gathered).map(|found| said(found, negated));
        }
        let conditions = self.enter(&plain)?;
        for item in plain.items {
            self.selected(item)?;
        }
        self.check_order(&plain)?;
        let sources = self.leave(first, conditions)?;
        let lookup = Lookup { sources, first_scope: first, output: Output::Exists };
        Ok(said(Typed::boolean(Expr::Lookup(Box::new(lookup))), negated))
    }

    fn exists_of(&self, gathered: Gathered) -> Read<Typed> {
        match gathered {
            Gathered::Rows(rows) => Ok(Typed::boolean(rows.lookup(|_| Output::Exists).0)),
            _ => refuse("EXISTS of a function"),
        }
    }

    /// What EXISTS selects is not computed, but must be readable.
    fn selected(&mut self, item: &SelectItem) -> Read<()> {
        let read = match item {
            SelectItem::UnnamedExpr(ast::Expr::Value(_)) => return Ok(()),
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, alias: _ } => {
                if let SelectItem::ExprWithAlias { alias, expr: _ } = item {
                    check_alias(alias)?;
                }
                let typed = self.typed(expr)?;
                return if tree::may_fail(&typed.expr, &|lookup| self.is_single(lookup)) {
                    refuse("what a sub-select gives may be an error")
                } else {
                    Ok(())
                };
            }
            SelectItem::Wildcard(options) if is_plain_wildcard(options) => None,
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options)
                if is_plain_wildcard(options) =>
            {
                match names::parts(name)?.as_slice() {
                    [alias] => Some(alias.clone()),
                    _ => return refuse("a qualified * with a schema"),
                }
            }
            _ => return refuse("a select list that is not read"),
        };
        let Some(level) = self.scopes.levels.last_mut() else { return refuse("a sub-select is not read") };
        let mut is_known = read.is_none();
        for relation in &mut level.relations {
            if read.as_ref().is_none_or(|alias| *alias == relation.alias) {
                is_known = true;
                relation.read.extend(0..relation.table.columns.len());
            }
        }
        if is_known { Ok(()) } else { refuse("* of a table that is not in FROM") }
    }

    /// ORDER BY where the order decides nothing: it must be readable and never an error.
    fn check_order(&mut self, plain: &Plain<'_>) -> Read<()> {
        for expr in &plain.order {
            if matches!(expr, ast::Expr::Value(_)) {
                continue;
            }
            let typed = self.typed(expr)?;
            if tree::may_fail(&typed.expr, &|lookup| self.is_single(lookup)) {
                return refuse("ORDER BY may be an error");
            }
        }
        Ok(())
    }

    /// `left operator any (select ...)`.
    pub(super) fn any_query(&mut self, name: &str, left: &ast::Expr, query: &Query) -> Read<Typed> {
        let left = self.meaning(left)?;
        match self.gather(query)? {
            Gathered::One(value) => self.typing().binary(name, left, value),
            Gathered::Elements(array) => self.typing().any_all(name, left, Meaning::Typed(array), false),
            Gathered::Rows(rows) => {
                let value = Meaning::Typed(rows.value.clone());
                let (comparison, left, value) = self.typing().comparison(name, left, value)?;
                let is_unsure = comparison.may_fail
                    || tree::may_fail(&left.expr, &|lookup| self.is_single(lookup))
                    || tree::may_fail(&value.expr, &|lookup| self.is_single(lookup));
                if is_unsure {
                    // Postgres computes neither where there are no rows.
                    return refuse("a comparison with a sub-select may be an error");
                }
                let output = |_: &Typed| Output::Any { comparison, left: left.expr, value: value.expr };
                Ok(Typed::boolean(rows.lookup(output).0))
            }
        }
    }

    /// `array(select ...)`.
    pub(super) fn array_of_query(&mut self, query: &Query) -> Read<Typed> {
        match self.gather(query)? {
            Gathered::One(value) => {
                let value = self.typing().settled(value)?;
                if value.kind.is_array {
                    return refuse("arrays of arrays are not computed with");
                }
                let kind = Type::array(value.kind.scalar);
                Ok(Typed::derived(Expr::Array(vec![value.expr]), kind, value.collating))
            }
            Gathered::Elements(array) => Ok(array),
            Gathered::Rows(rows) if rows.value.kind.is_array => refuse("arrays of arrays are not computed with"),
            Gathered::Rows(rows) => {
                let (lookup, value) = rows.lookup(|value| Output::Array(value.expr.clone()));
                let kind = Type::array(value.kind.scalar);
                Ok(Typed { is_unordered: true, ..Typed::derived(lookup, kind, value.collating) })
            }
        }
    }

    /// `(select ...)` as a value.
    pub(super) fn scalar_query(&mut self, query: &Query) -> Read<Meaning> {
        match self.gather(query)? {
            Gathered::One(value) => {
                let value = self.typing().settled(value)?;
                // What looks into tables, or at rows outside, is computed for each of them anyway.
                let is_constant = !value.expr.any(&|part| matches!(part, Expr::Column(_) | Expr::Lookup(_)));
                if !is_constant {
                    return Ok(Meaning::Typed(value));
                }
                Ok(Meaning::Typed(Typed { expr: Expr::Lazy(Box::new(value.expr)), ..value }))
            }
            Gathered::Rows(rows) if rows.is_distinct && !rows.is_single => refuse("DISTINCT where one value is wanted"),
            Gathered::Rows(rows) => {
                let (lookup, value) = rows.lookup(|value| Output::Scalar(value.expr.clone()));
                Ok(Meaning::Typed(Typed { expr: lookup, ..value }))
            }
            Gathered::Elements(_) => refuse("a set where one value is wanted"),
        }
    }
}

fn said(found: Typed, negated: bool) -> Meaning {
    Meaning::Typed(if negated { negation(found) } else { found })
}

/// The only thing a query selects.
#[derive(Clone, Copy, Debug)]
enum Item<'q> {
    /// `*`.
    Star,
    /// An expression.
    One(&'q ast::Expr),
}

fn one_item(items: &[SelectItem]) -> Read<Item<'_>> {
    match items {
        [SelectItem::UnnamedExpr(expr)] => Ok(Item::One(expr)),
        [SelectItem::ExprWithAlias { expr, alias }] => {
            check_alias(alias)?;
            Ok(Item::One(expr))
        }
        [SelectItem::Wildcard(options)] if is_plain_wildcard(options) => Ok(Item::Star),
        _ => refuse("a sub-select of more than one column"),
    }
}

/// What follows an expression may be an operator in Postgres and only an alias to the parser, such as `isnull`, or part
/// of a constant that goes on.
pub(super) fn check_alias(alias: &ast::Ident) -> Read<()> {
    names::identifier(alias).map(|_| ())
}

fn is_plain_wildcard(options: &WildcardAdditionalOptions) -> bool {
    let WildcardAdditionalOptions {
        wildcard_token: _,
        opt_ilike,
        opt_exclude,
        opt_except,
        opt_replace,
        opt_rename,
        opt_alias,
    } = options;
    opt_ilike.is_none()
        && opt_exclude.is_none()
        && opt_except.is_none()
        && opt_replace.is_none()
        && opt_rename.is_none()
        && opt_alias.is_none()
}

/// Whether a select list's item is an aggregate of its own query. What is not looked into here is refused when
/// `count(*)` is met in it.
fn has_count(node: &ast::Expr) -> bool {
    use ast::Expr as E;
    match node {
        E::Function(function) => {
            calls::is_count(function)
                || calls::plain(function)
                    .is_ok_and(|call| call.arguments.is_some_and(|arguments| arguments.into_iter().any(has_count)))
        }
        E::Nested(inner) | E::Cast { expr: inner, .. } | E::UnaryOp { expr: inner, .. } => has_count(inner),
        E::BinaryOp { left, op: _, right } => has_count(left) || has_count(right),
        E::Case { case_token: _, end_token: _, operand, conditions, else_result } => {
            operand.as_deref().is_some_and(has_count)
                || conditions.iter().any(|branch| has_count(&branch.condition) || has_count(&branch.result))
                || else_result.as_deref().is_some_and(has_count)
        }
        _ => false,
    }
}
