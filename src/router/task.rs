//! The router's loop: receive, call the core, send on. It owns the core.

use super::{
    Command, FollowConfig, LaneConfig, RouterState,
    core::{Config, RouterCore},
    database_lane::lane,
    follow::{self, Follow},
    refresh::Refresh,
    visible::wait_until_visible,
};
use crate::{
    change::{Change, Fragment, relation::Relation},
    lsn::Lsn,
    metrics::Metrics,
    shutdown::Tasks,
    source::{SourceState, Wish},
};
use deadpool_postgres::Pool;
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval},
};

/// How often subscriptions of connections that ended without a word are taken out.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);
/// How often those who are behind are served: often enough to keep a fast client busy, seldom enough that live changes
/// get the greater share.
const CATCH_UP_INTERVAL: Duration = Duration::from_millis(2);
/// How long the router waits until the transaction that altered a table is visible. Longer than that takes without
/// synchronous replication.
const VISIBLE_LIMIT: Duration = Duration::from_secs(2);
/// How long nobody waits for the catalogue again after it could not be read.
const FAILED_PAUSE: Duration = Duration::from_secs(10);

/// What the router needs.
pub struct Parts {
    /// Its choices.
    pub config: Config,
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
    pub fragments: mpsc::Receiver<Arc<Fragment>>,
    /// Where it says how far it is.
    pub state: watch::Sender<RouterState>,
    /// Up to where changes have been handed on.
    pub handed_on: watch::Sender<Lsn>,
    /// The catalogue.
    pub refresh: Refresh,
    /// How the source is doing.
    pub source: watch::Receiver<SourceState>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Where the lane's task runs.
    pub tasks: Tasks,
}

pub(super) async fn run(mut parts: Parts, mut commands: mpsc::Receiver<Command>) {
    let (lane, lane_task) = lane(parts.pool.clone(), &parts.lane, parts.config.clone(), parts.metrics.clone());
    parts.tasks.spawn("database lane", lane_task.run());
    let mut core = RouterCore::new(parts.config.clone(), parts.metrics.clone(), parts.refresh.catalog());
    let mut follow = Follow::new(follow::Parts {
        config: parts.follow.clone(),
        pool: parts.lookup_pool.clone(),
        wish: parts.wish.clone(),
        tasks: parts.tasks.clone(),
    });
    follow.set_catalog(&parts.refresh.catalog());
    follow.set_source(&parts.source.borrow());
    let mut descriptions = Descriptions::default();
    let mut sweep = interval(SWEEP_INTERVAL);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let lagging = core.lagging();
    let mut catch_up = interval(CATCH_UP_INTERVAL);
    catch_up.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut beginnings = parts.source.borrow().beginnings;
    let mut looks = parts.refresh.clone();
    let mut held: Option<Arc<Fragment>> = None;
    loop {
        if follow.take_changes() {
            parts.state.send_modify(|state| state.lookups = follow.report());
        }
        // Without a catalogue to go by the stream is held: nothing is lost by waiting.
        let is_fresh = parts.refresh.is_fresh();
        if let Some(fragment) = held.as_ref().filter(|_| is_fresh && !follow.is_holding())
            && descriptions.agree(&mut core, &mut parts.refresh, &parts.own_pool, fragment).await
        {
            follow.set_catalog(&parts.refresh.catalog());
        }
        // Nor without the tables that policies look into.
        if let Some(fragment) = held.take_if(|_| is_fresh && !follow.is_holding()) {
            follow.apply_transaction(std::slice::from_ref(&fragment));
            if let Some(job) = core.route(&fragment) {
                lane.offer(job);
            }
            if let Some(end) = fragment.end_lsn {
                parts.handed_on.send_replace(end);
                parts.state.send_if_modified(|state| {
                    state.commit_time = fragment.commit_time;
                    false
                });
            }
        }
        // Commands first: a stream that never pauses must not keep clients from joining. Joining costs little, and the
        // command queue is bounded. A subscription that comes amid a transaction starts behind it.
        tokio::select! {
            biased;
            command = commands.recv() => match command {
                Some(command) => {
                    execute(&mut core, command);
                    parts.state.send_modify(|state| state.subscriptions = core.subscriptions());
                }
                None => return,
            },
            () = parts.refresh.changed() => {
                core.set_catalog(parts.refresh.catalog());
                follow.set_catalog(&parts.refresh.catalog());
            }
            event = follow.event() => {
                follow.handle(event);
                parts.state.send_modify(|state| state.lookups = follow.report());
            }
            Ok(()) = parts.source.changed() => {
                let state = parts.source.borrow_and_update().clone();
                follow.set_source(&state);
                let now = state.beginnings;
                if std::mem::replace(&mut beginnings, now) != now {
                    // Whoever subscribed before the first beginning waited for it.
                    if now > 1 {
                        core.announce_gap();
                    }
                }
            }
            _ = sweep.tick() => {
                core.sweep();
                parts.state.send_modify(|state| state.subscriptions = core.subscriptions());
            }
            () = lagging.notified() => core.notice_lagging(),
            () = looks.looked(), if !is_fresh => {}
            _ = catch_up.tick(), if is_fresh && core.has_behind() => {
                for job in core.catch_up(lane.has_room()) {
                    lane.offer(job);
                }
            }
            fragment = parts.fragments.recv(), if held.is_none() => match fragment {
                Some(fragment) => held = Some(fragment),
                None => return,
            },
        }
    }
}

fn execute(core: &mut RouterCore, command: Command) {
    match command {
        Command::Subscribe(subscription, answer) => {
            let entered = core.subscribe(*subscription);
            // Whoever asked is gone: so is the subscription.
            if let Err(Ok(key)) = answer.send(entered) {
                core.unsubscribe(key);
            }
        }
        Command::ReplaceClaims(key, claims) => core.replace_claims(key, claims),
        Command::Unsubscribe(key) => core.unsubscribe(key),
    }
}

/// The descriptions of tables the catalogue has been read behind.
#[derive(Default)]
struct Descriptions {
    known: HashMap<u32, Arc<Relation>>,
    failed: Option<Instant>,
}

impl Descriptions {
    /// Postgres describes a table in the stream again behind whatever was done to it: its columns, grants, policies, the
    /// row security flag. So the catalogue is read again before the change is judged, and a right ends with the commit
    /// that takes it away. Bounded; who may see the rows of a table that is still in doubt then nobody can say, and
    /// their subscribers hear it.
    /// Whether the catalogue was read.
    async fn agree(&mut self, core: &mut RouterCore, refresh: &mut Refresh, pool: &Pool, fragment: &Fragment) -> bool {
        let mut new: Vec<&Arc<Relation>> = Vec::new();
        for Change { relation, .. } in &fragment.changes {
            let is_known = self.known.get(&relation.oid).is_some_and(|known| Arc::ptr_eq(known, relation));
            if !is_known && !new.iter().any(|other| Arc::ptr_eq(other, relation)) {
                new.push(relation);
            }
        }
        if new.is_empty() {
            return false;
        }
        let may_ask = self.failed.is_none_or(|at| at.elapsed() > FAILED_PAUSE);
        // The change's own transaction may be what altered the table, and not be visible yet.
        let is_read =
            may_ask && wait_until_visible(pool, &[i64::from(fragment.xid)], VISIBLE_LIMIT).await && refresh.now().await;
        if is_read {
            core.set_catalog(refresh.catalog());
            self.failed = None;
            self.known.extend(new.into_iter().map(|relation| (relation.oid, relation.clone())));
            return true;
        }
        if may_ask {
            self.failed = Some(Instant::now());
        }
        for relation in new {
            self.known.remove(&relation.oid);
            core.lose(relation.oid);
        }
        false
    }
}
