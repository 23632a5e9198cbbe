//! What production does to a database and to a server, by name, under continuous writes with subscribers of different
//! rights, all of whom come back with their cursors. Whoever can come back gets exactly its sequence, as the database
//! itself has it in a ledger; where changes must be lost, that is said once, and what is before and behind is exact.
//!
//! `storm` puts the parts together: `writer`, `subscriber`, `site` (a database, perhaps with a cluster of its own) and
//! `proxy` (the network). `verdict` compares what came with what had to come.
//!
//! The long form, with as many kills and crashes as one likes:
//!
//! ```text
//! WALCAST_STORM_KILLS=100 WALCAST_STORM_CRASHES=20 \
//!   cargo test --release --test main faults::a_hundred -- --ignored --nocapture
//! ```

mod crashes;
mod disk;
mod doubt;
mod failover;
mod history;
mod network;
mod proxy;
mod rights;
mod schema;
pub mod site;
mod slots;
mod storm;
mod subscriber;
mod verdict;
mod waiting;
mod writer;
