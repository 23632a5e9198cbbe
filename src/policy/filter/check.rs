//! What the catalogue can say about a request's columns, in the words of the server we replace (semantics reference,
//! section 2.2). What the values are worth Postgres says later: `cast`.

use super::{Condition, Operator};
use crate::{
    change::value::{TypeKind, TypeRegistry, oid},
    policy::catalog::{Access, Table, TableColumn},
};

/// Checks that the columns are there, that the role may read them, and that the operators suit their types.
pub fn check_columns(
    table: &Table,
    types: &TypeRegistry,
    access: &Access,
    conditions: &[Condition],
    select: Option<&[String]>,
) -> Result<(), String> {
    // An unknown column and a forbidden one look the same, so that the answer tells nothing.
    let readable = |name: &str| {
        let (index, column) = table.column(name)?;
        access.select.get(index).copied().unwrap_or(false).then_some(column)
    };
    for condition in conditions {
        let column =
            readable(&condition.column).ok_or_else(|| format!("invalid column for filter {}", condition.column))?;
        check_operator(types, condition, column)?;
    }
    match select.unwrap_or_default().iter().find(|name| readable(name).is_none()) {
        Some(name) => Err(format!("invalid column for select {name}")),
        None => Ok(()),
    }
}

fn check_operator(types: &TypeRegistry, condition: &Condition, column: &TableColumn) -> Result<(), String> {
    let base = types.base(column.type_oid);
    let type_name = || types.get(column.type_oid).map_or(column.type_name.as_str(), |info| info.sql_name.as_str());
    match condition.operator {
        Operator::Is => match condition.value.as_str() {
            "null" => Ok(()),
            "true" | "false" | "unknown" if base == oid::BOOL => Ok(()),
            word @ ("true" | "false" | "unknown") => {
                Err(format!("is {word} filter requires a boolean column, got {}", type_name()))
            }
            _ => Err("invalid value for is filter: must be null, true, false, or unknown".to_owned()),
        },
        Operator::Like | Operator::Ilike | Operator::Match | Operator::Imatch if !is_text(types, base) => Err(format!(
            "operator {} requires a text-compatible column type, got {}",
            condition.operator.name(),
            type_name()
        )),
        _ => Ok(()),
    }
}

/// Whether patterns apply to the type.
fn is_text(types: &TypeRegistry, base: u32) -> bool {
    match base {
        oid::TEXT | oid::VARCHAR | oid::BPCHAR | oid::NAME | oid::CHAR => true,
        _ => types.get(base).is_some_and(|info| info.kind == TypeKind::Base && info.name == "citext"),
    }
}
