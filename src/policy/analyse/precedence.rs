//! Whether the parser bound operators as Postgres does. It has its own idea of precedence, and a tree that is built
//! differently would be a different policy. A tree in which every operand binds tighter than its operator, in
//! Postgres' order (documentation, section 4.1.6), is the only one its grammar can make of the text; any other is
//! refused. Parentheses are kept in the tree, so what Postgres prints, which is full of them, passes.

use super::refusal::{Read, Refusal};
use sqlparser::ast::{BinaryOperator, Expr, UnaryOperator, Visit, visit_expressions};
use std::ops::ControlFlow;

const OR: u8 = 1;
const AND: u8 = 2;
const NOT: u8 = 3;
const IS: u8 = 4;
const COMPARISON: u8 = 5;
const RANGE: u8 = 6;
const OTHER: u8 = 7;
const SUM: u8 = 8;
const PRODUCT: u8 = 9;
const POWER: u8 = 10;
const TIME_ZONE: u8 = 11;
const COLLATE: u8 = 12;
const SIGN: u8 = 13;
const CAST: u8 = 14;
const PRIMARY: u8 = 15;

/// Refuses a tree that Postgres would build otherwise.
pub(super) fn check<T: Visit>(tree: &T) -> Read<()> {
    let result = visit_expressions(tree, |expression| {
        if is_as_postgres_binds(expression) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    match result {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => {
            Err(Refusal("operators without parentheses are bound in another order than in Postgres".to_owned()))
        }
    }
}

fn is_as_postgres_binds(expression: &Expr) -> bool {
    let own = level(expression);
    let above = |child: &Expr| level(child) > own;
    let not_below = |child: &Expr| level(child) >= own;
    match expression {
        Expr::BinaryOp { left, right, .. } if own == COMPARISON => above(left) && above(right),
        Expr::BinaryOp { left, right, .. } => not_below(left) && above(right),
        Expr::AnyOp { left, right, .. } | Expr::AllOp { left, right, .. } => above(left) && is_whole(right),
        Expr::UnaryOp { expr, .. } => not_below(expr),
        Expr::Cast { kind: sqlparser::ast::CastKind::DoubleColon, expr, .. } => not_below(expr),
        Expr::IsNull(expr)
        | Expr::IsNotNull(expr)
        | Expr::IsTrue(expr)
        | Expr::IsNotTrue(expr)
        | Expr::IsFalse(expr)
        | Expr::IsNotFalse(expr)
        | Expr::IsUnknown(expr)
        | Expr::IsNotUnknown(expr) => above(expr),
        Expr::IsDistinctFrom(left, right) | Expr::IsNotDistinctFrom(left, right) => above(left) && above(right),
        Expr::InList { expr, .. } | Expr::InSubquery { expr, .. } => above(expr),
        Expr::Between { expr, low, high, .. } => above(expr) && above(low) && above(high),
        Expr::Like { expr, pattern, .. } | Expr::ILike { expr, pattern, .. } => above(expr) && above(pattern),
        Expr::AtTimeZone { timestamp, time_zone } => not_below(timestamp) && above(time_zone),
        Expr::Collate { expr, .. } => not_below(expr),
        _ => true,
    }
}

/// Whether the right side of ANY stood in the parentheses as a whole. After a sub-select the parser goes on reading
/// operators behind the parenthesis. A cast to an array type cannot be meant for the outcome, which is a boolean.
fn is_whole(right: &Expr) -> bool {
    fn begins_with_query(expression: &Expr) -> bool {
        match expression {
            Expr::Subquery(_) => true,
            Expr::BinaryOp { left, .. } => begins_with_query(left),
            Expr::Cast { expr, .. } | Expr::Collate { expr, .. } => begins_with_query(expr),
            Expr::CompoundFieldAccess { root, .. } => begins_with_query(root),
            Expr::AtTimeZone { timestamp, .. } => begins_with_query(timestamp),
            _ => false,
        }
    }
    match right {
        Expr::Subquery(_) => true,
        Expr::Cast { expr, data_type: sqlparser::ast::DataType::Array(_), .. } => {
            matches!(**expr, Expr::Subquery(_)) || !begins_with_query(expr)
        }
        other => !begins_with_query(other),
    }
}

fn level(expression: &Expr) -> u8 {
    match expression {
        Expr::BinaryOp { op, .. } => binary_level(op),
        Expr::AnyOp { compare_op, .. } | Expr::AllOp { compare_op, .. } => binary_level(compare_op),
        Expr::UnaryOp { op, .. } => match op {
            UnaryOperator::Not => NOT,
            UnaryOperator::Plus | UnaryOperator::Minus => SIGN,
            _ => OTHER,
        },
        Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsTrue(_)
        | Expr::IsNotTrue(_)
        | Expr::IsFalse(_)
        | Expr::IsNotFalse(_)
        | Expr::IsUnknown(_)
        | Expr::IsNotUnknown(_)
        | Expr::IsDistinctFrom(..)
        | Expr::IsNotDistinctFrom(..)
        | Expr::IsJson { .. }
        | Expr::IsNormalized { .. } => IS,
        Expr::InList { .. }
        | Expr::InSubquery { .. }
        | Expr::InUnnest { .. }
        | Expr::Between { .. }
        | Expr::Like { .. }
        | Expr::ILike { .. }
        | Expr::SimilarTo { .. }
        | Expr::RLike { .. } => RANGE,
        Expr::AtTimeZone { .. } => TIME_ZONE,
        Expr::Collate { .. } => COLLATE,
        Expr::Cast { kind: sqlparser::ast::CastKind::DoubleColon, .. } => CAST,
        _ => PRIMARY,
    }
}

fn binary_level(operator: &BinaryOperator) -> u8 {
    match operator {
        BinaryOperator::Or => OR,
        BinaryOperator::And => AND,
        BinaryOperator::Eq
        | BinaryOperator::NotEq
        | BinaryOperator::Lt
        | BinaryOperator::LtEq
        | BinaryOperator::Gt
        | BinaryOperator::GtEq => COMPARISON,
        BinaryOperator::Plus | BinaryOperator::Minus => SUM,
        BinaryOperator::Multiply | BinaryOperator::Divide | BinaryOperator::Modulo => PRODUCT,
        BinaryOperator::PGExp => POWER,
        _ => OTHER,
    }
}
