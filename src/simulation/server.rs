//! The server of the play: the real router, driven by hand, a source that cuts transactions into fragments, and a
//! database lane that answers when it is its turn.

use super::{
    ledger::Place,
    trace,
    world::{self, Database},
};
use crate::{
    change::{
        Fragment,
        cursor::{Beside, Cursor, Epoch},
        position::Era,
    },
    hub::Rooms,
    lsn::Lsn,
    router::{
        driven::{Answer, AskedOf, Driven, Room, size},
        fixture::MEMBERS,
    },
    source::{Beginning, Feed, Follows, Gap, GapReason, Kind, WindowConfig},
};
use rand::{Rng, rngs::StdRng};
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

/// Fragments that wait for the router.
const QUEUE: usize = 4;

pub(super) struct Server {
    pub(super) driven: Driven,
    room: Room,
    /// Changes of one fragment, at most.
    chunk: usize,
    queue: VecDeque<Feed>,
    /// The era of what the source hands on.
    era: Era,
    /// The epochs whose cursors hold, and where the first of them began.
    epochs: Vec<Epoch>,
    from: Lsn,
    /// The timelines before this one, and where they were left.
    accepts: Vec<(Epoch, Lsn)>,
    /// What the router has taken in and not routed.
    taken: VecDeque<Arc<Fragment>>,
    /// The next change the source hands on.
    sent: Place,
    /// With how much beside the source streams: so many changes are counted before those that concern anybody.
    beside: Beside,
    /// With how much each transaction was streamed, by its commit.
    streamed: HashMap<Lsn, Beside>,
    /// The next transaction of which nothing, or not all, is routed.
    pub(super) next: usize,
    /// The memberships that were read last.
    loaded: usize,
    /// Of each job in the lane, when it was given and by which memberships at least.
    lane: VecDeque<(u64, usize)>,
    /// The ends of the fragments that are or were in the backlog, and their sizes.
    pub(super) kept: Vec<(Place, usize)>,
    /// The first of them since the last gap.
    pub(super) kept_from: usize,
    /// Where the first transaction behind a gap that is to come stands.
    behind_gap: VecDeque<usize>,
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
            window: WindowConfig { bytes: random.random_range(1..1000), time: Duration::from_micros(400) },
        };
        let chunk = [1, 3, 16, 100][random.random_range(0..4)];
        let history = (Epoch::of(&["the play"], 1), Vec::new());
        Server::start((room, chunk, Beside::default()), history, database.transactions.len(), database, rooms)
    }

    fn start(
        (room, chunk, beside): (Room, usize, Beside),
        (epoch, accepts): (Epoch, Vec<(Epoch, Lsn)>),
        next: usize,
        database: &Database,
        rooms: &Rooms,
    ) -> Server {
        let from = database.transactions.get(next).map_or(database.end, |next| next.commit_lsn);
        let era = Era { number: 1, epoch };
        let follows = Follows::First;
        let beginning =
            Arc::new(Beginning { era, from, accepts: accepts.clone(), follows, new_from: None, kind: Kind::Log });
        let mut server = Server {
            driven: Driven::new(&room, world::catalog(0), rooms),
            room,
            chunk,
            queue: VecDeque::new(),
            era,
            epochs: accepts.iter().map(|(old, _)| *old).chain([epoch]).collect(),
            from,
            accepts,
            taken: VecDeque::new(),
            sent: Place { transaction: next, ordinal: 0 },
            beside,
            streamed: HashMap::new(),
            next,
            loaded: 0,
            lane: VecDeque::new(),
            kept: Vec::new(),
            kept_from: 0,
            behind_gap: VecDeque::new(),
        };
        server.driven.begin(&beginning);
        server.load(database);
        server
    }

    /// Another process goes on; it is sent again what the slot had been kept behind.
    pub(super) fn restarted(&self, random: &mut StdRng, catalog: usize, database: &Database, rooms: &Rooms) -> Server {
        let behind = random.random_range(0..=self.next.min(12));
        // What is behind a gap never comes again.
        let next = self.next.saturating_sub(behind).max(self.first(database));
        let history = (self.era.epoch, self.accepts.clone());
        let beside = other(random);
        let mut server = Server::start((self.room, self.chunk, beside), history, next, database, rooms);
        server.driven.set_catalog(world::catalog(catalog));
        trace(|| format!("  restarted, {next} is next"));
        server
    }

    /// The first transaction of this history.
    fn first(&self, database: &Database) -> usize {
        let committed = database.transactions.iter().take_while(|old| old.commit_lsn < self.from).count();
        self.behind_gap.back().copied().unwrap_or(committed)
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
    pub(super) fn head(&self, database: &Database, start: Lsn) -> Place {
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
        self.streamed.insert(transaction.commit_lsn, self.beside);
        let mut fragment =
            transaction.fragment((self.era, self.beside), self.sent.transaction, self.sent.ordinal, count);
        // A fragment may be full before it is known that it was the last.
        if !fragment.changes.is_empty() && random.random_ratio(1, 4) {
            fragment.end_lsn = None;
        }
        self.sent.ordinal += fragment.changes.len();
        if fragment.end_lsn.is_some() {
            self.sent = Place { transaction: self.sent.transaction + 1, ordinal: 0 };
            if random.random_ratio(1, 30) {
                self.beside = other(random);
            }
        }
        self.queue.push_back(Feed::Fragment(Arc::new(fragment)));
        true
    }

    /// The router takes in or routes a fragment; none when there is nothing to do.
    pub(super) fn route(&mut self, step: u64, database: &Database) -> Option<Judged> {
        if self.driven.wants_fragment() {
            match self.queue.pop_front()? {
                Feed::Fragment(fragment) => {
                    self.taken.push_back(fragment.clone());
                    self.driven.hold(fragment);
                }
                Feed::Begin(beginning) => {
                    self.begin(&beginning, database);
                    return Some(Judged { since: step, versions: self.versions(), unasked: false });
                }
            }
        }
        // Rows of a transaction are judged by all it says of memberships.
        let version = self.loaded.max(self.next + 1);
        let before = self.driven.metrics.changes.get();
        let end = self.driven.step();
        self.keep(self.driven.metrics.changes.get() - before, end.is_some());
        if let Some(end) = end {
            assert_eq!(end.lsn, database.transactions[self.next].end_lsn, "transactions end in their order");
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
                let end = Place {
                    transaction: self.next,
                    ordinal: usize::try_from(last.ordinal - fragment.beside.0).unwrap() + 1,
                };
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
        trace(|| format!("  {done} jobs answered, from step {since} on"));
        self.lane.drain(..done);
        Some(Judged { since, versions: (from, database.transactions.len()), unasked })
    }

    /// Whether everything from this place on was still in the backlog, when so many fragments had come.
    pub(super) fn keeps(&self, from: Place, (kept_from, fragments): (usize, usize)) -> bool {
        let after = self.kept[kept_from..fragments].iter().filter(|(end, _)| *end > from);
        after.map(|(_, size)| size).sum::<usize>() <= self.room.backlog_bytes
    }

    /// Whether somebody who comes back now with this cursor must get all that is behind it; `end` is where the log ended.
    pub(super) fn must_resume(&self, cursor: &Cursor, place: Place, end: Lsn) -> bool {
        let is_known = self.epochs.contains(&cursor.epoch) && self.behind_gap.is_empty();
        let is_kept = cursor.commit_lsn >= self.from && self.keeps(place, (self.kept_from, self.kept.len()));
        is_known && is_kept && cursor.commit_lsn <= end && !self.counts_otherwise(cursor)
    }

    /// Whether the transaction a cursor is in was streamed otherwise here than when the cursor was given.
    pub(super) fn counts_otherwise(&self, cursor: &Cursor) -> bool {
        let streamed = self.streamed.get(&cursor.commit_lsn);
        cursor.is_amid() && streamed.is_some_and(|streamed| *streamed != cursor.beside)
    }

    /// Whether a cursor is of a history there has been.
    pub(super) fn has_known(&self, epoch: Epoch) -> bool {
        let Epoch { origin, timeline } = self.era.epoch;
        let first = Epoch::of(&["the play"], 1);
        (first.origin..=origin).contains(&epoch.origin) && (timeline == 1 || epoch.timeline <= timeline)
    }

    /// The number of the era that began last.
    pub(super) fn era(&self) -> u32 {
        self.era.number
    }

    fn begin(&mut self, beginning: &Arc<Beginning>, database: &Database) {
        trace(|| format!("  {beginning:?}"));
        self.driven.begin(beginning);
        match &beginning.follows {
            Follows::First | Follows::Seamless => self.epochs.push(beginning.era.epoch),
            Follows::Gap(_) => {
                self.epochs = beginning.accepts.iter().map(|(old, _)| *old).chain([beginning.era.epoch]).collect();
                self.from = beginning.from;
                self.next = self.behind_gap.pop_front().expect("it was noted");
                self.taken.clear();
                self.kept_from = self.kept.len();
                self.load(database);
            }
        }
    }

    /// The source goes on with another era: a standby that has everything, or behind a gap.
    pub(super) fn begin_era(&mut self, random: &mut StdRng, database: &Database) -> bool {
        if self.queue.len() >= QUEUE {
            return false;
        }
        let before = self.era.epoch;
        let number = self.era.number + 1;
        let (epoch, from, follows) = if random.random() {
            let epoch = Epoch { timeline: before.timeline + 1, ..before };
            self.accepts.push((before, database.end));
            // The end of the last transaction that was handed on whole, or what is confirmed behind it.
            let whole = self.sent.transaction.checked_sub(1).and_then(|last| database.transactions.get(last));
            let from = whole.map_or(self.from, |last| last.end_lsn.max(self.from));
            (epoch, from, Follows::Seamless)
        } else {
            let is_same = random.random();
            let epoch = if is_same { before } else { Epoch { origin: before.origin + 1, timeline: 1 } };
            let old = database.transactions.get(self.sent.transaction).map_or(database.end, |next| next.commit_lsn);
            let reason = if is_same { GapReason::SlotNew } else { GapReason::OtherHistory };
            if !is_same {
                self.accepts.clear();
            }
            self.behind_gap.push_back(database.transactions.len());
            self.sent = Place { transaction: database.transactions.len(), ordinal: 0 };
            (epoch, database.end, Follows::Gap(Gap { reason, old, new: database.end }))
        };
        self.era = Era { number, epoch };
        let accepts = self.accepts.clone();
        self.queue.push_back(Feed::Begin(Arc::new(Beginning {
            era: self.era,
            from,
            accepts,
            follows,
            new_from: None,
            kind: Kind::Log,
        })));
        true
    }

    /// New cursors for whoever needs one.
    pub(super) fn refresh_cursors(&mut self, step: u64) {
        self.driven.refresh_cursors(i64::try_from(step).unwrap());
        self.note_jobs(step, self.versions().0);
    }

    /// The source says that everything up to the end of the log has been handed on, where that is so.
    pub(super) fn reach(&mut self, database: &Database) {
        if self.next == database.transactions.len() && self.queue.is_empty() {
            self.driven.reach(self.era.number, database.end);
        }
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

/// The publications beside change.
fn other(random: &mut StdRng) -> Beside {
    Beside(random.random_range(0..3))
}
