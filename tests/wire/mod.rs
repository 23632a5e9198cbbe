//! The Phoenix door seen from outside: recorded conversations replayed (`replay`), the numbered conformance checks
//! (`checks`), and the list of places where Walcast differs from the server it replaces on purpose (`differences.md`).
//! Black box: but for the migration of its databases, nothing here uses a module of the server.

mod checks;
mod compare;
mod cut;
mod differences;
pub mod fixture;
mod http;
mod recording;
mod replay;
