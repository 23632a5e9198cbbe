//! What an explanation consists of: findings in the order in which a change meets them, and what the row's policies and
//! the filter say. The first finding that hides the row is the verdict. Pure; `text` writes it for people.

use crate::policy::explain::PolicyAnswer;
use serde::Serialize;

/// Whether a user sees a row, and why.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether a change of the row as it is now would reach him.
    pub visible: bool,
    /// One sentence.
    pub verdict: String,
    /// The table, with its schema.
    pub table: String,
    /// The role the user claims.
    pub role: String,
    /// What was looked at.
    pub findings: Vec<Finding>,
    /// The columns he gets and those he does not; none when the table is not published.
    pub columns: Option<Columns>,
    /// Who decides the policies for him: `process`, `database`, `nobody has to`; none when it did not come to that.
    pub decided_by: Option<&'static str>,
    /// Why the database does.
    pub why_database: Vec<String>,
    /// What the policies say of the row.
    pub policies: Vec<PolicyAnswer>,
    /// What the conditions of his filter say of it.
    pub filter: Vec<ConditionAnswer>,
    /// What Postgres says when the row is selected in his name; none when it was not asked.
    pub postgres: Option<PostgresAnswer>,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What: stable, for programs.
    pub id: &'static str,
    /// What it does to the row.
    pub effect: Effect,
    /// What it means.
    pub meaning: String,
    /// The SQL that changes it, when there is one.
    pub fix: Option<String>,
}

/// What a finding does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// It lets the row through.
    Passes,
    /// The same, but somebody may expect otherwise.
    Note,
    /// It hides the row.
    Hides,
}

/// The columns of a published table.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Columns {
    /// Those the role may read.
    pub granted: Vec<String>,
    /// The others.
    pub not_granted: Vec<String>,
}

/// What one condition of a filter says.
#[derive(Clone, Debug, Serialize)]
pub struct ConditionAnswer {
    /// The condition, as it was asked for.
    pub condition: String,
    /// The answer: `yes`, `no`, `no (null)`, `error SQLSTATE`, or `unknown: ...`.
    pub answer: String,
    /// `process` or `database`.
    pub decided_by: &'static str,
}

/// What Postgres says.
#[derive(Clone, Debug, Serialize)]
pub struct PostgresAnswer {
    /// `sees the row`, `does not see the row`, `error SQLSTATE`.
    pub answer: String,
    /// Whether that is what was found out here; none where nothing was.
    pub agrees: Option<bool>,
}

impl Report {
    pub(super) fn new(table: String, role: &str) -> Report {
        Report {
            visible: false,
            verdict: String::new(),
            table,
            role: role.to_owned(),
            findings: Vec::new(),
            columns: None,
            decided_by: None,
            why_database: Vec::new(),
            policies: Vec::new(),
            filter: Vec::new(),
            postgres: None,
        }
    }

    pub(super) fn passes(&mut self, id: &'static str, meaning: impl Into<String>) {
        self.add(id, Effect::Passes, meaning.into(), None);
    }

    pub(super) fn note(&mut self, id: &'static str, meaning: impl Into<String>) {
        self.add(id, Effect::Note, meaning.into(), None);
    }

    pub(super) fn hides(&mut self, id: &'static str, meaning: impl Into<String>, fix: Option<String>) {
        self.add(id, Effect::Hides, meaning.into(), fix);
    }

    fn add(&mut self, id: &'static str, effect: Effect, meaning: String, fix: Option<String>) {
        self.findings.push(Finding { id, effect, meaning, fix });
    }

    /// Whether something with this name hides the row.
    pub(super) fn is_hidden_by(&self, id: &str) -> bool {
        self.findings.iter().any(|finding| finding.id == id && finding.effect == Effect::Hides)
    }

    /// Draws the conclusion. `visible` is what is said when nothing hides the row.
    pub(super) fn conclude(mut self, visible: &str) -> Report {
        let hiding = self.findings.iter().find(|finding| finding.effect == Effect::Hides);
        self.visible = hiding.is_none();
        self.verdict = match hiding {
            None => format!("visible: {visible}"),
            Some(Finding { meaning, fix: Some(fix), .. }) => format!("hidden: {meaning}; run: {fix};"),
            Some(Finding { meaning, .. }) => format!("hidden: {meaning}"),
        };
        self
    }
}
