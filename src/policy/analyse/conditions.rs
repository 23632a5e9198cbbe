//! SQL's own forms of conditions, and those that choose a value by one: IS, BETWEEN, LIKE, IN, ANY, CASE, COALESCE.

use super::{
    reader::{Reader, negation, operator},
    refusal::{Read, refuse},
    tree,
    typed::{Meaning, Typed},
};
use crate::policy::{expr::Expr, value::Type};
use sqlparser::ast::{self, BinaryOperator};

impl Reader<'_> {
    /// A node that answers with a boolean; none when it is something else.
    pub(super) fn test(&mut self, node: &ast::Expr) -> Read<Option<Typed>> {
        use ast::Expr as E;
        let typed = match node {
            E::IsNull(operand) => self.is_null(operand)?,
            E::IsNotNull(operand) => negation(self.is_null(operand)?),
            E::IsTrue(operand) => self.is_bool(operand, true)?,
            E::IsNotTrue(operand) => negation(self.is_bool(operand, true)?),
            E::IsFalse(operand) => self.is_bool(operand, false)?,
            E::IsNotFalse(operand) => negation(self.is_bool(operand, false)?),
            E::IsUnknown(operand) => self.is_unknown(operand)?,
            E::IsNotUnknown(operand) => negation(self.is_unknown(operand)?),
            E::IsDistinctFrom(left, right) => self.distinct(left, right)?,
            E::IsNotDistinctFrom(left, right) => negation(self.distinct(left, right)?),
            E::InList { expr, list, negated } => {
                let found = self.in_list(expr, list)?;
                if *negated { negation(found) } else { found }
            }
            E::InSubquery { expr, subquery, negated } => {
                let found = self.any_query("=", expr, subquery)?;
                if *negated { negation(found) } else { found }
            }
            E::Between { expr, negated, low, high } => self.between(expr, *negated, low, high)?,
            E::Like { negated, any: false, expr, pattern, escape_char: None } => {
                self.like("~~", expr, pattern, *negated)?
            }
            E::ILike { negated, any: false, expr, pattern, escape_char: None } => {
                self.like("~~*", expr, pattern, *negated)?
            }
            E::AnyOp { left, compare_op, right, is_some: _ } => self.any_op(left, compare_op, right)?,
            E::AllOp { left, compare_op, right } => self.all_op(left, compare_op, right)?,
            _ => return Ok(None),
        };
        Ok(Some(typed))
    }

    fn is_null(&mut self, operand: &ast::Expr) -> Read<Typed> {
        let operand = self.typed(operand)?;
        Ok(Typed::boolean(Expr::IsNull(Box::new(operand.expr))))
    }

    fn is_bool(&mut self, operand: &ast::Expr, wanted: bool) -> Read<Typed> {
        let operand = self.condition(operand)?;
        Ok(Typed::boolean(Expr::IsBool(Box::new(operand), wanted)))
    }

    fn is_unknown(&mut self, operand: &ast::Expr) -> Read<Typed> {
        let operand = self.condition(operand)?;
        Ok(Typed::boolean(Expr::IsNull(Box::new(operand))))
    }

    fn distinct(&mut self, left: &ast::Expr, right: &ast::Expr) -> Read<Typed> {
        let left = self.meaning(left)?;
        let right = self.meaning(right)?;
        let (one, other) = match (left, right) {
            (Meaning::Literal(None), other) | (other, Meaning::Literal(None)) => {
                let other = self.typing().settled(other)?;
                return Ok(negation(Typed::boolean(Expr::IsNull(Box::new(other.expr)))));
            }
            both => both,
        };
        let (equality, one, other) = self.typing().comparison("=", one, other)?;
        Ok(Typed::boolean(Expr::Distinct(equality, Box::new(one.expr), Box::new(other.expr))))
    }

    fn between(&mut self, operand: &ast::Expr, negated: bool, low: &ast::Expr, high: &ast::Expr) -> Read<Typed> {
        let operand = self.meaning(operand)?;
        let again = match &operand {
            Meaning::Literal(text) => Meaning::Literal(text.clone()),
            Meaning::Typed(typed) => Meaning::Typed(self.copy(typed)?),
        };
        let low = self.meaning(low)?;
        let high = self.meaning(high)?;
        let (from, to) = if negated { ("<", ">") } else { (">=", "<=") };
        let from = self.typing().binary(from, operand, low)?;
        let to = self.typing().binary(to, again, high)?;
        let both = vec![from.expr, to.expr];
        Ok(Typed::boolean(if negated { Expr::Or(both) } else { Expr::And(both) }))
    }

    fn like(&mut self, name: &str, operand: &ast::Expr, pattern: &ast::Expr, negated: bool) -> Read<Typed> {
        let operand = self.meaning(operand)?;
        let pattern = self.meaning(pattern)?;
        let matches = self.typing().binary(name, operand, pattern)?;
        Ok(if negated { negation(matches) } else { matches })
    }

    /// `x in (a, b)`. Where all are of one type it is membership in an array, else one comparison after the other,
    /// which for anything but floats is the same.
    fn in_list(&mut self, operand: &ast::Expr, list: &[ast::Expr]) -> Read<Typed> {
        if list.iter().any(|element| matches!(element, ast::Expr::Subquery(_))) {
            return refuse("IN with a sub-select among values");
        }
        let operand = self.meaning(operand)?;
        let elements = list.iter().map(|element| self.meaning(element)).collect::<Read<Vec<_>>>()?;
        let Meaning::Typed(operand) = operand else { return refuse("IN after a constant without a type") };
        // Postgres computes some of them only when the ones before do not decide.
        let fails =
            |element: &Meaning| matches!(element, Meaning::Typed(typed) if tree::may_fail(&typed.expr, &|_| false));
        if elements.iter().any(fails) {
            return refuse("IN with a value that may be an error");
        }
        let is_uniform = elements.iter().all(|element| match element {
            Meaning::Literal(_) => true,
            Meaning::Typed(typed) => typed.kind == operand.kind,
        });
        if is_uniform && !operand.kind.is_array {
            let (all, kind, collating) = self.typing().unified(elements_as(elements, &operand, self)?)?;
            let expr = Expr::Array(all.into_iter().map(|element| element.expr).collect());
            let array = Typed::derived(expr, Type::array(kind.scalar), collating);
            return self.typing().any_all("=", Meaning::Typed(operand), Meaning::Typed(array), false);
        }
        let mut alternatives = Vec::new();
        for element in elements {
            let operand = self.copy(&operand)?;
            if is_float(operand.kind) || matches!(&element, Meaning::Typed(typed) if is_float(typed.kind)) {
                return refuse("IN over floats of several types");
            }
            alternatives.push(self.typing().binary("=", Meaning::Typed(operand), element)?.expr);
        }
        Ok(Typed::boolean(Expr::Or(alternatives)))
    }

    fn any_op(&mut self, left: &ast::Expr, op: &BinaryOperator, right: &ast::Expr) -> Read<Typed> {
        let (name, negated) = operator(op)?;
        if negated {
            return refuse("NOT LIKE ANY");
        }
        let right = unnested(right);
        if let ast::Expr::Subquery(query) = right {
            return self.any_query(name, left, query);
        }
        if let Some(query) = array_query(right) {
            // Membership in the array of a sub-select is membership in the sub-select: it is never NULL.
            return self.any_query(name, left, query);
        }
        let left = self.meaning(left)?;
        let array = self.meaning(right)?;
        self.typing().any_all(name, left, array, false)
    }

    fn all_op(&mut self, left: &ast::Expr, op: &BinaryOperator, right: &ast::Expr) -> Read<Typed> {
        let (name, negated) = operator(op)?;
        if negated {
            return refuse("NOT LIKE ALL");
        }
        let right = unnested(right);
        let query = match right {
            ast::Expr::Subquery(query) => Some(&**query),
            other => array_query(other),
        };
        if let Some(query) = query {
            // `<>` is what the sub-select's `=` is not, row by row, NULLs included.
            return match name {
                "<>" => Ok(negation(self.any_query("=", left, query)?)),
                _ => refuse(format!("{name} ALL over a sub-select")),
            };
        }
        let left = self.meaning(left)?;
        let array = self.meaning(right)?;
        self.typing().any_all(name, left, array, true)
    }

    /// CASE in both forms: with an operand, every WHEN is an equality.
    pub(super) fn case(
        &mut self,
        operand: Option<&ast::Expr>,
        branches: &[ast::CaseWhen],
        otherwise: Option<&ast::Expr>,
    ) -> Read<Meaning> {
        let operand = match operand {
            Some(operand) => Some(self.typed(operand)?),
            None => None,
        };
        let mut conditions = Vec::new();
        let mut results = Vec::new();
        for ast::CaseWhen { condition, result } in branches {
            conditions.push(match &operand {
                None => self.condition(condition)?,
                Some(operand) => {
                    let operand = self.copy(operand)?;
                    let value = self.meaning(condition)?;
                    let (equality, left, right) = self.typing().comparison("=", Meaning::Typed(operand), value)?;
                    Expr::Call(equality, vec![left.expr, right.expr])
                }
            });
            results.push(self.meaning(result)?);
        }
        results.push(match otherwise {
            Some(otherwise) => self.meaning(otherwise)?,
            None => Meaning::Literal(None),
        });
        let (mut results, kind, collating) = self.typing().unified(results)?;
        let Some(last) = results.pop() else { return refuse("CASE without branches") };
        let results = results.into_iter().map(|result| result.expr);
        let expr = Expr::Case(conditions.into_iter().zip(results).collect(), Box::new(last.expr));
        Ok(Meaning::Typed(Typed::derived(expr, kind, collating)))
    }

    /// `coalesce(...)`.
    pub(super) fn coalesce(&mut self, arguments: &[&ast::Expr]) -> Read<Typed> {
        let meanings = arguments.iter().map(|argument| self.meaning(argument)).collect::<Read<Vec<_>>>()?;
        let (all, kind, collating) = self.typing().unified(meanings)?;
        let expr = Expr::Coalesce(all.into_iter().map(|argument| argument.expr).collect());
        Ok(Typed::derived(expr, kind, collating))
    }

    /// `nullif(a, b)`: of the type of `a`, as the equality wants it.
    pub(super) fn null_if(&mut self, left: &ast::Expr, right: &ast::Expr) -> Read<Typed> {
        let left = self.meaning(left)?;
        let right = self.meaning(right)?;
        let (equality, left, right) = self.typing().comparison("=", left, right)?;
        let collating = left.collating.with(right.collating);
        let expr = Expr::NullIf(equality, Box::new(left.expr), Box::new(right.expr));
        Ok(Typed::derived(expr, left.kind, collating))
    }
}

/// The elements of an IN list as the operand's type.
fn elements_as(elements: Vec<Meaning>, operand: &Typed, reader: &Reader<'_>) -> Read<Vec<Meaning>> {
    let typed = elements.into_iter().map(|element| reader.typing().as_type(element, operand.kind));
    typed.map(|element| element.map(Meaning::Typed)).collect()
}

fn is_float(kind: Type) -> bool {
    use crate::policy::value::Scalar::{Float4, Float8};
    matches!(kind.scalar, Float4 | Float8)
}

/// A node without its parentheses. In ANY and ALL, Postgres takes a sub-select in any number of them for one.
fn unnested(mut node: &ast::Expr) -> &ast::Expr {
    while let ast::Expr::Nested(inner) = node {
        node = inner;
    }
    node
}

/// The sub-select of `array(select ...)`.
fn array_query(node: &ast::Expr) -> Option<&ast::Query> {
    match node {
        ast::Expr::Function(function) => super::calls::array_query(function),
        _ => None,
    }
}
