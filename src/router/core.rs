//! `RouterCore`: fragments in, deliveries out; the subscriptions and their index. Pure: it waits for nothing.
//!
//! A subscription whose member lags is *behind*: it gets nothing live, is served from the backlog in slices when its
//! outbox has drained, and is live again at the head. No gap, no double; and when the backlog is too short for that,
//! the client is told.

use super::{
    SubscriptionKey,
    backlog::Backlog,
    image::{Image, column_map, judged_image},
    index::SubscriptionIndex,
    lane_job::{Candidate, LaneJob, LaneWork},
    matching::{is_bare_key_delete, matches, messages},
    render::{Extent, Rendering},
    subscription::{Compiled, Subscription, TableBinding, TableSubscription, compile},
};
use crate::{
    change::{Change, Fragment, Operation, position::Position, relation::Relation},
    claims::Claims,
    hub::{Delivery, Generation, Member, OnItsWay},
    lsn::Lsn,
    metrics::Metrics,
    policy::catalog::{Catalog, RowRule, Table},
    protocol::refusal,
};
use slab::Slab;
use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};
use tokio::sync::Notify;

/// What the operator may choose about deliveries.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whether a DELETE that cannot be judged, because only the key was logged, is kept from everybody.
    pub strict_deletes: bool,
    /// A change whose images take more bytes than this is sent as an error with its small values only.
    pub max_record_bytes: usize,
    /// Bytes of the last changes that are kept for those who lag.
    pub backlog_bytes: usize,
}

/// Changes that are looked at for those behind before live ones get their turn again.
const CATCH_UP_CHANGES: usize = 4096;
/// Of these, for one subscription.
const SLICE_CHANGES: usize = 512;

/// Roles and tables the log names at most between two catalogues.
const KNOWN_MUTE: usize = 1000;

struct Active {
    /// Tells it from the one that had its place before.
    number: u64,
    subscription: Subscription,
    compiled: Compiled,
    generation: Generation,
    /// The first change it has not been offered, while it is served from the backlog.
    behind: Option<Position>,
}

pub(super) struct RouterCore {
    config: Config,
    metrics: Arc<Metrics>,
    catalog: Arc<Catalog>,
    active: Slab<Active>,
    next_number: u64,
    index: SubscriptionIndex,
    backlog: Backlog,
    /// The subscriptions that are behind, whose turn it is first.
    behind: VecDeque<usize>,
    /// Woken by members that begin to lag.
    lagging: Arc<Notify>,
    /// Roles and tables of which the log has said that subscriptions get nothing.
    known_mute: HashSet<(Arc<str>, String)>,
    /// The commit of a transaction of which a part has been routed, and the rest is to come.
    open: Option<Lsn>,
}

impl RouterCore {
    pub(super) fn new(config: Config, metrics: Arc<Metrics>, catalog: Arc<Catalog>) -> RouterCore {
        RouterCore {
            backlog: Backlog::new(config.backlog_bytes),
            config,
            metrics,
            catalog,
            active: Slab::new(),
            next_number: 0,
            index: SubscriptionIndex::default(),
            behind: VecDeque::new(),
            lagging: Arc::new(Notify::new()),
            known_mute: HashSet::new(),
            open: None,
        }
    }

    /// Woken when a member begins to lag.
    pub(super) fn lagging(&self) -> Arc<Notify> {
        self.lagging.clone()
    }

    /// Whether anybody is behind.
    pub(super) fn has_behind(&self) -> bool {
        !self.behind.is_empty()
    }

    /// Starts a subscription: the join's reply if it was held back, what is wrong with bindings, and that the others
    /// are active; then it is entered. A join that waits and has a binding that cannot work is refused with the reason.
    /// Of a transaction that is being routed it gets nothing: half of one would be worse, and nobody waits for its end.
    pub(super) fn subscribe(&mut self, mut subscription: Subscription) -> Result<SubscriptionKey, String> {
        let compiled = compile_of(&subscription, &self.catalog);
        if let Some(reply) = subscription.held_reply.take() {
            if let Some(error) = compiled.errors.first() {
                return Err(error.clone());
            }
            subscription.member.deliver(reply);
        }
        if let Some(open) = self.open {
            subscription.start = subscription.start.max(Lsn(open.0 + 1));
        }
        subscription.member.wake_on_lag(self.lagging.clone());
        let number = self.next_number;
        self.next_number += 1;
        let place = self.active.insert(Active {
            number,
            subscription,
            compiled: Compiled::default(),
            generation: Generation::default(),
            behind: None,
        });
        self.install(place, compiled, true);
        Ok(SubscriptionKey { place, number })
    }

    /// The place of a subscription, while it is there.
    fn place(&self, key: SubscriptionKey) -> Option<usize> {
        self.active.get(key.place).filter(|active| active.number == key.number).map(|_| key.place)
    }

    /// Puts a compiled subscription in the place of the one before, and tells its client what is new about it.
    fn install(&mut self, key: usize, compiled: Compiled, is_fresh: bool) {
        self.leave(key);
        self.exchange(key, compiled, is_fresh);
        self.enter(key);
    }

    /// The same while the subscription is not in the index.
    fn exchange(&mut self, key: usize, mut compiled: Compiled, is_fresh: bool) {
        if is_fresh {
            self.note_mute(&self.active[key].subscription.claims.role.clone(), &compiled);
        }
        let active = &mut self.active[key];
        // Once in the database lane, always there: what is on its way in it must not be overtaken.
        compiled.needs_database |= active.compiled.needs_database;
        let before = std::mem::replace(&mut active.compiled, compiled);
        let member = &active.subscription.member;
        let errors = &active.compiled.errors;
        for error in errors.iter().filter(|error| is_fresh || !before.errors.contains(error)) {
            member.deliver_system("postgres_changes", false, error);
        }
        let recovered = !before.errors.is_empty() && errors.is_empty();
        if active.compiled.working > 0 && (is_fresh || recovered) {
            member.deliver_system("postgres_changes", true, refusal::SUBSCRIBED);
        }
    }

    /// "No error, no event": the client is told nothing, as by the server we replace, but the operator can find out.
    fn note_mute(&mut self, role: &Arc<str>, compiled: &Compiled) {
        self.metrics.mute_subscriptions.add(compiled.mute.len());
        for (table, why) in &compiled.mute {
            if self.known_mute.len() < KNOWN_MUTE && self.known_mute.insert((role.clone(), table.clone())) {
                tracing::info!(%role, table, why, "a subscription gets nothing of a table");
            }
        }
    }

    /// Gives a subscription other claims, from the next change on.
    pub(super) fn replace_claims(&mut self, key: SubscriptionKey, claims: Claims) {
        let Some(place) = self.place(key) else { return };
        self.active[place].subscription.claims = claims;
        let compiled = compile_of(&self.active[place].subscription, &self.catalog);
        self.install(place, compiled, true);
    }

    pub(super) fn unsubscribe(&mut self, key: SubscriptionKey) {
        if let Some(place) = self.place(key) {
            self.remove(place);
        }
    }

    fn remove(&mut self, place: usize) {
        self.leave(place);
        self.active.remove(place);
        self.behind.retain(|behind| *behind != place);
    }

    /// The stream does not continue what was before: every subscriber hears it, and joins again. What is kept of before
    /// has positions of another log, which those of the new one must not be compared with.
    pub(super) fn announce_gap(&mut self) {
        self.backlog = Backlog::new(self.config.backlog_bytes);
        self.open = None;
        for (_, active) in &self.active {
            if active.subscription.member.deliver_system("postgres_changes", false, refusal::STREAM_BEGAN_ANEW) {
                active.subscription.member.fail();
                self.metrics.gaps.add(1);
            }
        }
    }

    /// Nobody can say now who may see the rows of a table: whoever subscribes to it hears that changes are lost to him.
    pub(super) fn lose(&self, table: u32) {
        for (_, active) in self.active.iter().filter(|(_, active)| active.compiled.tables.contains_key(&table)) {
            announce_gap(&active.subscription.member, &self.metrics);
        }
    }

    /// Forgets subscriptions whose connection is gone.
    pub(super) fn sweep(&mut self) {
        let gone: Vec<usize> = self
            .active
            .iter()
            .filter(|(_, active)| active.subscription.member.is_ended())
            .map(|(key, _)| key)
            .collect();
        for place in gone {
            self.remove(place);
        }
    }

    pub(super) fn subscriptions(&self) -> usize {
        self.active.len()
    }

    /// Takes a new catalogue and compiles every subscription again, in place. Who is affected is told.
    pub(super) fn set_catalog(&mut self, catalog: Arc<Catalog>) {
        if self.catalog.version == catalog.version {
            return;
        }
        self.catalog = catalog;
        // Made anew as a whole: taking out one subscription after the other would look through all of them each time.
        self.index = SubscriptionIndex::default();
        self.known_mute.clear();
        let keys: Vec<usize> = self.active.iter().map(|(key, _)| key).collect();
        for key in keys {
            let compiled = compile_of(&self.active[key].subscription, &self.catalog);
            self.exchange(key, compiled, false);
            self.enter(key);
        }
    }

    fn enter(&mut self, key: usize) {
        for table in self.active[key].compiled.tables.values() {
            self.index.insert(key, table);
        }
    }

    fn leave(&mut self, key: usize) {
        for table in self.active[key].compiled.tables.values() {
            self.index.remove(key, table);
        }
    }

    /// Delivers a fragment to those whose rights the process knows; the rest is work for the database lane.
    pub(super) fn route(&mut self, fragment: &Arc<Fragment>) -> Option<LaneJob> {
        let mut maps = ColumnMaps::default();
        let mut work = Vec::new();
        let mut lagging = Vec::new();
        self.metrics.changes.add(fragment.changes.len());
        self.backlog.push(fragment.clone());
        self.open = fragment.end_lsn.is_none().then_some(fragment.commit_lsn);
        for (at, change) in fragment.changes.iter().enumerate() {
            if change.operation == Operation::Truncate || !self.index.has(change.relation.oid) {
                continue;
            }
            let Some(table) = self.catalog.tables.get(&change.relation.oid).cloned() else { continue };
            let map = maps.of(&table, &change.relation);
            let candidates = self.route_change(fragment, change, &map, &mut lagging);
            if !candidates.is_empty() {
                work.push(LaneWork { change: at, table, map, candidates });
            }
        }
        for (key, position) in lagging {
            self.fall_behind(key, position);
        }
        self.job(fragment, work)
    }

    fn job(&self, fragment: &Arc<Fragment>, work: Vec<LaneWork>) -> Option<LaneJob> {
        let (fragment, catalog) = (fragment.clone(), self.catalog.clone());
        (!work.is_empty()).then_some(LaneJob { fragment, catalog, work })
    }

    fn route_change(
        &self,
        fragment: &Fragment,
        change: &Change,
        map: &Arc<[Option<usize>]>,
        lagging: &mut Vec<(usize, Position)>,
    ) -> Vec<Candidate> {
        let Some(table) = self.catalog.tables.get(&change.relation.oid) else { return Vec::new() };
        let Some(image) = judged_image(change, map) else { return Vec::new() };
        let entries = self.index.candidates(table.oid, |column| image.get(column));
        let mut rendering = self.rendering(fragment, change, table, map);
        let mut lane = Vec::new();
        for group in entries.chunk_by(|a, b| a.subscription == b.subscription) {
            let key = group[0].subscription;
            let Some(active) = self.active.get(key).filter(|active| active.behind.is_none()) else { continue };
            let Some(subscription) = active.compiled.tables.get(&table.oid) else { continue };
            let bindings = group.iter().filter_map(|entry| subscription.bindings.get(entry.binding));
            match self.offer(&mut rendering, active, subscription, fragment, change, &image, bindings) {
                Offered::Done => {}
                Offered::Lane(candidate) => lane.push(candidate),
                Offered::Lagging => lagging.push((key, position(fragment, change))),
            }
        }
        lane
    }

    fn rendering<'a>(
        &'a self,
        fragment: &Fragment,
        change: &'a Change,
        table: &'a Table,
        map: &'a [Option<usize>],
    ) -> Rendering<'a> {
        let limit = self.config.max_record_bytes;
        Rendering::new(change, table, map, &self.catalog.types, fragment.commit_time, limit)
    }

    /// Offers a change to one subscription, for those of these bindings that match.
    #[expect(clippy::too_many_arguments, reason = "one change, one subscription, and what is known of both")]
    fn offer<'b>(
        &self,
        rendering: &mut Rendering<'_>,
        active: &Active,
        subscription: &Arc<TableSubscription>,
        fragment: &Fragment,
        change: &Change,
        image: &Image<'_>,
        bindings: impl Iterator<Item = &'b Arc<TableBinding>>,
    ) -> Offered {
        if fragment.commit_lsn < active.subscription.start {
            return Offered::Done;
        }
        let matching: Vec<_> = bindings.filter(|binding| matches(binding, change.operation, image)).cloned().collect();
        if matching.is_empty() {
            return Offered::Done;
        }
        let member = &active.subscription.member;
        if active.compiled.needs_database {
            return Offered::Lane(Candidate {
                member: OnItsWay::new(member),
                generation: active.generation,
                claims: active.subscription.claims.clone(),
                subscription: subscription.clone(),
                bindings: matching,
            });
        }
        let extent = match &subscription.rows {
            RowRule::All => Extent::WholeOld,
            // Nobody of this role sees a row; a bare key is told to every subscriber unless that is switched off.
            RowRule::None if is_bare_key_delete(change) && !self.config.strict_deletes => Extent::KeyOnly,
            RowRule::None | RowRule::Compiled(_) | RowRule::Database(_) => return Offered::Done,
        };
        let frames = messages(rendering, member, change.operation, &matching, extent);
        let count = frames.len();
        match member.deliver_change(active.generation, position(fragment, change), frames) {
            Delivery::Queued => self.metrics.deliveries.add(count),
            Delivery::Lagging => return Offered::Lagging,
            Delivery::Dropped => {}
        }
        Offered::Done
    }

    fn fall_behind(&mut self, key: usize, position: Position) {
        if let Some(active) = self.active.get_mut(key) {
            if active.behind.is_none() {
                self.metrics.lags.add(1);
                self.behind.push_back(key);
            }
            active.behind = Some(active.behind.map_or(position, |behind| behind.min(position)));
        }
    }

    /// Finds the members that began to lag where the router did not see it: in the database lane.
    pub(super) fn notice_lagging(&mut self) {
        let lags = self.active.iter().filter(|(_, active)| active.behind.is_none());
        let lags: Vec<_> = lags.filter_map(|(key, active)| Some((key, active.subscription.member.lag()?))).collect();
        for (key, position) in lags {
            self.fall_behind(key, position);
        }
    }

    /// Serves those who are behind from the backlog, a bounded slice of it; the rest is work for the database lane.
    /// Those who need the lane wait until it has room: it would only turn them down again.
    pub(super) fn catch_up(&mut self, lane_has_room: bool) -> Vec<LaneJob> {
        let mut jobs = Vec::new();
        let mut budget = CATCH_UP_CHANGES;
        for _ in 0..self.behind.len() {
            let Some(key) = self.behind.pop_front() else { break };
            if budget == 0 {
                self.behind.push_front(key);
                break;
            }
            let waits = !lane_has_room && self.active.get(key).is_some_and(|active| active.compiled.needs_database);
            if waits || self.serve_slice(key, &mut budget, &mut jobs) {
                self.behind.push_back(key);
            }
        }
        jobs
    }

    /// Serves one subscription; whether it is still behind.
    fn serve_slice(&mut self, key: usize, budget: &mut usize, jobs: &mut Vec<LaneJob>) -> bool {
        let Some(active) = self.active.get_mut(key) else { return false };
        let member = active.subscription.member.clone();
        if member.is_ended() {
            return false;
        }
        // What the lane still has of before the lag is delivered first, in its place.
        if !member.has_drained() || (member.lag().is_some() && member.has_on_their_way()) {
            return true;
        }
        let Some(mut from) = active.behind else { return false };
        if let Some(lag) = member.lag() {
            from = from.min(lag);
            active.generation = member.resume();
        }
        active.behind = None;
        let active = &self.active[key];
        let Some(fragments) = self.backlog.from(from) else {
            announce_gap(&member, &self.metrics);
            return false;
        };
        let mut maps = ColumnMaps::default();
        let mut left = SLICE_CHANGES.min(*budget);
        let mut stopped = None;
        'fragments: for fragment in fragments {
            let mut work = Vec::new();
            for (at, change) in fragment.changes.iter().enumerate() {
                let position = position(fragment, change);
                if position < from {
                    continue;
                }
                if left == 0 {
                    stopped = Some(position);
                    jobs.extend(self.job(fragment, work));
                    break 'fragments;
                }
                left -= 1;
                *budget -= 1;
                let Some(subscription) = active.compiled.tables.get(&change.relation.oid) else { continue };
                let table = &subscription.table;
                let map = maps.of(table, &change.relation);
                let Some(image) = judged_image(change, &map) else { continue };
                let mut rendering = self.rendering(fragment, change, table, &map);
                let bindings = subscription.bindings.iter();
                match self.offer(&mut rendering, active, subscription, fragment, change, &image, bindings) {
                    Offered::Done => {}
                    Offered::Lane(candidate) => {
                        let (table, map, candidates) = (table.clone(), map.clone(), vec![candidate]);
                        work.push(LaneWork { change: at, table, map, candidates });
                    }
                    Offered::Lagging => {
                        stopped = Some(position);
                        break 'fragments;
                    }
                }
            }
            jobs.extend(self.job(fragment, work));
        }
        self.active[key].behind = stopped;
        stopped.is_some()
    }
}

/// What became of an offer.
enum Offered {
    /// It is delivered, or not for him.
    Done,
    /// The database decides.
    Lane(Candidate),
    /// There was no room.
    Lagging,
}

/// Where relations have the columns of their tables, found once a fragment.
#[derive(Default)]
struct ColumnMaps(HashMap<*const Relation, Arc<[Option<usize>]>>);

impl ColumnMaps {
    fn of(&mut self, table: &Table, relation: &Arc<Relation>) -> Arc<[Option<usize>]> {
        self.0.entry(Arc::as_ptr(relation)).or_insert_with(|| column_map(table, relation).into()).clone()
    }
}

/// Where a change stands.
pub(super) fn position(fragment: &Fragment, change: &Change) -> Position {
    Position { commit_lsn: fragment.commit_lsn, ordinal: change.ordinal }
}

/// Changes are lost to a client: he hears it, and joins again.
pub(super) fn announce_gap(member: &Member, metrics: &Metrics) {
    if member.deliver_system("postgres_changes", false, refusal::CHANGES_SKIPPED) {
        member.fail();
        metrics.gaps.add(1);
    }
}

fn compile_of(subscription: &Subscription, catalog: &Catalog) -> Compiled {
    compile(&subscription.bindings, &subscription.claims.role, &subscription.casts, catalog)
}

#[cfg(test)]
mod tests;
