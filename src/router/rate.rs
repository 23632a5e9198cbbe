//! Row changes as events of the rate an operator may limit: one for each subscription a change is told (protocol
//! reference, section 10.1). Over the limit a change is skipped, as by the server we replace, but counted and logged.
//!
//! While no rate is limited, neither the clock is read nor anything counted.

use crate::{limits::Meters, metrics::Metrics};
use std::time::{SystemTime, UNIX_EPOCH};

/// Whether the rate is over its limit, so that nothing more is told; noted when it is.
pub(super) fn is_over(meters: &Meters, metrics: &Metrics) -> bool {
    let is_over = meters.limits_events() && meters.has_too_many_events(now());
    if is_over {
        metrics.refuse("max_events_per_second");
    }
    is_over
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
