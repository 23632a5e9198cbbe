//! Live changes → those who may see them. What the process knows is delivered at once; the rest is work for the lane.

use super::{Active, RouterCore};
use crate::{
    change::{Change, Fragment, Operation, position::Position, relation::Relation},
    hub::{Delivery, OnItsWay},
    messages::may_be_message_table,
    policy::{
        catalog::{RowRule, Table},
        program::Verdict,
    },
    router::{
        image::{Image, Images, column_map},
        judgement::{Basis, Judgement, Side},
        lane_job::{Candidate, LaneJob, LaneMessage, LaneWork},
        matching::{Wanted, is_bare_key_delete, messages},
        notices::tell_failed,
        rate::{self, Allowed},
        render::Rendering,
        sight::{Seen, Sight, Sights},
        subscription::{TableBinding, TableSubscription},
    },
};
use std::{collections::HashMap, sync::Arc};

/// What became of an offer.
pub(super) enum Offered {
    /// It is delivered, or not for him.
    Done,
    /// The database decides.
    Lane(Candidate),
    /// There was no room.
    Lagging,
}

/// A change and where its table's columns stand in it.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) fragment: &'a Fragment,
    pub(super) change: &'a Change,
    pub(super) table: &'a Table,
    pub(super) map: &'a [Option<usize>],
}

/// A change on its way to subscribers: what has been rendered and decided of it already.
pub(super) struct Offer<'a> {
    pub(super) subject: Subject<'a>,
    pub(super) images: Images<'a>,
    pub(super) rendering: Rendering<'a>,
    pub(super) judgement: Judgement<'a>,
}

/// Where relations have the columns of their tables: for each table the last answer, which mostly is the next one, too.
#[derive(Default)]
pub(super) struct ColumnMaps(HashMap<u32, KnownMap>);

struct KnownMap {
    table: Arc<Table>,
    relation: Arc<Relation>,
    map: Option<Arc<[Option<usize>]>>,
}

impl ColumnMaps {
    /// None when the relation is of a time when columns had the names of others: nothing is known of its rows.
    pub(super) fn of(&mut self, table: &Arc<Table>, relation: &Arc<Relation>) -> Option<Arc<[Option<usize>]>> {
        let known = self.0.get(&table.oid);
        if let Some(known) = known.filter(|known| Arc::ptr_eq(&known.table, table))
            && Arc::ptr_eq(&known.relation, relation)
        {
            return known.map.clone();
        }
        let map: Option<Arc<[Option<usize>]>> = column_map(table, relation).map(Into::into);
        let known = KnownMap { table: table.clone(), relation: relation.clone(), map: map.clone() };
        self.0.insert(table.oid, known);
        map
    }
}

impl RouterCore {
    /// Delivers a fragment to those whose rights the process knows; the rest is work for the database lane. Live
    /// changes are judged as of their commit. New messages of the database are said in their rooms in their place among
    /// the changes; only here, so that what is served again from the backlog is not said again.
    pub(in crate::router) fn route(&mut self, fragment: &Arc<Fragment>, basis: Basis<'_>) -> Option<LaneJob> {
        let fragment = &self.without_lost(fragment);
        let mut maps = std::mem::take(&mut self.maps);
        let mut work = Vec::new();
        let mut postponed = Vec::new();
        let mut lagging = Vec::new();
        self.metrics.changes.add(fragment.changes.len());
        self.compare_awaited(fragment);
        self.hold_doubtful(fragment);
        self.backlog.push(fragment.clone());
        self.open = fragment.end_lsn.is_none().then_some(fragment.commit_lsn);
        self.head = self.head.max(fragment.end());
        for (at, change) in fragment.changes.iter().enumerate() {
            self.deadlines.note(change, fragment.xid, basis.now);
            if self.catalog.message_tables.contains(&change.relation.oid) {
                let message = self.messages.publish(change, fragment.commit_lsn);
                postponed.extend(message.map(|postponed| LaneMessage { change: at, postponed }));
            } else if may_be_message_table(&change.relation) {
                // The catalogue could not be read since it was made: nobody is told, and that is said.
                self.metrics.messages_lost.add(1);
            }
            if change.operation == Operation::Truncate || !self.index.has(change.relation.oid) {
                continue;
            }
            let Some(table) = self.catalog.tables.get(&change.relation.oid).cloned() else { continue };
            let Some(map) = maps.of(&table, &change.relation) else {
                self.leave_unread(table.oid, fragment.position(change), &mut lagging);
                continue;
            };
            let subject = Subject { fragment, change, table: &table, map: &map };
            let candidates = self.route_change(subject, basis, &mut lagging);
            if !candidates.is_empty() {
                work.push(LaneWork { change: at, table, map, candidates });
            }
        }
        self.maps = maps;
        for (key, position) in lagging {
            self.fall_behind(key, position);
        }
        self.job(fragment, work, postponed)
    }

    pub(super) fn job(
        &self,
        fragment: &Arc<Fragment>,
        work: Vec<LaneWork>,
        messages: Vec<LaneMessage>,
    ) -> Option<LaneJob> {
        let (fragment, catalog) = (fragment.clone(), self.catalog.clone());
        let has_work = !work.is_empty() || !messages.is_empty();
        has_work.then_some(LaneJob { fragment, catalog, work, messages, cursors: Vec::new() })
    }

    fn route_change(
        &self,
        subject: Subject<'_>,
        basis: Basis<'_>,
        lagging: &mut Vec<(usize, Position)>,
    ) -> Vec<Candidate> {
        let Subject { fragment, change, table, map } = subject;
        let Some(images) = Images::of(change, map) else { return Vec::new() };
        let is = |column| images.is.get(column);
        let old = images.was;
        let was = old.as_ref().map(|old: &Image<'_>| move |column| old.get(column));
        let judgement = Judgement::new(&is, was.as_ref().map(|was| was as _), basis);
        let mut offer = Offer { subject, images, rendering: self.rendering(subject), judgement };
        let is_public_key = is_bare_key_delete(change) && !self.config.strict_deletes;
        let entries = self.index.candidates(table.oid, &images, &mut offer.judgement, is_public_key);
        let mut lane = Vec::new();
        for group in entries.chunk_by(|a, b| a.subscription == b.subscription) {
            let key = group[0].subscription;
            let Some(active) = self.active.get(key).filter(|active| active.behind.is_none()) else { continue };
            let Some(subscription) = active.compiled.tables.get(&table.oid) else { continue };
            let bindings = group.iter().filter_map(|entry| subscription.bindings.get(entry.binding));
            match self.offer(&mut offer, active, subscription, bindings) {
                Offered::Done => {}
                Offered::Lane(candidate) => lane.push(candidate),
                Offered::Lagging => lagging.push((key, fragment.position(change))),
            }
        }
        lane
    }

    /// A row of a time when columns had the names of others: those of its table lag there, and hear of it when they are served.
    fn leave_unread(&self, table: u32, position: Position, lagging: &mut Vec<(usize, Position)>) {
        for (key, active) in &self.active {
            let is_told = active.compiled.tables.contains_key(&table) && position >= active.subscription.start;
            if is_told && active.behind.is_none() {
                active.subscription.member.lag_from(active.generation, position);
                lagging.push((key, position));
            }
        }
    }

    pub(super) fn rendering<'a>(&'a self, subject: Subject<'a>) -> Rendering<'a> {
        let Subject { fragment, change, table, map } = subject;
        let limit = self.config.max_record_bytes;
        Rendering::new(change, table, map, &self.catalog.types, fragment.commit_time, limit)
    }

    /// Offers a change to one subscription, for those of these bindings that match.
    pub(super) fn offer<'a>(
        &self,
        offer: &mut Offer<'a>,
        active: &'a Active,
        subscription: &'a Arc<TableSubscription>,
        bindings: impl Iterator<Item = &'a Arc<TableBinding>>,
    ) -> Offered {
        let Subject { fragment, change, .. } = offer.subject;
        if fragment.position(change) < active.subscription.start {
            return Offered::Done;
        }
        let tells_moves = subscription.tells_moves;
        let wanted = bindings.filter_map(|binding| Wanted::of(binding, change.operation, &offer.images, tells_moves));
        let wanted: Vec<Wanted> = wanted.collect();
        if wanted.is_empty() {
            return Offered::Done;
        }
        let member = &active.subscription.member;
        let sights = self.sights(offer, active, subscription);
        // What the lane still has of before must not be overtaken.
        if active.compiled.needs_database || member.has_on_their_way() {
            return Offered::Lane(Candidate {
                member: OnItsWay::new(member),
                generation: active.generation,
                claims: active.subscription.claims.clone(),
                subscription: subscription.clone(),
                bindings: wanted,
                sights,
            });
        }
        let Some(sights) = sights else { return Offered::Done };
        let strict_deletes = self.config.strict_deletes;
        let seen = Seen { change, rows: &subscription.rows, strict_deletes, sights };
        if seen.is_hidden_by_absence() {
            self.metrics.hidden_absent.add(1);
        }
        let told = wanted.iter().filter_map(|wanted| {
            let extent = wanted.told(&seen, wanted.filter)?;
            Some((&*wanted.binding, extent))
        });
        let told: Vec<_> = told.collect();
        if told.is_empty() {
            return Offered::Done;
        }
        let position = fragment.position(change);
        match rate::allowed(&self.config.meters, &self.metrics, member, active.generation, position) {
            Allowed::Now => {}
            Allowed::Later => return Offered::Lagging,
            Allowed::Never => return Offered::Done,
        }
        let cursor = |given, of| fragment.cursor(change, given, of);
        let frames = messages(&mut offer.rendering, member, &told, cursor);
        let count = frames.len();
        match member.deliver_change(active.generation, position, frames) {
            Delivery::Queued => {
                self.metrics.deliveries.add(count);
                rate::count(&self.config.meters, told.len());
            }
            Delivery::Lagging => return Offered::Lagging,
            Delivery::Dropped => {}
        }
        Offered::Done
    }

    /// His rights to both images, where the process knows them.
    pub(super) fn sights<'a>(
        &self,
        offer: &mut Offer<'a>,
        active: &Active,
        subscription: &'a TableSubscription,
    ) -> Option<Sights> {
        let has_old = offer.images.was.is_some();
        let known =
            |sees: bool| Sights { is: Sight::of(sees), was: if has_old { Sight::of(sees) } else { Sight::Absent } };
        let bound = match (&subscription.rows, &subscription.bound) {
            (RowRule::All, _) => return Some(known(true)),
            (RowRule::None, _) => return Some(known(false)),
            (RowRule::Compiled(_), Some(bound)) => bound,
            (RowRule::Compiled(_) | RowRule::Database(_), _) => return None,
        };
        let mut sight = |side| {
            let verdict = offer.judgement.verdict(bound, side);
            self.note_undecided(verdict, active, &subscription.table);
            Sight::of_verdict(verdict)
        };
        let is = sight(Side::Is);
        // What was seen before matters to those who see it now, and to those who hear of what leaves.
        let is_asked = has_old && (is == Sight::Seen || subscription.tells_moves);
        Some(Sights { is, was: if is_asked { sight(Side::Was) } else { Sight::Absent } })
    }

    /// A row that could not be decided is hidden, counted, and told once a join.
    fn note_undecided(&self, verdict: Verdict, active: &Active, table: &Table) {
        match verdict {
            Verdict::Yes | Verdict::No | Verdict::Absent => {}
            Verdict::Unsupported => self.metrics.hidden_unsupported.add(1),
            Verdict::Failed(sqlstate) => {
                self.metrics.hidden_error.add(1);
                let Active { subscription, .. } = active;
                tell_failed(&subscription.member, table, &subscription.claims.role, sqlstate);
            }
        }
    }
}
