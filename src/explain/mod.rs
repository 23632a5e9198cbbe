//! Why a user sees a row or not: everything between a change of the row and his channel, asked in one snapshot, and
//! compared with what Postgres itself says. `walcast explain` and the server's admin endpoint are its users.
//!
//! Owns the order of the questions and the verdict. `session` reads the database and `ask` asks it, `policy::explain` says what programs
//! say, `report` is the answer, `text` writes it. No value of a row, of a token or of claims is in any answer.

mod ask;
mod filter;
mod key;
mod policies;
mod report;
mod session;
mod table;
mod text;

pub use key::Key;
pub use report::{Columns, ConditionAnswer, Effect, Finding, PostgresAnswer, Report};
pub use text::text;

use crate::{
    change::Datum,
    claims::Claims,
    policy::catalog::{Catalog, Table},
};
use session::{FoundRow, KeyCondition, Session};
use std::sync::Arc;
use tokio_postgres::Client;

/// What is asked.
pub struct Question<'a> {
    /// `table` in schema public, or `schema.table`, as the names are.
    pub table: &'a str,
    /// Which row.
    pub key: &'a Key,
    /// The filter of the subscription.
    pub filter: Option<&'a str>,
    /// Who asks for it.
    pub claims: &'a Claims,
}

/// By what it is answered.
pub struct World<'a> {
    /// The catalogue, as the server has it.
    pub catalog: &'a Catalog,
    /// The publication clients subscribe to.
    pub publication: &'a str,
    /// The running server, when it is the one that answers.
    pub running: Option<&'a Running>,
}

/// What a running server knows beside its catalogue.
#[derive(Clone, Debug, Default)]
pub struct Running {
    /// What keeps all changes from everybody at the moment.
    pub interruption: Option<String>,
    /// The tables its policies look into.
    pub lookups: Vec<LookupTable>,
}

/// A table that policies look into, as a running server has it.
#[derive(Clone, Debug)]
pub struct LookupTable {
    /// Its name with its schema.
    pub table: String,
    /// Whether its rows are complete.
    pub is_ready: bool,
    /// `loading`, `ready`, `waiting`, `failed`.
    pub state: &'static str,
    /// Why they are not complete.
    pub why: Option<String>,
}

/// Why there is no explanation. None of these texts holds a value.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// There is no such table.
    #[error("there is no table {0}; name it as `table` in schema public or as `schema.table`, letter for letter")]
    NoTable(String),
    /// There is no such row.
    #[error("{0} has no row with this key")]
    NoRow(String),
    /// The key does not fit the table's.
    #[error("the primary key of {table} is ({columns}): give a value for each, as in {example}")]
    Key {
        /// The table.
        table: String,
        /// The names of the key's columns.
        columns: String,
        /// How.
        example: String,
    },
    /// A value of the key is not of its column's type.
    #[error("the key is not of the type of the table's primary key")]
    KeyValue,
    /// Nobody we may be sees all rows.
    #[error("no role that is granted to this server's login can read all of its rows")]
    NoReader,
    /// The database could not be asked.
    #[error("the database could not be asked")]
    Query(#[from] tokio_postgres::Error),
    /// What it said is not what was expected.
    #[error("the database's answer cannot be understood")]
    Answer(#[from] serde_json::Error),
}

/// Explains.
pub async fn explain(client: &mut Client, world: &World<'_>, question: &Question<'_>) -> Result<Report, ExplainError> {
    let mut session = Session::begin(client).await?;
    let report = Box::pin(Explaining { world, question }.explain(&mut session)).await?;
    session.end().await?;
    Ok(report)
}

/// One question in its world.
struct Explaining<'a> {
    world: &'a World<'a>,
    question: &'a Question<'a>,
}

/// The row that is asked about, and the table it is in.
struct Subject<'a> {
    table: &'a Arc<Table>,
    row: &'a FoundRow,
    /// What the stream would have of it.
    streamed: Vec<Datum>,
}

impl Explaining<'_> {
    async fn explain(&self, session: &mut Session<'_>) -> Result<Report, ExplainError> {
        let (schema, name) = self.question.table.split_once('.').unwrap_or(("public", self.question.table));
        let full_name = format!("{schema}.{name}");
        let publication = session.named(self.world.publication, schema, name).await?;
        let publication = publication.ok_or_else(|| ExplainError::NoTable(full_name.clone()))?;
        let role = &*self.question.claims.role;
        let mut report = Report::new(full_name, role);
        if let Some(interruption) = self.world.running.and_then(|running| running.interruption.as_ref()) {
            report.note("server", interruption.clone());
        }
        table::role(&mut report, self.world.catalog, role);
        let tables = &mut self.world.catalog.tables.values();
        let table = tables.find(|table| table.schema == schema && table.name == name);
        table::publication(&mut report, self.world, &publication, table.is_some());
        let Some(table) = table.filter(|_| report.findings.iter().all(|finding| finding.effect != Effect::Hides))
        else {
            return Ok(report.conclude(""));
        };
        table::grants(&mut report, self.world.catalog, table);
        table::key(&mut report, self.world.catalog, table);
        table::images(&mut report, table, &publication);
        if table.primary_key.is_empty() {
            return Ok(report.conclude(""));
        }
        self.row(session, report, table, publication.row_filter.as_deref()).await
    }

    /// What depends on the row.
    async fn row(
        &self,
        session: &mut Session<'_>,
        mut report: Report,
        table: &Arc<Table>,
        row_filter: Option<&str>,
    ) -> Result<Report, ExplainError> {
        let catalog = self.world.catalog;
        let key = self.key(table)?;
        let facts = catalog.facts.tables.get(&table.oid).ok_or_else(|| ExplainError::NoTable(report.table.clone()))?;
        let row = match session.row(facts, table, &key).await {
            Ok(row) => row.ok_or_else(|| ExplainError::NoRow(report.table.clone()))?,
            Err(ExplainError::NoReader) => return self.unread(session, report, table, &key).await,
            Err(error) => return Err(error),
        };
        let subject = Subject { table, streamed: streamed(table, &row), row: &row };
        if let Some(expression) = row_filter {
            table::row_filter(&mut report, session, &subject, expression).await?;
        }
        let sight = policies::judge(self, session, &mut report, &subject).await?;
        if let Some(text) = self.question.filter {
            filter::judge(self, session, &mut report, &subject, text).await?;
        }
        let may = sight.sees.map(|sees| sees && !report.is_hidden_by("grant") && !report.is_hidden_by("key"));
        self.compare(session, &mut report, table, (&key, may)).await?;
        Ok(report.conclude(&sight.because))
    }

    /// Nobody we may be can read the row: what is left is to ask Postgres whether the user can.
    async fn unread(
        &self,
        session: &mut Session<'_>,
        mut report: Report,
        table: &Arc<Table>,
        key: &KeyCondition,
    ) -> Result<Report, ExplainError> {
        let name = report.table.clone();
        let fix = format!("grant select on the table {name} to a role that bypasses row level security");
        report.note(
            "reader",
            format!("{}, so policies and filter are not judged one by one: {fix}", ExplainError::NoReader),
        );
        self.compare(session, &mut report, table, (key, None)).await?;
        let role = &report.role;
        let says = report.postgres.as_ref().map(|postgres| postgres.answer.clone()).unwrap_or_default();
        if says == policies::SEES {
            let because = format!("Postgres shows this row of {name} to role \"{role}\"");
            return Ok(report.conclude(&because));
        }
        let meaning = format!("Postgres does not show role \"{role}\" such a row of {name} ({says})");
        report.hides("policies", meaning, None);
        Ok(report.conclude(""))
    }

    fn key(&self, table: &Table) -> Result<KeyCondition, ExplainError> {
        let columns = table.primary_key.iter().filter_map(|&index| table.columns.get(index));
        let columns: Vec<&str> = columns.map(|column| column.name.as_str()).collect();
        let values = self.question.key.values(&columns);
        let condition = values.and_then(|values| KeyCondition::new(table, &self.world.catalog.facts, values));
        condition.ok_or_else(|| ExplainError::Key {
            table: format!("{}.{}", table.schema, table.name),
            columns: columns.join(", "),
            example: match columns.len() {
                1 => "--row 5".to_owned(),
                _ => "--row a,b or --row '[\"a\", \"b\"]'".to_owned(),
            },
        })
    }

    /// Holds what was found out against Postgres.
    async fn compare(
        &self,
        session: &mut Session<'_>,
        report: &mut Report,
        table: &Table,
        (key, may): (&KeyCondition, Option<bool>),
    ) -> Result<(), ExplainError> {
        let selected = session.selects(table, key, self.question.claims).await?;
        let postgres = policies::compared(&selected, may);
        if postgres.agrees == Some(false) {
            let meaning = match report.decided_by {
                Some(policies::DATABASE) => {
                    "a SELECT of this row gives another answer than its policies do by themselves: they depend on more \
                     than row, claims and other tables, such as chance or time"
                }
                _ => "WALCAST AND POSTGRES DISAGREE about this row: please report it, with the policies of the table",
            };
            report.note("postgres", meaning);
        }
        report.postgres = Some(postgres);
        Ok(())
    }
}

/// What the stream has of a row: not what Postgres computes for itself, and what the publication leaves out.
fn streamed(table: &Table, row: &FoundRow) -> Vec<Datum> {
    let is_streamed = |index: usize| match &table.published {
        Some(published) => published.contains(&index),
        None => table.columns.get(index).is_some_and(|column| column.generated.is_none()),
    };
    let datum = |(index, text): (usize, &Option<String>)| match text {
        _ if !is_streamed(index) => Datum::Absent,
        None => Datum::Null,
        Some(text) => Datum::Text(text.clone().into()),
    };
    row.texts.iter().enumerate().map(datum).collect()
}
