//! Conditions decided in the process, with SQL's three values.

use super::{Condition, Operator, compare::Class, is_row_type, like::Pattern};
use crate::{
    change::{
        Datum,
        value::{TypeRegistry, oid},
    },
    policy::catalog::{Collation, ColumnIndex, TableColumn},
};
use std::cmp::Ordering;

/// A condition whose answer the row's texts give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Exact {
    pub(super) column: ColumnIndex,
    negate: bool,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Null,
    /// `is true`, `is false`: the boolean's text.
    Boolean(u8),
    Equal(Class, Box<[u8]>),
    Ordered(Class, Operator, Box<[u8]>),
    In {
        class: Class,
        values: Vec<Box<[u8]>>,
        has_null: bool,
    },
    Distinct(Class, Box<[u8]>),
    Like(Pattern),
}

impl Exact {
    /// The condition, if it can be decided here.
    pub(super) fn new(
        condition: &Condition,
        values: &[Option<String>],
        index: ColumnIndex,
        column: &TableColumn,
        types: &TypeRegistry,
    ) -> Option<Exact> {
        let class = || Class::of(column, types);
        let operand = || Some(Box::from(values.first()?.as_ref()?.as_bytes()));
        let base = types.base(column.type_oid);
        let mut negate = condition.negate;
        let test = match condition.operator {
            Operator::Is => match condition.value.as_str() {
                "null" if !is_row_type(types, column.type_oid) => Test::Null,
                "unknown" if base == oid::BOOL => Test::Null,
                "true" if base == oid::BOOL => Test::Boolean(b't'),
                "false" if base == oid::BOOL => Test::Boolean(b'f'),
                _ => return None,
            },
            Operator::Eq => Test::Equal(class()?, operand()?),
            Operator::Neq => {
                negate = !negate;
                Test::Equal(class()?, operand()?)
            }
            operator @ (Operator::Lt | Operator::Lte | Operator::Gt | Operator::Gte) => {
                Test::Ordered(class().filter(|class| class.is_ordered())?, operator, operand()?)
            }
            Operator::In => Test::In {
                class: class()?,
                values: values.iter().flatten().map(|value| Box::from(value.as_bytes())).collect(),
                has_null: values.contains(&None),
            },
            Operator::Isdistinct => Test::Distinct(class()?, operand()?),
            Operator::Like => {
                let text = matches!(base, oid::TEXT | oid::VARCHAR | oid::NAME);
                let known = matches!(column.collation, Collation::Bytewise | Collation::Deterministic);
                Test::Like(Pattern::new(&condition.value).filter(|_| text && known)?)
            }
            Operator::Ilike | Operator::Match | Operator::Imatch => return None,
        };
        Some(Exact { column: index, negate, test })
    }

    /// The condition's answer for a value: true, false, or unknown.
    pub(super) fn eval(&self, value: &Datum) -> Option<bool> {
        let text = match value {
            Datum::Absent => return None,
            Datum::Null => None,
            Datum::Text(text) => Some(text.as_ref()),
        };
        let answer = match (&self.test, text) {
            (Test::Null, text) => Some(text.is_none()),
            (Test::Boolean(word), text) => Some(text == Some(std::slice::from_ref(word))),
            (Test::Distinct(_, _), None) => Some(true),
            (Test::Distinct(class, operand), Some(text)) => class.equal(text, operand).map(|equal| !equal),
            // Nothing is in an empty list, not even NULL.
            (Test::In { values, has_null: false, .. }, _) if values.is_empty() => Some(false),
            (_, None) => None,
            (Test::Equal(class, operand), Some(text)) => class.equal(text, operand),
            (Test::Ordered(class, operator, operand), Some(text)) => {
                class.compare(text, operand).map(|order| holds(*operator, order))
            }
            (Test::In { class, values, has_null }, Some(text)) => is_in(*class, values, *has_null, text),
            (Test::Like(pattern), Some(text)) => Some(pattern.matches(text)),
        };
        answer.map(|answer| answer != self.negate)
    }

    /// The texts of which the column must have one for the condition to be true, if it is of that kind.
    pub(super) fn equality_key(&self) -> Option<(ColumnIndex, Vec<Box<[u8]>>)> {
        let values = match &self.test {
            _ if self.negate => return None,
            Test::Equal(class, operand) if class.is_canonical() => vec![operand.clone()],
            Test::In { class, values, .. } if class.is_canonical() => values.clone(),
            _ => return None,
        };
        Some((self.column, values))
    }
}

fn holds(operator: Operator, order: Ordering) -> bool {
    match operator {
        Operator::Lt => order.is_lt(),
        Operator::Lte => order.is_le(),
        Operator::Gt => order.is_gt(),
        Operator::Gte => order.is_ge(),
        _ => false,
    }
}

fn is_in(class: Class, values: &[Box<[u8]>], has_null: bool, text: &[u8]) -> Option<bool> {
    let mut unknown = has_null;
    for value in values {
        match class.equal(text, value) {
            Some(true) => return Some(true),
            Some(false) => {}
            None => unknown = true,
        }
    }
    if unknown { None } else { Some(false) }
}
