//! The admin API as tools of the Supabase stack ask for it (protocol reference, section 12): one tenant, whose limits
//! can be changed until the next start, and whose sockets can be told to begin anew.
//!
//! Owns who may ask and what each route does. `settings` reads what is to be changed.
//!
//! The stack signs this API's tokens with the secret of its clients' tokens, the public `anon` key among them. A gateway
//! keeps the routes from clients there; here nobody may be in front, so a token of a client's role opens nothing but
//! the health check, which the stack asks with that key. Nor does one that other parts of the stack sign with that secret
//! and hand to anybody: the `state` of a sign-in elsewhere, the token in the URL of a stored object. These name no role
//! either, so a token without one must say nothing beyond when it is valid.

mod settings;

use super::bearer::{bearer, now};
use crate::{
    auth::{Secret, bearer::is_signed_by},
    doors::phoenix::Recall,
    limits::{Limits, Meters},
    router::Refresh,
    source::SourceState,
};
use axum::{
    Json, Router,
    body::{Bytes, to_bytes},
    extract::{Path, Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{any, get, post},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};
use settings::Fixed;
use sha2::{Digest, Sha256};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::watch;
use uuid::Uuid;

/// The name health checks of the stack use, whatever the tenant is called.
const USUAL_NAME: &str = "realtime-dev";
/// The longest body that is read.
const BODY_LIMIT: usize = 256 * 1024;
/// How long it may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
const NOT_FOUND: &str = "not found";

/// What the operator chose.
#[derive(Clone)]
pub struct Config {
    /// The tenant's id.
    pub name: String,
    /// Secrets that sign the tokens of this API.
    pub secrets: Vec<Secret>,
    /// The role whose clients' tokens may use it, too.
    pub admin_role: String,
    /// The secret that signs the tokens of clients.
    pub jwt_secret: Secret,
    /// The publication that is streamed.
    pub publication: String,
    /// The slot.
    pub slot: String,
}

/// What the routes need.
pub struct Parts {
    /// Choices; they may be replaced.
    pub config: watch::Receiver<Config>,
    /// The limits that are shown and changed.
    pub meters: Arc<Meters>,
    /// Sends every open connection away, to come again.
    pub recall: Recall,
    /// Sockets that are open.
    pub connections: Arc<AtomicUsize>,
    /// The stream.
    pub source: watch::Receiver<SourceState>,
    /// Whether the database answers.
    pub refresh: Refresh,
}

struct Tenants {
    parts: Parts,
    /// When the server started.
    since: String,
    /// Changes of limits are made one after the other.
    change: Mutex<()>,
}

/// The routes. Without CORS: they are for operators, not for pages.
pub fn routes(parts: Parts) -> Router {
    let since = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S").to_string();
    let tenants = Arc::new(Tenants { parts, since, change: Mutex::new(()) });
    // What a gateway keeps from clients stays away from them without one.
    let forbidden = || any(|| async { (StatusCode::FORBIDDEN, "Access is forbidden.") });
    Router::new()
        .route("/api/tenants", get(list).post(create))
        .route("/api/tenants/{id}", get(show).put(update).patch(update).delete(remove))
        .route("/api/tenants/{id}/reload", post(restart))
        .route("/api/tenants/{id}/shutdown", post(restart))
        .route("/api/tenants/{id}/health", get(health))
        .route("/api/openapi", get(|| async { described() }))
        .route("/realtime/v1/api/tenants", forbidden())
        .route("/realtime/v1/api/tenants/{*rest}", forbidden())
        .route("/realtime/v1/api/openapi", forbidden())
        .with_state(tenants)
}

fn described() -> Response {
    ([(header::CONTENT_TYPE, "application/json; charset=utf-8")], include_str!("openapi.json")).into_response()
}

/// An answer that is no good news.
struct Refusal(StatusCode, Option<Value>);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self.1 {
            Some(body) => (self.0, Json(body)).into_response(),
            None => self.0.into_response(),
        }
    }
}

async fn list(State(tenants): State<Arc<Tenants>>, headers: HeaderMap) -> Result<Response, Refusal> {
    tenants.admit(&headers)?;
    Ok(Json(json!({ "data": [tenants.shown()] })).into_response())
}

async fn show(
    State(tenants): State<Arc<Tenants>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    tenants.admit(&headers)?;
    tenants.find(&id)?;
    Ok(Json(json!({ "data": tenants.shown() })).into_response())
}

async fn create(State(tenants): State<Arc<Tenants>>, request: Request) -> Result<Response, Refusal> {
    tenants.admit(request.headers())?;
    tenants.change(request).await
}

async fn update(
    State(tenants): State<Arc<Tenants>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Refusal> {
    tenants.admit(request.headers())?;
    tenants.find(&id)?;
    tenants.change(request).await
}

async fn remove(
    State(tenants): State<Arc<Tenants>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    tenants.admit(&headers)?;
    tenants.find(&id)?;
    let text = "this server has one tenant and no life without it: stop the server, or set `suspend`";
    Err(Refusal(StatusCode::UNPROCESSABLE_ENTITY, Some(json!({ "message": text }))))
}

async fn restart(
    State(tenants): State<Arc<Tenants>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Refusal> {
    tenants.admit(&headers)?;
    tenants.find(&id)?;
    tracing::info!("the admin API ends all sockets; clients come back");
    tenants.parts.recall.everybody();
    Ok(StatusCode::NO_CONTENT)
}

async fn health(
    State(tenants): State<Arc<Tenants>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    // The stack asks with the anon key.
    tenants.signed(&headers)?;
    if id != USUAL_NAME {
        tenants.find(&id)?;
    }
    let parts = &tenants.parts;
    let (is_connected, is_streaming) = (parts.refresh.is_fresh(), parts.source.borrow().streaming);
    let data = json!({
        "healthy": is_connected && is_streaming,
        "db_connected": is_connected,
        "replication_connected": is_streaming,
        "connected_cluster": parts.connections.load(Ordering::Relaxed),
        "region": "local",
        "node": "walcast",
    });
    Ok(Json(json!({ "data": data })).into_response())
}

impl Tenants {
    /// The token of a request that is signed by one of this API's secrets.
    fn signed<'a>(&self, headers: &'a HeaderMap) -> Result<&'a str, Refusal> {
        bearer(headers)
            .filter(|token| is_signed_by(token, &self.parts.config.borrow().secrets, now()))
            .ok_or(Refusal(StatusCode::FORBIDDEN, None))
    }

    /// Lets through whose token is signed, and is not a client's.
    fn admit(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let token = self.signed(headers)?;
        let claims = claims(token).ok_or(Refusal(StatusCode::FORBIDDEN, None))?;
        let is_admin = match claims.get("role") {
            Some(role) => role == self.parts.config.borrow().admin_role.as_str(),
            None => claims.iter().all(|(name, value)| is_of_a_tool(name, value)),
        };
        if is_admin { Ok(()) } else { Err(Refusal(StatusCode::FORBIDDEN, None)) }
    }

    fn find(&self, id: &str) -> Result<(), Refusal> {
        match id == self.parts.config.borrow().name {
            true => Ok(()),
            false => Err(Refusal(StatusCode::NOT_FOUND, Some(json!({ "message": NOT_FOUND })))),
        }
    }

    /// The tenant as it is shown.
    fn shown(&self) -> Value {
        let Config { name, publication, slot, .. } = &*self.parts.config.borrow();
        let limits = self.parts.meters.limits();
        json!({
            "id": id_of(name),
            "external_id": name,
            "name": name,
            "max_concurrent_users": limits.max_concurrent_users,
            "max_channels_per_client": limits.max_channels_per_client,
            "max_events_per_second": limits.max_events_per_second,
            "max_joins_per_second": limits.max_joins_per_second,
            "max_presence_events_per_second": limits.max_presence_events_per_second,
            "max_payload_size_in_kb": limits.max_payload_size_in_kb,
            "max_client_presence_events_per_window": limits.client_presence.map(|limit| limit.max_calls),
            "client_presence_window_ms": limits.client_presence.map(|limit| limit.window_ms),
            "private_only": limits.private_only,
            "presence_enabled": limits.presence_enabled,
            "suspend": limits.suspend,
            "inserted_at": self.since,
            "extensions": [{
                "type": "postgres_cdc_rls",
                "settings": { "publication": publication, "slot_name": slot },
            }],
        })
    }

    async fn change(&self, request: Request) -> Result<Response, Refusal> {
        let tenant = tenant(request).await?;
        let (before, after) = {
            let Config { name, publication, jwt_secret, .. } = &*self.parts.config.borrow();
            let is_jwt_secret = |secret: &str| secret == jwt_secret.reveal();
            let fixed = Fixed { name, publication, is_jwt_secret: &is_jwt_secret };
            let _one_at_a_time = self.change.lock().unwrap_or_else(PoisonError::into_inner);
            let before = self.parts.meters.limits();
            let after = settings::apply(&tenant, &before, fixed)
                .map_err(|errors| Refusal(StatusCode::UNPROCESSABLE_ENTITY, Some(json!({ "errors": errors }))))?;
            self.parts.meters.set_limits(after.clone());
            (before, after)
        };
        if *before != after {
            tracing::info!(limits = ?after, "the admin API has changed the limits, until the next start");
        }
        if concerns_everybody(&before, &after) {
            self.parts.recall.everybody();
        }
        Ok(Json(json!({ "data": self.shown() })).into_response())
    }
}

/// Whether somebody may be connected who would not be let in any more, or the other way round (reference, section 1.7).
fn concerns_everybody(before: &Limits, after: &Limits) -> bool {
    (before.private_only, before.suspend) != (after.private_only, after.suspend)
}

/// Whether a claim may stand in a token without a role that is to open this API: it does not say what the token is for,
/// or whose it is.
fn is_of_a_tool(name: &str, value: &Value) -> bool {
    match name {
        "iat" | "exp" | "nbf" | "iss" => true,
        "sub" | "aud" => value == "",
        _ => false,
    }
}

/// The claims of a token whose signature is known to be good; none when they cannot be read.
fn claims(token: &str) -> Option<Map<String, Value>> {
    let token = percent_encoding::percent_decode_str(token).decode_utf8().ok()?;
    let token: String = token.chars().filter(|character| !character.is_whitespace()).collect();
    let payload = token.split('.').nth(1)?;
    let payload = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&payload).ok()
}

/// The object under `tenant`.
async fn tenant(request: Request) -> Result<Map<String, Value>, Refusal> {
    let refused = |status: StatusCode, text: &str| Refusal(status, Some(json!({ "message": text })));
    let body: Bytes = tokio::time::timeout(BODY_TIMEOUT, to_bytes(request.into_body(), BODY_LIMIT))
        .await
        .map_err(|_| refused(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time"))?
        .map_err(|_| refused(StatusCode::PAYLOAD_TOO_LARGE, "the body did not arrive, or is too long"))?;
    // The parser's own words may quote the body, which may hold a secret.
    match serde_json::from_slice(&body) {
        Ok(Value::Object(mut body)) => match body.remove("tenant") {
            Some(Value::Object(tenant)) => Ok(tenant),
            _ => Err(Refusal(
                StatusCode::UNPROCESSABLE_ENTITY,
                Some(json!({ "errors": { "tenant": ["has to be an object"] } })),
            )),
        },
        _ => Err(refused(StatusCode::BAD_REQUEST, "the body is no JSON object")),
    }
}

/// A tenant's id that is the same at every start.
fn id_of(name: &str) -> Uuid {
    let digest = Sha256::digest(name);
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(digest).for_each(|(byte, from)| *byte = from);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}
