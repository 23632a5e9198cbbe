//! Asks the database, off the router's way, which rows time will show or hide next.

use super::{
    deadlines::{Refill, Refilled, Ticket},
    visible::wait_until_visible,
};
use crate::{
    pg::{
        connect::describe,
        moments::{Nearest, nearest},
    },
    policy::catalog::Catalog,
    shutdown::Tasks,
};
use deadpool_postgres::Pool;
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Requests under way. A watch asks one at a time, so this is a bound of tables; beyond it they are asked for again.
const REQUESTS: usize = 64;
/// How long it may take until the database shows what the stream has said already.
const VISIBLE_LIMIT: Duration = Duration::from_secs(2);

/// What is asked, and by which catalogue.
type Request = (Refill, Arc<Catalog>);
/// What was asked and what was found; none when it could not be asked.
type Answer = (Ticket, Option<Refilled>);

/// The router's end.
pub(super) struct Refiller {
    requests: mpsc::Sender<Request>,
    answers: mpsc::Receiver<Answer>,
}

impl Refiller {
    /// Starts the task that asks.
    pub(super) fn new(pool: Pool, tasks: &Tasks) -> Refiller {
        let (requests, asked) = mpsc::channel(REQUESTS);
        let (answered, answers) = mpsc::channel(REQUESTS);
        tasks.spawn_essential("deadlines", run(pool, asked, answered, tasks.stop_token().clone()));
        Refiller { requests, answers }
    }

    /// Has the database asked; false when there is no room for it now.
    pub(super) fn ask(&self, refill: Refill, catalog: Arc<Catalog>) -> bool {
        self.requests.try_send((refill, catalog)).is_ok()
    }

    /// Waits for the next answer. Safe to cancel.
    pub(super) async fn answer(&mut self) -> Answer {
        match self.answers.recv().await {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }
}

async fn run(
    pool: Pool,
    mut requests: mpsc::Receiver<Request>,
    answers: mpsc::Sender<Answer>,
    stop: CancellationToken,
) {
    loop {
        let (refill, catalog) = tokio::select! {
            () = stop.cancelled() => return,
            request = requests.recv() => match request {
                Some(request) => request,
                None => return,
            },
        };
        let answer = tokio::select! {
            () = stop.cancelled() => return,
            answer = ask(&pool, &refill, &catalog) => answer,
        };
        if answers.send((refill.ticket, answer)).await.is_err() {
            return;
        }
    }
}

async fn ask(pool: &Pool, refill: &Refill, catalog: &Catalog) -> Option<Refilled> {
    let table = &refill.table;
    let Some(reader) = catalog.facts.tables.get(&table.oid).and_then(|facts| facts.reader.as_ref()) else {
        tracing::warn!(
            schema = table.schema,
            table = table.name,
            "nobody this server may be can read all rows of the table; of rows that were there before, nobody hears when \
             time shows or hides them"
        );
        let relation = Arc::new(crate::pg::moments::relation(table));
        return Some(Refilled { rows: Vec::new(), relation, horizon: None });
    };
    // What is older than the stream would bring back rows that are gone.
    if !refill.transactions.is_empty() && !wait_until_visible(pool, &refill.transactions, VISIBLE_LIMIT).await {
        return None;
    }
    let mut client = match pool.get().await {
        Ok(client) => client,
        Err(error) => {
            tracing::warn!(problem = describe(&error), "no connection to look for deadlines");
            return None;
        }
    };
    let asked = Nearest {
        table,
        reader: reader.as_deref(),
        moments: &refill.moments,
        after: refill.after,
        limit: refill.limit,
    };
    match nearest(&mut client, &asked).await {
        Ok(found) => Some(Refilled { rows: found.rows, relation: found.relation, horizon: found.horizon }),
        Err(error) => {
            let problem = describe(&error);
            tracing::warn!(schema = table.schema, table = table.name, problem, "cannot look for deadlines");
            None
        }
    }
}
