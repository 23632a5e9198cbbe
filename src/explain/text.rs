//! A report, for people: the verdict first, then what it rests on. Pure.

use super::report::{Effect, Report};
use crate::policy::explain::ClauseAnswer;
use std::fmt::Write;

/// The report as lines of text. Names come from the database, so control characters in them are written out.
pub fn text(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{}\n", printable(&report.verdict));
    for finding in &report.findings {
        let mark = match finding.effect {
            Effect::Passes => "ok   ",
            Effect::Note => "note ",
            Effect::Hides => "HIDES",
        };
        let _ = writeln!(text, "{mark}  {}  {}", finding.id, printable(&finding.meaning));
        if let Some(fix) = &finding.fix {
            let _ = writeln!(text, "         {};", printable(fix));
        }
    }
    for policy in &report.policies {
        let kind = if policy.permissive { "permissive" } else { "restrictive" };
        let _ = writeln!(text, "\npolicy \"{}\" ({kind}): {}", printable(&policy.policy), policy.answer);
        if let Some(why) = &policy.why_database {
            let _ = writeln!(text, "  {}: {}", printable(&policy.using), policy.answer);
            let _ = writeln!(text, "  asked of Postgres: {}", printable(why));
        }
        clauses(&mut text, &policy.clauses, 1);
    }
    if !report.filter.is_empty() {
        text.push_str("\nfilter\n");
    }
    for condition in &report.filter {
        let _ = writeln!(text, "  {}: {}", printable(&condition.condition), condition.answer);
    }
    if let Some(postgres) = &report.postgres {
        let agrees = match postgres.agrees {
            Some(true) => ", as was found out here",
            Some(false) => ", WHICH IS NOT WHAT WAS FOUND OUT HERE",
            None => "",
        };
        let _ =
            writeln!(text, "\nPostgres, asked as role \"{}\": {}{agrees}", printable(&report.role), postgres.answer);
    }
    text
}

fn clauses(text: &mut String, answers: &[ClauseAnswer], depth: usize) {
    for answer in answers {
        let indent = "  ".repeat(depth);
        let _ = writeln!(text, "{indent}{}: {}", printable(&answer.clause), answer.answer);
        clauses(text, &answer.clauses, depth + 1);
    }
}

/// Postgres prints policies over several lines; here each is one.
fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !printable.is_empty() {
            printable.push(' ');
        }
        for character in word.chars() {
            match character {
                control if control.is_control() => printable.extend(control.escape_unicode()),
                other => printable.push(other),
            }
        }
    }
    printable
}
