//! What is asked of the database about `realtime.messages` beside its rows: whether it can be streamed, and the upkeep of
//! its partitions.

use super::literals::with_values;
use crate::lsn::Lsn;
use postgres_protocol::escape::escape_literal;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio_postgres::Client;

/// The publication of the table, by the name Supabase's own server gives it.
pub const PUBLICATION: &str = "supabase_realtime_messages_publication";

const PUBLISHED: &str = include_str!("../../sql/messages_publication.sql");
const MAINTAIN: &str = include_str!("../../sql/messages_maintain.sql");
const HORIZON: &str = include_str!("../../sql/messages_horizon.sql");

/// The statement that looks for the publication, beside the one clients subscribe to. `catalog_xmin` is the slot's.
pub(crate) fn publication_statement(clients: &str, catalog_xmin: Option<u32>) -> String {
    let catalog_xmin = catalog_xmin.map_or("null".to_owned(), |xid| format!("'{xid}'"));
    with_values(PUBLISHED, [&escape_literal(PUBLICATION), &escape_literal(clients), &catalog_xmin])
}

/// Whether there is a publication that can be streamed beside the one clients subscribe to: its oid.
pub async fn streamable(client: &Client, clients: &str) -> Result<Option<u32>, tokio_postgres::Error> {
    let row = client.query_opt(&publication_statement(clients, None), &[]).await?;
    let Some(row) = row else { return Ok(None) };
    let obstacle: Option<String> = row.try_get(2)?;
    Ok(if obstacle.is_none() { Some(row.try_get(0)?) } else { None })
}

/// Why the publication cannot be streamed beside the one clients subscribe to, when there is one and it cannot.
pub async fn obstacle(client: &Client, clients: &str) -> Result<Option<String>, tokio_postgres::Error> {
    let row = client.query_opt(&publication_statement(clients, None), &[]).await?;
    row.map_or(Ok(None), |row| row.try_get(2))
}

/// Which transactions are under way, and where the log ends.
#[derive(Clone, Copy, Debug)]
pub struct Horizon {
    /// The first that has not begun.
    pub next: i64,
    /// The first that has not ended.
    pub oldest: i64,
    /// Where the log ends.
    pub end: Lsn,
}

/// Asks for the horizon.
pub async fn horizon(client: &Client) -> Result<Horizon, tokio_postgres::Error> {
    let row = client.query_one(HORIZON, &[]).await?;
    let end: String = row.try_get(2)?;
    Ok(Horizon { next: row.try_get(0)?, oldest: row.try_get(1)?, end: end.parse().unwrap_or(Lsn::ZERO) })
}

/// Makes partitions ahead and drops those that are past the retention, as of a moment; what could not be done.
pub async fn maintain(
    client: &Client,
    retention: Duration,
    now: SystemTime,
) -> Result<Vec<String>, tokio_postgres::Error> {
    let hours = i32::try_from(retention.as_secs() / 3600).unwrap_or(i32::MAX);
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let microseconds = i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
    client.query_one(MAINTAIN, &[&hours, &microseconds]).await?.try_get(0)
}
