//! The notify fallback: what its triggers write is what the log has, against real Postgres.

mod moving;
mod same;
mod setup;
mod types;
