//! A query taken apart into the few clauses that are read. Every other one is refused by name: nothing of the tree is
//! passed over in silence.

use super::refusal::{Read, refuse};
use sqlparser::ast::{
    Distinct, Expr, GroupByExpr, LimitClause, OrderBy, OrderByKind, Query, Select, SelectFlavor, SelectItem, SetExpr,
    TableWithJoins, Value, ValueWithSpan,
};

/// A plain SELECT.
#[derive(Debug)]
pub(super) struct Plain<'q> {
    /// What it selects.
    pub(super) items: &'q [SelectItem],
    /// FROM.
    pub(super) from: &'q [TableWithJoins],
    /// WHERE.
    pub(super) condition: Option<&'q Expr>,
    /// ORDER BY, whose direction is of no matter where it stands alone.
    pub(super) order: Vec<&'q Expr>,
    /// Whether `LIMIT 1` stands at the end.
    pub(super) is_limited: bool,
    /// DISTINCT: of no matter for membership and existence, but it may make one row of several.
    pub(super) is_distinct: bool,
}

/// Takes a query apart.
pub(super) fn plain(query: &Query) -> Read<Plain<'_>> {
    let Query { with, body, order_by, limit_clause, fetch, locks, for_clause, settings, format_clause, pipe_operators } =
        query;
    if with.is_some() {
        return refuse("WITH is not read");
    }
    if fetch.is_some() {
        return refuse("FETCH FIRST is not read");
    }
    if !locks.is_empty() || for_clause.is_some() {
        return refuse("FOR UPDATE and the like are not read");
    }
    if settings.is_some() || format_clause.is_some() || !pipe_operators.is_empty() {
        return refuse("a clause of the query is not read");
    }
    let select = match &**body {
        SetExpr::Select(select) => select,
        SetExpr::Query(inner) if order_by.is_none() && limit_clause.is_none() => return plain(inner),
        SetExpr::Query(_) => return refuse("a query in parentheses with clauses behind it"),
        SetExpr::SetOperation { op, .. } => return refuse(format!("{op} is not read")),
        SetExpr::Values(_) => return refuse("VALUES is not read"),
        _ => return refuse("a sub-select that is no SELECT"),
    };
    let order = order(order_by.as_ref())?;
    Ok(Plain { order, is_limited: limit(limit_clause.as_ref())?, ..clauses(select)? })
}

fn clauses(select: &Select) -> Read<Plain<'_>> {
    let Select {
        select_token: _,
        optimizer_hints: _,
        distinct,
        select_modifiers,
        top,
        top_before_distinct: _,
        projection,
        exclude,
        into,
        from,
        lateral_views,
        prewhere,
        selection,
        connect_by,
        group_by,
        cluster_by,
        distribute_by,
        sort_by,
        having,
        named_window,
        qualify,
        window_before_qualify: _,
        value_table_mode,
        flavor,
    } = select;
    let is_distinct = match distinct {
        None | Some(Distinct::All) => false,
        Some(Distinct::Distinct) => true,
        Some(Distinct::On(_)) => return refuse("DISTINCT ON is not read"),
    };
    let is_grouped = match group_by {
        GroupByExpr::Expressions(expressions, modifiers) => !expressions.is_empty() || !modifiers.is_empty(),
        GroupByExpr::All(_) => true,
    };
    if is_grouped || having.is_some() {
        return refuse("GROUP BY and HAVING are not read");
    }
    if !named_window.is_empty() {
        return refuse("WINDOW is not read");
    }
    if into.is_some() {
        return refuse("SELECT INTO is not read");
    }
    let is_foreign = select_modifiers.is_some()
        || top.is_some()
        || exclude.is_some()
        || !lateral_views.is_empty()
        || prewhere.is_some()
        || !connect_by.is_empty()
        || !cluster_by.is_empty()
        || !distribute_by.is_empty()
        || !sort_by.is_empty()
        || qualify.is_some()
        || value_table_mode.is_some()
        || *flavor != SelectFlavor::Standard;
    if is_foreign {
        return refuse("a clause of the query is not read");
    }
    let condition = selection.as_ref();
    Ok(Plain { items: projection, from, condition, order: Vec::new(), is_limited: false, is_distinct })
}

fn order(order_by: Option<&OrderBy>) -> Read<Vec<&Expr>> {
    let Some(OrderBy { kind, interpolate }) = order_by else { return Ok(Vec::new()) };
    match kind {
        OrderByKind::Expressions(expressions) if interpolate.is_none() => {
            let plain = expressions.iter().map(|one| match one.with_fill {
                None => Ok(&one.expr),
                Some(_) => refuse("ORDER BY is not read"),
            });
            plain.collect()
        }
        _ => refuse("ORDER BY is not read"),
    }
}

/// Whether there is a LIMIT, which may only be 1.
fn limit(clause: Option<&LimitClause>) -> Read<bool> {
    match clause {
        None => Ok(false),
        Some(LimitClause::LimitOffset { limit: None, offset: None, limit_by }) if limit_by.is_empty() => Ok(false),
        Some(LimitClause::LimitOffset { limit: Some(Expr::Value(limit)), offset: None, limit_by })
            if limit_by.is_empty() =>
        {
            let ValueWithSpan { value, span: _ } = limit;
            match value {
                Value::Number(digits, false) if digits == "1" => Ok(true),
                _ => refuse("LIMIT is not read"),
            }
        }
        Some(_) => refuse("LIMIT and OFFSET are not read"),
    }
}
