//! Walcast streams Postgres row changes to clients, live: from a logical replication slot, judged for every
//! subscriber as row level security would, over the protocol Supabase clients speak.
//!
//! A change goes WAL → message → change → decision → frame, and never back. `ARCHITECTURE.md` has the picture.

pub mod auth;
pub mod change;
pub mod claims;
pub mod devdb;
pub mod lsn;
pub mod pg;
pub mod pgoutput;
pub mod policy;
pub mod shutdown;
pub mod source;
