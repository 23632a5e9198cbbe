//! What a subscription needs from the database before it can be entered: the values of its filters as Postgres reads
//! them, and the position it starts at.

use super::subscription::{CastKey, CastValues};
use crate::{
    change::position::Position,
    lsn::Lsn,
    pg::{connect::describe, outbox},
    policy::{
        binding::{Binding, raised},
        catalog::Catalog,
        filter::{Cast, casts_needed},
    },
    source::{Kind, SourceState},
};
use deadpool_postgres::{Object, Pool};
use std::{collections::hash_map::Entry, sync::Arc, time::Duration};
use tokio::sync::watch;
use tokio_postgres::error::DbError;

/// How long the database may take for all of it.
const LIMIT: Duration = Duration::from_secs(10);

/// The database could not be asked. Trying again may help.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// No connection.
    #[error("no connection for a subscription")]
    Pool(#[from] deadpool_postgres::PoolError),
    /// The connection failed.
    #[error("the database failed while a subscription was prepared")]
    Database(#[from] tokio_postgres::Error),
    /// The stream is over: the server stops.
    #[error("the stream has ended")]
    Ended,
    /// Another server streams.
    #[error("this server is a standby")]
    Standby,
    /// It took too long.
    #[error("the database did not answer within {}s", LIMIT.as_secs())]
    Timeout,
}

/// Prepares subscriptions. Cheap to clone.
#[derive(Clone)]
pub struct Preparer {
    pool: Pool,
    source: watch::Receiver<SourceState>,
}

impl Preparer {
    /// One that asks through this pool, once the source has a slot.
    pub fn new(pool: Pool, source: watch::Receiver<SourceState>) -> Preparer {
        Preparer { pool, source }
    }

    /// The values of the bindings' filters, and the end of the log: what committed before is not the subscriber's.
    pub async fn prepare(
        &self,
        bindings: &[Binding],
        catalog: &Catalog,
    ) -> Result<(Arc<CastValues>, Position), PrepareError> {
        match tokio::time::timeout(LIMIT, self.ask(bindings, catalog)).await {
            Ok(Err(PrepareError::Standby)) => Err(PrepareError::Standby),
            Ok(prepared) => prepared.inspect_err(|error| tracing::warn!(error = %describe(error), "cannot prepare")),
            Err(_) => Err(PrepareError::Timeout),
        }
    }

    async fn ask(&self, bindings: &[Binding], catalog: &Catalog) -> Result<(Arc<CastValues>, Position), PrepareError> {
        // Before there is a slot, commits are kept for nobody: whoever hears that he is subscribed would miss them.
        self.whereabouts().await?;
        let mut client = self.pool.get().await?;
        let mut values = CastValues::new();
        for request in bindings.iter().filter_map(|binding| binding.request.as_ref().ok()) {
            if request.conditions.is_empty() {
                continue;
            }
            for table in catalog.tables.values().filter(|table| request.names(&table.schema, &table.name)) {
                for cast in casts_needed(&request.conditions, table, &catalog.types) {
                    let key = CastKey { statement: cast.statement(), value: cast.value.clone() };
                    if let Entry::Vacant(entry) = values.entry(key) {
                        entry.insert(read(&client, &cast).await?);
                    }
                }
            }
        }
        loop {
            let before = self.whereabouts().await?;
            let end = end(&mut client, before.1).await?;
            // What was asked while it goes from one source to another is a position of neither.
            if self.whereabouts().await? == before {
                return Ok((Arc::new(values), Position::before(before.0, end)));
            }
        }
    }

    /// The era, and where its positions are of, once that is certain.
    async fn whereabouts(&self) -> Result<(u32, Kind), PrepareError> {
        let is_certain = |state: &SourceState| state.standby || (state.era > 0 && state.kind != Kind::Between);
        match self.source.clone().wait_for(is_certain).await {
            // What is read elsewhere is not kept for those who are subscribed here.
            Ok(state) if state.standby => Err(PrepareError::Standby),
            Ok(state) => Ok((state.era, state.kind)),
            Err(_) => Err(PrepareError::Ended),
        }
    }
}

/// Where the end is: what commits later is behind it.
async fn end(client: &mut Object, kind: Kind) -> Result<Lsn, PrepareError> {
    if kind == Kind::Outbox {
        return Ok(Lsn(outbox::number(client).await?));
    }
    // Not the flush position: with synchronous_commit off a commit is visible before it is flushed.
    let statement = client.prepare_cached("select pg_catalog.pg_current_wal_insert_lsn()::text").await?;
    let end: String = client.query_one(&statement, &[]).await?.get(0);
    Ok(end.parse().unwrap_or(Lsn::ZERO))
}

/// Lets Postgres read a value; its refusal is an answer, too.
async fn read(client: &Object, cast: &Cast) -> Result<Result<Vec<Option<String>>, String>, PrepareError> {
    match client.query_one(&cast.statement(), &[&cast.value]).await {
        Ok(row) => Ok(Ok(row.get::<_, Option<Vec<Option<String>>>>(0).unwrap_or_default())),
        Err(error) => match error.as_db_error() {
            Some(refusal) => Ok(Err(refusal_text(cast, refusal))),
            None => Err(error.into()),
        },
    }
}

/// As the server we replace words it: severity, SQLSTATE with its name, message.
fn refusal_text(cast: &Cast, error: &DbError) -> String {
    match cast.refusal(error.message()) {
        Some(text) => raised(&text),
        None => format!("ERROR {} ({}) {}", error.code().code(), condition_name(error.code().code()), error.message()),
    }
}

/// The condition names of the SQLSTATEs a value that does not fit can raise (PostgreSQL documentation, appendix A).
fn condition_name(sqlstate: &str) -> &'static str {
    match sqlstate {
        "22P02" => "invalid_text_representation",
        "22P03" => "invalid_binary_representation",
        "22003" => "numeric_value_out_of_range",
        "22007" => "invalid_datetime_format",
        "22008" => "datetime_field_overflow",
        "22009" => "invalid_time_zone_displacement_value",
        "22001" => "string_data_right_truncation",
        "22021" => "character_not_in_repertoire",
        "22023" => "invalid_parameter_value",
        "22026" => "string_data_length_mismatch",
        "2201B" => "invalid_regular_expression",
        "2202E" => "array_subscript_error",
        "23514" => "check_violation",
        "23502" => "not_null_violation",
        "42501" => "insufficient_privilege",
        "42704" => "undefined_object",
        "42725" => "ambiguous_function",
        "42804" => "datatype_mismatch",
        "42846" => "cannot_coerce",
        "42883" => "undefined_function",
        "54000" => "program_limit_exceeded",
        _ => "error",
    }
}
