//! Rows that enter or leave because time passes, for those who opted in: nothing in the stream says so, so each is judged
//! just before and just after its moment.

use super::{
    RouterCore,
    deliver::{ColumnMaps, Offer, Subject},
};
use crate::{
    change::{Change, Fragment, OldRow, Operation, cursor::Beside, position::Era, relation::ReplicaIdentity},
    hub::Delivery,
    lsn::Lsn,
    policy::{catalog::Table, facts::Carried, lookup::Lookups, program::Moment},
    router::{
        deadlines::{Due, Refill, Refilled, Ticket},
        image::Images,
        judgement::{Basis, Judgement},
        matching::{Wanted, messages},
        rate,
        render::Extent,
        sight::Seen,
    },
};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

impl RouterCore {
    /// The next moment at which time changes what somebody sees, between two transactions.
    pub(in crate::router) fn next_deadline(&self) -> Option<i64> {
        self.deadlines.next().filter(|_| self.open.is_none())
    }

    /// What the database must be asked for, so that no moment is missed.
    pub(in crate::router) fn refills(&mut self, now: i64) -> Vec<Refill> {
        if std::mem::take(&mut self.watchers_changed) {
            let timed = self.timed_tables();
            self.deadlines.watch(timed);
        }
        self.metrics.rows_beyond_deadlines.add(self.deadlines.take_beyond());
        self.deadlines.refills(now)
    }

    /// Takes in what the database said; none when it could not be asked.
    pub(in crate::router) fn refilled(&mut self, ticket: Ticket, answer: Option<Refilled>, now: i64) {
        self.deadlines.refilled(ticket, answer, now);
    }

    /// Tells of all rows whose moment has come.
    pub(in crate::router) fn pass_time(&mut self, now: i64, lookups: &Lookups) {
        for due in self.deadlines.due(now) {
            self.pass(&due, lookups);
        }
    }

    /// The tables of which somebody hears when time changes what he sees, and the moments that count there.
    fn timed_tables(&self) -> HashMap<u32, (Arc<Table>, BTreeSet<Moment>)> {
        let mut timed: HashMap<u32, (Arc<Table>, BTreeSet<Moment>)> = HashMap::new();
        for (_, active) in self.active.iter().filter(|(_, active)| active.subscription.visibility) {
            for (oid, subscription) in &active.compiled.tables {
                let Some(bound) = &subscription.bound else { continue };
                let moments = &bound.policy.program.moments;
                if !moments.is_empty() && self.has_all_changes(&subscription.table) {
                    let entry = timed.entry(*oid).or_insert_with(|| (subscription.table.clone(), BTreeSet::new()));
                    entry.1.extend(moments);
                }
            }
        }
        timed
    }

    /// Whether the stream says of every row of a table what becomes of it, by its primary key: else rows would be told
    /// of that are gone, or that the publication leaves out.
    fn has_all_changes(&self, table: &Table) -> bool {
        self.catalog.facts.tables.get(&table.oid).is_some_and(|facts| {
            let is_found_by_key = facts.replica_identity == ReplicaIdentity::Full
                || (!facts.identity.is_empty()
                    && table.primary_key.iter().all(|column| facts.identity.contains(column))
                    && facts.identity.iter().all(|column| table.primary_key.contains(column)));
            facts.is_ordinary && facts.carried == Carried::Main && is_found_by_key
        })
    }

    /// Tells of a row whose moment has come.
    fn pass(&mut self, due: &Due, lookups: &Lookups) {
        let Some(table) = self.catalog.tables.get(&due.relation.oid).cloned() else { return };
        // As an update would be that changes nothing: before and after differ by the time alone.
        let change = Change {
            operation: Operation::Update,
            relation: due.relation.clone(),
            old: Some(OldRow { whole: true, row: due.row.clone() }),
            new: Some(due.row.clone()),
            ordinal: 0,
        };
        let fragment = Fragment {
            era: Era::default(),
            beside: Beside::UNKNOWN,
            xid: 0,
            commit_lsn: Lsn(u64::MAX),
            commit_time: due.at,
            changes: Vec::new(),
            end_lsn: None,
        };
        let Some(map) = ColumnMaps::default().of(&table, &change.relation) else { return };
        let Some(images) = Images::of(&change, &map) else { return };
        let column = |column| images.is.get(column);
        let basis = Basis { lookups, now: due.at.saturating_add(1), was_now: due.at.saturating_sub(1) };
        let judgement = Judgement::new(&column, Some(&column), basis);
        let subject = Subject { fragment: &fragment, change: &change, table: &table, map: &map };
        let mut offer = Offer { subject, images, rendering: self.rendering(subject), judgement };
        let entries = self.index.candidates(table.oid, &images, &mut offer.judgement, false);
        let mut untold = Vec::new();
        for group in entries.chunk_by(|a, b| a.subscription == b.subscription) {
            let key = group[0].subscription;
            let Some(active) = self.active.get(key).filter(|active| active.subscription.visibility) else { continue };
            let Some(subscription) = active.compiled.tables.get(&table.oid) else { continue };
            let bindings = group.iter().filter_map(|entry| subscription.bindings.get(entry.binding));
            let wanted = bindings.filter_map(|binding| Wanted::of(binding, Operation::Update, &images, true));
            let wanted: Vec<Wanted> = wanted.collect();
            if wanted.is_empty() {
                continue;
            }
            let Some(sights) = self.sights(&mut offer, active, subscription) else { continue };
            let seen = Seen { change: &change, rows: &subscription.rows, strict_deletes: true, sights };
            let told = wanted.iter().filter_map(|wanted| {
                let extent = wanted.told(&seen, wanted.filter)?;
                matches!(extent, Extent::Entered | Extent::Left).then_some((&*wanted.binding, extent))
            });
            let told: Vec<_> = told.collect();
            if told.is_empty() {
                continue;
            }
            let member = &active.subscription.member;
            let is_over = rate::is_over(&self.config.meters);
            if is_over && !rate::waits(member) {
                rate::skip(&self.metrics, member);
                continue;
            }
            // What is behind has no place for it, and nobody could serve it again: he is told to fetch.
            if is_over
                || active.behind.is_some()
                || member.lag().is_some()
                || member.has_on_their_way()
                || !member.has_drained()
            {
                untold.push(key);
                continue;
            }
            // It is in no log: whoever comes back stands where he stood, which may be ahead of what has come so far.
            let position = self.stand(active);
            let cursor = self.cursor_of(active);
            let frames = messages(&mut offer.rendering, member, &told, |_, _| cursor);
            let count = frames.len();
            match member.deliver_change(active.generation, position, frames) {
                Delivery::Queued => {
                    self.metrics.deliveries.add(count);
                    rate::count(&self.config.meters, told.len());
                }
                Delivery::Lagging => untold.push(key),
                Delivery::Dropped => {}
            }
        }
        for key in untold {
            self.tell_later(key, table.oid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        change::{cursor::Cursor, position::Position},
        hub::MessageForm,
        policy::{
            expr::Expr,
            functions::{CollationUse, Function},
            value::Value,
        },
        router::fixture::{Asked, NONE, compiled, core, relation, row},
    };

    /// From the hundredth microsecond on.
    static LATE: Function = Function {
        name: "late",
        may_fail: false,
        is_strict: true,
        collation: CollationUse::None,
        is_hash_equality: false,
        needs_utc: false,
        eval: |arguments, _| Ok(Value::Bool(matches!(arguments[0], Value::Moment(now) if now >= 100))),
    };

    #[test]
    fn who_came_back_ahead_of_what_has_come_keeps_his_place_when_time_shows_him_a_row() {
        let mut core = core(compiled(Expr::Call(&LATE, vec![Expr::Now])));
        let asked = Asked { visibility: true, form: MessageForm::Resumable, ..Asked::default() };
        let (mut subscription, mut client) = asked.subscription();
        subscription.start = Position::before(0, Lsn(50));
        core.subscribe(subscription, NONE).unwrap();
        client.heard();
        core.pass(&Due { at: 100, row: row("1 alice a x"), relation: relation() }, &Lookups::default());
        let changes = client.changes();
        let cursor: Cursor = changes[0].1["cursor"].as_str().unwrap().parse().unwrap();
        assert_eq!(cursor.commit_lsn, Lsn(50), "{changes:?}");
    }
}
