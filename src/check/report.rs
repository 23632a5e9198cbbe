//! The findings as text for people.

use super::{Finding, Status};
use crate::tap::printable;
use std::fmt::Write;

/// One line a finding, what it means and the SQL indented below, and a line that sums up.
pub(super) fn text(findings: &[Finding], colour: bool) -> String {
    let mut text = String::new();
    for finding in findings {
        push(&mut text, finding, colour);
    }
    let count = |status| findings.iter().filter(|finding| finding.status == status).count();
    let several = |number: usize, word: &str| format!("{number} {word}{}", if number == 1 { "" } else { "s" });
    let (warnings, errors) = (count(Status::Warning), count(Status::Error));
    let _ = writeln!(text, "{} ok, {}, {}", count(Status::Ok), several(warnings, "warning"), several(errors, "error"));
    text
}

fn push(text: &mut String, finding: &Finding, colour: bool) {
    let (word, code) = match finding.status {
        Status::Ok => ("ok     ", "32"),
        Status::Warning => ("warning", "33"),
        Status::Error => ("error  ", "31"),
    };
    let word = if colour { format!("\x1b[{code}m{word}\x1b[0m") } else { word.to_owned() };
    // Names come from the database: whatever is in them must not reach the terminal as a command.
    let (subject, meaning) = (printable(&finding.subject), printable(&finding.meaning));
    if finding.status == Status::Ok {
        let _ = writeln!(text, "{word}  {}  {subject}: {meaning}", finding.id);
        return;
    }
    let _ = writeln!(text, "{word}  {}  {subject}", finding.id);
    let _ = writeln!(text, "         {meaning}");
    for line in finding.fix.iter().flat_map(|sql| sql.lines()) {
        let _ = writeln!(text, "         {}", printable(line));
    }
}
