//! `Driven`: the router without its loop, its stream, its database and its clock, driven by hand: whoever drives it says
//! when a fragment is taken in, when those behind are served, when the lane answers and what. All of it is the real
//! thing but the loop (`task`), the reading of lookup tables (`follow`) and the asking (`statements`). For the simulation.

use super::{
    Command, SubscriptionKey,
    core::{Config, RouterCore},
    database_lane::{Config as LaneConfig, Lane, LaneParts, LaneTask, lane_of},
    intake::{Follow, Intake},
    questions::{Questions, Verdict},
    statements::Verdicts,
    subscription::Subscription,
};
use crate::{
    change::Fragment,
    claims::Claims,
    hub::Rooms,
    lsn::Lsn,
    messages::Publisher,
    metrics::Metrics,
    policy::{catalog::Catalog, lookup::Lookups},
    source::{Beginning, HandedOn, Kind, WindowConfig},
};
use futures_util::FutureExt;
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::sync::oneshot;

/// The rows of other tables, as they were loaded and as the stream changed them since.
#[derive(Default)]
struct Followed {
    lookups: Lookups,
    /// The tables that were ready when somebody asked last.
    ready: BTreeSet<u32>,
}

impl Follow for Followed {
    fn is_following(&self) -> bool {
        true
    }
    fn is_ready(&self, table: u32) -> bool {
        self.lookups.is_ready(table)
    }
    fn take_changes(&mut self) -> bool {
        let ready = self.lookups.tables().collect();
        std::mem::replace(&mut self.ready, ready) != self.ready
    }
    fn lookups(&self) -> &Lookups {
        &self.lookups
    }
    fn set_catalog(&mut self, _: &Catalog) {}
    fn begin_era(&mut self, _: Kind) {}
    fn apply(&mut self, fragment: &Arc<Fragment>) -> BTreeSet<u32> {
        let mut touched = BTreeSet::new();
        for change in &fragment.changes {
            if self.lookups.apply(change, fragment.xid, fragment.commit_lsn).unwrap_or(true) {
                touched.insert(change.relation.oid);
            }
        }
        touched
    }
    fn distrust(&mut self) {
        self.lookups = Lookups::default();
    }
}

/// What the lane asks about a row: the policy's text, the claims, and the image as JSON.
pub(crate) struct AskedOf<'a> {
    pub(crate) statement: &'a str,
    pub(crate) claims: &'a str,
    pub(crate) image: &'a str,
}

/// What it is told.
pub(crate) enum Answer {
    Sees(bool),
    Nobody,
}

/// How much of anything fits.
#[derive(Clone, Copy)]
pub(crate) struct Room {
    pub(crate) backlog_bytes: usize,
    pub(crate) lane_jobs: usize,
    /// What the slot keeps.
    pub(crate) window: WindowConfig,
}

/// The router.
pub(crate) struct Driven {
    intake: Intake<Followed>,
    lane: Lane,
    lane_task: LaneTask,
    pub(crate) metrics: Arc<Metrics>,
}

impl Driven {
    /// One that has just been started.
    pub(crate) fn new(room: &Room, catalog: Arc<Catalog>, rooms: &Rooms) -> Driven {
        let metrics = Arc::<Metrics>::default();
        let config = Config {
            strict_deletes: false,
            max_record_bytes: 1 << 20,
            backlog_bytes: room.backlog_bytes,
            resume_window: room.window,
            transaction_bytes: 1 << 30,
            meters: Arc::default(),
        };
        let messages = Publisher::new(rooms.clone(), Arc::default(), metrics.clone(), Lsn::ZERO);
        let manager = deadpool_postgres::Manager::new(tokio_postgres::Config::new(), tokio_postgres::NoTls);
        let parts = LaneParts {
            pool: deadpool_postgres::Pool::builder(manager).build().unwrap(),
            config: LaneConfig { connections: 1, statement_timeout: Duration::from_secs(1) },
            router: config.clone(),
            messages: messages.clone(),
            metrics: metrics.clone(),
        };
        let (lane, lane_task) = lane_of(parts, room.lane_jobs, 1 << 16);
        let core = RouterCore::new(config, metrics.clone(), messages, catalog);
        let intake = Intake::new(core, Followed::default(), 1 << 30, std::env::temp_dir());
        Driven { intake, lane, lane_task, metrics }
    }

    /// Enters a subscription.
    pub(crate) fn subscribe(&mut self, subscription: Subscription) -> Result<SubscriptionKey, String> {
        let (answer, mut entered) = oneshot::channel();
        self.intake.execute(Command::Subscribe(Box::new(subscription), answer));
        entered.try_recv().unwrap()
    }

    /// Judges a subscription by other claims.
    pub(crate) fn replace_claims(&mut self, key: SubscriptionKey, claims: Claims) {
        self.intake.execute(Command::ReplaceClaims(key, claims));
    }

    /// Takes a subscription out.
    pub(crate) fn unsubscribe(&mut self, key: SubscriptionKey) {
        self.intake.execute(Command::Unsubscribe(key));
    }

    /// Takes out those whose connection is gone.
    pub(crate) fn sweep(&mut self) {
        self.intake.core.sweep();
    }

    pub(crate) fn subscriptions(&self) -> usize {
        self.intake.core.subscriptions()
    }

    /// Goes by another catalogue.
    pub(crate) fn set_catalog(&mut self, catalog: Arc<Catalog>) {
        self.intake.set_catalog(catalog);
    }

    /// Has other rows of lookup tables: read anew, or none.
    pub(crate) fn set_lookups(&mut self, lookups: Lookups) {
        self.intake.follow.lookups = lookups;
        self.intake.settle();
    }

    /// Whether the rows of a lookup table are known.
    pub(crate) fn is_following(&self, table: u32) -> bool {
        self.intake.follow.lookups.is_ready(table)
    }

    pub(crate) fn wants_fragment(&self) -> bool {
        self.intake.wants_fragment()
    }

    pub(crate) fn hold(&mut self, fragment: Arc<Fragment>) {
        self.intake.hold(fragment);
    }

    /// Whether a transaction is being applied or judged.
    pub(crate) fn has_work(&self) -> bool {
        self.intake.has_work()
    }

    /// Whether a part of the transaction that committed here has been judged, and the rest is to come.
    pub(crate) fn is_amid(&self, commit_lsn: Lsn) -> bool {
        self.intake.core.is_amid(commit_lsn)
    }

    /// An era begins.
    pub(crate) fn begin(&mut self, beginning: &Arc<Beginning>) {
        self.intake.begin_era(beginning);
    }

    /// The source says how far it is.
    pub(crate) fn reach(&mut self, era: u32, lsn: Lsn) {
        self.intake.core.reach(era, lsn);
    }

    /// Gives new cursors to whoever needs one.
    pub(crate) fn refresh_cursors(&mut self, now: i64) {
        if let Some(job) = self.intake.core.refresh_cursors(now) {
            self.lane.offer(job);
        }
    }

    /// Goes on by one fragment; the end of a transaction that is handed on.
    pub(crate) fn step(&mut self) -> Option<HandedOn> {
        self.intake.settle();
        let passed = self.intake.step().now_or_never().expect("all of it is in memory");
        if let Some(job) = passed.job {
            self.lane.offer(job);
        }
        passed.end.map(|(end, _)| end)
    }

    /// Serves those who are behind.
    pub(crate) fn catch_up(&mut self, now: i64) {
        self.lane.forget_failure();
        for job in self.intake.catch_up(self.lane.has_room(), now) {
            self.lane.offer(job);
        }
    }

    /// Jobs that wait in the lane.
    pub(crate) fn lane_jobs(&self) -> usize {
        self.lane.waiting()
    }

    pub(crate) fn has_behind(&self) -> bool {
        self.intake.core.has_behind()
    }

    /// Looks for members that lag without the router having seen it.
    pub(crate) fn notice_lagging(&mut self) {
        self.intake.core.notice_lagging();
    }

    /// Has the lane answer up to so many jobs; how many it had.
    pub(crate) fn answer(&mut self, limit: usize, mut answer: impl FnMut(&AskedOf<'_>) -> Answer) -> usize {
        self.lane_task.judge_by(limit, |questions: &Questions| {
            let groups = questions.groups.iter().map(|group| {
                let verdict = |image: &Arc<str>| {
                    let claims = group.key.claims.as_deref().unwrap_or("");
                    match answer(&AskedOf { statement: &group.key.statement, claims, image }) {
                        Answer::Sees(true) => Verdict::Yes,
                        Answer::Sees(false) => Verdict::No,
                        Answer::Nobody => Verdict::Unasked,
                    }
                };
                group.images.iter().map(verdict).collect()
            });
            Verdicts::given(groups.collect())
        })
    }
}

/// What a fragment counts as in the backlog.
pub(crate) fn size(fragment: &Fragment) -> usize {
    fragment.bytes()
}
