//! Row changes as events of the rate an operator may limit: one for each subscription a change is told (protocol
//! reference, section 10.1). Over the limit a change is skipped, as by the server we replace, but it is counted, and who
//! misses it hears where that began and where it ended. Who can come back with a cursor lags instead, and gets it later.
//!
//! While no rate is limited, neither the clock is read nor anything counted.

use super::notices::{tell_skipped, tell_skipping};
use crate::{
    change::position::Position,
    hub::{Generation, Member, MessageForm},
    limits::Meters,
    metrics::Metrics,
};
use std::time::{SystemTime, UNIX_EPOCH};

/// What the rate allows for a change that is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allowed {
    /// It is told.
    Now,
    /// The member lags from there on.
    Later,
    /// It is lost to the member.
    Never,
}

/// What the rate allows for a change at this position.
pub(super) fn allowed(
    meters: &Meters,
    metrics: &Metrics,
    member: &Member,
    generation: Generation,
    position: Position,
) -> Allowed {
    if !is_over(meters) {
        if member.ends_skipping() {
            tell_skipped(member);
        }
        return Allowed::Now;
    }
    if waits(member) {
        member.lag_from(generation, position);
        return Allowed::Later;
    }
    skip(metrics, member);
    Allowed::Never
}

/// Whether a member gets later what is over the limit.
pub(super) fn waits(member: &Member) -> bool {
    member.form() == MessageForm::Resumable
}

/// Something is lost to a member because the rate is over its limit.
pub(super) fn skip(metrics: &Metrics, member: &Member) {
    metrics.refuse("max_events_per_second");
    if member.begins_skipping() {
        tell_skipping(member);
    }
}

/// Whether the rate is over its limit.
pub(super) fn is_over(meters: &Meters) -> bool {
    meters.limits_events() && meters.has_too_many_events(now())
}

/// A change was told for so many subscriptions.
pub(super) fn count(meters: &Meters, subscriptions: usize) {
    if meters.limits_events() {
        meters.count_events(subscriptions as u64, now());
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
