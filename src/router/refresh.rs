//! Keeps the catalogue current: asks for its version twice a second, reads it when that changed, publishes it on a
//! `watch`. Without superuser there is no event trigger, so it polls.

use crate::{
    pg::{
        Target,
        catalog::{CatalogError, CatalogReader},
        connect::{ConnectError, advice, describe},
    },
    policy::catalog::Catalog,
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

/// What the connection is called in `pg_stat_activity`.
const APPLICATION: &str = "walcast catalogue";
/// How often the version is asked for.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// How long one look at the catalogue may take.
const QUERY_LIMIT: Duration = Duration::from_secs(10);
/// When the last look is older than this, nothing is judged by it any more: a right may have been revoked, and the
/// stream would not tell.
const STALE_AFTER: Duration = Duration::from_secs(15);
/// How long the router waits for a catalogue that knows a table.
const NOW_LIMIT: Duration = Duration::from_secs(2);

/// Looks at the catalogue that have been completed, whether or not it had changed.
#[derive(Clone, Copy)]
struct Looks {
    count: u64,
    last: Instant,
}

/// The reader's end. Cheap to clone.
#[derive(Clone)]
pub struct Refresh {
    catalog: watch::Receiver<Arc<Catalog>>,
    looks: watch::Receiver<Looks>,
    problem: watch::Receiver<Option<String>>,
    wish: Arc<Notify>,
}

/// Why the first catalogue could not be had.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// No catalogue.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// The task's end.
pub struct Refresher {
    target: Target,
    publication: String,
    reader: Option<CatalogReader>,
    catalog: watch::Sender<Arc<Catalog>>,
    looks: watch::Sender<Looks>,
    problem: watch::Sender<Option<String>>,
    wish: Arc<Notify>,
}

impl Refresher {
    /// Reads the first catalogue.
    pub async fn start(target: &Target, publication: &str) -> Result<(Refresh, Refresher), RefreshError> {
        let mut reader = CatalogReader::new(target.connect(APPLICATION).await?, publication).await?;
        let catalog = Arc::new(reader.read().await?);
        let (catalog, catalog_reader) = watch::channel(catalog);
        let (looks, looks_reader) = watch::channel(Looks { count: 0, last: Instant::now() });
        let wish = Arc::new(Notify::new());
        let (problem, problem_reader) = watch::channel(None);
        let refresh =
            Refresh { catalog: catalog_reader, looks: looks_reader, problem: problem_reader, wish: wish.clone() };
        let (target, publication) = (target.clone(), publication.to_owned());
        Ok((refresh, Refresher { target, publication, reader: Some(reader), catalog, looks, problem, wish }))
    }

    /// Looks again and again until told to stop.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut timer = interval(POLL_INTERVAL);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        let mut doubts = self.target.doubts();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = timer.tick() => {}
                () = self.wish.notified() => {}
            }
            doubts.mark_unchanged();
            let problem = tokio::select! {
                looked = timeout(QUERY_LIMIT, self.look()) => match looked {
                    Ok(Ok(())) => None,
                    Ok(Err(error)) => Some(self.described(&error)),
                    Err(_) => Some("no answer in time".to_owned()),
                },
                // An answer would have to come by a connection that leads nowhere.
                Ok(()) = doubts.changed() => Some("the connection was lost".to_owned()),
            };
            if let Some(problem) = &problem {
                self.reader = None;
                if !failing {
                    tracing::warn!(
                        problem,
                        "cannot look at the catalogue; changes are held until that is possible again"
                    );
                }
            }
            failing = problem.is_some();
            self.problem.send_if_modified(|known| {
                let is_new = *known != problem;
                *known = problem;
                is_new
            });
        }
    }

    /// What is wrong, and what to do about it where that is known.
    fn described(&self, error: &RefreshError) -> String {
        let code = match error {
            RefreshError::Connect(ConnectError::Connect { source, .. }) => source.code(),
            _ => None,
        };
        let fix = code.and_then(|code| advice(code.code(), &self.target.user()));
        fix.map_or_else(|| describe(error), |fix| format!("{}; {fix}", describe(error)))
    }

    async fn look(&mut self) -> Result<(), RefreshError> {
        let began = Instant::now();
        let mut reader = match self.reader.take().filter(|reader| !reader.is_closed()) {
            Some(reader) => reader,
            None => CatalogReader::new(self.target.connect(APPLICATION).await?, &self.publication).await?,
        };
        let known = self.catalog.borrow().clone();
        if reader.version(&known.facts.names).await? != known.version {
            // What a role or a database sets for its sessions holds from the next connection on.
            reader = CatalogReader::new(self.target.connect(APPLICATION).await?, &self.publication).await?;
            let catalog = reader.read().await?;
            tracing::info!(tables = catalog.tables.len(), roles = catalog.roles.len(), "catalogue read");
            self.catalog.send_replace(Arc::new(catalog));
        }
        self.reader = Some(reader);
        self.looks.send_modify(|looks| *looks = Looks { count: looks.count + 1, last: began });
        Ok(())
    }
}

impl Refresh {
    /// A catalogue that nobody reads again, for tests without a database. Like any other it grows stale.
    pub fn once(catalog: Catalog) -> Refresh {
        let (_, catalog) = watch::channel(Arc::new(catalog));
        let (_, looks) = watch::channel(Looks { count: 0, last: Instant::now() });
        let (_, problem) = watch::channel(None);
        Refresh { catalog, looks, problem, wish: Arc::default() }
    }

    /// The last catalogue that was read.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.catalog.borrow().clone()
    }

    /// Where every catalogue that is read is published.
    pub fn watch(&self) -> watch::Receiver<Arc<Catalog>> {
        self.catalog.clone()
    }

    /// How long ago the last look began. Rights may have changed since.
    pub fn age(&self) -> Duration {
        self.looks.borrow().last.elapsed()
    }

    /// Whether rights are known well enough to judge by.
    pub fn is_fresh(&self) -> bool {
        self.age() < STALE_AFTER
    }

    /// Why the last look failed, and what to do about it; none when it did not.
    pub fn problem(&self) -> Option<String> {
        self.problem.borrow().clone()
    }

    /// When the last look that was completed began.
    pub fn looked_at(&self) -> Instant {
        self.looks.borrow().last
    }

    /// Has the catalogue looked at without waiting for the next turn.
    pub fn hurry(&self) {
        self.wish.notify_one();
    }

    /// Waits, a bounded time, for a look that began from here on; whether there was one. One look serves all who came
    /// before it began, however many.
    pub async fn from_here_on(&mut self) -> bool {
        let came = Instant::now();
        let look = async {
            while self.looks.borrow_and_update().last < came {
                self.hurry();
                if self.looks.changed().await.is_err() {
                    return false;
                }
            }
            true
        };
        timeout(QUERY_LIMIT, look).await.unwrap_or(false)
    }

    /// Waits for the next look.
    pub async fn looked(&mut self) {
        if self.looks.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits for the next catalogue.
    pub async fn changed(&mut self) {
        if self.catalog.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits, a bounded time, until the catalogue has been looked at anew from here on; whether it has.
    pub async fn now(&mut self) -> bool {
        // The look that is under way may have begun too early, so the one after it counts.
        let wanted = self.looks.borrow().count + 2;
        let look = async {
            while self.looks.borrow_and_update().count < wanted {
                self.wish.notify_one();
                if self.looks.changed().await.is_err() {
                    return false;
                }
            }
            true
        };
        let is_read = timeout(NOW_LIMIT, look).await.unwrap_or(false);
        if !is_read {
            tracing::warn!("the catalogue could not be read in time; rows of tables it does not know stay hidden");
        }
        is_read
    }
}
