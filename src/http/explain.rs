//! `POST /api/explain`: why a user sees a row or not, as this running server has it, for those whose token has the admin
//! role. `crate::explain` finds it out.
//!
//! Owns who may ask, the request's form and limits, and what the server knows that a database does not: its catalogue,
//! and whether the tables its policies look into are ready.

use super::bearer::{bearer, now};
use crate::{
    auth::Verifier,
    claims::Claims,
    explain::{ExplainError, Key, LookupTable, Question, Report, Running, World, explain},
    pg::connect::describe,
    router::{LookupPhase, LookupState, Refresh, RouterState},
    source::SourceState,
};
use axum::{
    Json, Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::any,
};
use deadpool_postgres::{Object, Pool};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;

/// The longest body that is read.
const BODY_LIMIT: usize = 64 * 1024;
/// How long the body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an explanation may take.
const LIMIT: Duration = Duration::from_secs(15);

/// What the route needs. Cheap to clone.
#[derive(Clone)]
pub struct Explain {
    /// Connections with the database's own settings; as many as explanations at the same time.
    pub pool: Pool,
    /// Token → claims.
    pub verifier: Verifier,
    /// The role whose tokens may ask.
    pub admin_role: Arc<str>,
    /// The publication clients subscribe to.
    pub publication: Arc<str>,
    /// The server's catalogue.
    pub refresh: Refresh,
    /// The stream.
    pub source: watch::Receiver<SourceState>,
    /// The tables policies look into.
    pub router: watch::Receiver<RouterState>,
}

/// What is asked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    table: String,
    row: Value,
    token: Option<String>,
    claims: Option<Map<String, Value>>,
    filter: Option<String>,
}

/// Why there is no answer: status, a code for programs, and a text.
struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Refusal {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Refusal {
        Refusal { status, code, message: message.into() }
    }

    fn request(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    fn database(message: &str) -> Refusal {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "database", message)
    }
}

impl From<ExplainError> for Refusal {
    fn from(error: ExplainError) -> Refusal {
        let text = error.to_string();
        match error {
            ExplainError::NoTable(_) => Refusal::new(StatusCode::NOT_FOUND, "no_table", text),
            ExplainError::NoRow(_) => Refusal::new(StatusCode::NOT_FOUND, "no_row", text),
            ExplainError::Key { .. } | ExplainError::KeyValue => Refusal::new(StatusCode::BAD_REQUEST, "bad_key", text),
            ExplainError::NoReader | ExplainError::Query(_) | ExplainError::Answer(_) => Refusal::database(&text),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({ "code": self.code, "message": self.message });
        let mut response = (self.status, Json(body)).into_response();
        let challenge = match self.status {
            StatusCode::UNAUTHORIZED => Some((header::WWW_AUTHENTICATE, "Bearer")),
            StatusCode::METHOD_NOT_ALLOWED => Some((header::ALLOW, "POST")),
            _ => None,
        };
        if let Some((name, value)) = challenge {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

/// The route. Without CORS: it is for operators, not for pages.
pub fn routes(explain: Explain) -> Router {
    Router::new().route("/api/explain", any(serve)).with_state(explain)
}

async fn serve(State(state): State<Explain>, request: Request) -> Response {
    match answer(&state, request).await {
        // What is true of rights now may not be in a moment.
        Ok(report) => ([(header::CACHE_CONTROL, "no-store")], Json(report)).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

async fn answer(state: &Explain, request: Request) -> Result<Report, Refusal> {
    let (head, body) = request.into_parts();
    if head.method != Method::POST {
        return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method", "ask with POST"));
    }
    admit(state, &head.headers).await?;
    let asked = read(body).await?;
    let claims = claims(state, &asked)?;
    let key = Key::of_json(&asked.row)
        .ok_or_else(|| Refusal::request("row is a value, a list of values, or an object by column"))?;
    let running = running(state);
    let catalog = state.refresh.catalog();
    let world = World { catalog: &catalog, publication: &state.publication, running: Some(&running) };
    let filter = asked.filter.as_deref().filter(|filter| !filter.is_empty());
    let question = Question { table: &asked.table, key: &key, filter, claims: &claims };
    ask(&state.pool, &world, &question).await
}

/// Lets through whose verified token has the admin role.
async fn admit(state: &Explain, headers: &HeaderMap) -> Result<(), Refusal> {
    let refused = |message: String| Refusal::new(StatusCode::UNAUTHORIZED, "unauthorized", message);
    let token = bearer(headers).ok_or_else(|| refused("send a token as Authorization: Bearer".to_owned()))?;
    state.verifier.prepare(token).await;
    let claims = state.verifier.verify(token, now()).map_err(|error| refused(error.to_string()))?;
    if claims.role != state.admin_role {
        let message = format!("only tokens of role \"{}\" may ask (admin_role)", state.admin_role);
        return Err(Refusal::new(StatusCode::FORBIDDEN, "forbidden", message));
    }
    Ok(())
}

async fn read(body: Body) -> Result<Asked, Refusal> {
    let bytes = tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, BODY_LIMIT)).await;
    let slow = || Refusal::new(StatusCode::REQUEST_TIMEOUT, "slow", "the body did not arrive in time");
    let bytes = bytes.map_err(|_| slow())?.map_err(|_| {
        let message = format!("the body did not arrive, or is longer than {BODY_LIMIT} bytes");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    })?;
    // The parser's own words may quote the body, which holds a token.
    serde_json::from_slice(&bytes).map_err(|error| {
        Refusal::request(format!(
            "the body is not an object with `table`, `row`, `token` or `claims`, and perhaps `filter`: line {}, column {}",
            error.line(),
            error.column()
        ))
    })
}

/// In whose name is asked.
fn claims(state: &Explain, asked: &Asked) -> Result<Claims, Refusal> {
    match (&asked.token, &asked.claims) {
        (Some(token), None) => state.verifier.verify(token, now()).map_err(|error| {
            let message = format!(
                "the server refuses this token: {error}; to explain what its claims would let see, send claims"
            );
            Refusal::new(StatusCode::BAD_REQUEST, "bad_token", message)
        }),
        (None, Some(claims)) => Claims::of_object(claims.clone()).ok_or_else(|| Refusal::request("claims has no role")),
        _ => Err(Refusal::request("send token or claims, one of both")),
    }
}

async fn ask(pool: &Pool, world: &World<'_>, question: &Question<'_>) -> Result<Report, Refusal> {
    let mut client = pool.get().await.map_err(|_| Refusal::database("there is no connection to the database"))?;
    let report = tokio::time::timeout(LIMIT, explain(&mut client, world, question)).await;
    if !matches!(report, Ok(Ok(_))) {
        // Nobody shall get a connection that may stand amid a transaction, or amid a statement.
        drop(Object::take(client));
    }
    match report {
        Ok(Ok(report)) => Ok(report),
        Ok(Err(error)) => {
            if matches!(error, ExplainError::Query(_) | ExplainError::Answer(_)) {
                tracing::warn!(error = %describe(&error), "cannot explain");
            }
            Err(error.into())
        }
        Err(_) => Err(Refusal::new(StatusCode::GATEWAY_TIMEOUT, "slow", "the database did not answer in time")),
    }
}

/// What the server does that the database does not know.
fn running(state: &Explain) -> Running {
    let source = state.source.borrow();
    let interruption = if !source.streaming {
        let problem = source.problem.as_ref().map(|problem| format!(": {problem}")).unwrap_or_default();
        Some(format!("the stream is interrupted, so nobody hears of any change now{problem}"))
    } else if !state.refresh.is_fresh() {
        Some("the catalogue cannot be read, so changes are held until it can".to_owned())
    } else {
        None
    };
    let lookups = state.router.borrow().lookups.iter().map(lookup).collect();
    Running { interruption, lookups }
}

fn lookup(state: &LookupState) -> LookupTable {
    LookupTable {
        table: state.table.clone(),
        is_ready: state.phase == LookupPhase::Ready,
        state: state.phase.name(),
        why: state.why.clone(),
    }
}
