//! Walcast streams Postgres row changes to clients, live: from a logical replication slot, judged for every
//! subscriber as row level security would, over the protocol Supabase clients speak.
//!
//! A change goes WAL → message → change → decision → frame, and never back. `ARCHITECTURE.md` has the picture.

pub mod auth;
pub mod change;
pub mod check;
pub mod claims;
pub mod cli;
pub mod config;
pub mod dev;
pub mod devdb;
pub mod doors;
pub mod explain;
pub mod http;
pub mod hub;
pub mod limits;
pub mod lsn;
pub mod messages;
pub mod metrics;
pub mod pg;
pub mod pgoutput;
pub mod policy;
pub mod protocol;
pub mod rights;
pub mod router;
pub mod serve;
pub mod session;
pub mod shutdown;
#[cfg(test)]
mod simulation;
pub mod source;
pub mod tap;
pub mod telemetry;
pub mod token;
