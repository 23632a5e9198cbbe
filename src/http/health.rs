//! `/healthcheck`, `/api/ping` and `/health`: is the server up, and how is it doing; `/` and `/status` for whoever looks
//! with a browser. HEAD is answered like GET.

use crate::{
    hub::Rooms,
    limits::Meters,
    lsn::Lsn,
    messages::MessagesState,
    metrics::Metrics,
    router::{LookupState, Refresh, RouterState},
    shutdown::Failed,
    source::{
        Kind, SourceState,
        guard::SlotState,
        slot::{Config, SourceError},
    },
};
use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Map, Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::sync::watch;

/// How long the database may take to say where its log ends.
const QUERY_LIMIT: Duration = Duration::from_secs(2);
/// For whoever looks with a browser.
const GREETING: &str = "Walcast is up. How it is doing: /health\n";
/// Seconds between the epochs of Unix and of Postgres.
const POSTGRES_EPOCH_SECONDS: u64 = 946_684_800;

/// What the answers are made of.
#[derive(Clone)]
pub struct Health {
    /// Which task has ended, without which nothing can be served.
    pub failed: watch::Receiver<Option<Failed>>,
    /// The stream.
    pub source: watch::Receiver<SourceState>,
    /// The slot.
    pub slot: watch::Receiver<SlotState>,
    /// How much WAL may be kept for it.
    pub wal_budget: Option<u64>,
    /// The router.
    pub router: watch::Receiver<RouterState>,
    /// The upkeep of the table of messages.
    pub messages: watch::Receiver<MessagesState>,
    /// Sockets that are open.
    pub connections: Arc<AtomicUsize>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Slot and publication.
    pub stream: Arc<Config>,
    /// How old the knowledge of rights is.
    pub refresh: Refresh,
    /// Where the end of the log and the publication are asked for.
    pub pool: deadpool_postgres::Pool,
    /// Rooms, and who is in them.
    pub rooms: Rooms,
    /// What is limited.
    pub meters: Arc<Meters>,
}

impl Health {
    /// Where the log ends, and whether the publication exists; nothing while the database does not answer.
    pub(super) async fn ask(&self) -> Option<(Lsn, bool)> {
        let ask = async {
            let client = self.pool.get().await.ok()?;
            let sql = "select case when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_last_wal_replay_lsn() \
                       else pg_catalog.pg_current_wal_lsn() end::text, \
                       exists (select from pg_catalog.pg_publication where pubname = $1)";
            let row = client.query_one(sql, &[&self.stream.publication]).await.ok()?;
            Some((row.try_get::<_, String>(0).ok()?.parse().ok()?, row.try_get(1).ok()?))
        };
        tokio::time::timeout(QUERY_LIMIT, ask).await.ok().flatten()
    }
}

/// The routes.
pub fn routes(health: Health) -> Router {
    Router::new()
        .route("/healthcheck", get(|| async { "ok" }))
        .route("/api/ping", get(|| async { Json(json!({ "message": "Success" })) }))
        .route("/health", get(report))
        .route("/", get(|| async { GREETING }))
        .route("/status", get(|| async { GREETING }))
        .with_state(health)
}

/// 200 while the stream runs and carries something, 503 while it does not; the body says how it is doing either way.
async fn report(State(health): State<Health>) -> Response {
    let mut source = health.source.borrow().clone();
    let router = health.router.borrow().clone();
    let failed = *health.failed.borrow();
    let database = health.ask().await;
    let end = database.map(|(end, _)| end);
    // From 18 on the stream outlives its publication, and carries nothing.
    let is_published = database.is_none_or(|(_, is_published)| is_published);
    if source.streaming && !is_published {
        let missing = SourceError::NoPublication(health.stream.publication.clone());
        // What there is to do is not the login's alone, so it is not named.
        source.problem = Some(missing.with_hint(&health.stream, ""));
    }
    let is_fresh = health.refresh.is_fresh();
    if source.streaming && !is_fresh {
        let why = health.refresh.problem().unwrap_or_else(|| "the log names the cause".to_owned());
        source.problem = Some(format!("the catalogue cannot be read, so changes are held; {why}"));
    }
    // Numbers of the outbox are no positions of the log.
    let end = end.filter(|_| source.kind == Kind::Log);
    let is_ok = source.streaming && is_published && is_fresh && router.problem.is_none() && failed.is_none();
    let problem = failed.map(|failed| failed.to_string()).or(source.problem.clone()).or(router.problem.clone());
    // Not from what is confirmed, which is kept behind on purpose.
    let lag_bytes = end.filter(|_| source.era > 0).map(|end| end.0.saturating_sub(source.reached.0));
    // With everything handed on there is no lag, however long ago the last commit was. What has been received says nothing
    // while the server still decodes what was there when the stream began.
    let catching_up = is_catching_up(&source);
    let caught_up = lag_bytes == Some(0) || (!catching_up && source.reached >= source.received);
    let lag_ms = if caught_up { Some(0) } else { milliseconds_since(router.commit_time) };
    let counters: Map<String, Value> =
        health.metrics.snapshot().into_iter().map(|(name, value)| (name, Value::from(value))).collect();
    let refused: Map<String, Value> =
        health.metrics.refused().into_iter().map(|(limit, count)| (limit.to_owned(), Value::from(count))).collect();
    let rooms = health.rooms.counts();
    let waits = source.making.as_ref().and_then(|making| making.waits.clone());
    let lookups: Map<String, Value> = router.lookups.iter().map(lookup).collect();
    let body = json!({
        "status": if is_ok { "ok" } else { "degraded" },
        "replication": {
            "state": state(&source),
            "catching_up": catching_up,
            "problem": problem,
            "source": if source.kind == Kind::Outbox { "notify" } else { "wal" },
            "why_not_wal": source.why_not_log,
            "slot": health.stream.slot,
            "slot_waits": waits,
            "received_lsn": source.received.to_string(),
            "handed_on_lsn": source.reached.to_string(),
            "confirmed_lsn": source.confirmed.to_string(),
            "lag_bytes": lag_bytes,
            "lag_ms": lag_ms,
            "wal": wal(&health, &health.slot.borrow()),
        },
        "catalogue_age_ms": health.refresh.age().as_millis(),
        "tasks": tokio::runtime::Handle::current().metrics().num_alive_tasks(),
        "connections": health.connections.load(Ordering::Relaxed),
        "subscriptions": router.subscriptions,
        "subscriptions_behind": router.behind,
        "backlog_bytes": router.backlog_bytes,
        "rooms": rooms.rooms,
        "members": rooms.members,
        "presences": rooms.present,
        "lookups": lookups,
        "messages": messages(&source, &health.messages.borrow()),
        "counters": counters,
        "refused": refused,
    });
    let status = if is_ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(body)).into_response()
}

/// Whether what was there when the stream began, after a restart what clients may come back to, is still being read.
fn is_catching_up(source: &SourceState) -> bool {
    let end = source.stream.as_ref().filter(|stream| stream.kind == Kind::Log).and_then(|stream| stream.log_end);
    source.streaming && source.kind == Kind::Log && end.is_some_and(|end| source.reached < end)
}

fn state(source: &SourceState) -> &'static str {
    match (source.streaming, source.standby) {
        (true, _) => "streaming",
        (false, true) => "standby",
        (false, false) => "interrupted",
    }
}

/// WAL that is kept for the slot. None of it counts for the status: the stream runs.
fn wal(health: &Health, state: &SlotState) -> Value {
    let slot = state.existing();
    json!({
        "retained_bytes": slot.and_then(|slot| slot.retained_bytes),
        "restart_lsn": slot.and_then(|slot| slot.restart_lsn.clone()),
        "wal_status": slot.and_then(|slot| slot.wal_status.clone()),
        "safe_wal_bytes": slot.and_then(|slot| slot.safe_wal_bytes),
        "max_slot_wal_keep_bytes": state.slot.as_ref().and_then(|seen| seen.max_keep),
        "budget_bytes": health.wal_budget,
        "dropped_at_bytes": state.limit,
        "pressure": state.pressure.name(),
        "warning": state.unread.as_deref().or(state.pressure.warning()),
        "window_bytes": health.stream.window.bytes,
        "window_ms": health.stream.window.time.as_millis(),
        "problem": state.problem,
    })
}

/// Broadcasts from the database. They may be off on purpose, so they do not count for the status.
fn messages(source: &SourceState, state: &MessagesState) -> Value {
    let stream = source.stream.as_ref();
    json!({
        "streamed": source.streams_messages(),
        "reason": stream.and_then(|stream| stream.messages_problem.clone()),
        "partitions": if state.problem.is_some() { "failed" } else if state.is_kept { "kept" } else { "unknown" },
        "problem": state.problem,
    })
}

/// A table that policies look into.
fn lookup(table: &LookupState) -> (String, Value) {
    let LookupState { table, phase, rows, bytes, why } = table;
    (table.clone(), json!({ "state": phase.name(), "rows": rows, "bytes": bytes, "reason": why }))
}

fn milliseconds_since(commit_time: i64) -> Option<u64> {
    let commit = u64::try_from(commit_time).ok().filter(|&time| time > 0)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH + Duration::from_secs(POSTGRES_EPOCH_SECONDS)).ok()?;
    u64::try_from(now.as_micros()).ok().map(|now| now.saturating_sub(commit) / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::StreamState;

    #[test]
    fn what_was_there_when_the_stream_began_is_caught_up_with() {
        let stream = StreamState {
            number: 1,
            publication: 1,
            kind: Kind::Log,
            from: Lsn(10),
            log_end: Some(Lsn(90)),
            catalog_xmin: None,
            lookups_since: None,
            lookups_problem: None,
            messages_since: None,
            messages_problem: None,
        };
        let source = SourceState { streaming: true, reached: Lsn(10), stream: Some(stream), ..SourceState::default() };
        assert!(is_catching_up(&source));
        assert!(!is_catching_up(&SourceState { reached: Lsn(90), ..source.clone() }));
        assert!(!is_catching_up(&SourceState { kind: Kind::Outbox, ..source.clone() }), "numbers are no positions");
        assert!(!is_catching_up(&SourceState { streaming: false, ..source }));
    }
}
