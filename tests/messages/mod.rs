//! Broadcasts from the database: what migrations make of databases of any kind, and what comes of rows, with a real
//! server and Postgres.

mod database;
mod delivery;
mod order;
mod partitions;
mod replay;
pub mod setup;
