//! `Judge`: the router without its loop, its stream and its database, driven by hand. The decisions and deliveries are
//! the core's own. For benchmarks and simulations.

use super::{
    SubscriptionKey,
    core::{Config, RouterCore},
    judgement::Basis,
    subscription::Subscription,
};
use crate::{
    change::Fragment,
    claims::Claims,
    hub::Rooms,
    lsn::Lsn,
    messages::Publisher,
    metrics::Metrics,
    policy::{catalog::Catalog, lookup::Lookups},
};
use std::sync::Arc;

/// What became of a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Routed {
    /// Messages that were put into outboxes.
    pub messages: u64,
    /// Whether somebody is left to the database, which a judge does not have: he hears nothing.
    pub is_left_to_database: bool,
}

/// Who gets which change. The rows of other tables are the caller's, and so is the time.
pub struct Judge {
    core: RouterCore,
    metrics: Arc<Metrics>,
}

impl Judge {
    /// One without subscriptions.
    pub fn new(config: Config, catalog: Arc<Catalog>) -> Judge {
        let metrics = Arc::<Metrics>::default();
        // Nobody is in a room.
        let messages = Publisher::new(Rooms::default(), config.meters.clone(), metrics.clone(), Lsn::ZERO);
        Judge { core: RouterCore::new(config, metrics.clone(), messages, catalog), metrics }
    }

    /// What has been counted so far.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Enters a subscription; see `Router::subscribe`.
    pub fn subscribe(&mut self, subscription: Subscription, lookups: &Lookups) -> Result<SubscriptionKey, String> {
        self.core.subscribe(subscription, &|table| lookups.is_ready(table))
    }

    /// Judges a subscription by other claims from now on.
    pub fn replace_claims(&mut self, key: SubscriptionKey, claims: Claims, lookups: &Lookups) {
        self.core.replace_claims(key, claims, &|table| lookups.is_ready(table));
    }

    /// Takes a subscription out.
    pub fn unsubscribe(&mut self, key: SubscriptionKey) {
        self.core.unsubscribe(key);
    }

    /// Goes by another catalogue from now on: every subscription is compiled again.
    pub fn set_catalog(&mut self, catalog: Arc<Catalog>, lookups: &Lookups) {
        self.core.set_catalog(catalog, &|table| lookups.is_ready(table));
    }

    /// Judges and delivers a fragment by the rows of other tables as they are, at `now`, in microseconds since
    /// 2000-01-01 UTC. What its transaction does to these tables is applied by the caller before.
    pub fn route(&mut self, fragment: &Arc<Fragment>, lookups: &Lookups, now: i64) -> Routed {
        let before = self.metrics.deliveries.get();
        let job = self.core.route(fragment, Basis::at(now, lookups));
        Routed { messages: self.metrics.deliveries.get() - before, is_left_to_database: job.is_some() }
    }
}
