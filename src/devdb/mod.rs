//! A development Postgres of one's own: found or fetched, set up, run, stopped.
//!
//! `walcast dev` and the tests stand on it. `install` finds the programs and `fetch` gets them where there are none,
//! `account` decides which user and which directory the server gets, `run` sets it up, starts and stops it, and
//! `postmaster` tells what a server is up to. What is in the database is none of its business.

mod account;
mod fetch;
pub mod install;
mod postmaster;
pub mod run;

pub use account::AccountError;
pub use install::{Binaries, FetchError, InstallError, Search};
pub use run::{Cluster, ClusterOptions, RunError};
