//! The notify fallback: what its triggers write is what the log has, against real Postgres.

mod history;
mod installed;
mod lead;
mod looks;
mod moving;
mod order;
mod same;
mod served;
mod setup;
mod shapes;
mod slot;
mod triggers;
mod types;
mod unfinished;
