//! One call of a function: the statement, and the transaction that runs it under the caller's role and claims.
//!
//! A body's values are one bound JSON parameter that Postgres takes apart itself, so they are converted exactly as
//! PostgREST converts them. Names in the statement are ours, or quoted.

use super::{Function, SCHEMA, refusal::Refusal};
use crate::claims::Claims;
use deadpool_postgres::{Object, Pool};
use std::{fmt::Write, time::Duration};
use tokio_postgres::{Client, Error, types::Type};

/// How much longer than its statement a call may take before the connection is given up.
const GRACE: Duration = Duration::from_secs(5);

/// Columns a client may select: more than any function returns.
const MAX_COLUMNS: usize = 64;

/// What to call, with what, for whom.
pub(super) struct Call<'a> {
    pub(super) function: &'static Function,
    /// The names of the arguments given, each one of the function's.
    pub(super) given: &'a [String],
    /// The columns of the answer.
    pub(super) columns: Columns,
    /// The arguments as one JSON object.
    pub(super) arguments: &'a str,
    pub(super) claims: &'a Claims,
}

/// Which columns of the row are returned: `?select=`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Columns {
    /// All of them.
    All,
    /// These, each with the name it gets.
    Listed(Vec<(String, String)>),
}

/// Reads `?select=a,b:c`. Everything else a query string could ask of a result is refused, not passed over.
pub(super) fn columns(parameters: &[(String, String)]) -> Result<Columns, Refusal> {
    let mut columns = Columns::All;
    for (name, value) in parameters {
        if name != "select" {
            return Err(Refusal::parameter(&format!("parameter \"{name}\" is not supported: only select is")));
        }
        if value == "*" || value.is_empty() {
            continue;
        }
        let members = value.split(',').map(|member| {
            let (alias, column) = member.split_once(':').unwrap_or((member, member));
            let plain = |text: &str| !text.is_empty() && !text.contains(['(', ')', ':', '*', '>', '.', '"', '\0']);
            (plain(alias) && plain(column)).then(|| (column.trim().to_owned(), alias.trim().to_owned()))
        });
        let members: Option<Vec<_>> = members.collect();
        match members {
            Some(members) if members.len() <= MAX_COLUMNS => columns = Columns::Listed(members),
            _ => return Err(Refusal::parameter("select takes a list of column names")),
        }
    }
    Ok(columns)
}

impl Call<'_> {
    /// Calls the function in a transaction of its own and answers with its row as JSON.
    pub(super) async fn run(&self, pool: &Pool, limit: Duration) -> Result<String, Refusal> {
        let mut client = pool.get().await.map_err(|error| Refusal::pool(&error))?;
        match tokio::time::timeout(limit + GRACE, self.transact(&mut client, limit)).await {
            Ok(answer) => answer.map_err(|error| Refusal::database(&error, &self.claims.role, self)),
            Err(_) => {
                // The server did not even cancel the statement: nobody else shall wait behind it.
                drop(Object::take(client));
                Err(Refusal::silent_database())
            }
        }
    }

    pub(super) fn name(&self) -> &str {
        self.function.name
    }

    async fn transact(&self, client: &mut Client, limit: Duration) -> Result<String, Error> {
        // Dropped without a commit, the transaction rolls back, and role and claims end with it either way.
        let transaction = client.transaction().await?;
        let limit = limit.as_millis().to_string();
        let session = "select set_config('role', $1, true), set_config('request.jwt.claims', $2, true), \
                       set_config('statement_timeout', $3, true)";
        let claims = self.claims;
        let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 3] =
            [(&&*claims.role, Type::TEXT), (&&*claims.json, Type::TEXT), (&limit, Type::TEXT)];
        transaction.query_typed(session, &parameters).await?;
        let rows = transaction.query_typed(&self.statement(), &[(&self.arguments, Type::TEXT)]).await?;
        let answer = match rows.first() {
            Some(row) => row.try_get::<_, Option<String>>(0)?,
            None => None,
        };
        transaction.commit().await?;
        Ok(answer.unwrap_or_else(|| "null".to_owned()))
    }

    fn statement(&self) -> String {
        let mut types = String::new();
        let mut passed = String::new();
        for (name, kind) in self.function.arguments.iter().filter(|(name, _)| self.given.iter().any(|n| n == name)) {
            let comma = if types.is_empty() { "" } else { ", " };
            // Writing to a string cannot fail.
            let _ = write!(types, "{comma}{name} {kind}");
            let _ = write!(passed, "{comma}{name} => given.{name}");
        }
        let columns = match &self.columns {
            Columns::All => "called.*".to_owned(),
            Columns::Listed(columns) => {
                let quoted = columns.iter().map(|(name, alias)| format!("called.{} as {}", quote(name), quote(alias)));
                quoted.collect::<Vec<_>>().join(", ")
            }
        };
        let function = self.function.name;
        format!(
            "select row_to_json(answer)::text from (select {columns} \
             from json_to_record($1::text::json) as given ({types}), \
             lateral {SCHEMA}.{function}({passed}) as called) as answer"
        )
    }
}

fn quote(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}
