//! Conditions left to Postgres, as SQL over the row's columns. Every name is quoted, every value is a parameter.

use super::{Condition, Operator};
use crate::{
    change::value::{TypeKind, TypeRegistry, oid},
    policy::catalog::{ColumnIndex, TableColumn},
};

/// The first oid that is not Postgres' own (`FirstNormalObjectId`).
const FIRST_USER_OID: u32 = 16_384;

/// A condition in SQL, its parameter still without a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DatabaseCondition {
    pub(super) column: ColumnIndex,
    /// What stands before the parameter; the whole condition if there is none.
    before: String,
    /// The parameter's value, and what stands after it.
    value: Option<(String, String)>,
}

impl DatabaseCondition {
    pub(super) fn new(
        condition: &Condition,
        values: &[Option<String>],
        index: ColumnIndex,
        column: &TableColumn,
        types: &TypeRegistry,
    ) -> Result<DatabaseCondition, String> {
        let name = quote(&column.name);
        let not = if condition.negate { "not " } else { "" };
        let sql_type = || {
            cast_name(types, column.type_oid)
                .ok_or_else(|| format!("failed to lookup type for column {}", condition.column))
        };
        let canonical = || values.first().cloned().flatten().unwrap_or_else(|| condition.value.clone());
        let (before, value) = match condition.operator {
            // `check_columns` let no other word pass.
            Operator::Is => (format!("{not}({name} is {})", is_word(&condition.value)?), None),
            Operator::In => {
                let operator = comparison_operator(Operator::Eq, column, types);
                let literal = array_literal(values, types.array_delimiter(column.type_oid));
                (format!("{not}({name} {operator} any (("), Some((literal, format!("::text)::{}[]))", sql_type()?))))
            }
            Operator::Like | Operator::Ilike | Operator::Match | Operator::Imatch => {
                let operator = comparison_operator(condition.operator, column, types);
                (format!("{not}({name} {operator} "), Some((condition.value.clone(), "::text)".to_owned())))
            }
            operator => {
                let operator = comparison_operator(operator, column, types);
                (format!("{not}({name} {operator} ("), Some((canonical(), format!("::text)::{})", sql_type()?))))
            }
        };
        Ok(DatabaseCondition { column: index, before, value })
    }
}

/// All conditions, ANDed, with parameters numbered from `first_param`, and what to bind to them.
pub(super) fn join(conditions: &[DatabaseCondition], first_param: usize) -> Option<(String, Vec<String>)> {
    let mut values = Vec::new();
    let mut parts = Vec::with_capacity(conditions.len());
    for condition in conditions {
        match &condition.value {
            Some((value, after)) => {
                parts.push(format!("{}${}{after}", condition.before, first_param + values.len()));
                values.push(value.clone());
            }
            None => parts.push(condition.before.clone()),
        }
    }
    (!parts.is_empty()).then(|| (parts.join(" and "), values))
}

/// `column = value`, the value being a parameter of type text; none for a type nobody knows. `name` is the column as
/// the statement calls it.
pub fn equality(name: &str, column: &TableColumn, types: &TypeRegistry, parameter: usize) -> Option<String> {
    let operator = comparison_operator(Operator::Eq, column, types);
    Some(format!("{name} {operator} ((${parameter}::pg_catalog.text)::{})", cast_name(types, column.type_oid)?))
}

/// The operator between the column and a value, in SQL.
pub(super) fn comparison_operator(operator: Operator, column: &TableColumn, types: &TypeRegistry) -> String {
    let symbol = match operator {
        Operator::Eq | Operator::In => "=",
        Operator::Neq => "<>",
        Operator::Lt => "<",
        Operator::Lte => "<=",
        Operator::Gt => ">",
        Operator::Gte => ">=",
        Operator::Like => "~~",
        Operator::Ilike => "~~*",
        Operator::Match => "~",
        Operator::Imatch => "~*",
        Operator::Is | Operator::Isdistinct => return "is distinct from".to_owned(),
    };
    let base = types.base(column.type_oid);
    let kind = types.get(base).map(|info| &info.kind);
    // A type of an extension brings its own operators, in a schema that only the search path knows.
    if base >= FIRST_USER_OID && matches!(kind, None | Some(TypeKind::Base)) {
        return symbol.to_owned();
    }
    format!("operator(pg_catalog.{symbol})")
}

/// The type's name for a cast that keeps the whole value.
pub(super) fn cast_name(types: &TypeRegistry, type_oid: u32) -> Option<String> {
    // `character` and `bit` without a length mean a length of 1 in SQL; their catalogue names do not.
    let fixed = match type_oid {
        oid::BPCHAR => "pg_catalog.bpchar",
        oid::BPCHAR_ARRAY => "pg_catalog.bpchar[]",
        oid::BIT => "pg_catalog.\"bit\"",
        oid::BIT_ARRAY => "pg_catalog.\"bit\"[]",
        _ => return types.get(type_oid).map(|info| info.sql_name.clone()),
    };
    Some(fixed.to_owned())
}

/// The word after `is`, from the list of those there are: it goes into the statement as it stands.
fn is_word(word: &str) -> Result<&'static str, String> {
    let words = ["null", "true", "false", "unknown"];
    let found = words.into_iter().find(|known| *known == word);
    found.ok_or_else(|| "invalid value for is filter: must be null, true, false, or unknown".to_owned())
}

fn quote(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

fn array_literal(values: &[Option<String>], delimiter: u8) -> String {
    let mut literal = String::from("{");
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            literal.push(char::from(delimiter));
        }
        match value {
            Some(value) => {
                literal.push('"');
                literal.push_str(&value.replace('\\', "\\\\").replace('"', "\\\""));
                literal.push('"');
            }
            None => literal.push_str("NULL"),
        }
    }
    literal.push('}');
    literal
}
