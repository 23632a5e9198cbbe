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
use futures_util::{
    StreamExt,
    future::join,
    stream::{self, FuturesOrdered},
};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::time::{error::Elapsed, timeout};
use tokio_postgres::{Statement, error::SqlState, types::ToSql};

/// Rows of one statement. More would let one slow row deny many.
const ROWS_A_STATEMENT: usize = 256;
/// Statements that are sent over one connection before the first is answered.
const PAGES_A_FLIGHT: usize = 32;
/// Attempts at sending them: it may be too early once, and a connection may have been closed meanwhile.
const FLIGHT_ATTEMPTS: u32 = 3;
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

/// Rows of one group that go into one statement.
struct Page<'a> {
    /// The group's place.
    number: usize,
    group: &'a Group,
    images: &'a [Arc<str>],
}

/// What came of sending several pages at once.
enum Flight {
    /// Each was answered, if only by an error of its own.
    Done(Vec<Result<Vec<Verdict>, tokio_postgres::Error>>),
    /// Not all of the changes' transactions were visible yet.
    TooEarly,
    /// The connection or the server failed; another try may help.
    Broken,
    /// Nobody could be asked.
    Lost,
}

/// The statements of a group on one connection.
struct Prepared {
    settings: Statement,
    question: Statement,
}

impl Prepared {
    async fn of(client: &Object, group: &Group) -> Result<Prepared, tokio_postgres::Error> {
        let settings = client.prepare_cached(SETTINGS).await?;
        // The role stands in the text, so that no plan made for one role serves another.
        let role = group.key.role.replace("*/", "");
        let question = client.prepare_cached(&format!("/* {role} */ {}", group.key.statement)).await?;
        Ok(Prepared { settings, question })
    }
}

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
        let transactions: Vec<i64> = transactions.into_iter().map(i64::from).collect();
        let mut pages = Vec::with_capacity(questions.groups.len());
        for (number, group) in questions.groups.iter().enumerate() {
            pages.extend(group.images.chunks(ROWS_A_STATEMENT).map(|images| Page { number, group, images }));
        }
        let connections = self.config.connections.max(1);
        let flight = pages.len().div_ceil(connections).clamp(1, PAGES_A_FLIGHT);
        let asking: Vec<_> = pages.chunks(flight).map(|pages| self.ask_flight(pages, &transactions)).collect();
        let answers: Vec<_> = stream::iter(asking).buffered(connections).collect().await;
        let mut verdicts = vec![Vec::new(); questions.groups.len()];
        for (page, answer) in pages.iter().zip(answers.into_iter().flatten()) {
            verdicts[page.number].extend(answer);
        }
        Verdicts(verdicts)
    }

    /// Asks several pages over one connection. Those that fail are asked again, row by row.
    async fn ask_flight(&self, pages: &[Page<'_>], transactions: &[i64]) -> Vec<Vec<Verdict>> {
        let mut unseen = transactions;
        for _ in 0..FLIGHT_ATTEMPTS {
            match self.fly(pages, unseen).await {
                Flight::Done(answers) => {
                    let mut verdicts = Vec::with_capacity(pages.len());
                    for (page, answer) in pages.iter().zip(answers) {
                        verdicts.push(self.settle(page, answer).await);
                    }
                    return verdicts;
                }
                Flight::TooEarly if self.wait_until_visible(transactions).await => unseen = &[],
                Flight::Broken => {}
                Flight::TooEarly | Flight::Lost => break,
            }
        }
        pages.iter().map(|page| vec![Verdict::Unasked; page.images.len()]).collect()
    }

    /// Sends the questions of a flight at once, behind the question whether the transactions are visible: snapshots
    /// taken later on the same connection see what that one sees. Each page is a transaction of its own, so that
    /// neither an error nor a setting of one reaches another.
    async fn fly(&self, pages: &[Page<'_>], transactions: &[i64]) -> Flight {
        let Some(client) = self.client().await else { return Flight::Lost };
        // The backstop for a server that is gone and does not say so.
        let limit = self.config.statement_timeout * 2 + Duration::from_secs(1);
        let asking = async {
            // Prepared beforehand: what is sent then goes out in this order, and nothing comes between the statements of
            // one transaction.
            let invisible = timeout(limit, client.prepare_cached(INVISIBLE)).await?;
            let mut statements = Vec::with_capacity(pages.len());
            for page in pages {
                statements.push(timeout(limit, Prepared::of(&client, page.group)).await?);
            }
            let check = async {
                match transactions {
                    [] => Ok(0),
                    _ => client.query_one(&invisible?, &[&transactions]).await.map(|row| row.get::<_, i64>(0)),
                }
            };
            let mut flying: FuturesOrdered<_> = pages
                .iter()
                .zip(statements)
                .map(|(page, statement)| {
                    let client = &client;
                    async move { self.transact(client, &statement?, page.group, page.images).await }
                })
                .collect();
            let landing = async {
                let mut answers = Vec::with_capacity(pages.len());
                while let Some(answer) = timeout(limit, flying.next()).await? {
                    answers.push(answer);
                }
                Ok::<_, Elapsed>(answers)
            };
            let (check, answers) = join(timeout(limit, check), landing).await;
            Ok::<_, Elapsed>((check?, answers?))
        };
        let (check, answers) = match asking.await {
            Ok(landed) => landed,
            Err(_) => {
                drop(Object::take(client));
                return Flight::Lost;
            }
        };
        match check {
            Ok(0) => {}
            Ok(_) => return Flight::TooEarly,
            Err(error) => {
                tracing::warn!(error = %describe(&error), "cannot ask whether a transaction is visible");
                drop(Object::take(client));
                return Flight::Broken;
            }
        }
        let is_of_the_line = |error: &tokio_postgres::Error| error.code().is_none_or(is_of_the_server);
        if answers.iter().any(|answer| answer.as_ref().is_err_and(is_of_the_line)) {
            drop(Object::take(client));
            return Flight::Broken;
        }
        Flight::Done(answers)
    }

    /// What became of a page once its flight is over.
    async fn settle(&self, page: &Page<'_>, answer: Result<Vec<Verdict>, tokio_postgres::Error>) -> Vec<Verdict> {
        let failure = match answer {
            Ok(verdicts) => return verdicts,
            Err(error) => error.code().cloned(),
        };
        let failure = match failure {
            // May be due to an old analysis: asking alone clears it.
            Some(SqlState::INSUFFICIENT_PRIVILEGE) | None => match self.ask_once(page.group, page.images).await {
                Ok(verdicts) => return verdicts,
                Err(failure) => failure,
            },
            Some(code) => Verdict::Failed(code.code().into()),
        };
        self.ask_rows(page.group, page.images, failure).await
    }

    /// Waits until lookups of a policy would see what the changes' own transactions wrote.
    async fn wait_until_visible(&self, transactions: &[i64]) -> bool {
        let wait = async {
            let mut pause = Duration::from_millis(1);
            loop {
                let client = self.client().await?;
                let asked = async {
                    let statement = client.prepare_cached(INVISIBLE).await?;
                    client.query_one(&statement, &[&transactions]).await
                };
                let invisible: i64 = match asked.await {
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
        let seen = timeout(VISIBLE_LIMIT, wait).await;
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

    /// Asks row by row, after asking together has failed.
    async fn ask_rows(&self, group: &Group, images: &[Arc<str>], failure: Verdict) -> Vec<Verdict> {
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
            let asking = async {
                let prepared = Prepared::of(&client, group).await?;
                self.transact(&client, &prepared, group, images).await
            };
            let Ok(outcome) = timeout(limit, asking).await else {
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
        prepared: &Prepared,
        group: &Group,
        images: &[Arc<str>],
    ) -> Result<Vec<Verdict>, tokio_postgres::Error> {
        let statement_timeout = self.config.statement_timeout.as_millis().to_string();
        let claims = group.key.claims.as_deref().unwrap_or("");
        let role = &*group.key.role;
        let setting: [&(dyn ToSql + Sync); 3] = [&role, &claims, &statement_timeout];
        let images: Vec<&str> = images.iter().map(|image| &**image).collect();
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&images];
        parameters.extend(group.key.parameters.iter().map(|value| value as &(dyn ToSql + Sync)));
        // All four go out at once: polled in this order, they are sent in this order, and cost one round trip.
        let ((begun, set), (answer, ended)) = join(
            join(client.batch_execute("begin read only"), client.query(&prepared.settings, &setting)),
            join(client.query(&prepared.question, &parameters), client.batch_execute("rollback")),
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
