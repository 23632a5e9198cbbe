//! Walks over finished expressions: what they read, whether they can fail, how large they are, and the renumbering of
//! scopes where one is put into another place.

use crate::policy::expr::{ColumnRef, Expr, Lookup, Output};

/// The expressions directly inside of one, to change them.
fn children_mut(expr: &mut Expr, visit: &mut dyn FnMut(&mut Expr)) {
    match expr {
        Expr::Const(_)
        | Expr::Column(_)
        | Expr::Claims
        | Expr::Setting(_)
        | Expr::Role
        | Expr::Now
        | Expr::Parameter(_) => {}
        Expr::And(all) | Expr::Or(all) | Expr::Call(_, all) | Expr::Coalesce(all) | Expr::Array(all) => {
            all.iter_mut().for_each(visit);
        }
        Expr::Not(one) | Expr::IsNull(one) | Expr::IsBool(one, _) | Expr::Lazy(one) => visit(one),
        Expr::AnyAll { left, array, comparison: _, all: _ } => {
            visit(left);
            visit(array);
        }
        Expr::Distinct(_, left, right) | Expr::NullIf(_, left, right) => {
            visit(left);
            visit(right);
        }
        Expr::Case(branches, otherwise) => {
            for (condition, value) in branches {
                visit(condition);
                visit(value);
            }
            visit(otherwise);
        }
        Expr::Lookup(lookup) => {
            let Lookup { sources, first_scope: _, output } = &mut **lookup;
            for source in sources {
                source.keys.iter_mut().for_each(|(_, key)| visit(key));
                source.conditions.iter_mut().for_each(&mut *visit);
            }
            match output {
                Output::Exists | Output::Count => {}
                Output::Any { left, value, comparison: _ } => {
                    visit(left);
                    visit(value);
                }
                Output::Scalar(value) | Output::Array(value) => visit(value),
            }
        }
    }
}

/// How many parts an expression has.
pub(super) fn size(expr: &Expr) -> usize {
    1 + expr.parts().into_iter().map(size).sum::<usize>()
}

/// Every column an expression reads, those of its own lookups included.
pub(super) fn columns(expr: &Expr, visit: &mut dyn FnMut(ColumnRef)) {
    if let Expr::Column(column) = expr {
        visit(*column);
    }
    expr.parts().into_iter().for_each(|part| columns(part, visit));
}

/// Whether claims and role are all an expression depends on.
pub(super) fn is_of_claims(expr: &Expr) -> bool {
    !expr.any(&|part| matches!(part, Expr::Column(_) | Expr::Now | Expr::Lookup(_)))
}

/// Whether an error can come of it for some row, time or state of other tables. What depends on claims alone is
/// computed once for a subscriber, and an error there decides about him as a whole. `is_single` says of a lookup that
/// no two rows can match.
pub(super) fn may_fail(expr: &Expr, is_single: &dyn Fn(&Lookup) -> bool) -> bool {
    if is_of_claims(expr) {
        return false;
    }
    let own = match expr {
        Expr::Call(function, _) | Expr::Distinct(function, ..) | Expr::NullIf(function, ..) => function.may_fail,
        Expr::AnyAll { comparison, .. } => comparison.may_fail,
        Expr::Lookup(lookup) => match &lookup.output {
            Output::Any { comparison, .. } => comparison.may_fail,
            Output::Scalar(_) => !is_single(lookup),
            Output::Exists | Output::Array(_) | Output::Count => false,
        },
        _ => false,
    };
    own || expr.parts().into_iter().any(|part| may_fail(part, is_single))
}

/// Moves an expression that was made where `from` rows were in scope to where `to` rows are: its own lookups' rows
/// come after those. What it reads from outside of itself keeps its number.
pub(super) fn rebase(expr: &mut Expr, from: usize, to: usize) {
    if from == to {
        return;
    }
    let moved = |scope: usize| if scope >= from { scope - from + to } else { scope };
    match expr {
        Expr::Column(column) => column.scope = moved(column.scope),
        Expr::Lookup(lookup) => lookup.first_scope = moved(lookup.first_scope),
        _ => {}
    }
    children_mut(expr, &mut |child| rebase(child, from, to));
}

/// Takes a conjunction apart.
pub(super) fn conjuncts(expr: Expr, into: &mut Vec<Expr>) {
    match expr {
        Expr::And(all) => all.into_iter().for_each(|one| conjuncts(one, into)),
        one => into.push(one),
    }
}
