//! Rights to private channels: the policies of `realtime.messages`, decided in the process where that is proved to be
//! the same, else by Postgres, without a trace in either case (protocol reference, section 8).
//!
//! What policies mean is `policy::channels`', `database` asks. Both judge the row that a message of the channel would
//! be, by the policies of now: the catalogue in the process is looked at twice a second, and when that has not been
//! possible for a while, Postgres is asked whatever the process knows.

mod complaints;
mod database;
mod question;

use crate::{
    metrics::Metrics,
    pg::{Target, connect::ConnectError},
    policy::{
        channels::Decision,
        topic::{ChannelAccess, ChannelUser, Granted, RightsError},
    },
    router::Refresh,
};
use complaints::Complaints;
use database::Database;
use std::{sync::Arc, time::Duration};
use tokio::sync::Semaphore;

/// Connections that ask at the same time.
const CONNECTIONS: usize = 4;

/// What rights are made of.
pub struct Parts {
    /// The database.
    pub target: Target,
    /// The catalogue.
    pub refresh: Refresh,
    /// How long one question may take.
    pub statement_timeout: Duration,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// Whom doors ask. Cheap to clone.
#[derive(Clone)]
pub struct ChannelRights {
    refresh: Refresh,
    metrics: Arc<Metrics>,
    database: Arc<Database>,
    complaints: Arc<Complaints>,
    /// Places of who shares these rights with others; any number without it.
    places: Option<Arc<Semaphore>>,
}

impl ChannelRights {
    /// Rights by the policies of a database.
    pub fn new(parts: Parts) -> Result<ChannelRights, ConnectError> {
        let Parts { target, refresh, statement_timeout, metrics } = parts;
        let complaints = Arc::<Complaints>::default();
        // Nobody else's connections: a policy that takes long must not hold up others.
        let pool = target.pool("walcast rights", CONNECTIONS, "")?;
        let database = Database::new(pool, statement_timeout, complaints.clone());
        Ok(ChannelRights { refresh, metrics, database: Arc::new(database), complaints, places: None })
    }

    /// The same for one who asks much: he has the database asked this many questions at the same time at most, and
    /// waits for himself. Connections are few, and else who asks a thousand questions at once makes others wait for
    /// all of them.
    #[must_use]
    pub fn share(&self, questions: usize) -> ChannelRights {
        ChannelRights { places: Some(Arc::new(Semaphore::new(questions))), ..self.clone() }
    }

    /// What somebody may do in a private channel, now.
    pub async fn ask(&self, user: &ChannelUser, access: ChannelAccess) -> Result<Granted, RightsError> {
        if let Some(Decision { granted, failed }) = self.decide(user, access) {
            self.metrics.rights_in_process.add(1);
            if let Some(sqlstate) = failed {
                self.metrics.rights_failed.add(1);
                self.complaints.policy_failed(sqlstate);
            }
            return Ok(granted);
        }
        let _place = match &self.places {
            Some(places) => places.acquire().await.ok(),
            None => None,
        };
        self.metrics.rights_asked.add(1);
        let answer = self.database.ask(user, access).await;
        if answer.as_ref().map_or(true, |answer| answer.has_failed) {
            self.metrics.rights_failed.add(1);
        }
        answer.map(|answer| answer.granted)
    }

    /// What the process knows by itself.
    fn decide(&self, user: &ChannelUser, access: ChannelAccess) -> Option<Decision> {
        let catalog = self.refresh.catalog();
        // Whoever may be claimed is never one of our own roles, `none`, or a superuser.
        // No row of Postgres could have such a topic.
        if !catalog.is_claimable(&user.claims.role) || user.topic.contains('\0') {
            return Some(Decision::of(Granted::default()));
        }
        if !self.refresh.is_fresh() {
            return None;
        }
        match &catalog.channels {
            Some(channels) => channels.decide(user, access),
            None => Some(Decision::of(Granted::default())),
        }
    }
}
