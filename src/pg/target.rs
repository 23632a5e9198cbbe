//! A database that is reached in a way that may change while we run: its password is rotated, the network towards it is
//! cut. Who opens a connection asks here how; what was opened before a cut is taken out of the pools.

use super::connect::{ConnectError, Reach, describe};
use deadpool_postgres::{Connect, Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
};
use tokio_postgres::{AsyncMessage, Client, Config, error::SqlState};

/// How long a pool may take for a connection.
const POOL_TIMEOUT: Duration = Duration::from_secs(10);

/// A database and how to reach it. Cheap to clone; all clones change together.
#[derive(Clone)]
pub struct Target {
    shared: Arc<Shared>,
}

struct Shared {
    reach: watch::Sender<Reach>,
    /// Told when the server refuses the login.
    refused: Notify,
    /// Connections that were opened before this may lead nowhere.
    doubted: watch::Sender<Option<Instant>>,
}

impl Target {
    /// Reads a connection string: a `postgresql://` URL or libpq's `key=value` form.
    pub fn parse(text: &str) -> Result<Target, ConnectError> {
        let reach = watch::Sender::new(Reach::parse(text)?);
        Ok(Target { shared: Arc::new(Shared { reach, refused: Notify::new(), doubted: watch::Sender::default() }) })
    }

    /// How it is reached now.
    pub(super) fn reach(&self) -> Reach {
        self.shared.reach.borrow().clone()
    }

    /// Host and port for messages; never the user, never the password.
    pub fn address(&self) -> String {
        self.reach().address()
    }

    /// The user the connection string names.
    pub fn user(&self) -> String {
        self.reach().user().to_owned()
    }

    /// The database the connection string names, by default that of the user's name.
    pub fn database(&self) -> String {
        self.reach().database().to_owned()
    }

    /// The password the connection string holds: for tests of how strings are made.
    #[cfg(test)]
    pub(crate) fn password(&self) -> Option<Vec<u8>> {
        self.reach().config.get_password().map(<[u8]>::to_vec)
    }

    /// Whether the other one is the same database of the same server, however it is reached.
    pub fn is_same_place(&self, other: &Target) -> bool {
        self.reach().is_same_place(&other.reach())
    }

    /// Connections that are opened from now on are opened as the other one says. Those that are open stay.
    pub fn adopt(&self, other: &Target) {
        self.shared.reach.send_replace(other.reach());
    }

    /// Waits until it is reached in another way.
    pub(crate) fn changes(&self) -> watch::Receiver<Reach> {
        self.shared.reach.subscribe()
    }

    /// Waits until the server refuses the login.
    pub async fn refused(&self) {
        self.shared.refused.notified().await;
    }

    /// The connections that are open now may lead nowhere, without a word: pools open others.
    pub(crate) fn doubt(&self) {
        self.shared.doubted.send_replace(Some(Instant::now()));
    }

    /// Where doubts are said.
    pub(crate) fn doubts(&self) -> watch::Receiver<Option<Instant>> {
        self.shared.doubted.subscribe()
    }

    /// Whether what was opened then may lead nowhere.
    pub(crate) fn is_doubted(&self, opened: Instant) -> bool {
        self.shared.doubted.borrow().is_some_and(|at| opened <= at)
    }

    /// Takes note of an error with this SQLSTATE.
    pub(super) fn note(&self, code: &str) {
        let login = [&SqlState::INVALID_PASSWORD, &SqlState::INVALID_AUTHORIZATION_SPECIFICATION];
        if login.iter().any(|refusal| refusal.code() == code) {
            self.shared.refused.notify_one();
        }
    }

    /// A plain connection. Its driver ends with the client.
    pub async fn connect(&self, application: &str) -> Result<Client, ConnectError> {
        self.connect_hearing(application, Arc::default()).await
    }

    /// The same, and whoever waits is woken by every notification. What it says, nobody reads.
    pub async fn connect_hearing(&self, application: &str, heard: Arc<Notify>) -> Result<Client, ConnectError> {
        let (client, _) = self
            .open(application, "", heard)
            .await
            .map_err(|source| ConnectError::Connect { address: self.address(), source })?;
        Ok(client)
    }

    async fn open(
        &self,
        application: &str,
        settings: &str,
        heard: Arc<Notify>,
    ) -> Result<(Client, JoinHandle<()>), tokio_postgres::Error> {
        let reach = self.reach();
        let mut config = (*reach.config).clone();
        let options = [config.get_options().unwrap_or_default(), settings].join(" ");
        if !options.trim().is_empty() {
            config.options(options.trim());
        }
        config.application_name(application);
        let opened = config.connect(reach.rustls()).await;
        let (client, mut connection) = opened.inspect_err(|error| {
            if let Some(code) = error.code() {
                self.note(code.code());
            }
        })?;
        let driver = crate::shutdown::drive(async move {
            while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
                match message {
                    Ok(AsyncMessage::Notification(_)) => heard.notify_one(),
                    Ok(AsyncMessage::Notice(notice)) => tracing::debug!(severity = notice.severity(), "notice"),
                    Ok(_) => {}
                    Err(error) => {
                        tracing::debug!(error = %describe(&error), "postgres connection ended");
                        break;
                    }
                }
            }
        });
        Ok((client, driver))
    }

    /// A pool of at most `size` connections, made when first needed. `settings` are startup options of the form
    /// `-c name=value`.
    pub fn pool(&self, application: &str, size: usize, settings: &str) -> Result<Pool, ConnectError> {
        let opener =
            Opener { target: self.clone(), application: application.to_owned(), settings: settings.to_owned() };
        let fast = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let target = self.clone();
        let leads_somewhere = Hook::sync_fn(move |_, metrics| {
            let is_doubted = target.is_doubted(metrics.created);
            if is_doubted { Err(HookError::message("opened before the network was cut")) } else { Ok(()) }
        });
        // The configuration given here is not used: the opener has its own, which may change.
        Pool::builder(Manager::from_connect(Config::new(), opener, fast))
            .max_size(size)
            .runtime(Runtime::Tokio1)
            .create_timeout(Some(POOL_TIMEOUT))
            .wait_timeout(Some(POOL_TIMEOUT))
            .pre_recycle(leads_somewhere)
            .build()
            .map_err(ConnectError::Pool)
    }
}

/// Opens the connections of a pool.
struct Opener {
    target: Target,
    application: String,
    settings: String,
}

type Opening<'a> = Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), tokio_postgres::Error>> + Send + 'a>>;

impl Connect for Opener {
    fn connect(&self, _: &Config) -> Opening<'_> {
        Box::pin(self.target.open(&self.application, &self.settings, Arc::default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_login_is_taken_over_and_another_place_is_another_database() {
        let target = Target::parse("postgres://u:first@h:6000/d").unwrap();
        let clone = target.clone();
        let same = Target::parse("postgres://v:second@h:6000/d?sslmode=require").unwrap();
        assert!(target.is_same_place(&same));
        target.adopt(&same);
        assert_eq!((clone.user(), clone.password()), ("v".to_owned(), Some(b"second".to_vec())));
        for other in ["postgres://u:first@h:6001/d", "postgres://u:first@g:6000/d", "postgres://u:first@h:6000/e"] {
            assert!(!target.is_same_place(&Target::parse(other).unwrap()), "{other}");
        }
    }

    #[tokio::test]
    async fn whoever_waits_hears_of_a_refused_login_and_of_no_other_error() {
        let target = Target::parse("postgres://u@h/d").unwrap();
        for (code, is_login) in [("28P01", true), ("28000", true), ("53300", false), ("3D000", false)] {
            target.note(code);
            let heard = tokio::time::timeout(Duration::ZERO, target.refused()).await.is_ok();
            assert_eq!(heard, is_login, "{code}");
        }
    }

    #[test]
    fn what_was_opened_before_a_doubt_is_doubted() {
        let target = Target::parse("postgres://u@h/d").unwrap();
        let before = Instant::now();
        assert!(!target.is_doubted(before));
        target.doubt();
        assert!(target.is_doubted(before) && !target.is_doubted(Instant::now() + Duration::from_millis(1)));
    }
}
