//! What Postgres says of a row, in somebody's name: of an expression over its image, as the database lane asks, and
//! whether he finds it by a SELECT.

use super::{
    ExplainError,
    session::{FoundRow, KeyCondition, Session, code, qualified, sqlstate},
};
use crate::{
    claims::Claims,
    policy::{
        catalog::Table,
        explain::{NO, NULL, YES, failed},
    },
};
use postgres_protocol::escape::escape_identifier;
use tokio_postgres::{Transaction, error::SqlState, types::ToSql};

const SETTINGS: &str =
    "select pg_catalog.set_config('role', $1, true), pg_catalog.set_config('request.jwt.claims', $2, true)";

/// In whose name something is asked.
#[derive(Clone, Copy)]
pub(super) enum Asker<'a> {
    /// Our login.
    Login,
    /// The user's role, without his claims.
    Role(&'a Claims),
    /// The user.
    User(&'a Claims),
}

/// An expression over a row.
pub(super) struct Asked<'a> {
    pub(super) table: &'a Table,
    pub(super) row: &'a FoundRow,
    /// `$1` is the row; further parameters follow.
    pub(super) expression: &'a str,
    pub(super) parameters: &'a [String],
    pub(super) asker: Asker<'a>,
}

impl Session<'_> {
    /// What Postgres says of an expression over the row: `yes`, `no`, `no (null)`, or `error SQLSTATE`.
    pub(super) async fn ask(&mut self, asked: &Asked<'_>) -> Result<String, ExplainError> {
        let sql = format!(
            "select {} from pg_catalog.json_populate_record(($1::pg_catalog.text)::{}, '{{}}'::pg_catalog.json) as {}",
            asked.expression,
            qualified(asked.table),
            escape_identifier(&asked.table.name)
        );
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&asked.row.whole];
        parameters.extend(asked.parameters.iter().map(|value| value as &(dyn ToSql + Sync)));
        // A policy is analysed under its owner: names need no rights of the user. Where our login lacks them, his serve.
        let mut answer = self.try_to_ask(&sql, &parameters, asked.asker, true).await?;
        if answer == Err(SqlState::INSUFFICIENT_PRIVILEGE) {
            answer = self.try_to_ask(&sql, &parameters, asked.asker, false).await?;
        }
        Ok(match answer {
            Ok(Some(true)) => YES.to_owned(),
            Ok(Some(false)) => NO.to_owned(),
            Ok(None) => NULL.to_owned(),
            Err(code) => failed(code.code()),
        })
    }

    async fn try_to_ask(
        &mut self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
        asker: Asker<'_>,
        is_analysed_first: bool,
    ) -> Result<Result<Option<bool>, SqlState>, ExplainError> {
        let savepoint = self.transaction.transaction().await?;
        let attempt = async {
            savepoint.batch_execute("set local intervalstyle = 'postgres'").await?;
            let early = if is_analysed_first { Some(savepoint.prepare(sql).await?) } else { None };
            become_asker(&savepoint, asker).await?;
            let statement = match early {
                Some(statement) => statement,
                None => savepoint.prepare(sql).await?,
            };
            savepoint.query_one(&statement, parameters).await?.try_get(0)
        };
        let answer = attempt.await;
        savepoint.rollback().await?;
        answer.map(Ok).or_else(|error| Ok(Err(code(error)?)))
    }

    /// Whether the user finds the row when he selects it by its key. The inner error is an SQLSTATE.
    pub(super) async fn selects(
        &mut self,
        table: &Table,
        key: &KeyCondition,
        claims: &Claims,
    ) -> Result<Result<bool, String>, ExplainError> {
        let sql = format!("select true from {} as _walcast where {}", qualified(table), key.sql);
        let savepoint = self.transaction.transaction().await?;
        let attempt = async {
            become_asker(&savepoint, Asker::User(claims)).await?;
            // By its key: on other rows the policies might fail.
            savepoint.batch_execute("set local enable_seqscan = off").await?;
            savepoint.query(&sql, &key.parameters()).await
        };
        let found = attempt.await;
        savepoint.rollback().await?;
        match found {
            Ok(rows) => Ok(Ok(!rows.is_empty())),
            Err(error) => Ok(Err(sqlstate(error)?)),
        }
    }
}

async fn become_asker(savepoint: &Transaction<'_>, asker: Asker<'_>) -> Result<(), tokio_postgres::Error> {
    let (role, claims) = match asker {
        Asker::Login => return Ok(()),
        Asker::Role(claims) => (&*claims.role, ""),
        Asker::User(claims) => (&*claims.role, &*claims.json),
    };
    savepoint.query_one(SETTINGS, &[&role, &claims]).await.map(|_| ())
}
