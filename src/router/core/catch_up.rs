//! Those who are behind are served from the backlog, a bounded slice at a time. Their rights are those of now: whoever
//! may not see a row any more does not get it late.

use super::{
    RouterCore,
    deliver::{ColumnMaps, Offer, Offered, Subject},
};
use crate::{
    change::position::Position,
    lsn::Lsn,
    protocol::refusal,
    router::{
        SubscriptionKey,
        image::{Image, Images},
        judgement::{Basis, Judgement},
        lane_job::{LaneJob, LaneWork},
        rate,
    },
};

/// Changes that are looked at for those behind before live ones get their turn again: a few milliseconds.
const CATCH_UP_CHANGES: usize = 1024;
/// Of these, for one subscription.
const SLICE_CHANGES: usize = 512;
/// A change of so many bytes counts as two, and so on: what it takes to write one goes by its size.
const CHANGE_BYTES: usize = 1024;

impl RouterCore {
    pub(super) fn fall_behind(&mut self, key: usize, position: Position) {
        if let Some(active) = self.active.get_mut(key) {
            if active.behind.is_none() {
                self.metrics.lags.add(1);
                self.behind.push_back(SubscriptionKey { place: key, number: active.number });
            }
            active.behind = Some(active.behind.map_or(position, |behind| behind.min(position)));
        }
    }

    /// Finds the members that began to lag where the router did not see it: in the database lane.
    pub(in crate::router) fn notice_lagging(&mut self) {
        let lags = self.active.iter().filter(|(_, active)| active.behind.is_none());
        let lags: Vec<_> = lags.filter_map(|(key, active)| Some((key, active.subscription.member.lag()?))).collect();
        for (key, position) in lags {
            self.fall_behind(key, position);
        }
    }

    /// Serves those who are behind from the backlog, a bounded slice of it; the rest is work for the database lane.
    /// Those who need the lane wait until it has room: it would only turn them down again.
    pub(in crate::router) fn catch_up(&mut self, lane_has_room: bool, basis: Basis<'_>) -> Vec<LaneJob> {
        let mut jobs = Vec::new();
        let mut budget = CATCH_UP_CHANGES;
        for _ in 0..self.behind.len() {
            let Some(key) = self.behind.pop_front() else { break };
            let Some(place) = self.place(key) else { continue };
            if budget == 0 {
                self.behind.push_front(key);
                break;
            }
            let waits = !lane_has_room && self.active.get(place).is_some_and(|active| active.compiled.needs_database);
            if waits && let Some(active) = self.active.get_mut(place) {
                active.pause.goes_on(self.look.now);
            }
            if waits || self.serve_slice(place, &mut budget, &mut jobs, basis) {
                self.behind.push_back(key);
            }
        }
        self.tell_waiting_onlookers();
        jobs
    }

    /// The transaction that is being routed, while it had better not go on: somebody who reads fast would lose his place in
    /// the backlog.
    pub(in crate::router) fn pressed(&self, now: i64) -> Option<Lsn> {
        let transaction = self.open?;
        let edge = self.backlog.edge()?;
        let is_pressed = |key: &SubscriptionKey| {
            let active = self.place(*key).and_then(|place| self.active.get(place));
            active.is_some_and(|active| {
                let is_near = active.behind.is_some_and(|behind| behind < edge);
                is_near && active.reading.is_fast(now)
            })
        };
        self.behind.iter().any(is_pressed).then_some(transaction)
    }

    /// Serves one subscription; whether it is still behind.
    fn serve_slice(&mut self, key: usize, budget: &mut usize, jobs: &mut Vec<LaneJob>, basis: Basis<'_>) -> bool {
        let Some(active) = self.active.get_mut(key) else { return false };
        let member = active.subscription.member.clone();
        if member.is_ended() {
            return false;
        }
        // What the lane still has of before the lag is delivered first, in its place.
        let is_over_rate = rate::waits(&member) && rate::is_over(&self.config.meters);
        if is_over_rate || !member.has_drained() || (member.lag().is_some() && member.has_on_their_way()) {
            active.pause.goes_on(self.look.now);
            return true;
        }
        if active.pause.wants_look(&mut self.look) {
            return true;
        }
        let Some(mut from) = active.behind else { return false };
        if let Some(lag) = member.lag() {
            from = from.min(lag);
            active.generation = member.resume();
        }
        if self.is_in_doubt() && self.backlog.reaches(from) && self.depends_on_doubtful(&self.active[key]) {
            // Served by the rights of now, when these can be known.
            self.active[key].behind = Some(from);
            return true;
        }
        self.active[key].behind = None;
        let active = &self.active[key];
        let Some(fragments) = self.backlog.from(from) else {
            self.miss(key, refusal::BACKLOG_TOO_SHORT);
            return false;
        };
        let mut maps = ColumnMaps::default();
        let mut left = SLICE_CHANGES.min(*budget);
        let mut stopped = None;
        let mut is_unreadable = false;
        'fragments: for fragment in fragments {
            let mut work = Vec::new();
            for (at, change) in fragment.changes.iter().enumerate() {
                let position = fragment.position(change);
                if position < from {
                    continue;
                }
                if left == 0 {
                    stopped = Some(position);
                    jobs.extend(self.job(fragment, work, Vec::new()));
                    break 'fragments;
                }
                let subscription = active.compiled.tables.get(&change.relation.oid);
                let cost = 1 + subscription.map_or(0, |_| change.bytes() / CHANGE_BYTES);
                left = left.saturating_sub(cost);
                *budget = budget.saturating_sub(cost);
                let Some(subscription) = subscription else { continue };
                let table = &subscription.table;
                let Some(map) = maps.of(table, &change.relation) else {
                    is_unreadable = true;
                    break 'fragments;
                };
                let Some(images) = Images::of(change, &map) else { continue };
                let is = |column| images.is.get(column);
                let old = images.was;
                let was = old.as_ref().map(|old: &Image<'_>| move |column| old.get(column));
                let judgement = Judgement::new(&is, was.as_ref().map(|was| was as _), basis);
                let subject = Subject { fragment, change, table, map: &map };
                let mut offer = Offer { subject, images, rendering: self.rendering(subject), judgement };
                match self.offer(&mut offer, active, subscription, subscription.bindings.iter()) {
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
            jobs.extend(self.job(fragment, work, Vec::new()));
        }
        if is_unreadable {
            self.metrics.hidden_absent.add(1);
            self.miss(key, refusal::COLUMNS_RENAMED);
            return false;
        }
        let active = &mut self.active[key];
        active.behind = stopped;
        active.reading.take_in(SLICE_CHANGES.saturating_sub(left), basis.now);
        stopped.is_some()
    }
}
