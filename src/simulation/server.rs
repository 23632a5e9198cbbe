//! The server of the play: the real router, driven by hand, a source that cuts transactions into fragments, and a
//! database lane that answers when it is its turn.

use super::{
    ledger::Place,
    world::{self, Database},
};
use crate::{
    change::Fragment,
    hub::Rooms,
    lsn::Lsn,
    router::{
        driven::{Answer, AskedOf, Driven, Room, size},
        fixture::MEMBERS,
    },
};
use rand::{Rng, rngs::StdRng};
use std::{collections::VecDeque, sync::Arc};

/// Fragments that wait for the router.
const QUEUE: usize = 4;

pub(super) struct Server {
    pub(super) driven: Driven,
    room: Room,
    /// Changes of one fragment, at most.
    chunk: usize,
    queue: VecDeque<Arc<Fragment>>,
    /// What the router has taken in and not routed.
    taken: VecDeque<Arc<Fragment>>,
    /// The next change the source hands on.
    sent: Place,
    /// The next transaction of which nothing, or not all, is routed.
    pub(super) next: usize,
    /// The memberships that were read last.
    loaded: usize,
    /// Of each job in the lane, when it was given and by which memberships at least.
    lane: VecDeque<(u64, usize)>,
    /// The ends of the fragments that are or were in the backlog, and their sizes.
    pub(super) kept: Vec<(Place, usize)>,
}

/// By what the frames of a step were judged.
pub(super) struct Judged {
    pub(super) since: u64,
    pub(super) versions: (usize, usize),
    pub(super) unasked: bool,
}

impl Server {
    pub(super) fn new(random: &mut StdRng, database: &Database, rooms: &Rooms) -> Server {
        let room = Room {
            backlog_bytes: [600, 4000, 40_000, 1 << 20][random.random_range(0..4)],
            lane_jobs: [1, 4, 64][random.random_range(0..3)],
        };
        let driven = Driven::new(&room, world::catalog(0), rooms);
        let at = database.transactions.len();
        let mut server = Server {
            driven,
            room,
            chunk: [1, 3, 16, 100][random.random_range(0..4)],
            queue: VecDeque::new(),
            taken: VecDeque::new(),
            sent: Place { transaction: at, ordinal: 0 },
            next: at,
            loaded: at,
            lane: VecDeque::new(),
            kept: Vec::new(),
        };
        server.load(database);
        server
    }

    /// Reads the memberships, as they are now.
    pub(super) fn load(&mut self, database: &Database) {
        self.loaded = database.transactions.len();
        self.driven.set_lookups(database.lookups());
    }

    /// The memberships cannot be followed any further.
    pub(super) fn lose_memberships(&mut self) {
        self.driven.set_lookups(Default::default());
    }

    pub(super) fn is_following(&self) -> bool {
        self.driven.is_following(MEMBERS)
    }

    /// The memberships that count between two steps: those of the transaction that is being taken in may do already.
    pub(super) fn versions(&self) -> (usize, usize) {
        let from = self.loaded.max(self.next);
        let is_amid = self.driven.has_work() || !self.taken.is_empty();
        (from, if is_amid { from.max(self.next + 1) } else { from })
    }

    /// Whether a part of a transaction is routed, and the rest is to come.
    pub(super) fn is_amid(&self, database: &Database) -> bool {
        database.transactions.get(self.next).is_some_and(|next| self.driven.is_amid(next.commit_lsn))
    }

    /// The first transaction that somebody who subscribes now gets, if he asked for what commits from `start` on.
    pub(super) fn start(&self, database: &Database, start: Lsn) -> Place {
        let first = self.next + usize::from(self.is_amid(database));
        let later = database.transactions.iter().skip(first).take_while(|later| later.commit_lsn < start).count();
        Place { transaction: first + later, ordinal: 0 }
    }

    /// The source hands on the next fragment; false when there is nothing to hand on, or no room.
    pub(super) fn send(&mut self, random: &mut StdRng, database: &Database) -> bool {
        let Some(transaction) = database.transactions.get(self.sent.transaction) else { return false };
        if self.queue.len() >= QUEUE {
            return false;
        }
        let count = random.random_range(0..=self.chunk);
        let mut fragment = transaction.fragment(self.sent.transaction, self.sent.ordinal, count);
        // A fragment may be full before it is known that it was the last.
        if !fragment.changes.is_empty() && random.random_ratio(1, 4) {
            fragment.end_lsn = None;
        }
        self.sent.ordinal += fragment.changes.len();
        if fragment.end_lsn.is_some() {
            self.sent = Place { transaction: self.sent.transaction + 1, ordinal: 0 };
        }
        self.queue.push_back(Arc::new(fragment));
        true
    }

    /// The router takes in or routes a fragment; none when there is nothing to do.
    pub(super) fn route(&mut self, step: u64, database: &Database) -> Option<Judged> {
        if self.driven.wants_fragment() {
            let fragment = self.queue.pop_front()?;
            self.taken.push_back(fragment.clone());
            self.driven.hold(fragment);
        }
        // Rows of a transaction are judged by all it says of memberships.
        let version = self.loaded.max(self.next + 1);
        let before = self.driven.metrics.changes.get();
        let end = self.driven.step();
        self.keep(self.driven.metrics.changes.get() - before, end.is_some());
        if let Some(end) = end {
            assert_eq!(end, database.transactions[self.next].end_lsn, "transactions end in their order");
            self.next += 1;
        }
        self.note_jobs(step, version);
        Some(Judged { since: step, versions: (version, version), unasked: false })
    }

    /// Notes the fragments that went into the backlog, by how many changes were routed.
    fn keep(&mut self, mut routed: u64, is_end: bool) {
        while let Some(fragment) = self.taken.front() {
            let count = fragment.changes.len() as u64;
            if routed == 0 && !is_end {
                break;
            }
            routed -= count;
            if let Some(last) = fragment.changes.last() {
                let end = Place { transaction: self.next, ordinal: usize::try_from(last.ordinal).unwrap() + 1 };
                self.kept.push((end, size(fragment)));
            }
            self.taken.pop_front();
        }
    }

    fn note_jobs(&mut self, step: u64, version: usize) {
        while self.lane.len() < self.driven.lane_jobs() {
            self.lane.push_back((step, version));
        }
    }

    /// Those behind are served.
    pub(super) fn catch_up(&mut self, step: u64) -> Judged {
        let versions = self.versions();
        self.driven.catch_up(0);
        self.note_jobs(step, versions.0);
        Judged { since: step, versions, unasked: false }
    }

    /// The lane answers some of its jobs, or says that nobody can be asked.
    pub(super) fn answer(&mut self, limit: usize, unasked: bool, database: &Database) -> Option<Judged> {
        let (since, from) = *self.lane.front()?;
        let answer = |asked: &AskedOf<'_>| match unasked {
            true => Answer::Nobody,
            false => Answer::Sees(database.answer(asked.statement, asked.claims, asked.image)),
        };
        let done = self.driven.answer(limit, answer);
        self.lane.drain(..done);
        Some(Judged { since, versions: (from, database.transactions.len()), unasked })
    }

    /// Whether everything between two fragments that went in is still in the backlog from this place on.
    pub(super) fn keeps(&self, from: Place, fragments: usize) -> bool {
        let after = self.kept[..fragments].iter().filter(|(end, _)| *end > from);
        after.map(|(_, size)| size).sum::<usize>() <= self.room.backlog_bytes
    }

    /// The slot is gone: what was not handed on is lost, and everybody hears it.
    pub(super) fn begin_anew(&mut self, database: &Database) -> bool {
        if !self.queue.is_empty() || self.driven.has_work() || !self.taken.is_empty() {
            return false;
        }
        self.driven.announce_gap();
        self.next = database.transactions.len();
        self.sent = Place { transaction: self.next, ordinal: 0 };
        self.load(database);
        true
    }

    /// Whether nothing is left to be done.
    pub(super) fn is_at_rest(&self, database: &Database) -> bool {
        self.next == database.transactions.len()
            && self.queue.is_empty()
            && self.taken.is_empty()
            && self.driven.lane_jobs() == 0
            && !self.driven.has_behind()
    }
}
