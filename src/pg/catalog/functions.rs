//! The functions that policies mention.

use super::CatalogError;
use crate::policy::facts::{FunctionFacts, Language};
use serde::Deserialize;
use std::sync::Arc;
use tokio_postgres::Transaction;

const FUNCTIONS: &str = include_str!("../../../sql/facts_functions.sql");

#[derive(Deserialize)]
struct FunctionRow {
    oid: u32,
    schema: String,
    name: String,
    arguments: Vec<u32>,
    argument_names: Vec<String>,
    defaults: usize,
    returns: u32,
    returns_set: bool,
    is_plain: bool,
    language: String,
    source: Option<String>,
    sql_body: Option<String>,
    security_definer: bool,
    owner: String,
    is_strict: bool,
    is_immutable: bool,
    settings: Vec<String>,
    execute: Vec<String>,
}

/// Every function outside of `pg_catalog` with one of these names, and which of the roles may execute it.
pub(super) async fn functions(
    transaction: &Transaction<'_>,
    names: &[&str],
    roles: &[&str],
) -> Result<Vec<FunctionFacts>, CatalogError> {
    let rows = transaction.query(FUNCTIONS, &[&names, &roles]).await?;
    rows.iter().map(|row| Ok(serde_json::from_value::<FunctionRow>(row.get(0))?.into_facts())).collect()
}

impl FunctionRow {
    fn into_facts(self) -> FunctionFacts {
        // Without any name Postgres keeps none at all.
        let mut argument_names = self.argument_names;
        argument_names.resize(self.arguments.len(), String::new());
        FunctionFacts {
            oid: self.oid,
            schema: self.schema,
            name: self.name,
            arguments: self.arguments,
            argument_names,
            defaults: self.defaults,
            returns: self.returns,
            returns_set: self.returns_set,
            is_plain: self.is_plain,
            language: match self.language.as_str() {
                "sql" => Language::Sql,
                "plpgsql" => Language::Plpgsql,
                _ => Language::Other,
            },
            source: self.source.filter(|_| self.sql_body.is_none()).unwrap_or_default(),
            sql_body: self.sql_body,
            security_definer: self.security_definer,
            owner: self.owner.into(),
            is_strict: self.is_strict,
            is_immutable: self.is_immutable,
            settings: self.settings,
            execute: self.execute.into_iter().map(Arc::from).collect(),
        }
    }
}
