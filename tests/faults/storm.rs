//! A server in a storm: its database, the writer, the subscribers, and what they must have got.

use super::{
    site::{CAROL, Site},
    subscriber::{Item, Subscriber, Who},
    verdict::{assert_exact, assert_gaps, expected},
    writer::Writer,
};
use crate::{
    line::setup::{get_at, problem, token_of},
    support::{
        json::Json,
        server::Server,
        token::{ALICE, BOB},
    },
};
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// For whatever takes a while on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);
const ALL: &[&str] = &["owned", "shared", "odd", "marks"];

/// What a storm begins with.
#[derive(Default)]
pub struct Options {
    /// Another connection string for the server.
    pub url: Option<String>,
    /// More for its environment.
    pub extra: Vec<(&'static str, String)>,
}

pub struct Storm {
    pub site: Site,
    pub writer: Writer,
    pub subscribers: Vec<Subscriber>,
    options: Options,
    server: Option<Server>,
    address: watch::Sender<Option<String>>,
    database: watch::Sender<String>,
}

impl Storm {
    /// Everybody has joined and the writer writes.
    pub async fn start(site: Site, options: Options) -> Storm {
        let (address, server_address) = watch::channel(None);
        let (database, url) = watch::channel(site.admin_url());
        let writer = Writer::start(url, 4711);
        let subscribers = crowd().into_iter().map(|who| Subscriber::start(who, server_address.clone())).collect();
        let mut storm = Storm { site, writer, subscribers, options, server: None, address, database };
        storm.start_server().await;
        for subscriber in &storm.subscribers {
            subscriber.joined().await;
        }
        storm.writer.run().await;
        storm
    }

    pub async fn start_server(&mut self) {
        let url = self.options.url.clone().unwrap_or_else(|| self.site.url());
        let mut extra = vec![("WALCAST_START_WAIT_MS", "100000")];
        extra.extend(self.options.extra.iter().map(|(name, value)| (*name, value.as_str())));
        let server = Server::start_at(&url, &self.site.slot, &extra).await;
        self.address.send_replace(Some(server.address().to_owned()));
        self.server = Some(server);
    }

    /// `kill -9`.
    pub fn kill_server(&mut self) {
        self.address.send_replace(None);
        self.server = None;
    }

    /// Somebody else joins; what he gets is not checked here.
    pub async fn joined_by(&self, who: Who) -> Subscriber {
        let subscriber = Subscriber::start(who, self.address.subscribe());
        subscriber.joined().await;
        subscriber
    }

    pub fn server(&self) -> &Server {
        self.server.as_ref().expect("the server runs")
    }

    /// The database is somewhere else from now on.
    pub fn moved(&self) {
        self.database.send_replace(self.site.admin_url());
    }

    /// Lets everything go on until each subscriber has had so many events more, which shows that it does.
    pub async fn blow(&self) {
        let before: Vec<usize> = self.subscribers.iter().map(|subscriber| subscriber.heard().len()).collect();
        for (subscriber, before) in self.subscribers.iter().zip(before) {
            let came = subscriber.until(PATIENCE, |heard| heard.len() >= before + 5).await;
            assert!(came, "{} hears nothing any more\n{}", subscriber.who.name, self.log());
        }
    }

    /// Writes a row that everybody gets, and waits until everybody has it; its number.
    pub async fn settle(&self) -> i64 {
        let mark = self.writer.mark().await;
        for subscriber in &self.subscribers {
            let is_mark =
                |item: &Item| matches!(item, Item::Event(event) if event.table == "marks" && event.n == Some(mark));
            if !subscriber.until(PATIENCE, |heard| heard.iter().rev().any(is_mark)).await {
                let heard = subscriber.heard();
                let last = &heard[heard.len().saturating_sub(5)..];
                panic!("{} does not get mark {mark}; last: {last:?}\n{}", subscriber.who.name, self.log());
            }
        }
        mark
    }

    /// Stops the writer, and checks that everybody has got exactly its sequence.
    pub async fn assert_exact(&self) {
        self.writer.pause().await;
        self.settle().await;
        let admin = self.site.admin().await;
        for subscriber in &self.subscribers {
            let expected = expected(&admin, &subscriber.who).await;
            assert!(expected.len() > 10, "{}: {} events prove little", subscriber.who.name, expected.len());
            assert_exact(&subscriber.who, &subscriber.heard(), &expected);
        }
    }

    /// Stops the writer, and checks that everybody was told once of what is lost in each of these windows between two
    /// marks, and got everything else. What they were told.
    pub async fn assert_gaps(&self, windows: &[(i64, i64)]) -> Vec<Vec<Item>> {
        self.writer.pause().await;
        self.settle().await;
        let admin = self.site.admin().await;
        let mut said = Vec::new();
        for subscriber in &self.subscribers {
            let expected = expected(&admin, &subscriber.who).await;
            said.push(assert_gaps(&subscriber.who, &subscriber.heard(), &expected, windows));
        }
        said
    }

    /// Waits until `/health` says so.
    pub async fn until_health(&self, fits: impl Fn(u16, &Json) -> bool) -> Json {
        let start = Instant::now();
        loop {
            let (status, health) = get_at(self.server().address(), "/health").await;
            if fits(status, &health) {
                return health;
            }
            assert!(start.elapsed() < PATIENCE, "last: {status} {health}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// Waits until the server says that it does not do well, in one sentence that has these words.
    pub async fn until_problem(&self, words: &[&str]) {
        let names_it = |health: &Json| words.iter().all(|word| problem(health).contains(word));
        let health = self.until_health(|status, health| status == 503 && names_it(health)).await;
        assert!(!problem(&health).contains('\n'), "{health}");
    }

    pub async fn until_well(&self) {
        self.until_health(|status, _| status == 200).await;
    }

    /// Waits until every subscriber was told something so often.
    pub async fn until_told(&self, what: &str, times: usize, fits: impl Fn(&Item) -> bool) {
        for subscriber in &self.subscribers {
            let is_told = |heard: &[Item]| heard.iter().filter(|item| fits(item)).count() >= times;
            let told = subscriber.until(PATIENCE, is_told).await;
            assert!(told, "{} was not told {what}\n{}", subscriber.who.name, self.log());
        }
    }

    /// The end of the server's log.
    pub fn log(&self) -> String {
        let log = self.server.as_ref().map(Server::log).unwrap_or_default();
        log[log.len().saturating_sub(40)..].join("\n")
    }

    /// Ends in order.
    pub async fn end(mut self) {
        self.address.send_replace(None);
        if let Some(server) = self.server.take() {
            assert!(server.stop().await.success());
        }
        self.site.end().await;
    }
}

/// The subscribers: an owner whom the process judges alone, one with a table of the database lane, one who sees nothing
/// else, and one who sees everything.
fn crowd() -> Vec<Who> {
    let user = |sub: &str, tag: &str| token_of(json!({"role": "authenticated", "sub": sub, "tag": tag}));
    let sees = |owner: &str, rooms: &str, tag: &str| {
        format!(
            "tbl = 'marks' or tbl = 'owned' and owner = '{owner}' or tbl = 'shared' and room in ({rooms})
             or tbl = 'odd' and tag = '{tag}'"
        )
    };
    let who = |name, token, tables, sees| Who { name, token, tables, sees };
    vec![
        who("alice", user(ALICE, "a"), &["owned", "shared", "marks"], sees(ALICE, "1, 2", "none")),
        who("bob", user(BOB, "b"), ALL, sees(BOB, "2, 3", "b")),
        who("carol", user(CAROL, "c"), &["odd", "marks"], "tbl = 'marks' or tbl = 'odd' and tag = 'c'".to_owned()),
        who("service", token_of(json!({"role": "service_role"})), ALL, "true".to_owned()),
    ]
}
