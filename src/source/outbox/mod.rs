//! The notify fallback: changes from the outbox that triggers fill, where the log cannot be read.
//!
//! ```text
//! triggers ──rows──> outbox <──numbers── task ──fragments──> router
//!     └──NOTIFY: there may be something────^
//! ```
//!
//! `task` reads while this server has the `lead`, `beginning` begins an era, `probing` knows when the log may be tried again,
//! `images` turns rows into changes, `reading` reads them in order, `moving` goes over to the log. How transactions get their order is `pg::outbox`'s.

mod beginning;
mod images;
pub(crate) mod lead;
mod moving;
pub(crate) mod probing;
mod reading;
pub(crate) mod task;

pub use images::Unreadable;
pub use reading::Reader;

use crate::{
    pg::{ConnectError, connect::describe},
    source::{GapReason, slot::SourceError},
};
use std::time::Duration;

/// How often it is looked what tables were that no row needs any more.
pub(super) const SHAPES_INTERVAL: Duration = Duration::from_secs(20);

/// Why the outbox is not read.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// There is none.
    #[error("the outbox is not installed")]
    NotInstalled,
    /// The server is a standby.
    #[error("the database is a standby")]
    Standby,
    /// Our login may not read it.
    #[error("role \"{0}\" may not read the outbox")]
    NoRight(String),
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A statement failed.
    #[error("cannot read the outbox")]
    Query(#[from] tokio_postgres::Error),
    /// No answer in time.
    #[error("the database does not answer")]
    Silent,
    /// Another server has taken it over.
    #[error("the connection by which this server reads the outbox alone is gone")]
    LeadLost,
    /// Several triggers tell of one row, and what they call is of an older version, which does not see to that.
    #[error("table {0} has several triggers that capture it, so its rows would come several times")]
    Doubled(String),
    /// It has reached its limit, so changes are missing.
    #[error("the outbox has reached its limit and captured nothing since")]
    Full,
    /// Numbers that were read are not given any more: the database is one from before.
    #[error("the outbox is as it was before, and what was read of it is gone")]
    Reverted,
    /// Rows of a transaction that were there are gone.
    #[error("transaction {0} of the outbox is not whole")]
    Missing(u64),
    /// A row is not what the trigger writes.
    #[error("transaction {number} of the outbox cannot be read")]
    Unreadable {
        /// The transaction's number.
        number: u64,
        /// Why.
        #[source]
        why: Unreadable,
    },
    /// Going over to the log failed.
    #[error("cannot go over to the log")]
    Move(#[from] SourceError),
}

impl OutboxError {
    /// The error with its causes and, when that is known, what to do about it, in one line.
    pub fn with_hint(&self) -> String {
        let hint = match self {
            OutboxError::NotInstalled | OutboxError::Doubled(_) => "run `walcast migrate --notify`",
            OutboxError::Standby => "read the primary",
            OutboxError::NoRight(_) => "run `walcast check`, which prints the grants",
            _ => return describe(self),
        };
        format!("{}; {hint}", describe(self))
    }

    /// Why what is there cannot be read whole, however often it is tried.
    fn loss(&self) -> Option<GapReason> {
        match self {
            OutboxError::Full => Some(GapReason::OutboxFull),
            OutboxError::Reverted => Some(GapReason::OtherHistory),
            OutboxError::Missing(_) | OutboxError::Unreadable { .. } => Some(GapReason::OutboxBroken),
            _ => None,
        }
    }

    /// Whether the way to the server may be what failed.
    fn is_of_network(&self) -> bool {
        match self {
            OutboxError::Connect(_) | OutboxError::Silent | OutboxError::LeadLost => true,
            OutboxError::Query(error) => error.as_db_error().is_none(),
            _ => false,
        }
    }
}
