//! `RouterCore`: fragments in, deliveries out; the subscriptions and their index. Pure: it waits for nothing.

use super::{
    image::{Image, column_map},
    index::SubscriptionIndex,
    lane_job::{Candidate, LaneJob, LaneWork},
    render::{Extent, Rendering},
    subscription::{Compiled, Subscription, TableBinding, TableSubscription, compile},
};
use crate::{
    change::{Change, Fragment, Operation, relation::Relation},
    claims::Claims,
    metrics::Metrics,
    policy::catalog::{Catalog, RowRule},
    protocol::refusal,
};
use slab::Slab;
use std::{collections::HashMap, sync::Arc};

/// What the operator may choose about deliveries.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whether a DELETE that cannot be judged, because only the key was logged, is kept from everybody.
    pub strict_deletes: bool,
    /// A change whose images take more bytes than this is sent as an error with its small values only.
    pub max_record_bytes: usize,
}

struct Active {
    subscription: Subscription,
    compiled: Compiled,
}

pub(super) struct RouterCore {
    config: Config,
    metrics: Arc<Metrics>,
    catalog: Arc<Catalog>,
    active: Slab<Active>,
    index: SubscriptionIndex,
}

impl RouterCore {
    pub(super) fn new(config: Config, metrics: Arc<Metrics>, catalog: Arc<Catalog>) -> RouterCore {
        RouterCore { config, metrics, catalog, active: Slab::new(), index: SubscriptionIndex::default() }
    }

    pub(super) fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// Starts a subscription: the join's reply if it was held back, what is wrong with bindings, and that the others
    /// are active; then it is entered. A join that waits and has a binding that cannot work is refused with the reason.
    pub(super) fn subscribe(&mut self, mut subscription: Subscription) -> Result<usize, String> {
        let compiled = compile_of(&subscription, &self.catalog);
        if let Some(reply) = subscription.held_reply.take() {
            if let Some(error) = compiled.errors.first() {
                return Err(error.clone());
            }
            subscription.member.deliver(reply);
        }
        let key = self.active.insert(Active { subscription, compiled: Compiled::default() });
        self.install(key, compiled, true);
        Ok(key)
    }

    /// Puts a compiled subscription in the place of the one before, and tells its client what is new about it.
    fn install(&mut self, key: usize, mut compiled: Compiled, is_fresh: bool) {
        self.leave(key);
        let active = &mut self.active[key];
        // What is delivered at once must not overtake what still waits in the lane: once there, always there.
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
        self.enter(key);
    }

    /// Gives a subscription other claims, from the next change on.
    pub(super) fn replace_claims(&mut self, key: usize, claims: Claims) {
        if !self.active.contains(key) {
            return;
        }
        self.active[key].subscription.claims = claims;
        let compiled = compile_of(&self.active[key].subscription, &self.catalog);
        self.install(key, compiled, true);
    }

    pub(super) fn unsubscribe(&mut self, key: usize) {
        if self.active.contains(key) {
            self.leave(key);
            self.active.remove(key);
        }
    }

    /// The stream does not continue what was before: every subscriber hears it, and joins again.
    pub(super) fn announce_gap(&self) {
        for (_, active) in &self.active {
            if active.subscription.member.deliver_system("postgres_changes", false, refusal::STREAM_BEGAN_ANEW) {
                active.subscription.member.fail();
                self.metrics.gaps.add(1);
            }
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
        for key in gone {
            self.unsubscribe(key);
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
        let keys: Vec<usize> = self.active.iter().map(|(key, _)| key).collect();
        for key in keys {
            let compiled = compile_of(&self.active[key].subscription, &self.catalog);
            self.install(key, compiled, false);
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
        let mut maps: HashMap<*const Relation, Arc<[Option<usize>]>> = HashMap::new();
        let mut work = Vec::new();
        self.metrics.changes.add(fragment.changes.len());
        for (at, change) in fragment.changes.iter().enumerate() {
            let relation = &change.relation;
            if change.operation == Operation::Truncate || !self.index.has(relation.oid) {
                continue;
            }
            let Some(table) = self.catalog.tables.get(&relation.oid).cloned() else { continue };
            let map: Arc<[Option<usize>]> =
                maps.entry(Arc::as_ptr(relation)).or_insert_with(|| column_map(&table, relation).into()).clone();
            let candidates = self.route_change(fragment, change, &map);
            if !candidates.is_empty() {
                work.push(LaneWork { change: at, table, map, candidates });
            }
        }
        let fragment = fragment.clone();
        (!work.is_empty()).then(|| LaneJob { fragment, catalog: self.catalog.clone(), work })
    }

    fn route_change(&self, fragment: &Fragment, change: &Change, map: &Arc<[Option<usize>]>) -> Vec<Candidate> {
        let Some(table) = self.catalog.tables.get(&change.relation.oid) else { return Vec::new() };
        let Some(image) = judged_image(change, map) else { return Vec::new() };
        let entries = self.index.candidates(table.oid, |column| image.get(column));
        let mut rendering =
            Rendering::new(change, table, map, &self.catalog.types, fragment.commit_time, self.config.max_record_bytes);
        let mut lane = Vec::new();
        for group in entries.chunk_by(|a, b| a.subscription == b.subscription) {
            let Some(active) = self.active.get(group[0].subscription) else { continue };
            if fragment.commit_lsn < active.subscription.start {
                continue;
            }
            let Some(subscription) = active.compiled.tables.get(&table.oid) else { continue };
            let matching: Vec<Arc<TableBinding>> = group
                .iter()
                .filter_map(|entry| subscription.bindings.get(entry.binding))
                .filter(|binding| matches(binding, change.operation, &image))
                .cloned()
                .collect();
            if matching.is_empty() {
                continue;
            }
            if active.compiled.needs_database {
                lane.push(Candidate {
                    member: active.subscription.member.clone(),
                    claims: active.subscription.claims.clone(),
                    subscription: subscription.clone(),
                    bindings: matching,
                });
            } else {
                self.deliver(&mut rendering, active, subscription, change, &matching);
            }
        }
        lane
    }

    fn deliver(
        &self,
        rendering: &mut Rendering<'_>,
        active: &Active,
        subscription: &TableSubscription,
        change: &Change,
        bindings: &[Arc<TableBinding>],
    ) {
        let extent = match &subscription.rows {
            RowRule::All => Extent::WholeOld,
            // Nobody of this role sees a row; a bare key is told to every subscriber unless that is switched off.
            RowRule::None if is_bare_key_delete(change) && !self.config.strict_deletes => Extent::KeyOnly,
            RowRule::None | RowRule::Database(_) => return,
        };
        deliver_bindings(rendering, &active.subscription.member, change.operation, bindings, extent, &self.metrics);
    }
}

fn compile_of(subscription: &Subscription, catalog: &Catalog) -> Compiled {
    compile(&subscription.bindings, &subscription.claims.role, &subscription.casts, catalog)
}

/// The image filters and policies are tested on: the new row, or with DELETE the old one.
pub(super) fn judged_image<'a>(change: &'a Change, map: &'a [Option<usize>]) -> Option<Image<'a>> {
    let row = match change.operation {
        Operation::Delete => change.old.as_ref().map(|old| &old.row),
        _ => change.new.as_ref(),
    };
    row.map(|row| Image::new(row, map))
}

/// A DELETE of which only the key was logged.
pub(super) fn is_bare_key_delete(change: &Change) -> bool {
    change.operation == Operation::Delete && change.old.as_ref().is_some_and(|old| !old.whole)
}

/// Whether a binding wants the change, as far as the process can tell.
fn matches(binding: &TableBinding, operation: Operation, image: &Image<'_>) -> bool {
    let becomes_error = binding.fault.is_some() && operation != Operation::Delete;
    binding.event.admits(operation) && (becomes_error || binding.filter.eval(&|column| image.get(column)) == Some(true))
}

/// One message a column set, with the ids of all bindings that share it.
pub(super) fn deliver_bindings(
    rendering: &mut Rendering<'_>,
    member: &crate::hub::Member,
    operation: Operation,
    bindings: &[Arc<TableBinding>],
    extent: Extent,
    metrics: &Metrics,
) {
    let extent_of = |binding: &TableBinding| match binding.fault {
        Some(fault) if operation != Operation::Delete => Extent::Fault(fault),
        _ => extent,
    };
    let mut done: Vec<&Arc<TableBinding>> = Vec::new();
    for binding in bindings {
        if done.iter().any(|other| other.columns == binding.columns) {
            continue;
        }
        let same = bindings.iter().filter(|other| other.columns == binding.columns);
        let ids = same.map(|other| other.id).collect();
        done.push(binding);
        if rendering.deliver(member, &binding.columns, extent_of(binding), ids) {
            metrics.deliveries.add(1);
        }
    }
}
