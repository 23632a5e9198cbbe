//! Postgres connections: where the database is and how to reach it (`target`, `connect`, `tls`), the walsender session
//! (`replication`), slots (`slot`), what is read from the catalogue (`catalog`), and what prepares a database (`migrate`). Decides
//! nothing about rows.

pub mod catalog;
pub mod connect;
mod handshake;
pub(crate) mod literals;
pub mod lookup;
pub mod messages;
pub mod migrate;
pub mod moments;
pub mod outbox;
pub mod replication;
pub mod slot;
mod target;
mod tls;
mod wire;

pub use connect::ConnectError;
pub use target::Target;
