//! Where a subscription stands: from which position it gets everything, whether that is where its client was, and what it
//! is told when it is not.
//!
//! A client that comes back with a cursor is one that lags there. Whatever stands in the way of all it missed makes it
//! begin anew, and it hears why: a part is never served.

use super::{Active, RouterCore};
use crate::{
    change::{
        Fragment,
        cursor::{Beside, Cursor, Epoch, Resume},
        position::{Era, Position},
    },
    hub::{MessageForm, OnItsWay, Standing},
    lsn::Lsn,
    protocol::refusal,
    router::{
        SubscriptionKey,
        lane_job::{LaneCursor, LaneJob},
        notices::announce_gap,
        subscription::Subscription,
    },
    source::{Beginning, Follows},
};
use std::sync::Arc;

/// A cursor is new enough until so many parts of the backlog have come behind it.
const FRESH_PARTS: usize = 8;
/// Looks at who needs a new cursor, within a quarter of the window.
const LOOKS: i64 = 4;
/// How often cursors are looked at, in microseconds, when nothing is kept for a restart: what is in memory does not age by time.
const FRESH_WITHOUT_WINDOW: i64 = 10_000_000;
/// At most so often, however short the window is: a client that hears nothing is not to be kept awake.
const LEAST_FRESH_INTERVAL: i64 = 125_000;
/// Eras that are remembered. One ends when a server is promoted, or the source is another one.
const KNOWN_ERAS: usize = 16;

/// An era whose positions mean something.
pub(super) struct KnownEra {
    beginning: Arc<Beginning>,
    /// What had been routed when the next one began.
    end: Option<Position>,
}

impl KnownEra {
    pub(super) fn era(&self) -> Era {
        self.beginning.era
    }

    /// The position of a cursor in this era, if that is where it is. The timelines an era accepts were left by servers that
    /// did not know this one, and are its own only as far as they are not an era's own.
    fn position(&self, cursor: &Cursor, of_others: bool) -> Option<Position> {
        let Beginning { era, from, accepts, .. } = &*self.beginning;
        let is_epoch = match of_others {
            false => era.epoch == cursor.epoch,
            true => accepts.iter().any(|&(epoch, end)| epoch == cursor.epoch && is_left(cursor, end)),
        };
        let position = Position { era: era.number, commit_lsn: cursor.commit_lsn, ordinal: cursor.ordinal };
        let is_within = cursor.commit_lsn >= *from && self.end.is_none_or(|end| position <= end);
        (is_epoch && is_within).then_some(position)
    }

    /// Whether its positions, or those of what it branched off, are of this epoch.
    fn shares(&self, epoch: Epoch) -> bool {
        let Beginning { era, accepts, .. } = &*self.beginning;
        era.epoch == epoch || accepts.iter().any(|(other, _)| *other == epoch)
    }
}

/// Whether a cursor of a timeline that was left at `end` is one of the timeline that goes on from there. A transaction whose
/// commit record would begin there has none: whoever was given a part of it was given what is no more.
fn is_left(cursor: &Cursor, end: Lsn) -> bool {
    cursor.commit_lsn < end || (cursor.commit_lsn == end && !cursor.is_amid())
}

/// Where a position is found that was ahead of all that had been routed when its era ended: in the era that goes on with
/// it, as far as the two share positions. Whoever begins there must not get what committed before.
fn carried(eras: &[KnownEra], mut position: Position) -> Position {
    for (before, next) in eras.iter().zip(eras.iter().skip(1)) {
        let ended = before.beginning.era;
        if ended.number != position.era || before.end.is_none_or(|end| position <= end) {
            continue;
        }
        // Positions of the outbox say nothing of those of the log.
        let accepts = &next.beginning.accepts;
        let Some(&(_, left)) = accepts.iter().find(|(epoch, _)| *epoch == ended.epoch) else { break };
        let era = next.beginning.era.number;
        position = if position.commit_lsn > left { Position::before(era, left) } else { Position { era, ..position } };
    }
    position
}

/// How a subscription begins.
pub(super) struct Entrance {
    /// From where on.
    pub(super) start: Position,
    /// What its client is told of that.
    pub(super) standing: Standing<'static>,
    /// The cursor it comes back with, when that is within a transaction.
    pub(super) came_with: Option<Cursor>,
}

impl RouterCore {
    /// An era begins. Positions of before mean nothing any more, unless it goes on seamlessly.
    pub(in crate::router) fn begin(&mut self, beginning: &Arc<Beginning>) {
        let start = Position::before(beginning.era.number, beginning.from);
        self.kind = beginning.kind;
        let known = KnownEra { beginning: beginning.clone(), end: None };
        match beginning.follows {
            Follows::Seamless => {
                if let Some(last) = self.eras.last_mut() {
                    last.end = Some(self.head);
                }
                self.eras.push(known);
                if self.eras.len() > KNOWN_ERAS {
                    self.eras.remove(0);
                }
                self.head = start;
                let eras = &self.eras;
                self.active.iter_mut().for_each(|(_, active)| {
                    active.subscription.start = carried(eras, active.subscription.start);
                });
            }
            Follows::First | Follows::Gap(_) => {
                self.eras = vec![known];
                self.head = start;
                self.backlog.begin(start);
                self.onlookers.begin_anew();
                self.deadlines.forget();
                self.watchers_changed = true;
                self.open = None;
                self.trust();
            }
        }
        let Follows::Gap(gap) = &beginning.follows else { return };
        let gap = self.begun_where_lost(gap.clone());
        let places: Vec<usize> = self.active.iter().map(|(place, _)| place).collect();
        for place in places {
            let member = &self.active[place].subscription.member;
            if member.form() == MessageForm::Resumable {
                let (reason, gap) = (Some(gap.reason.text()), Some((gap.old, gap.new)));
                self.begin_again(place, refusal::STREAM_BEGAN_ANEW, Standing { reason, gap, ..Standing::default() });
            } else if member.deliver_system("postgres_changes", false, refusal::STREAM_BEGAN_ANEW) {
                member.fail();
                self.metrics.gaps.add(1);
            }
        }
    }

    /// The stream does not run for long, or runs again: whoever can come back is told, so that what he shows is not taken
    /// for new.
    pub(in crate::router) fn tell_interruption(&self, begins: bool) {
        let message = if begins { refusal::STREAM_INTERRUPTED } else { refusal::STREAM_GOES_ON };
        let members = self.active.iter().map(|(_, active)| &active.subscription.member);
        for member in members.filter(|member| member.form() == MessageForm::Resumable) {
            member.deliver_system("postgres_changes", !begins, message);
        }
    }

    /// Whether there is a stream: before that nobody knows what a cursor means.
    pub(in crate::router) fn has_begun(&self) -> bool {
        !self.eras.is_empty()
    }

    /// The cursor of a position of a known era.
    pub(super) fn cursor(&self, position: Position) -> Cursor {
        let beside = self.backlog.beside(position).unwrap_or(Beside::UNKNOWN);
        position.cursor(self.epoch(position.era), 0, beside)
    }

    fn epoch(&self, era: u32) -> Epoch {
        let known = self.eras.iter().map(|known| known.beginning.era).rfind(|known| known.number == era);
        known.unwrap_or_default().epoch
    }

    /// The cursor of where a live subscription stands. Until the transaction comes within which it came back, only its own
    /// cursor says how the changes were counted, and how many messages about the next one it was given.
    pub(super) fn cursor_of(&self, active: &Active) -> Cursor {
        let position = self.stand(active);
        let is_there = |came: &&Cursor| (came.commit_lsn, came.ordinal) == (position.commit_lsn, position.ordinal);
        match active.came_with.as_ref().filter(is_there) {
            Some(came) => position.cursor(self.epoch(position.era), came.part, came.beside),
            None => self.cursor(position),
        }
    }

    /// Where a subscription begins. Of a transaction that is being routed it gets nothing, unless it was there before: half
    /// of one would be worse, and nobody waits for its end.
    pub(super) fn entrance(&self, subscription: &Subscription) -> Entrance {
        let refused = match &subscription.resume {
            None | Some(Resume::Start) => None,
            Some(Resume::From(text)) => match self.locate(text, subscription.start) {
                Ok((start, Cursor { part: given, beside, .. })) => {
                    if given > 0 {
                        subscription.member.skip_given(start, given);
                    }
                    let cursor = start.cursor(self.epoch(start.era), given, beside);
                    let standing = Standing { resumed: true, cursor: Some(cursor), ..Standing::default() };
                    return Entrance { start, standing, came_with: cursor.is_amid().then_some(cursor) };
                }
                Err(reason) => Some(reason),
            },
        };
        let behind_open = self.open.map(|open| Position::before(self.head.era, Lsn(open.0.saturating_add(1))));
        let mut start = carried(&self.eras, subscription.start).max(behind_open.unwrap_or_default());
        if subscription.resume.is_some() && start.era > self.head.era {
            // Of an era that is still to begin here nobody knows what its cursors are.
            start = behind_open.unwrap_or_default();
        }
        if subscription.resume.is_some() {
            // What was routed before is not given to him: his cursor must not promise it.
            start = start.max(self.head);
        }
        let standing = Standing { reason: refused, cursor: Some(self.cursor(start)), ..Standing::default() };
        Entrance { start, standing, came_with: None }
    }

    /// The position of a cursor, and the cursor; or why what is behind it cannot be given. `end` is where the log ended a
    /// moment ago.
    fn locate(&self, text: &str, end: Position) -> Result<(Position, Cursor), &'static str> {
        let cursor: Cursor = text.parse().map_err(|_| refusal::CURSOR_INVALID)?;
        let find = |of_others| self.eras.iter().rev().find_map(|known| known.position(&cursor, of_others));
        let Some(position) = find(false).or_else(|| find(true)) else {
            let is_shared = self.eras.iter().any(|known| known.shares(cursor.epoch));
            return Err(if is_shared { refusal::CURSOR_TOO_OLD } else { refusal::CURSOR_OTHER_HISTORY });
        };
        // The log of an era that is to come may go on from that of this one, and ends behind what was routed then. Positions
        // of the outbox do not compare with those of the log.
        let may_go_on = end.era > self.head.era && end.commit_lsn >= self.head.commit_lsn;
        let end = if may_go_on { Position { era: self.head.era, ..end } } else { end };
        if position > end.max(self.head) {
            return Err(refusal::CURSOR_AHEAD);
        }
        if !self.backlog.reaches(position) {
            return Err(refusal::CURSOR_TOO_OLD);
        }
        // Of a transaction that was streamed otherwise nobody can say which of its changes he was given. Where nothing of it
        // is kept though all behind the cursor is, nothing of it is left to give.
        let is_otherwise = self.backlog.beside(position).is_some_and(|beside| beside != cursor.beside);
        if cursor.is_amid() && self.has_come(position) && is_otherwise {
            return Err(refusal::CURSOR_TOO_OLD);
        }
        Ok((position, cursor))
    }

    /// Whether something of the transaction of a position has been routed, or would have been.
    pub(super) fn has_come(&self, position: Position) -> bool {
        self.head > Position { ordinal: 0, ..position } || self.backlog.beside(position).is_some()
    }

    /// A fragment is about to be routed. Whoever came back within its transaction before that had come learns now whether
    /// it is streamed as it was then.
    pub(super) fn compare_awaited(&mut self, fragment: &Fragment) {
        let awaiting = std::mem::take(&mut self.awaiting);
        for key in awaiting {
            let Some(active) = self.place(key).and_then(|place| self.active.get(place)) else { continue };
            let Some(came) = active.came_with.filter(|came| came.commit_lsn >= fragment.commit_lsn) else { continue };
            if came.commit_lsn > fragment.commit_lsn {
                self.awaiting.push(key);
            } else if came.beside != fragment.beside {
                // He goes on behind it: what he was given of it is not given again.
                self.open = Some(fragment.commit_lsn);
                self.miss(key.place, refusal::CURSOR_TOO_OLD);
            }
        }
    }

    /// Serves a subscription from the backlog, from here on.
    pub(super) fn serve_from(&mut self, place: usize, position: Position) {
        let Some(active) = self.active.get_mut(place) else { return };
        active.behind = Some(position);
        self.behind.push_back(SubscriptionKey { place, number: active.number });
    }

    /// Where a subscription stands now. Without a cursor while something is on its way to it.
    pub(super) fn standing(&self, place: usize) -> Standing<'static> {
        let cursor = self.active.get(place).filter(|active| {
            let member = &active.subscription.member;
            active.behind.is_none() && member.lag().is_none() && !member.has_on_their_way()
        });
        Standing { cursor: cursor.map(|active| self.cursor_of(active)), ..Standing::default() }
    }

    /// Where a live subscription stands: at the head, or at its start, which may be to come.
    pub(super) fn stand(&self, active: &Active) -> Position {
        self.head.max(active.subscription.start)
    }

    /// Changes are lost to a subscription. Whoever can come back is told where he stands now, and goes on from there; the
    /// others join again.
    pub(super) fn miss(&mut self, place: usize, reason: &'static str) {
        let Some(active) = self.active.get(place) else { return };
        let member = &active.subscription.member;
        if member.form() == MessageForm::Resumable {
            self.begin_again(place, refusal::CHANGES_SKIPPED, Standing { reason: Some(reason), ..Standing::default() });
        } else {
            announce_gap(member, &self.metrics);
        }
    }

    /// Lets a subscription go on from the head, and says so.
    fn begin_again(&mut self, place: usize, message: &str, standing: Standing<'_>) {
        let behind_open = self.open.map(|open| Position::before(self.head.era, Lsn(open.0.saturating_add(1))));
        let start = self.head.max(behind_open.unwrap_or_default());
        let cursor = Some(self.cursor(start));
        let Some(active) = self.active.get_mut(place) else { return };
        let member = &active.subscription.member;
        if member.is_ended() {
            return;
        }
        // What is on its way is of before.
        active.generation = member.resume();
        (active.behind, active.came_with, active.subscription.start) = (None, None, start);
        member.deliver_standing(false, message, &Standing { cursor, ..standing });
        self.metrics.gaps.add(1);
    }

    /// A stream begins while the log ends here. Who was subscribed at a position behind that was so where the server had not
    /// written its log yet, which it lost in a crash: there the log goes on with other transactions, and they are his.
    pub(super) fn shorten(&mut self, end: Lsn) {
        let end = self.head.max(Position::before(self.head.era, end));
        for (_, active) in &mut self.active {
            let start = &mut active.subscription.start;
            if start.era == end.era {
                *start = end.min(*start);
            }
        }
    }

    /// Everything up to here has been handed on, whether anything of it was for anybody.
    pub(in crate::router) fn reach(&mut self, era: u32, lsn: Lsn) {
        if era == self.head.era && self.open.is_none() {
            self.head = self.head.max(Position::before(era, lsn));
        }
    }

    /// Whether so much has come that cursors have to be looked at.
    pub(in crate::router) fn wants_fresh_cursors(&self) -> bool {
        self.backlog.pushed() > self.config.backlog_bytes / FRESH_PARTS || self.is_far_behind(self.looked_at.1)
    }

    /// Whether a good part of what the slot keeps is behind a position.
    fn is_far_behind(&self, position: Position) -> bool {
        let kept = self.config.resume_window.bytes / FRESH_PARTS as u64;
        !self.config.resume_window.is_none()
            && position.era == self.head.era
            && self.head.commit_lsn.0.saturating_sub(position.commit_lsn.0) > kept
    }

    /// How often cursors have to be looked at, however little comes, in microseconds.
    pub(in crate::router) fn fresh_interval(&self) -> i64 {
        if self.config.resume_window.is_none() {
            return FRESH_WITHOUT_WINDOW;
        }
        let window = i64::try_from(self.config.resume_window.time.as_micros()).unwrap_or(i64::MAX);
        (window / 4 / LOOKS).max(LEAST_FRESH_INTERVAL)
    }

    /// Gives a new cursor to whoever has heard nothing for long, or before much else: so that what he could come back to
    /// does not age out while he waits in silence. `now` is in microseconds since 2000-01-01 UTC.
    pub(in crate::router) fn refresh_cursors(&mut self, now: i64) -> Option<LaneJob> {
        let old = self.backlog.before_last(self.config.backlog_bytes / FRESH_PARTS);
        let is_behind = |position| old.is_some_and(|old| position < old) || self.is_far_behind(position);
        let most = self.fresh_interval().saturating_mul(LOOKS / 2);
        let mut in_lane = Vec::new();
        let mut told = Vec::new();
        for (place, active) in &self.active {
            let member = &active.subscription.member;
            if member.form() != MessageForm::Resumable || active.compiled.working == 0 {
                continue;
            }
            let (position, is_told) = member.take_told();
            if is_told && !is_behind(position) {
                told.push(place);
                continue;
            }
            // One of a time to come is of before the clock was set back, and nobody knows how old.
            let age = now.saturating_sub(active.fresh_at);
            let is_old = is_behind(position) || age < 0 || age >= most;
            if !is_old || active.behind.is_some() || member.lag().is_some() {
                continue;
            }
            let position = self.stand(active);
            let cursor = self.cursor_of(active);
            if member.has_on_their_way() {
                let (member, generation) = (OnItsWay::new(member), active.generation);
                in_lane.push(LaneCursor { member, generation, position, cursor });
            } else {
                member.deliver_cursor(active.generation, position, &cursor);
            }
            told.push(place);
        }
        for place in told {
            if let Some(active) = self.active.get_mut(place) {
                active.fresh_at = now;
                // Only what others tell it counts next time.
                let _ = active.subscription.member.take_told();
            }
        }
        self.backlog.take_pushed();
        self.looked_at = (now, self.head);
        let fragment = self.backlog.newest().filter(|_| !in_lane.is_empty())?.clone();
        let (work, messages, catalog) = (Vec::new(), Vec::new(), self.catalog.clone());
        Some(LaneJob { fragment, catalog, work, messages, cursors: in_lane })
    }
}

#[cfg(test)]
mod tests;
