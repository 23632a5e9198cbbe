//! The router's loop: receive, call the core, send on. It owns the core.

use super::{
    Command, FollowConfig, LaneConfig, RouterState,
    core::{Config, RouterCore},
    database_lane::{Lane, LaneParts, lane},
    follow::{self, Follow},
    intake::Intake,
    interruption::Interruption,
    pace::Pace,
    published::Published,
    refill::Refiller,
    refresh::Refresh,
    transaction::SpillConfig,
    visible::wait_until_visible,
};
use crate::{
    change::{Change, Fragment, relation::Relation},
    messages::Publisher,
    metrics::Metrics,
    shutdown::Tasks,
    source::{Feed, FeedReceiver, Follows, HandedOn, SourceState, Wish, slot_task::postgres_clock},
};
use deadpool_postgres::Pool;
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval},
};

/// How often subscriptions of connections that ended without a word are taken out.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);
/// How often those who are behind are served: often enough to keep a fast client busy. When that takes longer than this,
/// live changes get as much time before the next turn.
const CATCH_UP_INTERVAL: Duration = Duration::from_millis(2);
/// How long the router waits until the transaction that altered a table is visible. Longer than that takes without
/// synchronous replication.
const VISIBLE_LIMIT: Duration = Duration::from_secs(2);
/// How long the stream is held, while the database answers, for a catalogue that knows its tables. Longer than it takes
/// until one counts as too old: a database that does not answer is waited for in any case.
const HOLD_LIMIT: Duration = Duration::from_secs(20);
/// How long others are served before it is tried again.
const AGREE_PAUSE: Duration = Duration::from_millis(100);
/// How long nobody waits for the catalogue again after it could not be read.
const FAILED_PAUSE: Duration = Duration::from_secs(10);
/// The same while others are served, and a change of another table is described for the first time.
const BRIEFLY_VISIBLE_LIMIT: Duration = Duration::from_millis(100);
/// How often it is asked whether what is in doubt is visible.
const DOUBT_INTERVAL: Duration = Duration::from_secs(2);
/// Changes of tables that may be in doubt; with more, all changes wait.
const DOUBTFUL_TRANSACTIONS: usize = 256;

/// What the router needs.
pub struct Parts {
    /// Its choices.
    pub config: Config,
    /// How long the stream may be interrupted before clients that can come back are told.
    pub interruption_notice: Duration,
    /// The lane's choices.
    pub lane: LaneConfig,
    /// The lane's connections.
    pub pool: Pool,
    /// A connection of the router's own, so that it never waits for the lane.
    pub own_pool: Pool,
    /// Where lookup tables are read, with the text forms of the stream.
    pub lookup_pool: Pool,
    /// Choices about lookup tables.
    pub follow: FollowConfig,
    /// Where the source is told to begin anew.
    pub wish: watch::Sender<Wish>,
    /// The changes.
    pub feed: FeedReceiver,
    /// Where it says how far it is.
    pub state: watch::Sender<RouterState>,
    /// Up to where changes have been handed on.
    pub handed_on: watch::Sender<HandedOn>,
    /// The catalogue.
    pub refresh: Refresh,
    /// How the source is doing.
    pub source: watch::Receiver<SourceState>,
    /// Where messages of the database are said.
    pub messages: Publisher,
    /// Where what does not fit into memory of a transaction goes.
    pub spill: SpillConfig,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Where the lane's task runs.
    pub tasks: Tasks,
}

pub(super) async fn run(mut parts: Parts, mut commands: mpsc::Receiver<Command>) {
    let (lane, lane_task) = lane(LaneParts {
        pool: parts.pool.clone(),
        config: parts.lane.clone(),
        router: parts.config.clone(),
        messages: parts.messages.clone(),
        metrics: parts.metrics.clone(),
    });
    parts.tasks.spawn_essential("database lane", lane_task.run());
    let core =
        RouterCore::new(parts.config.clone(), parts.metrics.clone(), parts.messages.clone(), parts.refresh.catalog());
    let lagging = core.lagging();
    let mut follow = Follow::new(follow::Parts {
        config: parts.follow.clone(),
        pool: parts.lookup_pool.clone(),
        wish: parts.wish.clone(),
        tasks: parts.tasks.clone(),
    });
    follow.set_catalog(&parts.refresh.catalog());
    follow.set_source(&parts.source.borrow());
    let mut refiller = Refiller::new(parts.lookup_pool.clone(), &parts.tasks);
    let mut intake = Intake::new(core, follow, parts.config.transaction_bytes, parts.spill.clone());
    let mut descriptions = Descriptions::default();
    let mut published = Published::default();
    let mut pace = Pace::default();
    let mut sweep = interval(SWEEP_INTERVAL);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut catch_up = interval(CATCH_UP_INTERVAL);
    catch_up.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut cursors = interval(Duration::from_micros(intake.core.fresh_interval().unsigned_abs()));
    cursors.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looks = parts.refresh.clone();
    let mut interruption = Interruption::new(parts.interruption_notice);
    loop {
        if intake.settle() {
            parts.state.send_modify(|state| state.lookups = intake.follow.report());
        }
        // Without a catalogue to go by the stream is held, and without the rows that policies look into: nothing is lost
        // by waiting.
        let is_fresh = parts.refresh.is_fresh();
        if let Some(begins) =
            interruption.note(is_fresh && parts.source.borrow().streaming && !intake.core.is_in_doubt())
        {
            intake.core.tell_interruption(begins);
        }
        let mut is_agreed = true;
        if let Some(fragment) = intake.next().filter(|_| is_fresh && !intake.follow.is_holding()).cloned() {
            is_agreed = descriptions.agree(&mut intake, &mut parts.refresh, &parts.own_pool, &fragment).await;
            if std::mem::take(&mut descriptions.has_read) {
                let source = parts.source.borrow().clone();
                if published.is_lost(&parts.own_pool, &source, &fragment).await {
                    intake.core.lose_rest(fragment.era.number, fragment.commit_lsn);
                }
            }
        }
        descriptions.clear_up(&mut intake, &mut parts.refresh, &parts.own_pool).await;
        let is_open = is_fresh && is_agreed && !intake.follow.is_holding();
        let is_held_back = pace.holds(intake.core.pressed(postgres_clock()), Instant::now().into_std());
        if is_open && !is_held_back {
            let passed = intake.step().await;
            if parts.state.borrow().problem.is_none() && intake.problem().is_some() {
                parts.state.send_modify(|state| state.problem = intake.problem().cloned());
            }
            if let Some(job) = passed.job {
                lane.offer(job);
            }
            if let Some((handed_on, commit_time)) = passed.end {
                parts.handed_on.send_replace(handed_on);
                parts.state.send_if_modified(|state| {
                    state.commit_time = commit_time;
                    false
                });
            }
        }
        for refill in intake.core.refills(postgres_clock()) {
            let ticket = refill.ticket;
            if !refiller.ask(refill, parts.refresh.catalog()) {
                intake.core.refilled(ticket, None, postgres_clock());
            }
        }
        if intake.core.wants_fresh_cursors() {
            refresh_cursors(&mut intake, &lane);
        }
        let until_deadline = intake.until_deadline(postgres_clock()).filter(|_| is_open);
        // Commands first: a stream that never pauses must not keep clients from joining. Joining costs little, and the
        // command queue is bounded. A subscription that comes amid a transaction starts behind it.
        tokio::select! {
            biased;
            // Before there is a stream nobody knows what a cursor means.
            command = commands.recv(), if intake.core.has_begun() => match command {
                Some(command) => {
                    // Whoever comes back has had it read for himself.
                    intake.set_catalog(parts.refresh.catalog());
                    intake.execute(command);
                    parts.state.send_modify(|state| state.subscriptions = intake.core.subscriptions());
                }
                None => return,
            },
            () = parts.refresh.changed() => {
                intake.set_catalog(parts.refresh.catalog());
                parts.state.send_modify(|state| state.lookups = intake.follow.report());
            }
            event = intake.follow.event() => {
                intake.follow.handle(event);
                parts.state.send_modify(|state| state.lookups = intake.follow.report());
            }
            Ok(()) = parts.source.changed() => {
                let state = parts.source.borrow_and_update().clone();
                intake.follow.set_source(&state);
                intake.core.reach(state.era, state.reached);
                intake.core.set_source(&state);
            }
            _ = cursors.tick() => refresh_cursors(&mut intake, &lane),
            _ = sweep.tick() => {
                intake.core.sweep();
                intake.look_for_room().await;
                parts.state.send_modify(|state| {
                    state.subscriptions = intake.core.subscriptions();
                    state.behind = intake.core.behind();
                    state.backlog_bytes = intake.core.backlog_bytes();
                    state.problem = intake.problem().cloned();
                });
            }
            () = lagging.notified() => intake.core.notice_lagging(),
            () = interruption.due() => {}
            () = looks.looked(), if !is_fresh => {}
            () = tokio::time::sleep(DOUBT_INTERVAL), if intake.core.is_in_doubt() => {}
            () = tokio::time::sleep(AGREE_PAUSE), if !is_agreed => {}
            _ = catch_up.tick(), if is_open && intake.core.has_behind() => {
                let begun = Instant::now();
                intake.core.set_look(begun.into_std(), parts.refresh.looked_at().into_std());
                intake.set_catalog(parts.refresh.catalog());
                for job in intake.catch_up(lane.has_room(), postgres_clock()) {
                    lane.offer(job);
                }
                if intake.core.take_look_wish() {
                    parts.refresh.hurry();
                }
                // Else the next turn would be due at once, again and again, and nothing live would come to pass.
                catch_up.reset_after(begun.elapsed().max(CATCH_UP_INTERVAL));
                parts.state.send_if_modified(|state| {
                    state.behind = intake.core.behind();
                    state.backlog_bytes = intake.core.backlog_bytes();
                    false
                });
            }
            (ticket, answer) = refiller.answer() => intake.core.refilled(ticket, answer, postgres_clock()),
            () = tokio::time::sleep(until_deadline.unwrap_or_default()), if until_deadline.is_some() => {
                intake.pass_time(postgres_clock());
            }
            () = tokio::task::yield_now(), if is_open && !is_held_back && intake.has_work() => {}
            fed = parts.feed.recv(), if intake.wants_fragment() => match fed {
                Some(Feed::Fragment(fragment)) => intake.hold(fragment),
                Some(Feed::Begin(beginning)) => {
                    if let Some(from) = beginning.new_from {
                        parts.messages.begin_anew(from);
                    }
                    if !matches!(beginning.follows, Follows::Seamless) {
                        // What comes is of another history, and described again.
                        descriptions = Descriptions::default();
                    }
                    intake.begin_era(&beginning);
                }
                None => return,
            },
        }
    }
}

/// Gives a new cursor to whoever needs one.
fn refresh_cursors(intake: &mut Intake<Follow>, lane: &Lane) {
    if let Some(job) = intake.core.refresh_cursors(postgres_clock()) {
        lane.offer(job);
    }
}

/// The descriptions of tables the catalogue has been read behind.
#[derive(Default)]
struct Descriptions {
    known: HashMap<u32, Arc<Relation>>,
    /// Since when it cannot be read for those of the next fragment.
    held: Option<Instant>,
    failed: Option<Instant>,
    /// Whether it has just been read for some.
    has_read: bool,
    doubt: Doubt,
}

/// What the catalogue could not be read behind in time.
#[derive(Default)]
struct Doubt {
    described: HashMap<u32, Arc<Relation>>,
    /// The transactions that brought the descriptions: all have to be visible.
    xids: Vec<i64>,
    /// When that was asked last.
    asked: Option<Instant>,
}

impl Descriptions {
    /// Postgres describes a table in the stream again behind whatever was done to it: its columns, grants, policies, the
    /// row security flag. So the catalogue is read again before the change is judged, and a right ends with the commit
    /// that takes it away. While it cannot be read the change is held, which is what false means: nothing is lost when a
    /// database goes away for a moment. Bounded: then the others go on, and whom such a table concerns lags
    /// (`core::doubt`) until the catalogue has been read behind all of it.
    async fn agree(
        &mut self,
        intake: &mut Intake<Follow>,
        refresh: &mut Refresh,
        pool: &Pool,
        fragment: &Fragment,
    ) -> bool {
        let mut new: Vec<&Arc<Relation>> = Vec::new();
        for Change { relation, .. } in &fragment.changes {
            let is_in = |map: &HashMap<u32, Arc<Relation>>| {
                map.get(&relation.oid).is_some_and(|known| Arc::ptr_eq(known, relation))
            };
            let is_known = is_in(&self.known) || is_in(&self.doubt.described);
            if !is_known && !new.iter().any(|other| Arc::ptr_eq(other, relation)) {
                new.push(relation);
            }
        }
        if new.is_empty() {
            self.held = None;
            return true;
        }
        let is_in_doubt = !self.doubt.xids.is_empty();
        let may_ask = is_in_doubt || self.failed.is_none_or(|at| at.elapsed() > FAILED_PAUSE);
        let limit = if is_in_doubt { BRIEFLY_VISIBLE_LIMIT } else { VISIBLE_LIMIT };
        // The change's own transaction may be what altered the table, and not be visible yet.
        let xid = i64::from(fragment.xid);
        if may_ask && wait_until_visible(pool, &[xid], limit).await && refresh.now().await {
            intake.set_catalog(refresh.catalog());
            (self.held, self.failed, self.has_read) = (None, None, true);
            self.known.extend(new.into_iter().map(|relation| (relation.oid, relation.clone())));
            return true;
        }
        if may_ask && !is_in_doubt {
            let now = Instant::now();
            // What counts is how long a database that answers does not say it.
            let since = *self.held.get_or_insert(now);
            if !refresh.is_fresh() {
                self.held = None;
            }
            if since.elapsed() < HOLD_LIMIT {
                return false;
            }
            (self.held, self.failed) = (None, Some(now));
            tracing::warn!(
                "the catalogue cannot be read behind a change of tables: changes of these are held back until its \
                 transaction is visible, which with synchronous replication takes a standby that answers"
            );
        }
        if self.doubt.xids.len() >= DOUBTFUL_TRANSACTIONS {
            return false;
        }
        self.doubt.xids.push(xid);
        for relation in new {
            self.known.remove(&relation.oid);
            intake.core.doubt(relation.oid);
            self.doubt.described.insert(relation.oid, relation.clone());
        }
        true
    }

    /// Looks, now and then, whether what was in doubt is visible, and reads the catalogue behind it.
    async fn clear_up(&mut self, intake: &mut Intake<Follow>, refresh: &mut Refresh, pool: &Pool) {
        let is_due = self.doubt.asked.is_none_or(|at| at.elapsed() > DOUBT_INTERVAL);
        if self.doubt.xids.is_empty() || !is_due {
            return;
        }
        if wait_until_visible(pool, &self.doubt.xids, BRIEFLY_VISIBLE_LIMIT).await && refresh.now().await {
            tracing::info!("the catalogue has been read behind what was in doubt: the changes held back are told");
            intake.set_catalog(refresh.catalog());
            intake.core.trust();
            let doubt = std::mem::take(&mut self.doubt);
            self.known.extend(doubt.described);
            self.failed = None;
        } else {
            self.doubt.asked = Some(Instant::now());
        }
    }
}
