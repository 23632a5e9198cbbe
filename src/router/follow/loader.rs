//! The task that reads lookup tables for the router, one request after the other, on a connection of its own.

use crate::pg::{
    connect::describe,
    lookup::{self, Answer, Load, LoadError, Outcome, Question},
};
use deadpool_postgres::{Object, Pool};
use std::{sync::Arc, time::Duration};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;

/// How long a question may take.
const QUESTION_LIMIT: Duration = Duration::from_secs(5);

/// What the loader is asked. One at a time.
pub(super) enum Request {
    Load(Box<Load>),
    Ask(Question),
}

/// What it says.
pub(super) enum Report {
    Loaded(Vec<(u32, Outcome)>),
    /// None when there was no answer.
    Answered(Option<Answer>),
}

pub(super) struct Loader {
    pub(super) pool: Pool,
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) reports: mpsc::Sender<Report>,
    pub(super) stop: CancellationToken,
}

impl Loader {
    pub(super) async fn run(mut self) {
        let stop = self.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.serve() => {}
        }
    }

    async fn serve(&mut self) {
        while let Some(request) = self.requests.recv().await {
            let report = match request {
                Request::Load(load) => Report::Loaded(self.load(&load).await),
                Request::Ask(question) => Report::Answered(self.ask(&question).await),
            };
            if self.reports.send(report).await.is_err() {
                return;
            }
        }
    }

    async fn load(&self, load: &Load) -> Vec<(u32, Outcome)> {
        let client = match self.pool.get().await {
            Ok(client) => client,
            Err(error) => {
                let error = Arc::new(LoadError::Connection(describe(&error)));
                let all = load.tables.iter().map(|wanted| wanted.layout.facts().oid);
                return all.map(|table| (table, Outcome::Failed(error.clone()))).collect();
            }
        };
        let outcomes = lookup::load(&client, load).await;
        if outcomes.iter().any(|(_, outcome)| matches!(outcome, Outcome::Failed(_))) {
            // It may stand amid a transaction, or amid an answer nobody waits for.
            drop(Object::take(client));
        }
        outcomes
    }

    async fn ask(&self, question: &Question) -> Option<Answer> {
        let answer = async {
            let client = self.pool.get().await.map_err(|error| LoadError::Connection(describe(&error)))?;
            lookup::ask(&client, question).await
        };
        match timeout(QUESTION_LIMIT, answer).await {
            Ok(Ok(answer)) => Some(answer),
            Ok(Err(error)) => {
                tracing::debug!(error = %describe(&error), "cannot ask about lookup tables");
                None
            }
            Err(_) => None,
        }
    }
}
