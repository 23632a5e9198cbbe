//! `/metrics` and `/metrics/{region}`: counters and gauges for Prometheus, for whose token is signed with the secret for
//! metrics (protocol reference, section 12). Without such a secret nobody gets them.
//!
//! Owns the gauges' names and meanings; the counters have theirs in `crate::metrics`.

use super::{
    bearer::{bearer, now},
    health::Health,
};
use crate::{
    auth::{Secret, bearer::is_signed_by},
    lsn::Lsn,
    pg::connect::describe,
    router::{LookupPhase, LookupState},
};
use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::{ConstGauge, Gauge},
    },
    registry::Registry,
};
use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
};
use tokio::sync::watch;

/// What every name begins with.
const PREFIX: &str = "walcast";
/// The format (OpenMetrics 1.0.0), which every Prometheus since 2018 reads.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the routes need.
#[derive(Clone)]
pub struct Parts {
    /// What signs the tokens of whoever may read; nobody may while there is none.
    pub secrets: watch::Receiver<Arc<[Secret]>>,
    /// What there is to tell.
    pub health: Health,
}

/// The routes.
pub fn routes(parts: Parts) -> Router {
    Router::new().route("/metrics", get(scrape)).route("/metrics/{region}", get(scrape)).with_state(parts)
}

async fn scrape(State(parts): State<Parts>, headers: HeaderMap) -> Response {
    let secrets = parts.secrets.borrow().clone();
    if !bearer(&headers).is_some_and(|token| is_signed_by(token, &secrets, now())) {
        return StatusCode::FORBIDDEN.into_response();
    }
    let end = parts.health.ask().await.map(|(end, _)| end);
    match text(&parts.health, end) {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            tracing::error!(error = %describe(&error), "metrics cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Limit {
    limit: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Table {
    table: String,
}

/// Everything as it is now. What is counted elsewhere is copied: nobody is held up who counts. `end` is where the log
/// ends, where that is known.
fn text(health: &Health, end: Option<Lsn>) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix(PREFIX);
    for reading in health.metrics.readings() {
        registry.register(reading.name, reading.meaning.trim_end_matches('.'), ConstCounter::new(reading.value));
    }
    let refused = Family::<Limit, Counter>::default();
    for (limit, count) in health.metrics.refused() {
        refused.get_or_create(&Limit { limit }).inc_by(count);
    }
    registry.register("refused", "What limits have refused, by the name of the setting", refused);
    for (name, meaning, value) in gauges(health, end) {
        registry.register(name, meaning, ConstGauge::new(value));
    }
    lookups(&health.router.borrow().lookups, &mut registry);
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

/// Name, meaning and value of what goes up and down.
fn gauges(health: &Health, end: Option<Lsn>) -> Vec<(&'static str, &'static str, i64)> {
    let source = health.source.borrow().clone();
    let waits = source.making.as_ref().is_some_and(|making| making.waits.is_some());
    let rooms = health.rooms.counts();
    let age = i64::try_from(health.refresh.age().as_secs()).unwrap_or(i64::MAX);
    let mut gauges = vec![
        ("connections", "Sockets that are open", count(health.connections.load(Ordering::Relaxed))),
        ("tasks", "Tasks that run", count(tokio::runtime::Handle::current().metrics().num_alive_tasks())),
        ("channels", "Channels that are joined", count(rooms.members)),
        ("rooms", "Rooms somebody is in", count(rooms.rooms)),
        ("presences", "Presences that are tracked", count(rooms.present)),
        ("users", "Sockets with at least one channel", count(health.meters.users())),
        ("subscriptions", "Subscriptions to row changes", count(health.router.borrow().subscriptions)),
        ("subscriptions_behind", "Subscriptions served from the backlog", count(health.router.borrow().behind)),
        ("backlog_bytes", "Bytes of the changes kept for these", count(health.router.borrow().backlog_bytes)),
        ("streaming", "1 while the stream runs, else 0", i64::from(source.streaming)),
        ("standby", "1 while another server reads the slot or the outbox, else 0", i64::from(source.standby)),
        (
            "slot_waits",
            "1 while a slot is made, which waits for transactions of before to end, else 0",
            i64::from(waits),
        ),
        ("catalogue_age_seconds", "Seconds since the catalogue was looked at", age),
    ];
    let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    if let Some(end) = end {
        let since = |position: Lsn| bytes(end.0.saturating_sub(position.0));
        gauges.push((
            "slot_lag_bytes",
            "Bytes of the log that are not confirmed, the window for resuming among them",
            since(source.confirmed),
        ));
        if source.era > 0 {
            gauges.push(("lag_bytes", "Bytes of the log that have not been handed on", since(source.reached)));
        }
    }
    let state = health.slot.borrow();
    if let Some(slot) = state.existing() {
        let lost = i64::from(slot.is_lost());
        gauges.push(("slot_lost", "1 when the slot has lost its WAL, else 0", lost));
        let unread = i64::from(state.unread.is_some());
        gauges.push((
            "slot_unread",
            "1 while changes are read from the outbox and nobody reads the slot, else 0",
            unread,
        ));
        if let Some(retained) = slot.retained_bytes {
            gauges.push(("slot_retained_bytes", "Bytes of the log that are kept for the slot", retained.max(0)));
        }
        if let Some(safe) = slot.safe_wal_bytes {
            gauges.push(("slot_safe_bytes", "Bytes that may be written before the slot is in danger", safe.max(0)));
        }
    }
    if state.slot.is_some() {
        gauges.push(("published", "1 while there is the publication, else 0", i64::from(!state.is_unpublished)));
    }
    if let Some(limit) = state.limit {
        gauges.push(("slot_limit_bytes", "Bytes kept for the slot at which it is dropped", bytes(limit)));
    }
    gauges
}

/// Tables policies look into.
fn lookups(states: &[LookupState], registry: &mut Registry) {
    let [ready, rows, bytes] = [(); 3].map(|()| Family::<Table, Gauge>::default());
    for state in states {
        let table = Table { table: state.table.clone() };
        ready.get_or_create(&table).set(i64::from(state.phase == LookupPhase::Ready));
        rows.get_or_create(&table).set(count(state.rows));
        bytes.get_or_create(&table).set(count(state.bytes));
    }
    registry.register("lookup_ready", "1 while the rows of a table that policies look into are known", ready);
    registry.register("lookup_rows", "Rows in memory of a table that policies look into", rows);
    registry.register("lookup_bytes", "Bytes in memory of a table that policies look into", bytes);
}

fn count(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
