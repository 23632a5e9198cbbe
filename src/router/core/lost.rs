//! What comes of a stream whose publication is gone. From PostgreSQL 18 on it goes on with the next one of that name, as if
//! nothing were missing in between: nobody is told any of it until a new era begins, with the gap that says so.

use super::RouterCore;
use crate::{change::Fragment, lsn::Lsn, messages::may_be_message_table, source::Gap};
use std::sync::Arc;

impl RouterCore {
    /// From this commit on changes of this era may be missing.
    pub(in crate::router) fn lose_rest(&mut self, era: u32, commit_lsn: Lsn) {
        self.lost_from = Some((era, commit_lsn));
    }

    /// The fragment without what comes behind a loss. Messages of the database are of another publication, and in no log
    /// that serves later.
    pub(super) fn without_lost(&self, fragment: &Arc<Fragment>) -> Arc<Fragment> {
        if self.lost_from.is_none_or(|(era, _)| era != fragment.era.number) {
            return fragment.clone();
        }
        let mut rest = Fragment::clone(fragment);
        rest.changes.retain(|change| {
            self.catalog.message_tables.contains(&change.relation.oid) || may_be_message_table(&change.relation)
        });
        Arc::new(rest)
    }

    /// The gap behind that, from where changes are missing.
    pub(super) fn begun_where_lost(&mut self, gap: Gap) -> Gap {
        let lost = self.lost_from.take();
        Gap { old: lost.map_or(gap.old, |(_, from)| gap.old.min(from)), ..gap }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        policy::{catalog::RowRule, lookup::Lookups},
        router::{
            fixture::{Asked, core, insert, transaction},
            judgement::Basis,
        },
        source::GapReason,
    };

    #[test]
    fn behind_a_loss_nothing_of_that_era_is_told_and_the_gap_begins_there() {
        let mut core = core(RowRule::All);
        let mut client = Asked::default().join(&mut core);
        let route = |core: &mut RouterCore, lsn| {
            core.route(&transaction(lsn, vec![insert("1,open")]), Basis::at(0, &Lookups::default()))
        };
        route(&mut core, 10);
        assert_eq!(client.kinds(), ["INSERT"]);
        let era = transaction(20, Vec::new()).era.number;
        core.lose_rest(era, Lsn(20));
        route(&mut core, 20);
        route(&mut core, 30);
        assert!(client.kinds().is_empty());
        let gap = Gap { reason: GapReason::PublicationNew, old: Lsn(30), new: Lsn(40) };
        assert_eq!(core.begun_where_lost(gap.clone()), Gap { old: Lsn(20), ..gap.clone() });
        assert_eq!(core.begun_where_lost(gap.clone()), gap, "once");
        // Of another era it says nothing.
        core.lose_rest(era + 1, Lsn(20));
        route(&mut core, 50);
        assert_eq!(client.kinds(), ["INSERT"]);
    }
}
