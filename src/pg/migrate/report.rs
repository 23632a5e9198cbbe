//! What a migration did, and what it leaves to an administrator, for people and as SQL that runs.

use std::{
    borrow::Cow,
    collections::HashSet,
    fmt::{self, Display, Formatter, Write},
};

/// What became of one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was made now.
    Done,
    /// It was there before.
    AlreadyThere,
    /// We may not make it, or what it builds on is not there; why.
    NeedsAdministrator(String),
    /// It is offered, never made: what the role to serve with takes.
    Offered,
}

/// One step of a migration and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepReport {
    /// What the step makes.
    pub name: Cow<'static, str>,
    /// What became of it.
    pub outcome: Outcome,
    pub(super) needs: Cow<'static, str>,
    pub(super) sql: Cow<'static, str>,
}

/// Everything a migration did and did not do. Its `Display` is what a person should read, SQL included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The database it is about.
    pub database: String,
    /// The steps in order.
    pub steps: Vec<StepReport>,
}

impl Report {
    /// Adds what another migration of the same database did. A step it looked at again counts once.
    pub fn add(&mut self, other: Report) {
        let known: HashSet<Cow<'static, str>> = self.steps.iter().map(|step| step.name.clone()).collect();
        self.steps.extend(other.steps.into_iter().filter(|step| !known.contains(&step.name)));
    }

    /// Whether nothing is left to an administrator; the offered role does not count.
    pub fn is_complete(&self) -> bool {
        !self.steps.iter().any(|step| matches!(step.outcome, Outcome::NeedsAdministrator(_)))
    }

    /// The script an administrator has to run, if there is anything left to do.
    pub fn administrator_sql(&self) -> Option<String> {
        self.script("what is left to an administrator", |outcome| matches!(outcome, Outcome::NeedsAdministrator(_)))
    }

    /// The script that makes the least-privileged role to serve with, as far as it is missing.
    pub fn least_privilege_sql(&self) -> Option<String> {
        self.script("a role to serve with that can do nothing else", |outcome| *outcome == Outcome::Offered)
    }

    fn script(&self, purpose: &str, wanted: impl Fn(&Outcome) -> bool) -> Option<String> {
        let steps: Vec<_> = self.steps.iter().filter(|step| wanted(&step.outcome)).collect();
        if steps.is_empty() {
            return None;
        }
        // A line break in the database's name would end the comment.
        let database = self.database.replace(['\n', '\r'], " ");
        let mut script = format!("-- Database {database}: {purpose}.\nbegin;\nset local search_path = '';\n");
        for step in steps {
            // Writing to a string cannot fail.
            let _ = write!(script, "\n-- {} (takes {})\n{}", step.name, step.needs, step.sql);
        }
        script.push_str("\ncommit;\n");
        Some(script)
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for StepReport { name, outcome, .. } in &self.steps {
            match outcome {
                Outcome::Done => writeln!(f, "done           {name}")?,
                Outcome::AlreadyThere => writeln!(f, "already there  {name}")?,
                Outcome::NeedsAdministrator(why) => writeln!(f, "not done       {name}: {why}")?,
                Outcome::Offered => writeln!(f, "not there      {name} (optional)")?,
            }
        }
        // In the order to run them in: the offered role builds on the others.
        if let Some(script) = self.administrator_sql() {
            let lead = "Needed: this role may not do the rest. Let an administrator run:";
            write!(f, "\n{lead}\n\n{script}")?;
        }
        if let Some(script) = self.least_privilege_sql() {
            let lead =
                "Optional: for a role to serve with that has no more rights than it takes, an administrator then runs:";
            write!(f, "\n{lead}\n\n{script}")?;
        }
        Ok(())
    }
}
