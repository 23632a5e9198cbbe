//! Whom a change of rights concerns that changes no row he is shown: those who opted in hear of it, once a transaction
//! and table, and fetch again. A client that is slow hears it once for many such changes.

use super::{Compiled, RouterCore};
use crate::{
    policy::catalog::Table,
    router::{SubscriptionKey, notices::tell_rights_changed},
};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

/// Subscriptions that hear of changes of rights, by the table that is looked into.
#[derive(Default)]
pub(super) struct Onlookers {
    by_lookup: HashMap<u32, BTreeSet<usize>>,
    /// Who is still to be told, and of which table: there was no room.
    waiting: HashSet<(SubscriptionKey, u32)>,
}

impl Onlookers {
    pub(super) fn insert(&mut self, place: usize, compiled: &Compiled) {
        for (lookup, _) in compiled.looked_up() {
            self.by_lookup.entry(lookup).or_default().insert(place);
        }
    }

    pub(super) fn remove(&mut self, place: usize, compiled: &Compiled) {
        for (lookup, _) in compiled.looked_up() {
            if let Some(places) = self.by_lookup.get_mut(&lookup) {
                places.remove(&place);
                if places.is_empty() {
                    self.by_lookup.remove(&lookup);
                }
            }
        }
    }

    /// Forgets who looks on, but not who is still to be told.
    pub(super) fn clear(&mut self) {
        self.by_lookup.clear();
    }

    /// Whether somebody is still to be told.
    pub(super) fn wait(&self) -> bool {
        !self.waiting.is_empty()
    }
}

impl RouterCore {
    /// A transaction has changed rows of these tables, which policies look into.
    pub(in crate::router) fn rights_changed(&mut self, lookups: impl IntoIterator<Item = u32>) {
        let mut told: BTreeSet<(usize, u32)> = BTreeSet::new();
        for lookup in lookups {
            for &place in self.onlookers.by_lookup.get(&lookup).into_iter().flatten() {
                let Some(active) = self.active.get(place) else { continue };
                let tables = active.compiled.looked_up().filter(|(looked_up, _)| *looked_up == lookup);
                told.extend(tables.map(|(_, table)| (place, table.oid)));
            }
        }
        for (place, table) in told {
            let Some(active) = self.active.get(place) else { continue };
            let key = SubscriptionKey { place, number: active.number };
            if !self.tell_rights(place, table) {
                self.onlookers.waiting.insert((key, table));
            }
        }
    }

    /// Has a subscription told of a table when there is room.
    pub(super) fn tell_later(&mut self, place: usize, table: u32) {
        if let Some(active) = self.active.get(place) {
            self.onlookers.waiting.insert((SubscriptionKey { place, number: active.number }, table));
        }
    }

    pub(super) fn tell_waiting_onlookers(&mut self) {
        let waiting = std::mem::take(&mut self.onlookers.waiting);
        for (key, table) in waiting {
            let Some(place) = self.place(key) else { continue };
            if !self.tell_rights(place, table) {
                self.onlookers.waiting.insert((key, table));
            }
        }
    }

    /// False while there is no room, or what came before is still to be delivered.
    fn tell_rights(&self, place: usize, table: u32) -> bool {
        let Some(active) = self.active.get(place) else { return true };
        let member = &active.subscription.member;
        if member.is_ended() {
            return true;
        }
        if active.behind.is_some() || !member.has_drained() {
            return false;
        }
        let table: Option<&Arc<Table>> = active.compiled.tables.get(&table).map(|subscription| &subscription.table);
        if let Some(table) = table {
            tell_rights_changed(member, table);
        }
        true
    }
}
