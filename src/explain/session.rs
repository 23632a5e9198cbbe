//! The transaction in which everything is read and asked (`ask`), so that all answers are about the same moment. Every question runs in
//! a savepoint of its own: roles and settings end with it, and so does what an error leaves behind.

use super::ExplainError;
use crate::{
    pg::lookup::{LoadError, be_reader, rows},
    policy::{
        catalog::Table,
        facts::{Carried, Facts, TableFacts},
        filter::{Cast, equality},
        lookup::{Layout, Loading, Lookups, Need, Snapshot},
    },
};
use postgres_protocol::escape::escape_identifier;
use serde::Deserialize;
use std::{collections::BTreeMap, sync::Arc};
use tokio_postgres::{Client, IsolationLevel, Transaction, error::SqlState, types::ToSql};

const TABLE: &str = include_str!("../../sql/explain_table.sql");
/// How long one statement may take.
const STATEMENT_LIMIT: &str = "set local statement_timeout = '5s'";
/// Values as the stream has them.
const TEXT_FORMS: &str = "set local datestyle = 'ISO'; set local intervalstyle = 'postgres'; \
                          set local extra_float_digits = 3; set local timezone = 'UTC'; set local bytea_output = 'hex'";
/// Rows of one table that are read to judge a row, and what they may take together. What is larger Postgres is asked.
const LOOKUP_ROWS: usize = 100_000;
const LOOKUP_BYTES: usize = 32 << 20;

/// What the publication says of a table.
#[derive(Debug, Deserialize)]
pub(super) struct Named {
    /// Whether it is a table at all.
    pub(super) is_table: bool,
    pub(super) has_publication: bool,
    pub(super) is_published: bool,
    pub(super) row_filter: Option<String>,
    /// The operations that are published.
    pub(super) operations: Option<Vec<String>>,
    pub(super) forces_row_security: bool,
}

/// A row as it is now.
pub(super) struct FoundRow {
    /// The columns' texts, as the stream has them.
    pub(super) texts: Vec<Option<String>>,
    /// All of it, as the table's row type prints it.
    pub(super) whole: String,
}

/// The rows of other tables, and why some of them are not there.
#[derive(Default)]
pub(super) struct LookupRows {
    pub(super) rows: Lookups,
    pub(super) missing: BTreeMap<u32, String>,
}

/// The transaction.
pub(super) struct Session<'a> {
    pub(super) transaction: Transaction<'a>,
    /// `now()` in it, in microseconds since 2000-01-01 UTC.
    pub(super) now: i64,
}

impl<'a> Session<'a> {
    pub(super) async fn begin(client: &'a mut Client) -> Result<Session<'a>, ExplainError> {
        let transaction =
            client.build_transaction().read_only(true).isolation_level(IsolationLevel::RepeatableRead).start().await?;
        transaction.batch_execute(STATEMENT_LIMIT).await?;
        let now = "select (extract(epoch from pg_catalog.now()) * 1000000)::pg_catalog.int8 - 946684800000000";
        let now = transaction.query_one(now, &[]).await?.try_get(0)?;
        Ok(Session { transaction, now })
    }

    pub(super) async fn end(self) -> Result<(), ExplainError> {
        Ok(self.transaction.rollback().await?)
    }

    /// What the publication says of a table; none when there is no such table.
    pub(super) async fn named(
        &mut self,
        publication: &str,
        schema: &str,
        table: &str,
    ) -> Result<Option<Named>, ExplainError> {
        let savepoint = self.transaction.transaction().await?;
        savepoint.batch_execute("set local search_path = ''").await?;
        let row = savepoint.query_opt(TABLE, &[&publication, &schema, &table]).await?;
        savepoint.rollback().await?;
        row.map(|row| serde_json::from_value(row.try_get(0)?).map_err(ExplainError::from)).transpose()
    }

    /// The row with this key. The outer error is the database's, the inner one says what is wrong with the question.
    pub(super) async fn row(
        &mut self,
        facts: &TableFacts,
        table: &Table,
        key: &KeyCondition,
    ) -> Result<Option<FoundRow>, ExplainError> {
        let columns = table.columns.iter().map(|column| {
            let name = escape_identifier(&column.name);
            format!("case when _walcast.{name} is distinct from null then pg_catalog.format('%s', _walcast.{name}) end")
        });
        let sql = format!(
            "select array[{}]::pg_catalog.text[], pg_catalog.format('%s', _walcast.*) from {} as _walcast where {}",
            columns.collect::<Vec<_>>().join(", "),
            qualified(table),
            key.sql
        );
        let be_reader = be_reader(facts).map_err(|_| ExplainError::NoReader)?;
        let savepoint = self.transaction.transaction().await?;
        savepoint.batch_execute(&format!("set local row_security = off; {TEXT_FORMS}; {be_reader}")).await?;
        let found = savepoint.query(&sql, &key.parameters()).await;
        savepoint.rollback().await?;
        let found = match found {
            Ok(found) => found,
            Err(error) => return Err(key_error(error)),
        };
        let Some(row) = found.first() else { return Ok(None) };
        Ok(Some(FoundRow { texts: row.try_get(0)?, whole: row.try_get(1)? }))
    }

    /// The rows of these tables, as far as there are not too many of them.
    pub(super) async fn lookups(
        &mut self,
        facts: &Facts,
        needs: &BTreeMap<u32, Need>,
    ) -> Result<LookupRows, ExplainError> {
        let mut found = LookupRows { rows: Lookups::new(LOOKUP_BYTES), missing: BTreeMap::new() };
        for (&oid, need) in needs {
            match self.lookup(facts, oid, need, &found.rows).await? {
                Ok(loading) => found.rows.complete(loading),
                Err(why) => {
                    found.missing.insert(oid, why);
                }
            }
        }
        Ok(found)
    }

    async fn lookup(
        &mut self,
        facts: &Facts,
        oid: u32,
        need: &Need,
        others: &Lookups,
    ) -> Result<Result<Loading, String>, ExplainError> {
        let Some(table) = facts.tables.get(&oid) else { return Ok(Err("it is not known".to_owned())) };
        // Whether it can be followed does not matter here: it is read once.
        let carried = if table.carried == Carried::No { Carried::Main } else { table.carried };
        let table = Arc::new(TableFacts { carried, ..(**table).clone() });
        let layout = match Layout::new(table, need.clone(), &facts.types) {
            Ok(layout) => layout,
            Err(trouble) => return Ok(Err(trouble.to_string())),
        };
        let loading = Loading::new(layout, Snapshot::default(), others.room_without(&[]));
        let savepoint = self.transaction.transaction().await?;
        savepoint.batch_execute(&format!("set local row_security = off; {TEXT_FORMS}")).await?;
        let read = rows(savepoint.client(), loading, Some(LOOKUP_ROWS + 1)).await;
        savepoint.rollback().await?;
        Ok(match read {
            Ok(loading) if loading.len() > LOOKUP_ROWS => Err("it has too many rows to be read here".to_owned()),
            Ok(loading) => Ok(loading),
            Err(LoadError::Query(error)) => Err(format!("it cannot be read (SQLSTATE {})", sqlstate(error)?)),
            Err(LoadError::Trouble(_)) => Err("its rows cannot be read here, or are too large".to_owned()),
            Err(error) => Err(error.to_string()),
        })
    }

    /// A value of a filter, as Postgres reads it. The inner error is an SQLSTATE.
    pub(super) async fn cast(&mut self, cast: &Cast) -> Result<Result<Vec<Option<String>>, String>, ExplainError> {
        let savepoint = self.transaction.transaction().await?;
        savepoint.batch_execute(TEXT_FORMS).await?;
        let read = savepoint.query_one(&cast.statement(), &[&cast.value]).await;
        savepoint.rollback().await?;
        match read {
            Ok(row) => Ok(Ok(row.try_get::<_, Option<Vec<Option<String>>>>(0)?.unwrap_or_default())),
            Err(error) => Ok(Err(sqlstate(error)?)),
        }
    }
}

/// The condition that only the row with a key fulfils.
pub(super) struct KeyCondition {
    pub(super) sql: String,
    values: Vec<String>,
}

impl KeyCondition {
    /// For these values of the primary key; none when a column is of a type nobody knows.
    pub(super) fn new(table: &Table, facts: &Facts, values: Vec<String>) -> Option<KeyCondition> {
        let columns = table.primary_key.iter().filter_map(|&index| table.columns.get(index));
        let conditions = columns.zip(1..).map(|(column, number)| {
            let name = format!("_walcast.{}", escape_identifier(&column.name));
            equality(&name, column, &facts.types, number)
        });
        let sql = conditions.collect::<Option<Vec<_>>>()?.join(" and ");
        Some(KeyCondition { sql, values })
    }

    pub(super) fn parameters(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.values.iter().map(|value| value as &(dyn ToSql + Sync)).collect()
    }
}

/// The table's name, quoted.
pub(super) fn qualified(table: &Table) -> String {
    format!("{}.{}", escape_identifier(&table.schema), escape_identifier(&table.name))
}

fn key_error(error: tokio_postgres::Error) -> ExplainError {
    match error.code().map(SqlState::code) {
        // A value of another type: data exceptions.
        Some(code) if code.starts_with("22") => ExplainError::KeyValue,
        _ => error.into(),
    }
}

pub(super) fn sqlstate(error: tokio_postgres::Error) -> Result<String, ExplainError> {
    Ok(code(error)?.code().to_owned())
}

/// What a statement failed with; an error when it was not the statement but the connection or the server.
pub(super) fn code(error: tokio_postgres::Error) -> Result<SqlState, ExplainError> {
    match error.code() {
        Some(code) if *code == SqlState::QUERY_CANCELED => Ok(code.clone()),
        Some(code) if !matches!(code.code().get(..2).unwrap_or_default(), "08" | "53" | "57" | "58") => {
            Ok(code.clone())
        }
        _ => Err(error.into()),
    }
}
