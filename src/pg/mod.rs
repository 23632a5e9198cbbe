//! Postgres connections: where the database is and how to reach it (`connect`, `tls`), the walsender session
//! (`replication`), and what is read from the catalogue (`catalog`). Decides nothing about rows.

pub mod catalog;
pub mod connect;
pub mod replication;
mod tls;

pub use connect::{ConnectError, Target};
