//! What the tests share: databases, servers, tokens, waiting.

pub mod postgres;
#[expect(dead_code, reason = "the tests that start a server come with the server")]
pub mod server;
#[expect(dead_code, reason = "the tests that need tokens come with the server")]
pub mod token;
pub mod wait;
