//! Rights are looked at twice a second, so those who are served what they missed after a pause would be served by the rights
//! of up to half a second ago. They wait, a few milliseconds, for a look of their own.

use super::RouterCore;
use std::time::{Duration, Instant};

/// A pause that lets the catalogue be looked at again. Whoever lags for a shorter time gets what he might have had live.
pub(super) const PAUSE: Duration = Duration::from_millis(200);

/// When the catalogue was looked at. Nobody waits for looks where nobody says so.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Look {
    /// The time of this turn.
    pub(super) now: Option<Instant>,
    /// When the last look began that was completed.
    last: Option<Instant>,
    /// Whether somebody waits for another one.
    is_wished: bool,
}

/// A subscription that is behind and takes in nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pause {
    since: Option<Instant>,
    /// When it could be served again.
    ended: Option<Instant>,
}

impl Pause {
    /// It takes in nothing yet.
    pub(super) fn goes_on(&mut self, now: Option<Instant>) {
        self.since = self.since.or(now);
        self.ended = None;
    }

    /// Whether a look has to come before it is served.
    pub(super) fn wants_look(&mut self, look: &mut Look) -> bool {
        let (Some(since), Some(now)) = (self.since, look.now) else { return false };
        if now.saturating_duration_since(since) < PAUSE {
            self.since = None;
            return false;
        }
        let ended = *self.ended.get_or_insert(now);
        let is_wanted = look.last.is_none_or(|last| last < ended);
        if is_wanted {
            look.is_wished = true;
        } else {
            *self = Pause::default();
        }
        is_wanted
    }
}

impl RouterCore {
    /// What time it is, and when the last look at the catalogue began. Take the catalogue itself behind this.
    pub(in crate::router) fn set_look(&mut self, now: Instant, last: Instant) {
        (self.look.now, self.look.last) = (Some(now), Some(last));
    }

    /// Whether somebody waits for another look.
    pub(in crate::router) fn take_look_wish(&mut self) -> bool {
        std::mem::take(&mut self.look.is_wished)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        policy::{catalog::RowRule, lookup::Lookups},
        router::{
            fixture::{Asked, NONE, core, insert, transaction},
            judgement::Basis,
        },
    };

    #[test]
    fn who_took_in_nothing_for_a_while_waits_for_a_look_at_rights_that_began_behind_that() {
        let mut core = core(RowRule::All);
        let (subscription, mut client) = Asked { room: 1, ..Asked::default() }.subscription();
        core.subscribe(subscription, NONE).unwrap();
        client.heard();
        let (start, lookups) = (Instant::now(), Lookups::default());
        let serve = |core: &mut RouterCore, now: Duration, last: Duration| {
            core.set_look(start + now, start + last);
            core.catch_up(true, Basis::at(0, &lookups));
            core.take_look_wish()
        };
        for lsn in 1..=3 {
            core.route(&transaction(lsn, vec![insert(&format!("{lsn} alice a x"))]), Basis::at(0, &lookups));
        }
        assert!(!serve(&mut core, Duration::ZERO, Duration::ZERO), "there is no room yet");
        assert_eq!(client.kinds().len(), 1);
        assert!(serve(&mut core, PAUSE, PAUSE / 2), "a right may have been taken since");
        assert!(client.kinds().is_empty());
        assert!(!serve(&mut core, PAUSE * 2, PAUSE));
        assert_eq!(client.kinds().len(), 1);
        assert!(!serve(&mut core, PAUSE * 2 + PAUSE / 2, PAUSE), "that was no pause");
        assert_eq!(client.kinds().len(), 1);
    }

    #[test]
    fn a_look_that_began_before_the_pause_ended_serves_nobody() {
        let (start, mut pause, mut look) = (Instant::now(), Pause::default(), Look::default());
        assert!(!pause.wants_look(&mut look), "nobody looks");
        let at = |millis| Some(start + Duration::from_millis(millis));
        pause.goes_on(at(0));
        pause.goes_on(at(100));
        (look.now, look.last) = (at(1000), at(999));
        assert!(pause.wants_look(&mut look) && std::mem::take(&mut look.is_wished));
        (look.now, look.last) = (at(1010), at(999));
        assert!(pause.wants_look(&mut look) && std::mem::take(&mut look.is_wished));
        (look.now, look.last) = (at(1020), at(1000));
        assert!(!pause.wants_look(&mut look) && !look.is_wished);
        (look.now, look.last) = (at(9000), at(1000));
        assert!(!pause.wants_look(&mut look), "it is not paused any more");
    }
}
