//! Whom a change of rights concerns that changes no row he is shown: those who opted in hear of it, once a transaction
//! and table, and fetch again. A client that is slow hears it once for many such changes.

use super::{Compiled, RouterCore};
use crate::{
    change::position::Position,
    policy::catalog::Table,
    router::{SubscriptionKey, notices::tell_rights_changed},
};
use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
};

/// Subscriptions that hear of changes of rights, by the table that is looked into.
#[derive(Default)]
pub(super) struct Onlookers {
    by_lookup: HashMap<u32, BTreeSet<usize>>,
    /// Who is still to be told, and of which table: there was no room.
    waiting: HashSet<(SubscriptionKey, u32)>,
    /// Which tables that are looked into changed where, for whoever comes back: what he sees may be other rows by now.
    changed: VecDeque<(Position, BTreeSet<u32>)>,
    /// Since when these are known; none before anybody could have left.
    changed_since: Option<Position>,
}

/// Changes of rights that are remembered for whoever comes back.
const REMEMBERED: usize = 1024;

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

    /// Somebody begins here, and may come back.
    pub(super) fn begin(&mut self, start: Position) {
        self.changed_since.get_or_insert(start);
    }

    /// Positions of before mean nothing any more.
    pub(super) fn begin_anew(&mut self) {
        self.changed.clear();
        self.changed_since = None;
    }

    fn remember(&mut self, at: Position, lookups: &BTreeSet<u32>) {
        if self.changed_since.is_none() || lookups.is_empty() {
            return;
        }
        self.changed.push_back((at, lookups.clone()));
        if self.changed.len() > REMEMBERED
            && let Some((oldest, _)) = self.changed.pop_front()
        {
            self.changed_since = Some(oldest);
        }
    }

    /// Whether a table may have changed behind a position, or right before it: whoever was given the last change of that
    /// transaction may not have heard of the rights that changed with it.
    fn has_changed(&self, lookup: u32, since: Position) -> bool {
        self.changed_since.is_none_or(|known| since < known)
            || self.changed.iter().any(|(at, lookups)| *at >= since && lookups.contains(&lookup))
    }

    /// Whether somebody is still to be told.
    pub(super) fn wait(&self) -> bool {
        !self.waiting.is_empty()
    }
}

impl RouterCore {
    /// A transaction has changed rows of these tables, which policies look into.
    pub(in crate::router) fn rights_changed(&mut self, lookups: impl IntoIterator<Item = u32>) {
        let lookups: BTreeSet<u32> = lookups.into_iter().collect();
        self.onlookers.remember(self.head, &lookups);
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

    /// Has a subscription that comes back told of the tables of which it may see other rows now: because of others, which
    /// changed meanwhile, or because of the time, which nobody wrote down.
    pub(super) fn tell_of_absence(&mut self, place: usize, since: Position) {
        let Some(active) = self.active.get(place).filter(|active| active.subscription.visibility) else { return };
        let by_lookups = active.compiled.looked_up().filter(|(lookup, _)| self.onlookers.has_changed(*lookup, since));
        let timed = active.compiled.tables.values().filter(|table| table.is_timed()).map(|table| &table.table);
        let tables: BTreeSet<u32> = by_lookups.map(|(_, table)| table).chain(timed).map(|table| table.oid).collect();
        for table in tables {
            self.tell_later(place, table);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsn::Lsn;

    #[test]
    fn who_was_given_the_last_change_of_a_transaction_hears_of_the_rights_that_changed_with_it() {
        let at = |lsn| Position::before(1, Lsn(lsn));
        let mut onlookers = Onlookers::default();
        onlookers.begin(at(1));
        onlookers.remember(at(5), &BTreeSet::from([7]));
        let changed = [4, 5, 6].map(|since| onlookers.has_changed(7, at(since)));
        assert_eq!(changed, [true, true, false]);
    }
}
