//! When a row that nobody touches changes its visibility: the moments at which `now()` passes a column of its own. Pure.

use crate::policy::{
    catalog::ColumnIndex,
    expr::{ColumnRef, Expr},
    value::{Interval, Value},
};

const MICROSECONDS_A_DAY: i64 = 86_400_000_000;

/// A column whose moment counts, and how long after it (before it, when negative) the answer may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Moment {
    /// A timestamp column of the judged row.
    pub column: ColumnIndex,
    /// Microseconds from the column's value to the change.
    pub offset: i64,
}

/// The moments of a predicate; and whether time counts in it in other ways too, which nobody is woken for.
pub(super) fn moments(predicate: &Expr) -> (Vec<Moment>, bool) {
    let mut found = Vec::new();
    let mut others = false;
    collect(predicate, &mut found, &mut others);
    found.sort_unstable();
    found.dedup();
    (found, others)
}

fn collect(expr: &Expr, found: &mut Vec<Moment>, others: &mut bool) {
    if let Expr::Call(function, arguments) = expr
        && matches!(function.name, "<" | "<=" | ">" | ">=" | "=" | "<>")
        && let [left, right] = &arguments[..]
        && let Some(moment) = moment(left, right).or_else(|| moment(right, left))
    {
        found.push(moment);
        return;
    }
    *others |= matches!(expr, Expr::Now);
    expr.parts().into_iter().for_each(|part| collect(part, found, others));
}

/// `column ? now() ± interval`.
fn moment(column: &Expr, time: &Expr) -> Option<Moment> {
    let Expr::Column(ColumnRef { scope: 0, column }) = *column else { return None };
    Some(Moment { column, offset: offset(time)? })
}

/// How long after the column's value `now()` makes `time` equal to it.
fn offset(time: &Expr) -> Option<i64> {
    match time {
        Expr::Now => Some(0),
        Expr::Call(function, arguments) => match &arguments[..] {
            [Expr::Now, Expr::Const(Value::Interval(interval))] => match function.name {
                "-" => microseconds(*interval),
                "+" => microseconds(*interval)?.checked_neg(),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}

/// The length of an interval, unless it has months, which have none.
fn microseconds(interval: Interval) -> Option<i64> {
    let days = i64::from(interval.days).checked_mul(MICROSECONDS_A_DAY)?;
    (interval.months == 0).then(|| days.checked_add(interval.microseconds)).flatten()
}
