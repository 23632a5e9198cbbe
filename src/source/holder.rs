//! Who holds the slot when it is not free: another server, beside which this one waits as a standby, or a session of our
//! own that the server has not noticed the end of.

use super::slot::{Config, SourceError};
use crate::pg::replication::{ReplicationError, Session};
use postgres_protocol::escape::escape_literal;
use std::time::Duration;
use tokio_postgres::Client;

/// A process of the server. Numbers are given again, also soon after a restart of the server: with the moment it began it
/// is told from one of somebody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender {
    pub(super) pid: i32,
    /// `backend_start`, in seconds as Postgres prints them.
    pub(super) began: String,
}

impl Sender {
    /// That of this session.
    pub(super) async fn of(session: &mut Session) -> Result<Option<Sender>, SourceError> {
        let sql = "select pid, extract(epoch from backend_start) from pg_catalog.pg_stat_activity \
                   where pid = pg_catalog.pg_backend_pid()";
        let rows = session.query(sql).await?;
        Ok(rows.first().and_then(|row| match row.as_slice() {
            [Some(pid), Some(began)] => Some(Sender { pid: pid.parse().ok()?, began: began.clone() }),
            _ => None,
        }))
    }
}

/// How often it is looked whether the slot is free ...
const LOOK: Duration = Duration::from_millis(50);
/// ... after a session of ours was ended.
const LOOKS: u32 = 40;

impl SourceError {
    /// Whether somebody else reads the slot.
    pub(super) fn is_taken(&self) -> bool {
        matches!(self, SourceError::Taken { .. })
    }

    /// The same error, by the name that it has when somebody else reads the slot.
    pub(super) fn of_holder(self, config: &Config) -> SourceError {
        match self {
            SourceError::Replication(ReplicationError::Server(error)) if error.code == "55006" => {
                SourceError::Taken { slot: config.slot.clone(), pid: None }
            }
            other => other,
        }
    }
}

/// Ends a process, if it is still the one that is meant; whether it was.
pub(super) async fn end(client: &Client, sender: &Sender) -> Result<bool, tokio_postgres::Error> {
    let sql = "select pg_catalog.pg_terminate_backend(pid) from pg_catalog.pg_stat_activity \
               where pid = $1 and extract(epoch from backend_start)::text = $2";
    Ok(!client.query(sql, &[&sender.pid, &sender.began]).await?.is_empty())
}

/// Frees the slot from a session of our own that was cut off, and that the server keeps until `wal_sender_timeout`; an
/// error when it is another one that holds it.
pub(super) async fn free(
    session: &mut Session,
    config: &Config,
    holder: Option<i32>,
    own: Option<&Sender>,
) -> Result<(), SourceError> {
    let Some(pid) = holder else { return Ok(()) };
    let taken = || SourceError::Taken { slot: config.slot.clone(), pid: Some(pid) };
    let Some(own) = own.filter(|own| own.pid == pid) else { return Err(taken()) };
    let end = format!(
        "select pg_catalog.pg_terminate_backend(pid) from pg_catalog.pg_stat_activity \
         where pid = {pid} and extract(epoch from backend_start) = {}",
        escape_literal(&own.began)
    );
    if session.query(&end).await?.is_empty() {
        return Err(taken());
    }
    tracing::info!(slot = config.slot, pid, "ended a session of ours that was cut off and still held the slot");
    let sql = format!(
        "select 1 from pg_catalog.pg_replication_slots where slot_name = {} and active_pid = {pid}",
        escape_literal(&config.slot)
    );
    for _ in 0..LOOKS {
        if session.query(&sql).await?.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
    // Nobody else reads it, so this server is no standby.
    Err(SourceError::Held { slot: config.slot.clone(), pid })
}
