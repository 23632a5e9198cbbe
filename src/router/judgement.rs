//! `Judgement`: what compiled policies say of one change. Its images are read once for each policy, and each list of
//! arguments is answered once, however many subscribers share it. Pure.

use super::bound::Bound;
use crate::{
    change::Datum,
    policy::{
        catalog::{ColumnIndex, CompiledPolicy},
        lookup::Lookups,
        program::{Probe, Row, Verdict},
    },
};
use std::{collections::HashMap, ptr};

/// How an image's columns are read.
pub(super) type Columns<'a> = dyn Fn(ColumnIndex) -> &'a Datum + 'a;

/// Which image of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The new row, or with DELETE the old one.
    Is,
    /// The old row of an UPDATE.
    Was,
}

/// By what a change is judged.
#[derive(Clone, Copy)]
pub(super) struct Basis<'a> {
    /// The rows of other tables.
    pub(super) lookups: &'a Lookups,
    /// What `now()` is, in microseconds since 2000-01-01 UTC.
    pub(super) now: i64,
    /// What it is for the old image: another moment only where time is what changed.
    pub(super) was_now: i64,
}

impl<'a> Basis<'a> {
    /// One moment for both images.
    pub(super) fn at(now: i64, lookups: &'a Lookups) -> Basis<'a> {
        Basis { lookups, now, was_now: now }
    }

    fn moment(&self, side: Side) -> i64 {
        match side {
            Side::Is => self.now,
            Side::Was => self.was_now,
        }
    }
}

/// One change, judged.
pub(super) struct Judgement<'a> {
    is: &'a Columns<'a>,
    was: Option<&'a Columns<'a>>,
    basis: Basis<'a>,
    /// By policy; there are as many as roles that subscribe.
    rows: Vec<Rows<'a>>,
    /// The answers for the arguments that were asked about first, who mostly are the only ones ...
    first: Option<(*const Bound, Verdicts)>,
    /// ... and for all others.
    others: HashMap<*const Bound, Verdicts>,
}

struct Rows<'a> {
    policy: &'a CompiledPolicy,
    is: Row<'a>,
    was: Option<Row<'a>>,
}

#[derive(Clone, Copy, Default)]
struct Verdicts {
    is: Option<Verdict>,
    was: Option<Verdict>,
}

impl<'a> Judgement<'a> {
    /// A change with this image to be judged and, if it was logged whole, the row before an UPDATE.
    pub(super) fn new(is: &'a Columns<'a>, was: Option<&'a Columns<'a>>, basis: Basis<'a>) -> Judgement<'a> {
        Judgement { is, was, basis, rows: Vec::new(), first: None, others: HashMap::new() }
    }

    /// Whose keys may let the image through; none when there is no such image.
    pub(super) fn probe(&mut self, policy: &'a CompiledPolicy, side: Side, limit: usize) -> Option<Vec<Probe>> {
        let (lookups, now) = (self.basis.lookups, self.basis.moment(side));
        let row = self.rows(policy).side(side)?;
        Some(policy.program.probe(row, lookups, now, limit))
    }

    /// What the policy says of an image for these arguments. An image that is not there lacks everything.
    pub(super) fn verdict(&mut self, bound: &'a Bound, side: Side) -> Verdict {
        if let Some(verdict) = self.verdicts(bound).side(side) {
            return verdict;
        }
        let (lookups, now) = (self.basis.lookups, self.basis.moment(side));
        let row = self.rows(&bound.policy).side(side);
        let judge = |row| bound.policy.program.judge(&bound.arguments, row, lookups, now);
        let verdict = row.map_or(Verdict::Absent, judge);
        let known = self.verdicts(bound);
        match side {
            Side::Is => known.is = Some(verdict),
            Side::Was => known.was = Some(verdict),
        }
        verdict
    }

    fn verdicts(&mut self, bound: &Bound) -> &mut Verdicts {
        let address = ptr::from_ref(bound);
        let (first, verdicts) = self.first.get_or_insert((address, Verdicts::default()));
        if *first == address { verdicts } else { self.others.entry(address).or_default() }
    }

    /// How many answers have been computed.
    #[cfg(test)]
    pub(super) fn computed(&self) -> usize {
        let known = self.first.iter().map(|(_, known)| known).chain(self.others.values());
        known.map(|known| usize::from(known.is.is_some()) + usize::from(known.was.is_some())).sum()
    }

    fn rows(&mut self, policy: &'a CompiledPolicy) -> &Rows<'a> {
        let at = self.rows.iter().position(|rows| ptr::eq(rows.policy, policy)).unwrap_or_else(|| {
            let program = &policy.program;
            let was = self.was.map(|was| program.row(was));
            self.rows.push(Rows { policy, is: program.row(self.is), was });
            self.rows.len() - 1
        });
        &self.rows[at]
    }
}

impl<'a> Rows<'a> {
    fn side(&self, side: Side) -> Option<&Row<'a>> {
        match side {
            Side::Is => Some(&self.is),
            Side::Was => self.was.as_ref(),
        }
    }
}

impl Verdicts {
    fn side(self, side: Side) -> Option<Verdict> {
        match side {
            Side::Is => self.is,
            Side::Was => self.was,
        }
    }
}
