//! Tables of which nobody can say now who may see their rows: something was done to them, and the catalogue cannot be read
//! behind it. Whoever subscribes to one, or is judged by its rows, lags from there on and is served when it has been read:
//! by the rights of now, or with word of a gap where the backlog has become too short.

use super::{Active, RouterCore};
use crate::{
    change::{Fragment, position::Position},
    policy::catalog::Catalog,
};

impl RouterCore {
    /// From the fragment on that is routed next, nobody can say who may see the rows of a table.
    pub(in crate::router) fn doubt(&mut self, table: u32) {
        self.doubtful.insert(table);
    }

    /// The catalogue has been read behind all that was in doubt.
    pub(in crate::router) fn trust(&mut self) {
        self.doubtful.clear();
    }

    /// Whether a table is in doubt.
    pub(in crate::router) fn is_in_doubt(&self) -> bool {
        !self.doubtful.is_empty()
    }

    /// Lets whom a table in doubt concerns lag from the first change of a fragment on.
    pub(super) fn hold_doubtful(&mut self, fragment: &Fragment) {
        let Some(first) = fragment.changes.first().filter(|_| self.is_in_doubt()) else { return };
        let position = fragment.position(first);
        let held: Vec<(usize, Position)> = self
            .active
            .iter()
            .filter(|(_, active)| active.behind.is_none() && self.depends_on_doubtful(active))
            // Who begins behind a transaction begins behind all of it.
            .filter(|(_, active)| position >= active.subscription.start)
            .map(|(place, _)| (place, position))
            .collect();
        for (place, position) in held {
            if let Some(active) = self.active.get(place) {
                active.subscription.member.lag_from(active.generation, position);
            }
            self.fall_behind(place, position);
        }
    }

    /// Whether a table in doubt concerns a subscription.
    pub(super) fn depends_on_doubtful(&self, active: &Active) -> bool {
        self.doubtful.iter().any(|table| {
            let is_judged_by = || active.compiled.looked_up().any(|(lookup, _)| lookup == *table);
            // Of a table the catalogue does not know yet nobody can say whose it will be.
            let Catalog { tables, lookups, message_tables, .. } = &*self.catalog;
            let is_unknown =
                || !tables.contains_key(table) && !lookups.contains_key(table) && !message_tables.contains(table);
            active.compiled.tables.contains_key(table) || is_judged_by() || is_unknown()
        })
    }
}
