//! Asks Postgres the questions of a batch: one transaction a group, rolled back, several groups at a time.
//!
//! An error aborts a transaction, so a group that fails is asked again in ever smaller parts, and the row that fails
//! alone is denied: a failing policy costs its own subscriber only. Statements are prepared under our own login, as a policy's
//! expression is parsed under its owner's, and run under the subscriber's role.

use super::{
    database_lane::Config,
    questions::{Group, GroupKey, Question, Questions, Verdict},
};
use crate::pg::connect::describe;
use deadpool_postgres::{Object, Pool};
use futures_util::{StreamExt, future::join, stream};
use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio_postgres::{error::SqlState, types::ToSql};

/// Rows of one statement. More would let one slow row deny many.
const ROWS_A_STATEMENT: usize = 256;
/// Statements that look for the rows of a failed statement that do not fail themselves: enough for any 32 rows, and for
/// 256 with a few bad ones. What is not found is hidden.
const STATEMENTS_AFTER_FAILURE: usize = 64;
/// Attempts when the database cannot be reached.
const ATTEMPTS: u32 = 4;
/// The wait between them doubles from here.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// How long a transaction whose commit has arrived may stay invisible to new snapshots before its rows are hidden.
const VISIBLE_LIMIT: Duration = Duration::from_secs(10);

/// A subscriber whose policy ran into the time limit is not asked about for this long, so that he cannot hold up the
/// others again and again. His rows are hidden meanwhile.
const SLOW_PAUSE: Duration = Duration::from_secs(10);
/// Statements and rights that are remembered at most.
const REMEMBERED: usize = 10_000;

/// A commit can arrive in the stream before a new snapshot sees it. The stream's xid has 32 bits; it is taken for the
/// one that is nearest to the snapshot's end. It may lie behind that end, which is where the *completed* transactions
/// end, and then it is not visible yet.
const INVISIBLE: &str = "
    select count(*) from pg_catalog.unnest($1::bigint[]) as x(low),
      (select pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::bigint as newest) as s,
      lateral (select (s.newest >> 32 << 32) + x.low as guess) as g
    where not pg_catalog.pg_visible_in_snapshot(
      (case when g.guess > s.newest + 2147483648 and g.guess >= 4294967296 then g.guess - 4294967296
            when g.guess < s.newest - 2147483648 then g.guess + 4294967296
            else g.guess end)::text::xid8,
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

/// Under which role a statement is analysed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Analysis {
    /// Our own login, as a policy is analysed under its owner's: names need no rights of the subscriber.
    UnderLogin,
    /// The subscriber's role, where our login lacks a right to name something.
    UnderRole,
}

/// Asks.
pub(super) struct Asker {
    pool: Pool,
    config: Config,
    /// Statements our login cannot analyse.
    under_role: Mutex<HashSet<Arc<str>>>,
    /// Rights under which a statement ran into the time limit, and when.
    slow: Mutex<HashMap<GroupKey, Instant>>,
}

impl Asker {
    pub(super) fn new(pool: Pool, config: Config) -> Asker {
        Asker { pool, config, under_role: Mutex::default(), slow: Mutex::default() }
    }

    /// Asks all groups; what cannot be asked is `Unasked`.
    pub(super) async fn ask(&self, questions: &Questions, transactions: BTreeSet<u32>) -> Verdicts {
        let mut verdicts: Vec<Vec<Verdict>> =
            questions.groups.iter().map(|group| vec![Verdict::Unasked; group.images.len()]).collect();
        if questions.groups.is_empty() || !wait_until_visible(&self.pool, &transactions, VISIBLE_LIMIT).await {
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

    async fn client(&self) -> Option<Object> {
        client(&self.pool).await
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
        let is_final = matches!(failure, Verdict::Unasked) || self.is_slow(&group.key);
        if images.len() == 1 || is_final {
            return vec![failure; images.len()];
        }
        // Halves, then quarters, and so on: whole stretches that do not fail are found before the budget is spent.
        let mut verdicts = vec![failure; images.len()];
        let mut open = VecDeque::new();
        open.push_back(0..images.len());
        let mut budget = STATEMENTS_AFTER_FAILURE;
        while let Some(failed) = open.pop_front() {
            let middle = failed.start + failed.len() / 2;
            for half in [failed.start..middle, middle..failed.end] {
                if budget == 0 || self.is_slow(&group.key) {
                    return verdicts;
                }
                budget -= 1;
                match self.ask_once(group, &images[half.clone()]).await {
                    Ok(answer) => verdicts[half].clone_from_slice(&answer),
                    Err(failure) => {
                        verdicts[half.clone()].fill(failure);
                        if half.len() > 1 {
                            open.push_back(half);
                        }
                    }
                }
            }
        }
        verdicts
    }

    /// One transaction; the error is what became of all its rows.
    async fn ask_once(&self, group: &Group, images: &[Arc<str>]) -> Result<Vec<Verdict>, Verdict> {
        if self.is_slow(&group.key) {
            return Err(Verdict::Failed(SqlState::QUERY_CANCELED.code().into()));
        }
        let mut analysis = self.analysis(&group.key.statement);
        let mut is_lost = false;
        let mut is_new_plan = false;
        let mut client = self.client().await.ok_or(Verdict::Unasked)?;
        loop {
            // The backstop for a server that is gone and does not say so.
            let limit = self.config.statement_timeout * 2 + Duration::from_secs(1);
            let transaction = self.transact(&client, group, images, analysis);
            let Ok(outcome) = tokio::time::timeout(limit, transaction).await else {
                drop(Object::take(client));
                self.note_slow(&group.key);
                return Err(Verdict::Unasked);
            };
            let error = match outcome {
                Ok(verdicts) => return Ok(verdicts),
                Err(error) => error,
            };
            match error.code() {
                // A statement prepared before the catalogue changed is analysed again under the role, which may lack
                // USAGE on a schema the expression names: it is prepared anew, on this very connection.
                Some(&SqlState::INSUFFICIENT_PRIVILEGE) if !is_new_plan => {
                    client.statement_cache.clear();
                    is_new_plan = true;
                    analysis = Analysis::UnderLogin;
                }
                // Or our own login lacks it: then the role may have it.
                Some(&SqlState::INSUFFICIENT_PRIVILEGE) if analysis == Analysis::UnderLogin => {
                    client.statement_cache.clear();
                    analysis = Analysis::UnderRole;
                }
                Some(code) if !is_of_the_server(code) => {
                    tracing::debug!(sqlstate = code.code(), table = group.table.1, "policy failed on a row image");
                    if *code == SqlState::QUERY_CANCELED {
                        self.note_slow(&group.key);
                    }
                    return Err(Verdict::Failed(code.code().into()));
                }
                _ => {
                    tracing::debug!(error = %describe(&error), "database lane lost its connection");
                    drop(Object::take(client));
                    if std::mem::replace(&mut is_lost, true) {
                        return Err(Verdict::Unasked);
                    }
                    client = self.client().await.ok_or(Verdict::Unasked)?;
                }
            }
        }
    }

    async fn transact(
        &self,
        client: &Object,
        group: &Group,
        images: &[Arc<str>],
        analysis: Analysis,
    ) -> Result<Vec<Verdict>, tokio_postgres::Error> {
        let settings = client.prepare_cached(SETTINGS).await?;
        // The role stands in the text, so that no plan made for one role serves another.
        let text = format!("/* {} */ {}", in_a_comment(&group.key.role), group.key.statement);
        let timeout = self.config.statement_timeout.as_millis().to_string();
        let claims = group.key.claims.as_deref().unwrap_or("");
        let role = &*group.key.role;
        let setting: [&(dyn ToSql + Sync); 3] = [&role, &claims, &timeout];
        let images: Vec<&str> = images.iter().map(|image| &**image).collect();
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&images];
        parameters.extend(group.key.parameters.iter().map(|value| value as &(dyn ToSql + Sync)));
        let begin = join(client.batch_execute("begin read only"), client.query(&settings, &setting));
        let (begun, set, answer, ended) = match analysis {
            Analysis::UnderLogin => {
                let statement = client.prepare_cached(&text).await?;
                // All four go out at once: polled in this order, they are sent in this order, for one round trip.
                let end = join(client.query(&statement, &parameters), client.batch_execute("rollback"));
                let ((begun, set), (answer, ended)) = join(begin, end).await;
                (begun, set, answer, ended)
            }
            Analysis::UnderRole => {
                let (begun, set) = begin.await;
                let answer = match client.prepare_cached(&text).await {
                    Ok(statement) => client.query(&statement, &parameters).await,
                    Err(error) => Err(error),
                };
                let ended = client.batch_execute("rollback").await;
                if answer.is_ok() {
                    self.note_under_role(&group.key.statement);
                }
                (begun, set, answer, ended)
            }
        };
        // An answer counts only if the role was taken before it was given.
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

    fn analysis(&self, statement: &Arc<str>) -> Analysis {
        let known = self.under_role.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains(statement) { Analysis::UnderRole } else { Analysis::UnderLogin }
    }

    fn note_under_role(&self, statement: &Arc<str>) {
        let mut known = self.under_role.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(statement.clone());
    }

    fn is_slow(&self, key: &GroupKey) -> bool {
        let mut slow = self.slow.lock().unwrap_or_else(PoisonError::into_inner);
        match slow.get(key) {
            Some(since) if since.elapsed() < SLOW_PAUSE => true,
            Some(_) => {
                slow.remove(key);
                false
            }
            None => false,
        }
    }

    fn note_slow(&self, key: &GroupKey) {
        let mut slow = self.slow.lock().unwrap_or_else(PoisonError::into_inner);
        if slow.len() >= REMEMBERED {
            slow.retain(|_, since| since.elapsed() < SLOW_PAUSE);
        }
        slow.insert(key.clone(), Instant::now());
    }
}

/// Waits until new snapshots see what these transactions wrote: a policy's lookups would, and so would the catalogue.
pub(super) async fn wait_until_visible(pool: &Pool, transactions: &BTreeSet<u32>, limit: Duration) -> bool {
    let transactions: Vec<i64> = transactions.iter().copied().map(i64::from).collect();
    let wait = async {
        let mut pause = Duration::from_millis(1);
        loop {
            let client = client(pool).await?;
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
    let seen = tokio::time::timeout(limit, wait).await;
    if seen.is_err() {
        tracing::warn!(?limit, "a transaction whose commit arrived does not become visible");
    }
    matches!(seen, Ok(Some(())))
}

async fn client(pool: &Pool) -> Option<Object> {
    let mut wait = FIRST_WAIT;
    for attempt in 1..=ATTEMPTS {
        match pool.get().await {
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

/// A name as a comment can hold it: comments nest, so neither `/*` nor `*/` may stay.
fn in_a_comment(name: &str) -> String {
    name.replace('%', "%25").replace('*', "%2A")
}

/// Failures of the server or the connection, not of the expression: classes 08, 53, 57 (but a cancelled statement is
/// the expression's own) and 58.
fn is_of_the_server(code: &SqlState) -> bool {
    let class = &code.code()[..2];
    *code != SqlState::QUERY_CANCELED && matches!(class, "08" | "53" | "57" | "58")
}
