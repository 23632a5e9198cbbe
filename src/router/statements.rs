//! Asks Postgres the questions of a batch: one transaction a group, rolled back, several groups at a time.
//!
//! An error aborts a transaction, so a group that fails is asked again in ever smaller parts, and the row that fails
//! alone is denied: a failing policy costs its own subscriber only. Statements are prepared under our own login, as a policy's
//! expression is parsed under its owner's, and run under the subscriber's role.

use super::{
    database_lane::Config,
    questions::{Group, GroupKey, Question, Questions, Verdict},
    visible::{connection, count_invisible, prepare_check, wait_until_visible},
};
use crate::pg::connect::describe;
use deadpool_postgres::{Object, Pool};
use futures_util::{
    StreamExt,
    future::join,
    stream::{self, FuturesOrdered},
};
use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::time::timeout;
use tokio_postgres::{error::SqlState, types::ToSql};

/// Rows of one statement. More would let one slow row deny many.
const ROWS_A_STATEMENT: usize = 256;
/// A statement has no further row once its rows are as large as this together.
const STATEMENT_BYTES: usize = 1024 * 1024;
/// Statements that look for rows of a failed statement that do not fail themselves, until the first is found: enough for
/// any 32 rows. Behind that, every row is found.
const STATEMENTS_WITHOUT_SUCCESS: usize = 64;
/// Statements that are sent over one connection before the first is answered.
const PAGES_A_FLIGHT: usize = 32;
/// Attempts at sending them: it may be too early once, and a connection may have been closed meanwhile.
const FLIGHT_ATTEMPTS: u32 = 3;
/// How long a transaction whose commit has arrived may stay invisible to new snapshots before its rows are hidden.
const VISIBLE_LIMIT: Duration = Duration::from_secs(10);

/// How long a statement of a filter may take at most: a pattern can be made to take for ever.
const FILTER_TIMEOUT: Duration = Duration::from_millis(250);
/// A subscriber whose policy ran into the time limit is not asked about for this long, so that he cannot hold up the
/// others again and again. His rows are hidden meanwhile.
const SLOW_PAUSE: Duration = Duration::from_secs(10);
/// Statements and rights that are remembered at most.
const REMEMBERED: usize = 10_000;

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

/// What a page's transaction said; none when it was not sent with the others.
type PageAnswer = Option<Result<Vec<Verdict>, tokio_postgres::Error>>;

/// What came of sending several pages at once.
enum Flight {
    /// Each was answered, if only by an error of its own.
    Done(Vec<PageAnswer>),
    /// Not all of the changes' transactions were visible yet.
    TooEarly,
    /// The connection or the server failed; another try may help.
    Broken,
    /// Nobody could be asked.
    Lost,
}

/// The verdicts of a batch.
pub(super) struct Verdicts(Vec<Vec<Verdict>>);

impl Verdicts {
    /// What somebody else than a database says, group by group.
    #[cfg(test)]
    pub(super) fn given(verdicts: Vec<Vec<Verdict>>) -> Verdicts {
        Verdicts(verdicts)
    }

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
        let transactions: Vec<i64> = transactions.into_iter().map(i64::from).collect();
        let mut pages = Vec::with_capacity(questions.groups.len());
        for (number, group) in questions.groups.iter().enumerate() {
            let mut rest = &group.images[..];
            while !rest.is_empty() {
                let (images, behind) = rest.split_at(rows_of_a_statement(rest));
                pages.push(Page { number, group, images });
                rest = behind;
            }
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
                Flight::TooEarly if wait_until_visible(&self.pool, transactions, VISIBLE_LIMIT).await => unseen = &[],
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
        let Some(client) = connection(&self.pool).await else { return Flight::Lost };
        let limit = self.transaction_limit();
        let check = async {
            match transactions {
                [] => Ok(0),
                _ => count_invisible(&client, transactions).await,
            }
        };
        // What is in the statement cache is sent without waiting: in this order, and nothing comes between the
        // statements of one transaction.
        let prepare = async {
            prepare_check(&client).await?;
            client.prepare_cached(SETTINGS).await?;
            for page in pages.iter().filter(|page| self.may_fly(page.group)) {
                // A refusal comes again, and is dealt with, when the page is asked.
                let _ = client.prepare_cached(&text(page.group)).await;
            }
            Ok::<_, tokio_postgres::Error>(())
        };
        let asking = async {
            let mut flying: FuturesOrdered<_> = pages.iter().map(|page| self.fly_one(&client, page)).collect();
            let mut answers = Vec::with_capacity(pages.len());
            while let Ok(answer) = timeout(limit, flying.next()).await {
                match answer {
                    Some(answer) => answers.push(answer),
                    None => break,
                }
            }
            answers
        };
        let flown = async {
            timeout(limit, prepare).await.map_err(|_| Flight::Lost)?.map_err(|_| Flight::Broken)?;
            let (check, answers) = join(timeout(limit, check), asking).await;
            // A policy that is slow is ended by the server: without a word from that, it is the server that is gone.
            if answers.len() < pages.len() {
                return Err(Flight::Lost);
            }
            match check {
                Ok(Ok(0)) => {}
                Ok(Ok(_)) => return Ok(Flight::TooEarly),
                Ok(Err(error)) => {
                    tracing::warn!(error = %describe(&error), "cannot ask whether a transaction is visible");
                    return Err(Flight::Broken);
                }
                Err(_) => return Err(Flight::Lost),
            }
            let fault =
                |answer: &PageAnswer| answer.as_ref().is_some_and(|answer| answer.as_ref().is_err_and(is_fault));
            if answers.iter().any(fault) { Err(Flight::Broken) } else { Ok(Flight::Done(answers)) }
        };
        match flown.await {
            Ok(flight) => flight,
            // Whatever is under way on the connection must not meet the next transaction.
            Err(flight) => {
                drop(Object::take(client));
                flight
            }
        }
    }

    async fn fly_one(&self, client: &Object, page: &Page<'_>) -> PageAnswer {
        if !self.may_fly(page.group) {
            return None;
        }
        Some(self.transact(client, page.group, page.images, Analysis::UnderLogin).await)
    }

    /// Slow policies, and those that take more than one round trip, are asked alone.
    fn may_fly(&self, group: &Group) -> bool {
        self.analysis(&group.key.statement) == Analysis::UnderLogin && !self.is_slow(&group.key)
    }

    /// What became of a page once its flight is over.
    async fn settle(&self, page: &Page<'_>, answer: PageAnswer) -> Vec<Verdict> {
        let code = match answer {
            Some(Ok(verdicts)) => return verdicts,
            Some(Err(error)) => error.code().cloned(),
            None => None,
        };
        let failure = match code {
            // The role may have the right that our login lacks: asking alone tries that.
            None | Some(SqlState::INSUFFICIENT_PRIVILEGE) => match self.ask_once(page.group, page.images).await {
                Ok(verdicts) => return verdicts,
                Err(failure) => failure,
            },
            Some(code) => self.failed(page.group, &code),
        };
        self.ask_rows(page.group, page.images, failure).await
    }

    /// Asks row by row, after asking together has failed.
    async fn ask_rows(&self, group: &Group, images: &[Arc<str>], failure: Verdict) -> Vec<Verdict> {
        let is_final = matches!(failure, Verdict::Unasked) || self.is_slow(&group.key);
        if images.len() == 1 || is_final {
            return vec![failure; images.len()];
        }
        // Halves, then quarters, and so on: whole stretches that do not fail are found before the budget is spent.
        let mut verdicts = vec![failure; images.len()];
        let mut open = VecDeque::new();
        open.push_back(0..images.len());
        let mut budget = STATEMENTS_WITHOUT_SUCCESS;
        while let Some(failed) = open.pop_front() {
            let middle = failed.start + failed.len() / 2;
            for half in [failed.start..middle, middle..failed.end] {
                if budget == 0 || self.is_slow(&group.key) {
                    return verdicts;
                }
                budget -= 1;
                match self.ask_once(group, &images[half.clone()]).await {
                    Ok(answer) => {
                        verdicts[half].clone_from_slice(&answer);
                        // Halving can take twice as many statements as there are rows, and no more.
                        budget = budget.max(2 * images.len());
                    }
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
        let mut client = connection(&self.pool).await.ok_or(Verdict::Unasked)?;
        loop {
            let transaction = self.transact(&client, group, images, analysis);
            let Ok(outcome) = timeout(self.transaction_limit(), transaction).await else {
                drop(Object::take(client));
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
                Some(code) if !is_of_the_server(code) => return Err(self.failed(group, code)),
                _ => {
                    tracing::debug!(error = %describe(&error), "database lane lost its connection");
                    drop(Object::take(client));
                    if std::mem::replace(&mut is_lost, true) {
                        return Err(Verdict::Unasked);
                    }
                    client = connection(&self.pool).await.ok_or(Verdict::Unasked)?;
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
        let text = text(group);
        let statement_timeout = self.statement_timeout(group).as_millis().to_string();
        let claims = group.key.claims.as_deref().unwrap_or("");
        let role = &*group.key.role;
        let setting: [&(dyn ToSql + Sync); 3] = [&role, &claims, &statement_timeout];
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

    /// The expression's own failure.
    fn failed(&self, group: &Group, code: &SqlState) -> Verdict {
        tracing::debug!(sqlstate = code.code(), table = group.table.1, "policy failed on a row image");
        if *code == SqlState::QUERY_CANCELED {
            self.note_slow(&group.key);
        }
        Verdict::Failed(code.code().into())
    }

    /// The backstop for a server that is gone and does not say so.
    fn transaction_limit(&self) -> Duration {
        self.config.statement_timeout * 2 + Duration::from_secs(1)
    }

    /// A filter is the subscriber's own text and gets less time than the owner's policy.
    fn statement_timeout(&self, group: &Group) -> Duration {
        match group.key.claims {
            Some(_) => self.config.statement_timeout,
            None => self.config.statement_timeout.min(FILTER_TIMEOUT),
        }
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

/// How many of these rows, one at least, go into one statement.
fn rows_of_a_statement(images: &[Arc<str>]) -> usize {
    let mut bytes = 0;
    let fits = |image: &&Arc<str>| {
        let is_open = bytes < STATEMENT_BYTES;
        bytes += image.len();
        is_open
    };
    images.iter().take(ROWS_A_STATEMENT).take_while(fits).count()
}

/// A name as a comment can hold it: comments nest, so neither `/*` nor `*/` may stay.
fn in_a_comment(name: &str) -> String {
    name.replace('%', "%25").replace('*', "%2A")
}

/// A group's statement. The role stands in the text, so that no plan made for one role serves another.
fn text(group: &Group) -> String {
    format!("/* {} */ {}", in_a_comment(&group.key.role), group.key.statement)
}

/// Whether the server or the connection failed, and not the expression.
fn is_fault(error: &tokio_postgres::Error) -> bool {
    error.code().is_none_or(is_of_the_server)
}

/// Failures of the server or the connection, not of the expression: classes 08, 53, 57 (but a cancelled statement is
/// the expression's own) and 58.
fn is_of_the_server(code: &SqlState) -> bool {
    let class = code.code().get(..2).unwrap_or_default();
    *code != SqlState::QUERY_CANCELED && matches!(class, "08" | "53" | "57" | "58")
}
