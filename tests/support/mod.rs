//! What the tests share: databases, servers, sockets, tokens, JSON, waiting.

pub mod frames;
pub mod json;
pub mod postgres;
pub mod server;
pub mod socket;
pub mod token;
pub mod wait;
pub mod written;

/// Says that a test was not run and why, where a passing test's other output is hidden.
pub fn skip(test: &str, why: &str) {
    use std::io::Write;
    // Only the printing macros are captured.
    writeln!(std::io::stderr(), "SKIPPED: {test} ({why})").expect("stderr is open");
}
