//! `POST /rest/v1/rpc/{function}` as PostgREST serves it, for the functions of the demo, so that `supabase.rpc()` works
//! without a PostgREST beside us.
//!
//! Owns reading the request and shaping the answer. `call` runs the function under the bearer's role and claims,
//! `refusal` says what went wrong. Which roles may be claimed is the catalogue's knowledge.

mod call;
mod refusal;

use super::bearer::{bearer_or_key, now};
use crate::{auth::Verifier, claims::Claims, policy::catalog::Catalog};
use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Path, Query, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::any,
};
use call::Call;
use deadpool_postgres::Pool;
use refusal::Refusal;
use serde::de::IgnoredAny;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::sync::watch;
use tower_http::cors::{AllowHeaders, Any, CorsLayer};

const JSON: &str = "application/json";
/// What `.single()` of the clients asks for. A call answers with one object anyway.
const ONE_OBJECT: &str = "application/vnd.pgrst.object+json";
const SCHEMA: &str = "public";

/// Limits of a call.
#[derive(Clone, Debug)]
pub struct Config {
    /// The longest body that is read.
    pub body_limit_bytes: usize,
    /// How long the body may take to arrive.
    pub body_timeout: Duration,
    /// How long a statement may run.
    pub statement_timeout: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            body_limit_bytes: 1024 * 1024,
            body_timeout: Duration::from_secs(30),
            // What Supabase gives the authenticated role.
            statement_timeout: Duration::from_secs(8),
        }
    }
}

/// What the routes need. Cheap to clone.
#[derive(Clone)]
pub struct Rpc {
    /// Connections whose login was granted the roles that may be claimed.
    pub pool: Pool,
    /// Token → claims.
    pub verifier: Verifier,
    /// Says which roles may be claimed.
    pub catalog: watch::Receiver<Arc<Catalog>>,
    /// Limits.
    pub config: Config,
}

/// A function that may be called, as the database has it.
struct Function {
    name: &'static str,
    /// Argument names and types. Names and types go into SQL as they stand here.
    arguments: &'static [(&'static str, &'static str)],
    /// Those without a default; at least one.
    required: &'static [&'static str],
}

/// All functions that are served. Nothing a client sends ever names one that is not in here.
const FUNCTIONS: &[Function] = &[Function {
    name: "insert_message",
    arguments: &[
        ("content", "text"),
        ("conversation_id", "uuid"),
        ("recipient_id", "uuid"),
        ("sender_type", "text"),
        ("metadata", "jsonb"),
    ],
    required: &["content"],
}];

/// The routes, with CORS: tokens travel in headers, never in cookies, so any origin may ask.
pub fn routes(rpc: Rpc) -> Router {
    let cors = CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::POST, Method::OPTIONS])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([header::CONTENT_TYPE, HeaderName::from_static("preference-applied")])
        .max_age(Duration::from_secs(86_400));
    Router::new().route("/rest/v1/rpc/{function}", any(serve)).layer(cors).with_state(rpc)
}

async fn serve(State(rpc): State<Rpc>, Path(function): Path<String>, request: Request) -> Response {
    match answer(&rpc, &function, request).await {
        Ok(response) => response,
        Err(refusal) => {
            refusal.log();
            refusal.into_response()
        }
    }
}

async fn answer(rpc: &Rpc, name: &str, request: Request) -> Result<Response, Refusal> {
    let (head, body) = request.into_parts();
    if head.method != Method::POST {
        return Err(Refusal::method(&head.method));
    }
    let claims = bearer(rpc, &head.headers).await?;
    accepts_json(&head.headers)?;
    profile(&head.headers)?;
    let minimal = wants_minimal(&head.headers);
    let parameters: Query<Vec<(String, String)>> =
        Query::try_from_uri(&head.uri).map_err(|_| Refusal::parameter("the query string cannot be read"))?;
    let columns = call::columns(&parameters.0)?;

    let body = read(rpc, &head.headers, body).await?;
    let given = argument_names(&body)?;
    let function = FUNCTIONS
        .iter()
        .find(|function| function.name == name)
        .filter(|function| function.takes(&given))
        .ok_or_else(|| Refusal::no_function(name, &given))?;
    let call = Call { function, given: &given, columns, arguments: &body, claims: &claims };
    let row = call.run(&rpc.pool, rpc.config.statement_timeout).await?;

    if minimal {
        let applied = [(HeaderName::from_static("preference-applied"), HeaderValue::from_static("return=minimal"))];
        return Ok((StatusCode::NO_CONTENT, applied).into_response());
    }
    let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"))];
    Ok((json, row).into_response())
}

impl Function {
    fn takes(&self, given: &[String]) -> bool {
        given.iter().all(|name| self.arguments.iter().any(|(argument, _)| argument == name))
            && self.required.iter().all(|name| given.iter().any(|other| other == name))
    }
}

/// The claims of the request's token: `Authorization: Bearer`, else the `apikey` header.
async fn bearer(rpc: &Rpc, headers: &HeaderMap) -> Result<Claims, Refusal> {
    let token = bearer_or_key(headers).ok_or_else(Refusal::no_token)?;
    if token.is_empty() {
        return Err(Refusal::empty_token());
    }
    rpc.verifier.prepare(token).await;
    let claims = rpc.verifier.verify(token, now()).map_err(|error| Refusal::token(&error))?;
    let catalog = rpc.catalog.borrow();
    // Before the catalogue is read the list is empty, and nobody is let in.
    if catalog.roles.is_empty() {
        return Err(Refusal::no_catalog());
    }
    if !catalog.roles.contains(&claims.role) {
        return Err(Refusal::role(&claims.role));
    }
    drop(catalog);
    Ok(claims)
}

fn accepts_json(headers: &HeaderMap) -> Result<(), Refusal> {
    let accepted: Vec<_> = list(headers, &header::ACCEPT).collect();
    let fits = |range: &str| {
        let range = range.split(';').next().unwrap_or_default().trim();
        ["*/*", "application/*", JSON, ONE_OBJECT].iter().any(|known| range.eq_ignore_ascii_case(known))
    };
    if accepted.is_empty() || accepted.iter().any(|range| fits(range)) {
        return Ok(());
    }
    Err(Refusal::not_acceptable(&accepted.join(", ")))
}

fn profile(headers: &HeaderMap) -> Result<(), Refusal> {
    match headers.get("content-profile") {
        Some(schema) if schema != SCHEMA => Err(Refusal::schema(&String::from_utf8_lossy(schema.as_bytes()))),
        _ => Ok(()),
    }
}

fn wants_minimal(headers: &HeaderMap) -> bool {
    list(headers, &HeaderName::from_static("prefer")).any(|preference| preference == "return=minimal")
}

/// The members of a header that is a list, over all its lines.
fn list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|member| !member.is_empty())
}

async fn read(rpc: &Rpc, headers: &HeaderMap, body: Body) -> Result<String, Refusal> {
    if let Some(kind) = headers.get(header::CONTENT_TYPE) {
        let kind = String::from_utf8_lossy(kind.as_bytes());
        if !kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(JSON) {
            return Err(Refusal::content_type(&kind));
        }
    }
    let limit = rpc.config.body_limit_bytes;
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > limit) {
        return Err(Refusal::too_large(limit));
    }
    let bytes = tokio::time::timeout(rpc.config.body_timeout, to_bytes(body, limit)).await;
    let bytes = bytes.map_err(|_| Refusal::slow_body())?.map_err(|error| match is_limit(&error) {
        true => Refusal::too_large(limit),
        false => Refusal::body("the body did not arrive"),
    })?;
    // An empty body is a call without arguments.
    if bytes.is_empty() {
        return Ok("{}".to_owned());
    }
    String::from_utf8(bytes.into()).map_err(|_| Refusal::body("Empty or invalid json"))
}

/// Whether reading ended at the limit and not because the client went away.
fn is_limit(error: &axum::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.to_string().contains("length limit"))
}

/// The names of the arguments in a body, sorted.
fn argument_names(body: &str) -> Result<Vec<String>, Refusal> {
    let object: BTreeMap<String, IgnoredAny> =
        serde_json::from_str(body).map_err(|_| Refusal::body("Empty or invalid json"))?;
    Ok(object.into_keys().collect())
}
