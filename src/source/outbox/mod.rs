//! The notify fallback: changes from the outbox that triggers fill, where the log cannot be read.
//!
//! `images` turns rows into changes, `reading` reads them in order. How transactions get their order is `pg::outbox`'s.

mod images;
mod reading;

pub use images::Unreadable;
pub use reading::Reader;

/// Why the outbox is not read.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// There is none.
    #[error("the outbox is not installed")]
    NotInstalled,
    /// Our login may not read it.
    #[error("role {0} may not read the outbox")]
    NoRight(String),
    /// No connection.
    #[error(transparent)]
    Connect(#[from] crate::pg::ConnectError),
    /// A statement failed.
    #[error("cannot read the outbox")]
    Query(#[from] tokio_postgres::Error),
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
}
