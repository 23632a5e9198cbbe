//! A seeded play of everything that can happen between the stream and the clients, on one thread: the real router core,
//! intake, database lane, sessions, rooms, members and outboxes, no sockets, no Postgres and no clock. A random
//! scheduler picks what happens next: a transaction commits, a fragment is sent or routed, somebody joins, reads, leaves
//! or loses his connection, the lane answers, those behind are served. What clients read is held against a model that
//! knows every transaction and every rule, and shares no code with the router.
//!
//! `world` is the database, `server` the router with what stands around it, `client` the clients and their connections,
//! `expected` what a change means to a binding, `ledger` what a join is owed.
//!
//! A failure prints its seed. The long form, and one seed again:
//!
//! ```text
//! WALCAST_PLAYS=100000 cargo test --release --lib simulation
//! WALCAST_PLAYS=1 WALCAST_FIRST_PLAY=4711 WALCAST_TRACE=1 cargo test --lib simulation -- --nocapture
//! ```

mod client;
mod expected;
mod ledger;
mod server;
mod world;

use crate::{hub::Rooms, lsn::Lsn};
use client::{Client, Counts, Line, Office, Scene};
use ledger::Mark;
use rand::{Rng, SeedableRng, rngs::StdRng};
use server::{Judged, Server};
use std::{collections::HashMap, sync::LazyLock};
use world::{CATALOGS, Database};

/// Plays of a short run.
const PLAYS: u64 = 600;
/// What happens in one.
const STEPS: u64 = 260;
/// Rounds in which everything that is left must be done.
const ROUNDS: usize = 20_000;

struct Play {
    random: StdRng,
    step: u64,
    database: Database,
    catalogs: Vec<(u64, usize)>,
    server: Server,
    office: Office,
    clients: Vec<Client>,
    /// Connections whose client is gone, which the server has not found out.
    dying: Vec<Line>,
    counts: Counts,
    /// Lags of servers before this one.
    lags: u64,
    texts: HashMap<String, String>,
}

/// Says what happens, where that is wanted.
fn trace(what: impl FnOnce() -> String) {
    static IS_WANTED: LazyLock<bool> = LazyLock::new(|| std::env::var("WALCAST_TRACE").is_ok());
    if *IS_WANTED {
        eprintln!("{}", what());
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn whatever_happens_everybody_gets_what_is_his_once_and_in_order_or_hears_of_a_gap() {
    let (first, count) = (setting("WALCAST_FIRST_PLAY", 0), setting("WALCAST_PLAYS", PLAYS));
    let mut total = Totals::default();
    for seed in first..first + count {
        match std::panic::catch_unwind(|| Play::new(seed).run()) {
            Ok(play) => total.add(&play),
            Err(panic) => {
                eprintln!("seed {seed}: WALCAST_PLAYS=1 WALCAST_FIRST_PLAY={seed} cargo test --lib simulation");
                std::panic::resume_unwind(panic);
            }
        }
    }
    if count >= PLAYS {
        total.show_something();
    }
    eprintln!("{count} plays: {total:?}");
}

/// What has happened in all plays.
#[derive(Debug, Default)]
struct Totals {
    counts: Counts,
    lags: u64,
}

impl Totals {
    fn add(&mut self, play: &Play) {
        self.counts.add(&play.counts);
        self.lags += play.lags + play.server.driven.metrics.lags.get();
    }

    /// Plays in which nothing of note happens prove nothing.
    fn show_something(&self) {
        let Counts { joins, changes, gaps, renewals, resumed, not_resumed, fresh, parts, answers, .. } = self.counts;
        let all = [joins / 1000, changes / 1000, gaps, renewals, resumed / 100, not_resumed / 100, fresh / 100, parts];
        assert!(self.lags > 100 && answers > 100, "{self:?}");
        assert!(all.iter().all(|count| *count > 0), "{self:?}");
    }
}

impl Play {
    fn new(seed: u64) -> Play {
        let mut random = StdRng::seed_from_u64(seed);
        let mut database = Database::new(&mut random);
        for _ in 0..random.random_range(0..4) {
            database.commit(&mut random, 0);
        }
        let office = Office::new(&mut random);
        let server = Server::new(&mut random, &database, &office.rooms);
        let clients = (0..random.random_range(1..6)).map(|number| Client::new(&mut random, number)).collect();
        Play {
            random,
            step: 0,
            database,
            catalogs: vec![(0, 0)],
            server,
            office,
            clients,
            dying: Vec::new(),
            counts: Counts::default(),
            lags: 0,
            texts: HashMap::new(),
        }
    }

    fn run(mut self) -> Play {
        for at in 0..self.clients.len() {
            self.step += 1;
            self.with(at, Client::act);
            self.note(&Judged { since: self.step, versions: self.server.versions(), unasked: false });
        }
        for _ in 0..STEPS {
            let what = self.random.random_range(0..100);
            self.act(what);
        }
        self.come_to_rest();
        self
    }

    /// One step; whether it led anywhere.
    fn act(&mut self, what: u32) -> bool {
        self.step += 1;
        let step = self.step;
        let mut judged = Judged { since: step, versions: self.server.versions(), unasked: false };
        let at = self.random.random_range(0..self.clients.len());
        let has_led = match what {
            0..12 => {
                self.database.commit(&mut self.random, step);
                true
            }
            12..30 => self.server.send(&mut self.random, &self.database),
            30..48 => match self.server.route(step, &self.database) {
                Some(by) => {
                    judged = by;
                    true
                }
                None => false,
            },
            48..56 => {
                judged = self.server.catch_up(step);
                true
            }
            56..63 => {
                let unasked = self.random.random_ratio(1, 200);
                match self.server.answer(self.random.random_range(1..6), unasked, &self.database) {
                    Some(by) => {
                        self.counts.answers += 1;
                        judged = by;
                        true
                    }
                    None => false,
                }
            }
            63..66 => {
                self.server.driven.notice_lagging();
                true
            }
            66 => {
                self.server.reach(&self.database);
                true
            }
            67 => {
                self.server.refresh_cursors(step);
                true
            }
            68..75 => self.with(at, Client::act),
            75..86 => self.with(at, Client::work),
            86..95 => {
                let limit = [1, 3, 100][self.random.random_range(0..3)];
                let has_read = self.with(at, |client, scene| client.read(limit, scene) > 0);
                // A connection that breaks between two messages about one change is too rare to wait for.
                if self.clients[at].is_amid() && self.random.random() {
                    self.dying.extend(self.clients[at].die());
                }
                has_read
            }
            95 | 96 => {
                let line = if self.random.random_ratio(1, 2) { self.clients[at].die() } else { None };
                self.dying.extend(line);
                true
            }
            97 => self.find_the_dead(),
            98 => {
                self.server.driven.sweep();
                true
            }
            _ => self.disturb(),
        };
        let next = self.server.next;
        trace(|| format!("{step}: {what} {has_led}, {} committed, {next} routed", self.database.transactions.len()));
        self.note(&judged);
        has_led
    }

    /// Notes what the step has put into outboxes, and by what it was judged.
    fn note(&mut self, &Judged { since, versions, unasked }: &Judged) {
        let (kept_from, fragments) = (self.server.kept_from, self.server.kept.len());
        let head = self.server.head(&self.database, Lsn::ZERO);
        let step = self.step;
        let mark = Mark { step, since, versions, fragments, kept_from, head, queued: 0, unasked };
        for line in self.clients.iter_mut().filter_map(|client| client.line.as_mut()) {
            line.mark(&mark);
            line.check_bounds();
        }
    }

    /// Long after: whoever has heard nothing for a while has got a new cursor by then.
    fn refresh(&mut self, later: u64) {
        self.step += 1;
        self.server.refresh_cursors(self.step + later);
        self.note(&Judged { since: self.step, versions: self.server.versions(), unasked: false });
        while self.server.driven.lane_jobs() > 0 {
            self.act(56);
        }
        for at in 0..self.clients.len() {
            self.with(at, |client, scene| client.read(usize::MAX, scene));
        }
    }

    /// Something that happens seldom.
    fn disturb(&mut self) -> bool {
        match self.random.random_range(0..14) {
            0..4 => {
                let next = self.random.random_range(0..CATALOGS.len());
                self.catalogs.push((self.step, next));
                self.server.driven.set_catalog(world::catalog(next));
            }
            4 | 5 if self.server.is_following() => self.server.lose_memberships(),
            4..7 => self.server.load(&self.database),
            7..10 => return self.server.begin_era(&mut self.random, &self.database),
            _ => self.restart(),
        }
        true
    }

    /// The server is killed, and another one goes on.
    fn restart(&mut self) {
        self.dying.clear();
        self.clients.iter_mut().for_each(|client| drop(client.die()));
        self.office.rooms = Rooms::new([8; 4]);
        let catalog = self.catalogs.last().map_or(0, |(_, catalog)| *catalog);
        self.lags += self.server.driven.metrics.lags.get();
        self.server = self.server.restarted(&mut self.random, catalog, &self.database, &self.office.rooms);
    }

    fn with<T>(&mut self, at: usize, act: impl FnOnce(&mut Client, &mut Scene<'_>) -> T) -> T {
        let mut scene = Scene {
            step: self.step,
            random: &mut self.random,
            database: &self.database,
            catalogs: &self.catalogs,
            server: &mut self.server,
            office: &mut self.office,
            counts: &mut self.counts,
            texts: &mut self.texts,
        };
        act(&mut self.clients[at], &mut scene)
    }

    /// The server finds out that clients are gone, and clients that the server has sent them away.
    fn find_the_dead(&mut self) -> bool {
        let slow = self.clients.iter_mut().filter(|client| client.line.as_ref().is_some_and(Line::is_closed));
        self.dying.extend(slow.filter_map(Client::die));
        let has_dead = !self.dying.is_empty();
        self.dying.drain(..).for_each(|line| line.end(&mut self.server));
        has_dead
    }

    /// Everything that is left is done; then everybody has what is his.
    fn come_to_rest(&mut self) {
        if !self.server.is_following() {
            self.server.load(&self.database);
        }
        for _ in 0..ROUNDS {
            let mut is_busy = false;
            for what in [12, 30, 56, 63, 48, 97] {
                is_busy |= self.act(what) && !matches!(what, 48 | 63);
            }
            for at in 0..self.clients.len() {
                self.step += 1;
                is_busy |= self.with(at, Client::work);
                self.note(&Judged { since: self.step, versions: self.server.versions(), unasked: false });
                is_busy |= self.with(at, |client, scene| client.read(100, scene) > 0);
                self.act(63);
            }
            if !is_busy && self.server.is_at_rest(&self.database) {
                return self.settle();
            }
        }
        panic!("it does not come to rest");
    }

    fn settle(&mut self) {
        // A cursor that was behind changes in the lane goes with them when their member turns out to lag; the next look gives
        // him another, within a quarter of the window all the same.
        for look in 1..=2 {
            self.refresh(look * 1_000_000_000);
        }
        self.step += 1;
        for at in 0..self.clients.len() {
            self.with(at, Client::settle);
        }
        for at in 0..self.clients.len() {
            self.dying.extend(self.clients[at].die());
        }
        self.find_the_dead();
        self.server.driven.sweep();
        assert_eq!(self.server.driven.subscriptions(), 0, "nobody is left behind");
        assert_eq!(self.office.rooms.counts().members, 0, "in no room either");
    }
}
