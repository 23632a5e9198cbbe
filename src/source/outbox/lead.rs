//! Who reads the outbox: one server at a time, the others wait. A lock says so that ends with the connection
//! (`pg::outbox::take_lead`).
//!
//! It is a transaction's lock, held by one that stays open and does nothing: so it also holds behind a pooler that gives
//! sessions away between transactions. Such a transaction has no snapshot and no id, and keeps nobody from cleaning up.

use super::OutboxError;
use crate::pg::{Target, outbox};
use std::time::Duration;
use tokio::time::timeout;
use tokio_postgres::Client;

/// How long the answer of an idle connection may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Whatever would end the transaction, or the session, for doing nothing; which of these there are depends on the version.
const STAY: &str = "select pg_catalog.set_config(name, '0', true) from pg_catalog.pg_settings where name in \
                    ('idle_in_transaction_session_timeout', 'transaction_timeout', 'statement_timeout')";

/// The right to read.
pub(crate) struct Lead {
    client: Client,
    table: u32,
}

impl Lead {
    /// Takes it; none when another server has it.
    pub(crate) async fn take(target: &Target, table: u32) -> Result<Option<Lead>, OutboxError> {
        let client = target.connect("walcast outbox lead").await?;
        client.batch_execute("begin").await?;
        client.query(STAY, &[]).await?;
        Ok(outbox::take_lead(&client, table).await?.then_some(Lead { client, table }))
    }

    /// Whether it is still ours, and of this table.
    pub(crate) async fn is_held(&self, table: u32) -> bool {
        let answer = timeout(ANSWER_LIMIT, outbox::keeps_lead(&self.client, table));
        self.table == table && matches!(answer.await, Ok(Ok(true)))
    }
}
