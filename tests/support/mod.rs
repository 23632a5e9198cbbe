//! What the tests share: databases, servers, sockets, tokens, JSON, waiting.

pub mod json;
pub mod postgres;
#[expect(dead_code, reason = "the process id is for the tests of faults, which come later")]
pub mod server;
pub mod socket;
pub mod token;
pub mod wait;
