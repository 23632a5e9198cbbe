//! Folds constants where Postgres does while it plans: what disappears there cannot raise an error, whatever the row.
//! Calls of constants are left alone, because only some of them are computed beforehand.

use crate::policy::{
    expr::{Expr, Lookup, Output, Source},
    value::Value,
};

/// The expression without the parts that constants decide.
pub(super) fn fold(expr: Expr) -> Expr {
    match expr {
        Expr::Const(_)
        | Expr::Column(_)
        | Expr::Claims
        | Expr::Setting(_)
        | Expr::Role
        | Expr::Now
        | Expr::Parameter(_) => expr,
        Expr::And(parts) => junction(all(parts), false),
        Expr::Or(parts) => junction(all(parts), true),
        Expr::Not(part) => match fold(*part) {
            Expr::Const(Value::Bool(value)) => Expr::Const(Value::Bool(!value)),
            Expr::Const(Value::Null) => Expr::Const(Value::Null),
            part => Expr::Not(Box::new(part)),
        },
        Expr::IsNull(part) => match fold(*part) {
            Expr::Const(value) => Expr::Const(Value::Bool(value == Value::Null)),
            part => Expr::IsNull(Box::new(part)),
        },
        Expr::IsBool(part, wanted) => match fold(*part) {
            Expr::Const(value) => Expr::Const(Value::Bool(value == Value::Bool(wanted))),
            part => Expr::IsBool(Box::new(part), wanted),
        },
        Expr::Call(function, arguments) => {
            let arguments = all(arguments);
            let is_null = function.is_strict && arguments.iter().any(|argument| is(argument, &Value::Null));
            if is_null { Expr::Const(Value::Null) } else { Expr::Call(function, arguments) }
        }
        Expr::AnyAll { comparison, left, array, all } => {
            Expr::AnyAll { comparison, left: Box::new(fold(*left)), array: Box::new(fold(*array)), all }
        }
        Expr::Case(arms, otherwise) => case(arms, *otherwise),
        Expr::Coalesce(parts) => coalesce(all(parts)),
        Expr::Distinct(equality, left, right) => {
            Expr::Distinct(equality, Box::new(fold(*left)), Box::new(fold(*right)))
        }
        Expr::NullIf(equality, left, right) => Expr::NullIf(equality, Box::new(fold(*left)), Box::new(fold(*right))),
        Expr::Array(parts) => Expr::Array(all(parts)),
        // Planned by itself: nothing outside of it knows that it is a constant.
        Expr::Lazy(part) => Expr::Lazy(Box::new(fold(*part))),
        Expr::Lookup(found) => Expr::Lookup(Box::new(lookup(*found))),
    }
}

fn all(parts: Vec<Expr>) -> Vec<Expr> {
    parts.into_iter().map(fold).collect()
}

fn is(expr: &Expr, wanted: &Value) -> bool {
    matches!(expr, Expr::Const(value) if value == wanted)
}

fn junction(parts: Vec<Expr>, decisive: bool) -> Expr {
    if parts.iter().any(|part| is(part, &Value::Bool(decisive))) {
        return Expr::Const(Value::Bool(decisive));
    }
    let mut left: Vec<Expr> = parts.into_iter().filter(|part| !is(part, &Value::Bool(!decisive))).collect();
    match left.len() {
        0 => Expr::Const(Value::Bool(!decisive)),
        1 => left.swap_remove(0),
        _ if decisive => Expr::Or(left),
        _ => Expr::And(left),
    }
}

fn case(arms: Vec<(Expr, Expr)>, otherwise: Expr) -> Expr {
    let mut left = Vec::new();
    for (condition, result) in arms {
        match fold(condition) {
            Expr::Const(Value::Bool(true)) => return finished(left, fold(result)),
            Expr::Const(_) => {}
            condition => left.push((condition, fold(result))),
        }
    }
    finished(left, fold(otherwise))
}

fn finished(arms: Vec<(Expr, Expr)>, otherwise: Expr) -> Expr {
    if arms.is_empty() { otherwise } else { Expr::Case(arms, Box::new(otherwise)) }
}

fn coalesce(parts: Vec<Expr>) -> Expr {
    let mut left = Vec::new();
    for part in parts {
        match part {
            Expr::Const(Value::Null) => {}
            Expr::Const(_) if left.is_empty() => return part,
            Expr::Const(_) => {
                left.push(part);
                break;
            }
            part => left.push(part),
        }
    }
    if left.is_empty() { Expr::Const(Value::Null) } else { Expr::Coalesce(left) }
}

fn lookup(Lookup { sources, first_scope, output }: Lookup) -> Lookup {
    let sources = sources.into_iter().map(|Source { table, keys, conditions }| Source {
        table,
        keys: keys.into_iter().map(|(column, expr)| (column, fold(expr))).collect(),
        conditions: all(conditions),
    });
    let output = match output {
        Output::Any { comparison, left, value } => Output::Any { comparison, left: fold(left), value: fold(value) },
        Output::Scalar(value) => Output::Scalar(fold(value)),
        Output::Array(value) => Output::Array(fold(value)),
        plain @ (Output::Exists | Output::Count) => plain,
    };
    Lookup { sources: sources.collect(), first_scope, output }
}
