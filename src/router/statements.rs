//! Asks Postgres the questions of a batch: one transaction a group, rolled back, several groups at a time.
//!
//! An error aborts a transaction, so a group that fails is asked again row by row, and the row that fails alone is
//! denied: a failing policy costs its own subscriber only. Statements are prepared under our own login, as a policy's
//! expression is parsed under its owner's, and run under the subscriber's role.

use super::{
    database_lane::Config,
    questions::{Group, Question, Questions, Verdict},
};
use crate::pg::connect::describe;
use deadpool_postgres::{Object, Pool};
use futures_util::{StreamExt, future::join, stream};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio_postgres::{error::SqlState, types::ToSql};

/// Rows of one statement. More would let one slow row deny many.
const ROWS_A_STATEMENT: usize = 256;
/// Rows of a failed group that are asked alone. When all of these fail, the rest is taken to fail too: it is hidden.
const LONE_ROWS: usize = 16;
/// Attempts when the database cannot be reached.
const ATTEMPTS: u32 = 4;
/// The wait between them doubles from here.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// How long a transaction whose commit has arrived may stay invisible to new snapshots before its rows are hidden.
const VISIBLE_LIMIT: Duration = Duration::from_secs(10);

/// A commit can arrive in the stream before a new snapshot sees it. The stream's xid has 32 bits; the epoch is that of
/// the newest transaction, or the one before when it would lie in the future.
const INVISIBLE: &str = "
    select count(*) from pg_catalog.unnest($1::bigint[]) as x(low),
      (select pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::bigint as newest) as s,
      lateral (select (s.newest >> 32 << 32) + x.low as guess) as g
    where not pg_catalog.pg_visible_in_snapshot(
      (case when g.guess > s.newest then g.guess - 4294967296 else g.guess end)::text::xid8,
      pg_catalog.pg_current_snapshot())";

const SETTINGS: &str = "select pg_catalog.set_config('role', $1, true), \
                        pg_catalog.set_config('request.jwt.claims', $2, true), \
                        pg_catalog.set_config('statement_timeout', $3, true)";

/// The verdicts of a batch.
pub(super) struct Verdicts(Vec<Vec<Verdict>>);

impl Verdicts {
    /// What became of a question.
    pub(super) fn of(&self, question: Question) -> Verdict {
        self.0.get(question.group).and_then(|rows| rows.get(question.row)).cloned().unwrap_or(Verdict::Unasked)
    }
}

/// Asks.
pub(super) struct Asker {
    pool: Pool,
    config: Config,
}

impl Asker {
    pub(super) fn new(pool: Pool, config: Config) -> Asker {
        Asker { pool, config }
    }

    /// Asks all groups; what cannot be asked is `Unasked`.
    pub(super) async fn ask(&self, questions: &Questions, transactions: BTreeSet<u32>) -> Verdicts {
        let mut verdicts: Vec<Vec<Verdict>> =
            questions.groups.iter().map(|group| vec![Verdict::Unasked; group.images.len()]).collect();
        if questions.groups.is_empty() || !self.wait_until_visible(transactions).await {
            return Verdicts(verdicts);
        }
        let asking: Vec<_> = questions
            .groups
            .iter()
            .enumerate()
            .map(|(index, group)| async move { (index, self.ask_group(group).await) })
            .collect();
        let answers: Vec<_> = stream::iter(asking).buffer_unordered(self.config.connections.max(1)).collect().await;
        for (index, answer) in answers {
            verdicts[index] = answer;
        }
        Verdicts(verdicts)
    }

    /// Waits until lookups of a policy would see what the changes' own transactions wrote.
    async fn wait_until_visible(&self, transactions: BTreeSet<u32>) -> bool {
        let transactions: Vec<i64> = transactions.into_iter().map(i64::from).collect();
        let wait = async {
            let mut pause = Duration::from_millis(1);
            loop {
                let client = self.client().await?;
                let invisible: i64 = match client.query_one(INVISIBLE, &[&transactions]).await {
                    Ok(row) => row.get(0),
                    Err(error) => {
                        tracing::warn!(error = %describe(&error), "cannot ask whether a transaction is visible");
                        return None;
                    }
                };
                if invisible == 0 {
                    return Some(());
                }
                drop(client);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_millis(100));
            }
        };
        let seen = tokio::time::timeout(VISIBLE_LIMIT, wait).await;
        if seen.is_err() {
            tracing::warn!(limit = ?VISIBLE_LIMIT, "a transaction whose commit arrived does not become visible");
        }
        matches!(seen, Ok(Some(())))
    }

    async fn client(&self) -> Option<Object> {
        let mut wait = FIRST_WAIT;
        for attempt in 1..=ATTEMPTS {
            match self.pool.get().await {
                Ok(client) => return Some(client),
                Err(error) => {
                    tracing::warn!(attempt, error = %describe(&error), "database lane has no connection");
                    tokio::time::sleep(wait).await;
                    wait *= 2;
                }
            }
        }
        None
    }

    async fn ask_group(&self, group: &Group) -> Vec<Verdict> {
        let mut verdicts = Vec::with_capacity(group.images.len());
        for images in group.images.chunks(ROWS_A_STATEMENT) {
            verdicts.extend(self.ask_rows(group, images).await);
        }
        verdicts
    }

    async fn ask_rows(&self, group: &Group, images: &[Arc<str>]) -> Vec<Verdict> {
        let first = self.ask_once(group, images).await;
        let failure = match first {
            Ok(verdicts) => return verdicts,
            Err(failure) => failure,
        };
        if images.len() == 1 || matches!(failure, Verdict::Unasked) {
            return vec![failure; images.len()];
        }
        let mut verdicts = Vec::with_capacity(images.len());
        for image in images {
            if verdicts.len() == LONE_ROWS && verdicts.iter().all(|verdict| matches!(verdict, Verdict::Failed(_))) {
                verdicts.resize(images.len(), failure.clone());
                break;
            }
            match self.ask_once(group, std::slice::from_ref(image)).await {
                Ok(answer) => verdicts.extend(answer),
                Err(failure) => verdicts.push(failure),
            }
        }
        verdicts
    }

    /// One transaction; the error is what became of all its rows.
    async fn ask_once(&self, group: &Group, images: &[Arc<str>]) -> Result<Vec<Verdict>, Verdict> {
        for attempt in 1..=2 {
            let client = self.client().await.ok_or(Verdict::Unasked)?;
            // The backstop for a server that is gone and does not say so.
            let limit = self.config.statement_timeout * 2 + Duration::from_secs(1);
            let Ok(outcome) = tokio::time::timeout(limit, self.transact(&client, group, images)).await else {
                drop(Object::take(client));
                return Err(Verdict::Unasked);
            };
            let error = match outcome {
                Ok(verdicts) => return Ok(verdicts),
                Err(error) => error,
            };
            match error.code() {
                // A statement that was analysed again under the role may lack what its first analysis had.
                Some(&SqlState::INSUFFICIENT_PRIVILEGE) if attempt == 1 => {
                    client.statement_cache.clear();
                }
                Some(code) if is_of_the_server(code) => {
                    drop(Object::take(client));
                    if attempt == 2 {
                        return Err(Verdict::Unasked);
                    }
                }
                Some(code) => {
                    tracing::debug!(sqlstate = code.code(), table = group.table.1, "policy failed on a row image");
                    return Err(Verdict::Failed(code.code().into()));
                }
                None => {
                    tracing::debug!(error = %describe(&error), "database lane lost its connection");
                    drop(Object::take(client));
                    if attempt == 2 {
                        return Err(Verdict::Unasked);
                    }
                }
            }
        }
        Err(Verdict::Unasked)
    }

    async fn transact(
        &self,
        client: &Object,
        group: &Group,
        images: &[Arc<str>],
    ) -> Result<Vec<Verdict>, tokio_postgres::Error> {
        let settings = client.prepare_cached(SETTINGS).await?;
        // The role stands in the text, so that no plan made for one role serves another.
        let role = group.key.role.replace("*/", "");
        let statement = client.prepare_cached(&format!("/* {role} */ {}", group.key.statement)).await?;
        let timeout = self.config.statement_timeout.as_millis().to_string();
        let claims = group.key.claims.as_deref().unwrap_or("");
        let role = &*group.key.role;
        let setting: [&(dyn ToSql + Sync); 3] = [&role, &claims, &timeout];
        let images: Vec<&str> = images.iter().map(|image| &**image).collect();
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&images];
        parameters.extend(group.key.parameters.iter().map(|value| value as &(dyn ToSql + Sync)));
        // All four go out at once: polled in this order, they are sent in this order, and cost one round trip.
        let ((begun, set), (answer, ended)) = join(
            join(client.batch_execute("begin read only"), client.query(&settings, &setting)),
            join(client.query(&statement, &parameters), client.batch_execute("rollback")),
        )
        .await;
        ended?;
        begun?;
        set?;
        let mut by_number: HashMap<i64, bool> = HashMap::new();
        for row in answer? {
            by_number.insert(row.get(0), row.get::<_, Option<bool>>(1) == Some(true));
        }
        let verdict = |number: i64| match by_number.get(&number) {
            Some(true) => Verdict::Yes,
            // NULL counts as no, and so does a row that did not come back.
            _ => Verdict::No,
        };
        Ok((1..).take(images.len()).map(verdict).collect())
    }
}

/// Failures of the server or the connection, not of the expression: classes 08, 53, 57 (but a cancelled statement is
/// the expression's own) and 58.
fn is_of_the_server(code: &SqlState) -> bool {
    let class = &code.code()[..2];
    *code != SqlState::QUERY_CANCELED && matches!(class, "08" | "53" | "57" | "58")
}
