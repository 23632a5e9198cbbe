//! Computes expressions: SQL's three values, left to right, and a stop where there is no answer. Pure.
//!
//! What the image lacks (`Stop::Absent`) is neither true nor false, and not NULL: a part that has it counts only where
//! the rest does not decide without it. A part that Postgres would fail on stops everything that reaches it.

use super::{
    catalog::ColumnIndex,
    expr::{ColumnRef, Expr, Lookup, Output, Source},
    functions::{Context, Function},
    lookup::{LookupRow, Lookups},
    topic::ChannelUser,
    value::{Stop, Value},
};
use std::{cell::Cell, sync::Arc};

/// Rows of other tables that one judgement looks at, at most. Beyond that the row is hidden: nothing may be made to
/// compute for ever.
const ROWS_A_JUDGEMENT: usize = 200_000;

/// The judged row.
pub(super) trait Judged {
    /// The value of a column.
    fn value(&self, column: ColumnIndex) -> Result<Value, Stop>;
}

/// What an expression is computed in.
pub(super) struct Env<'a> {
    /// The judged row; none while a subscriber is bound.
    pub(super) row: Option<&'a dyn Judged>,
    /// The values of parameters; empty while they are being computed.
    pub(super) arguments: &'a [Result<Value, Stop>],
    /// The text of the claims and the role, while parameters are computed.
    pub(super) claims: Option<(&'a Arc<str>, &'a Arc<str>)>,
    pub(super) lookups: &'a Lookups,
    pub(super) context: Context,
    /// Who asks for a private channel, while parameters of its policies are computed.
    pub(super) channel: Option<&'a ChannelUser>,
    /// The rows of lookups by scope, from 1.
    scopes: Vec<Option<LookupRow<'a>>>,
    left: Cell<usize>,
}

type Computed = Result<Value, Stop>;

impl<'a> Env<'a> {
    pub(super) fn new(
        row: Option<&'a dyn Judged>,
        arguments: &'a [Result<Value, Stop>],
        lookups: &'a Lookups,
        now: i64,
    ) -> Env<'a> {
        let context = Context { now };
        Env {
            row,
            arguments,
            claims: None,
            channel: None,
            lookups,
            context,
            scopes: Vec::new(),
            left: Cell::new(ROWS_A_JUDGEMENT),
        }
    }

    /// The rows of a source that its keys find; none when there is no answer yet.
    pub(super) fn rows(
        &mut self,
        table: u32,
        keys: impl Iterator<Item = (usize, Computed)>,
    ) -> Result<Option<Rows<'a>>, Stop> {
        if !self.lookups.is_ready(table) {
            return Err(Stop::Unsupported);
        }
        let mut by_column: Vec<(usize, Value)> = Vec::new();
        for (column, value) in keys {
            match value? {
                Value::Null => return Ok(None),
                value => by_column.push((column, value)),
            }
        }
        by_column.sort_by_key(|(column, _)| *column);
        let twice = by_column.windows(2).any(|pair| pair[0].0 == pair[1].0 && pair[0].1 != pair[1].1);
        if twice {
            return Ok(None);
        }
        by_column.dedup_by_key(|(column, _)| *column);
        let (columns, values): (Vec<usize>, Vec<Value>) = by_column.into_iter().unzip();
        Ok(Some(self.lookups.find(table, &columns, &values)))
    }

    /// Puts a row in scope, and gives back what was there.
    pub(super) fn place(&mut self, scope: usize, row: Option<LookupRow<'a>>) -> Option<LookupRow<'a>> {
        let at = scope.checked_sub(1)?;
        if self.scopes.len() <= at {
            self.scopes.resize(at + 1, None);
        }
        self.scopes.get_mut(at).and_then(|place| std::mem::replace(place, row))
    }

    /// Counts a row that was looked at.
    pub(super) fn step(&self) -> Result<(), Stop> {
        let left = self.left.get().checked_sub(1).ok_or(Stop::Unsupported)?;
        self.left.set(left);
        Ok(())
    }

    /// Computes an expression.
    pub(super) fn eval(&mut self, expr: &Expr) -> Computed {
        match expr {
            Expr::Const(value) => Ok(value.clone()),
            Expr::Column(column) => self.column(*column),
            Expr::Claims => self.claims.map(|(text, _)| Value::Text(text.clone())).ok_or(Stop::Unsupported),
            Expr::Setting(setting) => {
                self.channel.map(|user| Value::Text(user.setting(*setting))).ok_or(Stop::Unsupported)
            }
            Expr::Role => self.claims.map(|(_, role)| Value::Text(role.clone())).ok_or(Stop::Unsupported),
            Expr::Now => Ok(Value::Moment(self.context.now)),
            Expr::Parameter(number) => self.arguments.get(*number).cloned().unwrap_or(Err(Stop::Unsupported)),
            Expr::And(parts) => self.junction(parts, false),
            Expr::Or(parts) => self.junction(parts, true),
            Expr::Not(part) => Ok(match self.eval(part)? {
                Value::Bool(value) => Value::Bool(!value),
                Value::Null => Value::Null,
                _ => return Err(Stop::Unsupported),
            }),
            Expr::IsNull(part) => Ok(Value::Bool(self.eval(part)? == Value::Null)),
            Expr::IsBool(part, wanted) => Ok(Value::Bool(self.eval(part)? == Value::Bool(*wanted))),
            Expr::Call(function, arguments) => self.call(function, arguments),
            Expr::AnyAll { comparison, left, array, all } => {
                let left = self.eval(left)?;
                let array = self.eval(array)?;
                self.any_all(comparison, &left, array, *all)
            }
            Expr::Case(arms, otherwise) => {
                for (condition, result) in arms {
                    if self.eval(condition)? == Value::Bool(true) {
                        return self.eval(result);
                    }
                }
                self.eval(otherwise)
            }
            Expr::Coalesce(parts) => {
                for part in parts {
                    match self.eval(part)? {
                        Value::Null => {}
                        value => return Ok(value),
                    }
                }
                Ok(Value::Null)
            }
            Expr::Distinct(equality, left, right) => {
                let (left, right) = (self.eval(left)?, self.eval(right)?);
                Ok(Value::Bool(match (&left, &right) {
                    (Value::Null, Value::Null) => false,
                    (Value::Null, _) | (_, Value::Null) => true,
                    _ => self.apply(equality, &[left, right])? != Value::Bool(true),
                }))
            }
            Expr::NullIf(equality, left, right) => {
                let (left, right) = (self.eval(left)?, self.eval(right)?);
                let is_equal = self.apply(equality, &[left.clone(), right])? == Value::Bool(true);
                Ok(if is_equal { Value::Null } else { left })
            }
            Expr::Array(parts) => {
                let values: Result<Vec<Value>, Stop> = parts.iter().map(|part| self.eval(part)).collect();
                Ok(Value::Array(values?.into()))
            }
            Expr::Lazy(part) => self.eval(part),
            Expr::Lookup(lookup) => self.lookup(lookup),
        }
    }

    fn column(&self, column: ColumnRef) -> Computed {
        match column.scope.checked_sub(1) {
            None => self.row.ok_or(Stop::Unsupported)?.value(column.column),
            Some(at) => {
                let row = self.scopes.get(at).copied().flatten().ok_or(Stop::Unsupported)?;
                row.get(column.column).cloned().ok_or(Stop::Unsupported)
            }
        }
    }

    /// AND (`decisive` false) and OR (`decisive` true).
    fn junction(&mut self, parts: &[Expr], decisive: bool) -> Computed {
        let mut result = Ok(Value::Bool(!decisive));
        for part in parts {
            match self.eval(part) {
                Ok(Value::Bool(value)) if value == decisive => return Ok(Value::Bool(decisive)),
                Ok(Value::Bool(_)) => {}
                Ok(Value::Null) => {
                    if result.is_ok() {
                        result = Ok(Value::Null);
                    }
                }
                Ok(_) => return Err(Stop::Unsupported),
                // With the value, it may have failed: then nothing behind it would count.
                Err(Stop::Absent) if part.may_fail() || self.arguments.iter().any(Result::is_err) => {
                    return Err(Stop::Absent);
                }
                Err(Stop::Absent) => result = Err(Stop::Absent),
                Err(stop) => return Err(stop),
            }
        }
        result
    }

    fn call(&mut self, function: &'static Function, arguments: &[Expr]) -> Computed {
        // All arguments are computed before a NULL among them counts, as Postgres does.
        match arguments {
            [only] => {
                let value = self.eval(only)?;
                self.apply(function, &[value])
            }
            [left, right] => {
                let values = [self.eval(left)?, self.eval(right)?];
                self.apply(function, &values)
            }
            _ => {
                let values: Result<Vec<Value>, Stop> = arguments.iter().map(|argument| self.eval(argument)).collect();
                self.apply(function, &values?)
            }
        }
    }

    fn apply(&self, function: &'static Function, values: &[Value]) -> Computed {
        if function.is_strict && values.contains(&Value::Null) {
            return Ok(Value::Null);
        }
        (function.eval)(values, &self.context)
    }

    fn any_all(&self, comparison: &'static Function, left: &Value, array: Value, all: bool) -> Computed {
        let elements = match array {
            Value::Null => return Ok(Value::Null),
            Value::Array(elements) => elements,
            _ => return Err(Stop::Unsupported),
        };
        let mut unknown = false;
        for element in elements.iter() {
            match self.apply(comparison, &[left.clone(), element.clone()])? {
                Value::Bool(value) if value != all => return Ok(Value::Bool(!all)),
                Value::Null => unknown = true,
                _ => {}
            }
        }
        Ok(if unknown { Value::Null } else { Value::Bool(all) })
    }

    fn lookup(&mut self, lookup: &Lookup) -> Computed {
        match &lookup.output {
            Output::Exists => {
                let found = self.each(lookup, &mut |_| Ok(true))?;
                Ok(Value::Bool(found))
            }
            Output::Any { comparison, left, value } => {
                let left = self.eval(left)?;
                let mut unknown = false;
                let found = self.each(lookup, &mut |env| {
                    let value = env.eval(value)?;
                    match env.apply(comparison, &[left.clone(), value])? {
                        Value::Bool(answer) => Ok(answer),
                        _ => {
                            unknown = true;
                            Ok(false)
                        }
                    }
                })?;
                Ok(if !found && unknown { Value::Null } else { Value::Bool(found) })
            }
            Output::Scalar(value) => {
                let mut rows = Vec::new();
                self.each(lookup, &mut |env| {
                    rows.push(env.eval(value)?);
                    Ok(rows.len() > 1)
                })?;
                match rows.pop() {
                    // More than one row returned by a subquery used as an expression.
                    Some(_) if !rows.is_empty() => Err(Stop::Failed("21000")),
                    value => Ok(value.unwrap_or(Value::Null)),
                }
            }
            Output::Array(value) => {
                let mut values = Vec::new();
                self.each(lookup, &mut |env| {
                    values.push(env.eval(value)?);
                    Ok(false)
                })?;
                Ok(Value::Array(values.into()))
            }
            Output::Count => {
                let mut count = 0;
                self.each(lookup, &mut |_| {
                    count += 1;
                    Ok(false)
                })?;
                Ok(Value::Int(count))
            }
        }
    }

    /// Visits the joined rows until `visit` says that it is enough; whether it did.
    fn each(&mut self, lookup: &Lookup, visit: &mut Visit<'_, 'a>) -> Result<bool, Stop> {
        self.join(&lookup.sources, lookup.first_scope, visit)
    }

    fn join(&mut self, sources: &[Source], scope: usize, visit: &mut Visit<'_, 'a>) -> Result<bool, Stop> {
        let Some((source, rest)) = sources.split_first() else { return visit(self) };
        let keys: Vec<(usize, Computed)> =
            source.keys.iter().map(|(column, expr)| (*column, self.eval(expr))).collect();
        let Some(rows) = self.rows(source.table, keys.into_iter())? else { return Ok(false) };
        let before = self.place(scope, None);
        let found = self.join_rows(rows, source, rest, scope, visit);
        self.place(scope, before);
        found
    }

    fn join_rows(
        &mut self,
        rows: Rows<'a>,
        source: &Source,
        rest: &[Source],
        scope: usize,
        visit: &mut Visit<'_, 'a>,
    ) -> Result<bool, Stop> {
        let mut absent = false;
        for row in rows {
            self.step()?;
            self.place(scope, Some(row));
            let verdict = match self.junction(&source.conditions, false) {
                Ok(Value::Bool(true)) => self.join(rest, scope + 1, visit),
                Ok(_) => Ok(false),
                Err(stop) => Err(stop),
            };
            match verdict {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                // Another row may decide without what is absent.
                Err(Stop::Absent) => absent = true,
                Err(stop) => return Err(stop),
            }
        }
        if absent { Err(Stop::Absent) } else { Ok(false) }
    }
}

type Rows<'a> = super::lookup::Found<'a>;
type Visit<'v, 'a> = dyn FnMut(&mut Env<'a>) -> Result<bool, Stop> + 'v;
