//! What a subscriber may see of a row image, and so what he hears of a change: the one place where a policy's answers
//! become a message or silence, whoever gave them. Pure.
//!
//! ```text
//! sights of the new and the old image ──┬─> plain: INSERT, UPDATE, DELETE, and how much of the old image
//! what the filter says of both ─────────┴─> for those who opted in: UPDATE, entered, left
//! ```

use super::{matching::is_bare_key_delete, render::Extent};
use crate::{
    change::{Change, Operation},
    policy::{catalog::RowRule, program::Verdict},
};

/// Whether a subscriber sees a row image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// He does.
    Seen,
    /// He does not.
    Hidden,
    /// The image lacks what decides it, or there is none.
    Absent,
    /// The policy failed on it. Whoever found out has counted it.
    Failed,
}

impl Sight {
    /// A plain answer.
    pub(super) fn of(sees: bool) -> Sight {
        if sees { Sight::Seen } else { Sight::Hidden }
    }

    /// A program's answer.
    pub(super) fn of_verdict(verdict: Verdict) -> Sight {
        match verdict {
            Verdict::Yes => Sight::Seen,
            Verdict::No => Sight::Hidden,
            Verdict::Absent => Sight::Absent,
            Verdict::Failed(_) | Verdict::Unsupported => Sight::Failed,
        }
    }
}

/// What the row's rights say of both images of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sights {
    /// Of the new row, or with DELETE the old one.
    pub(super) is: Sight,
    /// Of the old row of an UPDATE.
    pub(super) was: Sight,
}

/// What a binding's filter says of both images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Matching {
    /// Of the new row, or with DELETE the old one.
    pub(super) is: bool,
    /// Of the old row of an UPDATE, where entering and leaving are told.
    pub(super) was: Option<bool>,
}

/// A change whose rights are known, for one subscriber.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    /// The change.
    pub(super) change: &'a Change,
    /// Who decided.
    pub(super) rows: &'a RowRule,
    /// Whether a bare key is kept from everybody.
    pub(super) strict_deletes: bool,
    /// What was decided.
    pub(super) sights: Sights,
}

impl Seen<'_> {
    /// What a binding with this filter is told, if anything. Whether it asked for that kind of message, it knows itself.
    pub(super) fn told(&self, filter: Matching) -> Option<Extent> {
        let Sights { is, was } = self.sights;
        let known = matches!(was, Sight::Seen | Sight::Hidden);
        match filter.was.filter(|_| known) {
            Some(matched) => {
                let was = was == Sight::Seen && matched;
                let is = is == Sight::Seen && filter.is;
                match (was, is) {
                    (true, true) => Some(Extent::WholeOld),
                    (true, false) => Some(Extent::Left),
                    (false, true) => Some(Extent::Entered),
                    (false, false) => None,
                }
            }
            // Of an old image nobody knows, neither entering nor leaving can be told.
            None => self.plain().filter(|_| filter.is),
        }
    }

    /// Whether the change is hidden because the image lacks what the policy reads.
    pub(super) fn is_hidden_by_absence(&self) -> bool {
        self.sights.is == Sight::Absent && !self.is_public_key()
    }

    /// A bare key cannot be judged: by default every subscriber hears of it, as of the server we replace.
    fn is_public_key(&self) -> bool {
        !self.strict_deletes && is_bare_key_delete(self.change)
    }

    fn plain(&self) -> Option<Extent> {
        match self.sights.is {
            Sight::Seen => {}
            Sight::Absent => return self.is_public_key().then_some(Extent::KeyOnly),
            // Nobody of this role sees a row; its key is as public as any.
            Sight::Hidden => {
                return (matches!(self.rows, RowRule::None) && self.is_public_key()).then_some(Extent::KeyOnly);
            }
            Sight::Failed => return None,
        }
        if self.change.operation != Operation::Update {
            return Some(Extent::WholeOld);
        }
        let old_is_whole = self.change.old.as_ref().is_some_and(|old| old.whole);
        Some(match (self.sights.was == Sight::Seen, old_is_whole) {
            (true, _) => Extent::WholeOld,
            (false, false) if matches!(self.rows, RowRule::All) => Extent::WholeOld,
            // A key-only old image under row level security is as public as that of a DELETE.
            (false, false) if !self.strict_deletes => Extent::KeyOnly,
            (false, _) => Extent::NewKey,
        })
    }
}

#[cfg(test)]
mod tests;
