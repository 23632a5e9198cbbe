//! A subscriber's own filter: which rows of a table he asked for. It narrows what he gets and never widens it.
//!
//! `parse` reads it, `check` holds it against the table, `cast` has Postgres read its values, and here it becomes a
//! `Filter`: conditions decided in the process (`exact`), only where the answer provably is Postgres' own, and
//! conditions left to Postgres (`sql`). What a condition says of NULL is SQL's; a value the stream does not carry is
//! unknown, and unknown does not match. Protocol reference, section 4.7; semantics reference, sections 2.2 and 4.

mod cast;
mod check;
mod compare;
mod exact;
mod like;
mod parse;
mod sql;

pub use cast::{Cast, CastKind, casts_needed};
pub use check::check_columns;
pub use parse::parse;
pub use sql::equality;

use super::{
    catalog::{ColumnIndex, Table, TableColumn},
    inspect,
};
use crate::change::{
    Datum,
    value::{TypeKind, TypeRegistry},
};
use exact::Exact;
use sql::DatabaseCondition;

/// So many values one `in` may list.
const MAX_IN_VALUES: usize = 100;

/// What a condition tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    /// `=`.
    Eq,
    /// `<>`.
    Neq,
    /// `<`.
    Lt,
    /// `<=`.
    Lte,
    /// `>`.
    Gt,
    /// `>=`.
    Gte,
    /// `= any`.
    In,
    /// `like`.
    Like,
    /// `ilike`.
    Ilike,
    /// `~`.
    Match,
    /// `~*`.
    Imatch,
    /// `is null`, `is true`, `is false`, `is unknown`.
    Is,
    /// `is distinct from`.
    Isdistinct,
}

/// Every operator with the name it has in filters.
const OPERATORS: [(Operator, &str); 13] = [
    (Operator::Eq, "eq"),
    (Operator::Neq, "neq"),
    (Operator::Lt, "lt"),
    (Operator::Lte, "lte"),
    (Operator::Gt, "gt"),
    (Operator::Gte, "gte"),
    (Operator::In, "in"),
    (Operator::Like, "like"),
    (Operator::Ilike, "ilike"),
    (Operator::Match, "match"),
    (Operator::Imatch, "imatch"),
    (Operator::Is, "is"),
    (Operator::Isdistinct, "isdistinct"),
];

impl Operator {
    /// The operator with this name.
    pub fn from_name(name: &str) -> Option<Operator> {
        OPERATORS.iter().find(|(_, known)| *known == name).map(|(operator, _)| *operator)
    }

    /// The name in filters.
    pub fn name(self) -> &'static str {
        OPERATORS.iter().find(|(operator, _)| *operator == self).map_or("", |(_, name)| name)
    }
}

/// One condition, as the subscriber wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Condition {
    /// The column's name.
    pub column: String,
    /// Whether `not.` stood before the operator.
    pub negate: bool,
    /// What is tested.
    pub operator: Operator,
    /// The value as text; with `in`, a Postgres array literal.
    pub value: String,
}

impl Condition {
    /// As messages show it: `{"n", "eq", "5", false}`.
    pub fn describe(&self) -> String {
        format!(
            "{{{}, \"{}\", {}, {}}}",
            inspect::string(&self.column),
            self.operator.name(),
            inspect::string(&self.value),
            self.negate
        )
    }
}

/// A filter that was checked against its table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    exact: Vec<Exact>,
    database: Vec<DatabaseCondition>,
}

impl Filter {
    /// Builds the filter from conditions that `check_columns` let pass.
    ///
    /// `values` has an entry for each condition: what its `Cast` returned, or nothing if it needed none. The error is
    /// the text of the server we replace, without `raised`.
    pub fn compile(
        conditions: &[Condition],
        values: &[Vec<Option<String>>],
        table: &Table,
        types: &TypeRegistry,
    ) -> Result<Filter, String> {
        let mut filter = Filter::default();
        for (index, condition) in conditions.iter().enumerate() {
            // Without its values, a negated `in` would hold for every row.
            let values = values
                .get(index)
                .ok_or_else(|| format!("failed to lookup type for column {}", condition.column))?
                .as_slice();
            let (column_index, column) = table
                .column(&condition.column)
                .ok_or_else(|| format!("invalid column for filter {}", condition.column))?;
            if condition.operator == Operator::In && values.len() > MAX_IN_VALUES {
                return Err(format!("too many values for `in` filter. Maximum {MAX_IN_VALUES}"));
            }
            let streamed = is_streamed(table, column_index, column);
            match Exact::new(condition, values, column_index, column, types).filter(|_| streamed) {
                Some(exact) => filter.exact.push(exact),
                None => filter.database.push(DatabaseCondition::new(condition, values, column_index, column, types)?),
            }
        }
        Ok(filter)
    }

    /// What the conditions decided in the process say of a row: true, false, or unknown, which does not match.
    ///
    /// The row matches if this is true and the database says true of `database_sql`, when there is one.
    pub fn eval<'r>(&self, column: &dyn Fn(ColumnIndex) -> &'r Datum) -> Option<bool> {
        let mut verdict = Some(true);
        for condition in &self.exact {
            match condition.eval(column(condition.column)) {
                Some(false) => return Some(false),
                None => verdict = None,
                Some(true) => {}
            }
        }
        verdict
    }

    /// The conditions only the database can decide: an expression over the row's columns by their bare names, with
    /// parameters numbered from `first_param`, and the values to bind to them as text.
    pub fn database_sql(&self, first_param: usize) -> Option<(String, Vec<String>)> {
        sql::join(&self.database, first_param)
    }

    /// The columns `database_sql` reads. When the row lacks the value of one, the answer is unknown: to ask with NULL
    /// in its place would be to ask about another row.
    pub fn database_columns(&self) -> impl Iterator<Item = ColumnIndex> {
        self.database.iter().map(|condition| condition.column)
    }

    /// A column and the texts of which a row must have one there to match: what a hash index can find the filter by.
    /// A row whose value is NULL or absent matches under no key.
    pub fn equality_key(&self) -> Option<(ColumnIndex, Vec<Box<[u8]>>)> {
        let keys = || self.exact.iter().filter_map(Exact::equality_key);
        keys().min_by_key(|(_, values)| values.len())
    }
}

/// Whether the stream can carry the column's values: it has a generated column's only where the publication lists it.
fn is_streamed(table: &Table, index: ColumnIndex, column: &TableColumn) -> bool {
    column.generated.is_none() || table.published.as_ref().is_some_and(|published| published.contains(&index))
}

/// Whether values of the type are rows, of which SQL's `is null` asks something else.
fn is_row_type(types: &TypeRegistry, type_oid: u32) -> bool {
    matches!(types.get(types.base(type_oid)).map(|info| &info.kind), Some(TypeKind::Composite { .. }))
}

#[cfg(test)]
mod tests;
