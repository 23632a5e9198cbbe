//! Messages somebody missed: asked for under his own role and claims, so that row level security of `realtime.messages`
//! holds for every row. We need no right to the table.

use crate::{
    pg::connect::describe,
    policy::{catalog::Catalog, topic::ChannelUser},
    protocol::{Content, StoredBroadcast, UserBroadcast},
};
use deadpool_postgres::Pool;
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch, time::timeout};
use tokio_postgres::{Row, Transaction, error::SqlState, types::ToSql};

const MESSAGES: &str = include_str!("../../sql/replay.sql");
const SETTINGS: &str = "select pg_catalog.set_config('statement_timeout', $1, true), \
                        pg_catalog.set_config('request.jwt.claims', $2, true), \
                        pg_catalog.set_config('request.jwt.claim.sub', $3, true), \
                        pg_catalog.set_config('request.jwt.claim.role', $4, true), \
                        pg_catalog.set_config('request.headers', $5, true), \
                        pg_catalog.set_config('realtime.topic', $6, true), \
                        pg_catalog.set_config('role', $4, true)";
/// A table that was made long ago has no messages of bytes.
const BYTES: &str = "m.binary_payload";
const NO_BYTES: &str = "null::bytea";

/// Bytes of payloads for one join: they have to fit into its outbox at once, beside the rest of its greeting, and are held
/// in memory until then. More than the largest message that is broadcast.
const MOST_BYTES: i64 = 4 * 1024 * 1024;
/// The end of the year 9999: what is later is no moment for Postgres.
const LATEST_MS: i64 = 253_402_300_799_000;
/// How long the question may take beyond its statement's own limit.
const GRACE: Duration = Duration::from_secs(2);

/// Why nothing can be replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// The database cannot be asked.
    #[error("the database cannot be asked for messages")]
    Unavailable,
    /// It refuses: the role may not read the table, a policy fails, or there is no such table.
    #[error("the database refuses to read realtime.messages")]
    Refused,
    /// It took too long.
    #[error("reading realtime.messages took too long")]
    Canceled,
}

/// Whom joins ask. Cheap to clone.
#[derive(Clone)]
pub struct Replay {
    pool: Pool,
    catalog: watch::Receiver<Arc<Catalog>>,
    statement_timeout: Duration,
}

impl Replay {
    /// One that asks over these connections, which keep the database's own settings, for roles the catalogue knows.
    pub fn new(pool: Pool, catalog: watch::Receiver<Arc<Catalog>>, statement_timeout: Duration) -> Replay {
        Replay { pool, catalog, statement_timeout }
    }

    /// The newest `limit` messages of a private channel since a moment that he may read, oldest first; fewer, when they are
    /// very large.
    pub async fn stored(
        &self,
        user: &ChannelUser,
        since_ms: i64,
        limit: u32,
    ) -> Result<Vec<StoredBroadcast>, ReplayError> {
        // `none` would be our own login, and a superuser would see everything.
        if !self.catalog.borrow().is_claimable(&user.claims.role) {
            return Err(ReplayError::Refused);
        }
        let read = timeout(self.statement_timeout + GRACE, self.read(user, since_ms, limit)).await;
        let mut rows = read.map_err(|_| ReplayError::Canceled)??;
        rows.reverse();
        Ok(rows.iter().filter_map(stored).collect())
    }

    async fn read(&self, user: &ChannelUser, since_ms: i64, limit: u32) -> Result<Vec<Row>, ReplayError> {
        let mut client = self.pool.get().await.map_err(|error| {
            tracing::warn!(error = %describe(&error), "cannot replay messages");
            ReplayError::Unavailable
        })?;
        let mut statement = MESSAGES.to_owned();
        loop {
            let transaction = client.build_transaction().read_only(true).start().await;
            let transaction = transaction.map_err(|error| refusal(&error))?;
            let read = self.ask(&transaction, &statement, (user, since_ms, limit)).await;
            // Dropped, it would be rolled back behind our back: the connection goes to others then.
            let ended = transaction.rollback().await;
            match read {
                Err(error) if error.code() == Some(&SqlState::UNDEFINED_COLUMN) && statement.contains(BYTES) => {
                    statement = MESSAGES.replace(BYTES, NO_BYTES);
                }
                read => return read.and_then(|rows| ended.map(|()| rows)).map_err(|error| refusal(&error)),
            }
        }
    }

    async fn ask(
        &self,
        transaction: &Transaction<'_>,
        statement: &str,
        (user, since_ms, limit): (&ChannelUser, i64, u32),
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let ChannelUser { topic, claims, headers } = user;
        let subject = serde_json::from_str::<Value>(&claims.json).ok();
        let subject = subject.as_ref().and_then(|claims| claims.get("sub")?.as_str()).unwrap_or_default();
        let limit_ms = self.statement_timeout.as_millis().max(1).to_string();
        let settings: [&(dyn ToSql + Sync); 6] =
            [&limit_ms, &&*claims.json, &subject, &&*claims.role, &&**headers, &&**topic];
        transaction.query_one(SETTINGS, &settings).await?;
        let since_ms = since_ms.clamp(0, LATEST_MS);
        transaction.query(statement, &[&&**topic, &since_ms, &i64::from(limit), &MOST_BYTES]).await
    }
}

/// The error without its text, which may quote a row.
fn refusal(error: &tokio_postgres::Error) -> ReplayError {
    let Some(code) = error.code() else { return ReplayError::Unavailable };
    tracing::warn!(sqlstate = code.code(), "UnableToReplayMessages: reading realtime.messages failed");
    if *code == SqlState::QUERY_CANCELED { ReplayError::Canceled } else { ReplayError::Refused }
}

/// What a row says; none for one that was never broadcast, for lack of a part.
fn stored(row: &Row) -> Option<StoredBroadcast> {
    let id = row.try_get(0).ok()?;
    let event: String = row.try_get(1).ok()?;
    let json: Option<String> = row.try_get(2).ok()?;
    let content = match json {
        Some(json) => Content::Json(json.into()),
        None => Content::Binary(row.try_get::<_, Option<Vec<u8>>>(3).ok()??.into()),
    };
    Some(StoredBroadcast { id, message: UserBroadcast { event, content, meta: None } })
}
