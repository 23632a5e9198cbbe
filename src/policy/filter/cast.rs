//! The values of a filter, read by Postgres: the statement that does it, and the texts it gives back.

use super::{
    Condition, Operator,
    sql::{cast_name, comparison_operator},
};
use crate::{change::value::TypeRegistry, policy::catalog::Table};

/// How a value is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CastKind {
    /// As one value of the column's type.
    Scalar,
    /// As an array of values of the column's type.
    Array,
    /// As a regular expression.
    Regex,
}

/// A value of a filter that Postgres must read before the filter can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cast {
    /// Which condition it belongs to, by its place in the list.
    pub condition: usize,
    /// The type to read it as: of the value, or of the array's elements.
    pub sql_type: String,
    /// How it is read.
    pub kind: CastKind,
    /// The value as the subscriber wrote it: the statement's only parameter, of type text.
    pub value: String,
    operator: String,
}

impl Cast {
    /// A query of one row and one column of type `text[]`: the values in the form the type's output function gives
    /// them, NULL for NULL. It fails if the value does not fit the type, or the type does not have the operator.
    pub fn statement(&self) -> String {
        let Cast { sql_type, operator, .. } = self;
        // `format` prints as output functions do, where a cast to text may not (boolean, inet). The condition that
        // is always true makes Postgres look the operator up.
        match self.kind {
            CastKind::Scalar => format!(
                "select array[pg_catalog.format('%s', v)] from (select ($1::text)::{sql_type} as v) as q \
                 where ((null::{sql_type}) {operator} v) is null or true"
            ),
            CastKind::Array => format!(
                "select coalesce(pg_catalog.array_agg(case when e is distinct from null \
                 then pg_catalog.format('%s', e) end), '{{}}'::text[]) \
                 from (select pg_catalog.unnest(($1::text)::{sql_type}[]) as e) as q \
                 where ((null::{sql_type}) {operator} any (($1::text)::{sql_type}[])) is null or true"
            ),
            CastKind::Regex => {
                "select array[$1::text] where ('' operator(pg_catalog.~) $1::text) is null or true".to_owned()
            }
        }
    }

    /// The refusal, from the message of the error with which the statement failed; none if that error stands for itself.
    pub fn refusal(&self, error_message: &str) -> Option<String> {
        (self.kind == CastKind::Regex)
            .then(|| format!("invalid regular expression for {} filter: {error_message}", self.operator))
    }
}

/// The values of these conditions that Postgres must read, in order.
pub fn casts_needed(conditions: &[Condition], table: &Table, types: &TypeRegistry) -> Vec<Cast> {
    let needed = conditions.iter().enumerate().filter_map(|(index, condition)| {
        let (_, column) = table.column(&condition.column)?;
        let (kind, operator) = match condition.operator {
            Operator::Like | Operator::Ilike | Operator::Is => return None,
            Operator::Match | Operator::Imatch => (CastKind::Regex, condition.operator.name().to_owned()),
            Operator::In => (CastKind::Array, comparison_operator(Operator::Eq, column, types)),
            operator => (CastKind::Scalar, comparison_operator(operator, column, types)),
        };
        let sql_type = cast_name(types, column.type_oid)?;
        Some(Cast { condition: index, sql_type, kind, value: condition.value.clone(), operator })
    });
    needed.collect()
}
