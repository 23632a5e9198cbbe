//! The Phoenix door: the WebSocket protocol of Supabase clients, in both encodings, under both path families
//! (protocol reference, sections 1 to 3).
//!
//! This file is the upgrade and its refusals; `connection` runs a socket; `v1` and `v2` are the encodings.

mod connection;
mod recall;
mod v1;
mod v2;

pub use recall::Recall;
pub use v1::V1;
pub use v2::V2;

use crate::{
    auth::{TokenError, Verifier},
    hub::Rooms,
    limits::Meters,
    messages::Replay,
    metrics::Metrics,
    protocol::{BadFrame, Broadcast, Codec, Payload, refusal},
    rights::ChannelRights,
    router::{Preparer, Refresh, Router},
    session,
    shutdown::Tasks,
    source::SourceState,
};
use axum::{
    extract::{
        Query, State,
        ws::{WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::any,
};
use serde_json::{Value, value::RawValue};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::sync::watch;

/// What a message takes beside its payload, mostly.
const ENVELOPE_BYTES: usize = 160;
/// The longest reference, as JSON.
const MAX_REFERENCE_BYTES: usize = 1024;
/// The longest topic or event, as JSON.
const MAX_NAME_BYTES: usize = 16 * 1024;

/// What the operator may choose about sockets.
#[derive(Clone, Debug)]
pub struct Config {
    /// How long the refusal of an upgrade is held back, against storms of reconnects.
    pub connect_error_delay: Duration,
    /// A client that says nothing for this long is closed.
    pub idle_timeout: Duration,
    /// A client that takes nothing in for this long is dropped.
    pub write_timeout: Duration,
    /// The largest frame a client may send.
    pub max_frame_bytes: usize,
    /// Sockets at the same time.
    pub max_connections: usize,
    /// Frames that wait for one client.
    pub outbox_frames: usize,
    /// Bytes that wait for one client.
    pub outbox_bytes: usize,
    /// What sessions may do.
    pub session: Arc<session::Config>,
}

/// What the door needs.
#[derive(Clone)]
pub struct Door {
    /// Its choices.
    pub config: Arc<Config>,
    /// Who checks tokens.
    pub verifier: Verifier,
    /// Where subscriptions go.
    pub router: Router,
    /// Who prepares them.
    pub preparer: Preparer,
    /// The catalogue they are prepared against.
    pub refresh: Refresh,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Sockets that are open.
    pub connections: Arc<AtomicUsize>,
    /// Where sockets run.
    pub tasks: Tasks,
    /// The rooms of the server.
    pub rooms: Rooms,
    /// The limits of the server.
    pub meters: Arc<Meters>,
    /// Who may use private channels.
    pub rights: ChannelRights,
    /// Who knows what was broadcast before.
    pub replay: Replay,
    /// How the stream of the database is doing.
    pub source: watch::Receiver<SourceState>,
    /// Connections there have been: each one's number.
    pub numbers: Arc<AtomicU64>,
    /// Who sends all connections away.
    pub recall: Recall,
}

/// What the upgrade said.
struct Upgraded {
    number: u64,
    key: String,
    headers: Arc<str>,
    recalled: recall::Recalled,
}

/// The routes of the door.
pub fn routes(door: Door) -> axum::Router {
    axum::Router::new()
        .route("/socket/websocket", any(upgrade))
        .route("/realtime/v1/websocket", any(upgrade))
        .with_state(door)
}

async fn upgrade(
    State(door): State<Door>,
    Query(parameters): Query<HashMap<String, String>>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let Ok(upgrade) = upgrade else { return StatusCode::BAD_REQUEST.into_response() };
    let Some(codec) = codec(parameters.get("vsn").map(String::as_str)) else {
        return StatusCode::FORBIDDEN.into_response();
    };
    let given = headers.get("x-api-key").and_then(|value| value.to_str().ok());
    let Some(key) = given.or(parameters.get("apikey").map(String::as_str)) else {
        return door.refuse(StatusCode::UNAUTHORIZED, refusal::API_KEY_MISSING).await;
    };
    // Before the key is looked at: whatever changes from here on is heard of.
    let recalled = door.recall.listen();
    door.verifier.prepare(key).await;
    if let Err(error) = door.verifier.verify(key, unix_now()) {
        return match error {
            TokenError::Expired { .. } => door.refuse(StatusCode::UNAUTHORIZED, refusal::TOKEN_EXPIRED).await,
            other => door.refuse(StatusCode::UNAUTHORIZED, &other.to_string()).await,
        };
    }
    if let Some((status, text, setting)) = over_limit(&door.meters) {
        door.metrics.refuse(setting);
        return door.refuse(status, text).await;
    }
    let Some(place) = Place::take(&door) else {
        door.metrics.refuse("max_connections");
        return door.refuse(StatusCode::TOO_MANY_REQUESTS, refusal::TOO_MANY_USERS).await;
    };
    let upgraded = Upgraded {
        number: door.numbers.fetch_add(1, Ordering::Relaxed),
        key: key.to_owned(),
        headers: own_headers(&headers),
        recalled,
    };
    let limit = door.config.max_frame_bytes;
    upgrade
        // tungstenite zeroes the whole read buffer on every poll: a small one costs less time and memory.
        .read_buffer_size(4096)
        .max_message_size(limit)
        .max_frame_size(limit)
        .on_upgrade(move |socket| connection::run(socket, door, codec, upgraded, place))
}

/// Why nobody is let in now: status, text, and the setting that says so. The order is that of the server we replace.
fn over_limit(meters: &Meters) -> Option<(StatusCode, &'static str, &'static str)> {
    if meters.limits().suspend {
        Some((StatusCode::FORBIDDEN, refusal::SUSPENDED_FOR_UPGRADE, "suspend"))
    } else if meters.is_full_of_users() {
        Some((StatusCode::TOO_MANY_REQUESTS, refusal::TOO_MANY_USERS, "max_concurrent_users"))
    } else if meters.has_too_many_joins(unix_now()) {
        Some((StatusCode::TOO_MANY_REQUESTS, refusal::TOO_MANY_JOINS_FOR_UPGRADE, "max_joins_per_second"))
    } else {
        None
    }
}

/// The headers an application may add, as policies read them from `request.headers` (reference, section 8): those
/// that begin with `x-`.
fn own_headers(headers: &HeaderMap) -> Arc<str> {
    let own = headers.iter().filter(|(name, _)| name.as_str().starts_with("x-"));
    let texts = own.filter_map(|(name, value)| Some((name.to_string(), Value::from(value.to_str().ok()?))));
    Value::Object(texts.collect()).to_string().into()
}

/// `~> 1.0.0` or `~> 2.0.0`; nothing means 1.0.0.
fn codec(version: Option<&str>) -> Option<&'static dyn Codec> {
    let Some(version) = version else { return Some(&V1) };
    let mut parts = version.split('.');
    let numbers: Option<Vec<u32>> = parts.by_ref().map(|part| part.parse().ok()).collect();
    match numbers?[..] {
        [1, 0, _] => Some(&V1),
        [2, 0, _] => Some(&V2),
        _ => None,
    }
}

/// A reference, which is echoed and kept with a channel: a number or a short text with every client there is. Others
/// could hold much memory with them, for nothing limits how many channels keep theirs.
fn reference(raw: &RawValue) -> Result<Value, BadFrame> {
    if raw.get().len() > MAX_REFERENCE_BYTES { Err(BadFrame("a reference is too long")) } else { value(raw) }
}

/// A topic or an event, likewise.
fn name(raw: &RawValue) -> Result<Value, BadFrame> {
    if raw.get().len() > MAX_NAME_BYTES { Err(BadFrame("a topic or event is too long")) } else { value(raw) }
}

/// A value of a frame.
fn value(raw: &RawValue) -> Result<Value, BadFrame> {
    serde_json::from_str(raw.get()).map_err(|_| BadFrame("a value is no JSON that can be kept"))
}

/// The payload of a text push. What is broadcast is kept as it was written, once it is known to be JSON that every
/// reader bears.
fn payload_of(event: &Value, raw: &RawValue) -> Result<Payload, BadFrame> {
    let payload = value(raw)?;
    Ok(if event == "broadcast" && payload.is_object() {
        Payload::Broadcast(Broadcast::Text(raw.get().into()))
    } else {
        Payload::Json(payload)
    })
}

impl Door {
    async fn refuse(&self, status: StatusCode, text: &str) -> Response {
        tokio::time::sleep(self.config.connect_error_delay).await;
        let content_type = [(header::CONTENT_TYPE, "application/json; charset=utf-8")];
        (status, content_type, serde_json::json!({ "error": text }).to_string()).into_response()
    }
}

/// A socket's place among the open ones; it is free again when this is dropped.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(door: &Door) -> Option<Place> {
        let limit = door.config.max_connections;
        let more = |open: usize| (open < limit).then_some(open + 1);
        door.connections.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Place(door.connections.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Seconds since the epoch: the clock sessions and tokens go by.
fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::codec;

    #[test]
    fn versions_one_and_two_are_spoken_and_no_version_means_one() {
        let name = |version| codec(version).map(|codec| codec.name());
        assert_eq!(name(None), Some("1.0.0"));
        assert_eq!(name(Some("1.0.7")), Some("1.0.0"));
        assert_eq!(name(Some("2.0.0")), Some("2.0.0"));
        for version in ["1.5.0", "3.0.0", "abc", "2.0", "", "2.0.0.0", "2.0.x"] {
            assert_eq!(name(Some(version)), None, "{version}");
        }
    }
}
