//! What the tests share: databases, servers, tokens, waiting.

pub mod postgres;
#[expect(dead_code, reason = "the tests that start a server come with the server")]
pub mod server;
#[expect(dead_code, reason = "the tests that need tokens come with the server")]
pub mod token;
pub mod wait;

/// Says that a test was not run and why, where a passing test's other output is hidden.
pub fn skip(test: &str, why: &str) {
    use std::io::Write;
    // Only the printing macros are captured.
    writeln!(std::io::stderr(), "SKIPPED: {test} ({why})").expect("stderr is open");
}
