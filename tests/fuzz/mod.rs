//! Fuzzing of everything that reads bytes from outside: one file a kind of decoder, each target a test of a second, and the
//! same for as long as wanted:
//!
//! ```sh
//! WALCAST_FUZZ_SECONDS=3600 cargo test --profile fuzz --test main fuzz:: -- --nocapture --test-threads 1
//! ```
//!
//! `WALCAST_FUZZ_SEED` repeats a run. `WALCAST_FUZZ_KEEP=1` adds inputs with new outcomes to `corpus/`, from where every run
//! begins, and from the recordings, golden bytes, policies and cases of other tests. `corpus/*/findings.hex` holds what was a
//! fault once. `harness` has the loop, `mutate` the changes.

mod corpus;
mod harness;
mod mutate;

mod config;
mod cursor;
mod filter;
mod message_row;
mod pgoutput;
mod phoenix;
mod policy;
mod server;
mod token;
mod value;
mod walsender;
mod world;
