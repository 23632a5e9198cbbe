//! Asks Postgres: policies as they are now, under the role and the settings of whoever wants to use the channel, in one
//! read-only transaction that is rolled back. The text is analysed under our own login, as a policy is analysed under
//! its owner's, and under the role where our login lacks a right to name something.

use super::{complaints::Complaints, question::statement};
use crate::{
    pg::{
        catalog::{CatalogError, channel_table},
        connect::describe,
    },
    policy::topic::{ChannelAccess, ChannelUser, Extension, Granted, RightsError, Setting},
};
use deadpool_postgres::{Object, Pool};
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;
use tokio_postgres::{Client, error::SqlState, types::ToSql};

/// How long a question waits for a connection. Clients give up on a join after ten seconds.
const CONNECTION_LIMIT: Duration = Duration::from_secs(4);
/// A connection may have been closed since it was used last.
const ATTEMPTS: usize = 2;

/// Under an empty search path policies come out with qualified names. The snapshot is one for policies and answer.
const BEGIN: &str = "begin isolation level repeatable read read only; set local search_path = ''; \
                     set local statement_timeout = ";
/// Functions without a path of their own run by that of a new session.
const OWN_PATH: &str = "set local search_path to default";
const SETTINGS: &str = "select pg_catalog.set_config('realtime.topic', $2, true), \
                        pg_catalog.set_config('request.jwt.claims', $3, true), \
                        pg_catalog.set_config('request.jwt.claim.sub', $4, true), \
                        pg_catalog.set_config('request.jwt.claim.role', $5, true), \
                        pg_catalog.set_config('request.headers', $6, true), \
                        pg_catalog.set_config('role', $1, true)";

/// What Postgres said.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Answer {
    pub(super) granted: Granted,
    /// Whether a policy raised an error.
    pub(super) has_failed: bool,
}

/// Under which role the text is analysed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Analysis {
    UnderLogin,
    UnderRole,
}

/// Who asks.
pub(super) struct Database {
    pool: Pool,
    statement_timeout: Duration,
    complaints: Arc<Complaints>,
}

/// A question: who, what, and about which extensions.
#[derive(Clone, Copy)]
struct Question<'a> {
    user: &'a ChannelUser,
    access: ChannelAccess,
    extensions: &'a [Extension],
}

/// Why there is no answer.
enum Failure {
    /// A policy raised this.
    Policy(SqlState),
    /// It took too long.
    Canceled,
    /// The connection or the server failed; another try may help.
    Lost(String),
    /// There is no connection.
    Unreachable(String),
}

/// A connection that goes back to its pool only when it was said to be in order: whoever asks may go away in the middle
/// of a transaction.
struct Lease(Option<Object>);

impl Lease {
    fn give_back(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            drop(Object::take(client));
        }
    }
}

impl Database {
    pub(super) fn new(pool: Pool, statement_timeout: Duration, complaints: Arc<Complaints>) -> Database {
        Database { pool, statement_timeout, complaints }
    }

    /// What is granted. A policy that fails for one extension does not take the other one.
    pub(super) async fn ask(&self, user: &ChannelUser, access: ChannelAccess) -> Result<Answer, RightsError> {
        let all = Question { user, access, extensions: &Extension::ALL };
        match self.ask_about(all).await {
            Ok(granted) => return Ok(Answer { granted, has_failed: false }),
            Err(Failure::Policy(_)) => {}
            Err(failure) => return Err(self.no_answer(failure)),
        }
        let mut answer = Answer { has_failed: true, ..Answer::default() };
        for extension in Extension::ALL {
            let granted = match self.ask_about(Question { extensions: &[extension], ..all }).await {
                Ok(granted) => granted,
                Err(Failure::Policy(code)) => {
                    self.complaints.policy_failed(code.code());
                    continue;
                }
                Err(failure) => return Err(self.no_answer(failure)),
            };
            answer.granted.broadcast |= granted.broadcast;
            answer.granted.presence |= granted.presence;
        }
        Ok(answer)
    }

    fn no_answer(&self, failure: Failure) -> RightsError {
        match failure {
            Failure::Lost(problem) | Failure::Unreachable(problem) => {
                self.complaints.unavailable(&problem);
                RightsError::Unavailable
            }
            Failure::Canceled | Failure::Policy(_) => {
                self.complaints.timed_out();
                RightsError::Canceled
            }
        }
    }

    /// One question, asked again where that may help.
    async fn ask_about(&self, question: Question<'_>) -> Result<Granted, Failure> {
        let mut analysis = Analysis::UnderLogin;
        let mut lost = 0;
        loop {
            match self.transact(question, analysis).await {
                Err(Failure::Policy(code))
                    if code == SqlState::INSUFFICIENT_PRIVILEGE && analysis == Analysis::UnderLogin =>
                {
                    analysis = Analysis::UnderRole;
                }
                Err(Failure::Lost(_)) if lost + 1 < ATTEMPTS => lost += 1,
                other => return other,
            }
        }
    }

    /// One transaction.
    async fn transact(&self, question: Question<'_>, analysis: Analysis) -> Result<Granted, Failure> {
        let client = match timeout(CONNECTION_LIMIT, self.pool.get()).await {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => return Err(Failure::Unreachable(describe(&error))),
            Err(_) => return Err(Failure::Unreachable("no connection in time".to_owned())),
        };
        let lease = Lease(Some(client));
        let Some(client) = &lease.0 else { return Err(Failure::Lost(String::new())) };
        // The backstop for a server that is gone and does not say so; Postgres itself stops each statement earlier.
        let limit = self.statement_timeout * 2 + Duration::from_secs(1);
        let asked = async {
            let answer = self.answer(client, question, analysis).await;
            // Also behind an error: what follows on this connection begins without a trace of it.
            let ended = client.batch_execute("rollback").await;
            answer.and_then(|granted| ended.map(|()| granted).map_err(Failure::from))
        };
        match timeout(limit, asked).await {
            Ok(Err(Failure::Lost(problem))) => Err(Failure::Lost(problem)),
            Ok(answer) => {
                lease.give_back();
                answer
            }
            Err(_) => Err(Failure::Canceled),
        }
    }

    async fn answer(&self, client: &Client, question: Question<'_>, analysis: Analysis) -> Result<Granted, Failure> {
        let Question { user, access, extensions } = question;
        let role = &*user.claims.role;
        client.batch_execute(&format!("{BEGIN}{}", self.statement_timeout.as_millis())).await?;
        let table = channel_table(client, &[role]).await.map_err(|error| match error {
            CatalogError::Query(error) => Failure::from(error),
            CatalogError::Row(error) => Failure::Lost(describe(&error)),
        })?;
        let Some(table) = table else { return Ok(Granted::default()) };
        let Some(condition) = table.condition(role, access) else { return Ok(Granted::default()) };
        let Some(text) = statement(&condition, access) else {
            return Err(Failure::Policy(SqlState::FEATURE_NOT_SUPPORTED));
        };
        client.batch_execute(OWN_PATH).await?;
        let statement = match analysis {
            Analysis::UnderLogin => {
                let statement = client.prepare(&text).await?;
                become_user(client, user).await?;
                statement
            }
            Analysis::UnderRole => {
                become_user(client, user).await?;
                client.prepare(&text).await?
            }
        };
        let names: Vec<&str> = extensions.iter().map(|extension| extension.name()).collect();
        let rows = client.query(&statement, &[&&*user.topic, &names]).await?;
        let granted = rows.iter().filter(|row| row.get::<_, Option<bool>>(1) == Some(true));
        let granted: Vec<&str> = granted.map(|row| row.get(0)).collect();
        Ok(Granted::of(|extension| granted.contains(&extension.name())))
    }
}

async fn become_user(client: &Client, user: &ChannelUser) -> Result<(), tokio_postgres::Error> {
    let [topic, headers, subject, role] = Setting::ALL.map(|setting| user.setting(setting));
    let texts = [&*role, &topic, &user.claims.json, &subject, &role, &headers];
    let parameters: Vec<&(dyn ToSql + Sync)> = texts.iter().map(|text| text as &(dyn ToSql + Sync)).collect();
    client.query(SETTINGS, &parameters).await.map(drop)
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Failure {
        match error.code() {
            Some(&SqlState::QUERY_CANCELED) => Failure::Canceled,
            Some(code) if !is_of_the_server(code) => Failure::Policy(code.clone()),
            _ => Failure::Lost(describe(&error)),
        }
    }
}

/// Failures of the server or the connection, not of a policy: classes 08, 53, 57 and 58.
fn is_of_the_server(code: &SqlState) -> bool {
    matches!(code.code().get(..2).unwrap_or_default(), "08" | "53" | "57" | "58")
}
