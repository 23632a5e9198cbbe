//! `POST /api/broadcast` (a batch) and `POST /api/broadcast/{topic}/events/{event}` (one message), under both path
//! families (protocol reference, sections 6.2 and 6.3).
//!
//! Owns the order of the checks and the bounds of what goes on at the same time. `batch` and `single` read what is
//! said, `speak` says it in the rooms, `refusal` has the answers.

mod batch;
mod body;
mod refusal;
mod single;
mod speak;

use super::bearer::{bearer_or_key, now};
use crate::{
    auth::Verifier, claims::Claims, hub::Rooms, limits::Meters, metrics::Metrics, protocol::Broadcast,
    rights::ChannelRights,
};
use axum::{
    Router,
    extract::{Path, Request, State, rejection::PathRejection},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use refusal::Refusal;
use single::Address;
use speak::Speaker;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::sync::Semaphore;
use tower_http::cors::{AllowHeaders, Any, CorsLayer};

/// More is asked for at the same time than is done.
const TOO_MANY_REQUESTS: &str = "Too many requests";
/// More questions about rights at the same time than are asked.
const POOL_EXHAUSTED: &str = "Connection pool exhausted";
/// The rate of messages is at its limit.
const RATE_EXCEEDED: &str = "You have exceeded your rate limit";
/// The rate of messages would be over its limit after this batch.
const BATCH_TOO_LARGE: &str = "Too many messages to broadcast, please reduce the batch size";
/// Bounds of what goes on at the same time.
#[derive(Clone, Debug)]
pub struct Config {
    /// The longest body that is read.
    pub body_limit_bytes: usize,
    /// How long a body may take to arrive.
    pub body_timeout: Duration,
    /// What all bodies may hold in memory together.
    pub bodies_bytes: usize,
    /// Requests at the same time.
    pub requests: usize,
    /// Requests among them that wait for an answer about rights.
    pub questions: usize,
    /// Questions about rights that the database is asked at the same time: others join meanwhile, and have to ask, too.
    pub questions_asked: usize,
    /// How long a request waits for answers about rights.
    pub rights_timeout: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            // What the parser of the server we replace reads.
            body_limit_bytes: 8_000_000,
            body_timeout: Duration::from_secs(30),
            bodies_bytes: 64 * 1024 * 1024,
            requests: 1024,
            questions: 256,
            questions_asked: 2,
            rights_timeout: Duration::from_secs(10),
        }
    }
}

/// What the routes need.
pub struct Parts {
    /// Bounds.
    pub config: Config,
    /// Token → claims.
    pub verifier: Verifier,
    /// Where it is said.
    pub rooms: Rooms,
    /// The limits of the server.
    pub meters: Arc<Meters>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Who may speak in private channels.
    pub rights: ChannelRights,
}

struct Rest {
    parts: Parts,
    bodies: Arc<Semaphore>,
    requests: Semaphore,
    questions: Semaphore,
}

/// A message that is to be said.
#[derive(Debug, PartialEq)]
struct Message {
    /// Without `realtime:`.
    topic: String,
    is_private: bool,
    broadcast: Broadcast,
}

/// The routes, with CORS: tokens travel in headers, never in cookies, so any page may ask.
pub fn routes(mut parts: Parts) -> Router {
    parts.rights = parts.rights.share(parts.config.questions_asked);
    let rate_headers = ["x-rate-rolling", "x-rate-limit", "x-rate-limit-remaining"].map(HeaderName::from_static);
    let cors = CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::POST, Method::OPTIONS])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(rate_headers)
        .max_age(Duration::from_secs(86_400));
    let Config { bodies_bytes, requests, questions, .. } = parts.config;
    let rest = Rest {
        parts,
        bodies: Arc::new(Semaphore::new(bodies_bytes)),
        requests: Semaphore::new(requests),
        questions: Semaphore::new(questions),
    };
    let mut router = Router::new();
    for family in ["/api", "/realtime/v1/api"] {
        router = router
            .route(&format!("{family}/broadcast"), post(serve_batch))
            .route(&format!("{family}/broadcast/{{topic}}/events/{{event}}"), post(serve_single));
    }
    router.layer(cors).with_state(Arc::new(rest))
}

async fn serve_batch(State(rest): State<Arc<Rest>>, request: Request) -> Response {
    let outcome = batch(&rest, request).await;
    rest.answer(outcome)
}

async fn serve_single(
    State(rest): State<Arc<Rest>>,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Response {
    let outcome = match path {
        Ok(Path(names)) => single(&rest, names, request).await,
        Err(_) => Err(Refusal::BadRequest),
    };
    rest.answer(outcome)
}

async fn batch(rest: &Rest, request: Request) -> Result<(), Refusal> {
    let (head, body) = request.into_parts();
    let _place = rest.place(&rest.requests, TOO_MANY_REQUESTS)?;
    let claims = rest.admit(&head.headers).await?;
    let body = body::read(&head.headers, body, &rest.parts.config, &rest.bodies).await?;
    let messages = batch::messages(&body.bytes, rest.max_payload_bytes()).inspect_err(|why| rest.drop_large(why))?;
    rest.admit_batch(messages.len())?;
    let (private, public): (Vec<_>, Vec<_>) = messages.into_iter().partition(|message| message.is_private);
    // Before anything is said: nobody shall get half a batch for want of a place.
    let _question = match private.is_empty() {
        true => None,
        false => Some(rest.place(&rest.questions, POOL_EXHAUSTED)?),
    };
    let speaker = Speaker { parts: &rest.parts, claims, headers: texts(&head.headers) };
    speaker.say_public(public).await;
    speaker.say_private(private).await;
    Ok(())
}

async fn single(rest: &Rest, (topic, event): (String, String), request: Request) -> Result<(), Refusal> {
    let (head, body) = request.into_parts();
    let _place = rest.place(&rest.requests, TOO_MANY_REQUESTS)?;
    let claims = rest.admit(&head.headers).await?;
    let kind = single::kind(&head.headers)?;
    let is_private = single::wishes(head.uri.query())?.is_private;
    let body = body::read(&head.headers, body, &rest.parts.config, &rest.bodies).await?;
    let address = Address { topic, event, is_private };
    let message = single::message(address, kind, body.bytes.clone(), rest.max_payload_bytes())
        .inspect_err(|why| rest.drop_large(why))?;
    let speaker = Speaker { parts: &rest.parts, claims, headers: texts(&head.headers) };
    if is_private {
        let _question = rest.place(&rest.questions, POOL_EXHAUSTED)?;
        speaker
            .ask(&message.topic, speaker.deadline())
            .await
            .inspect_err(|_| rest.parts.metrics.broadcasts_dropped.add(1))?;
    }
    speaker.say(&message);
    Ok(())
}

impl Rest {
    /// In whose name a request comes, unless it is not taken at all.
    async fn admit(&self, headers: &HeaderMap) -> Result<Claims, Refusal> {
        let token = bearer_or_key(headers).ok_or(Refusal::Unauthorized)?;
        self.parts.verifier.prepare(token).await;
        let claims = self.parts.verifier.verify(token, now()).map_err(|_| Refusal::Unauthorized)?;
        if self.parts.meters.limits().suspend {
            self.parts.metrics.refuse("suspend");
            return Err(Refusal::Suspended);
        }
        if self.parts.meters.has_too_many_events(now()) {
            self.parts.metrics.refuse("max_events_per_second");
            return Err(Refusal::TooMany(RATE_EXCEEDED));
        }
        Ok(claims)
    }

    /// Whether so many messages more are within the rate.
    fn admit_batch(&self, count: usize) -> Result<(), Refusal> {
        let Some(limit) = self.parts.meters.limits().max_events_per_second else { return Ok(()) };
        if self.rolling().saturating_add(count as u64) > u64::from(limit) {
            self.parts.metrics.refuse("max_events_per_second");
            self.parts.metrics.broadcasts_dropped.add(count);
            return Err(Refusal::TooMany(BATCH_TOO_LARGE));
        }
        Ok(())
    }

    /// A place among those who do the same.
    fn place<'a>(&self, places: &'a Semaphore, why: &'static str) -> Result<tokio::sync::SemaphorePermit<'a>, Refusal> {
        places.try_acquire().map_err(|_| Refusal::TooMany(why))
    }

    fn max_payload_bytes(&self) -> usize {
        self.parts.meters.limits().max_payload_bytes()
    }

    /// Counts a refusal for a payload over the limit.
    fn drop_large(&self, why: &Refusal) {
        if let Refusal::Errors(errors) = why
            && errors.to_string().contains(refusal::TOO_LARGE)
        {
            self.parts.metrics.refuse("max_payload_size_in_kb");
        }
    }

    /// Messages a second, on average of a minute.
    fn rolling(&self) -> u64 {
        self.parts.meters.events_per_second(now())
    }

    fn answer(&self, outcome: Result<(), Refusal>) -> Response {
        let mut response = match outcome {
            Ok(()) => StatusCode::ACCEPTED.into_response(),
            Err(refusal) => {
                if matches!(refusal, Refusal::TooMany(_)) {
                    self.parts.metrics.requests_turned_away.add(1);
                }
                refusal.into_response()
            }
        };
        if let Some(limit) = self.parts.meters.limits().max_events_per_second {
            let (rolling, limit) = (self.rolling(), u64::from(limit));
            let headers = [("rolling", rolling), ("limit", limit), ("limit-remaining", limit.saturating_sub(rolling))];
            for (name, value) in headers {
                if let Ok(name) = HeaderName::try_from(format!("x-rate-{name}")) {
                    response.headers_mut().insert(name, HeaderValue::from(value));
                }
            }
        }
        response
    }
}

/// All headers, as policies read them from `request.headers`.
fn texts(headers: &HeaderMap) -> Arc<str> {
    let mut texts: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, value) in headers {
        if let Ok(value) = value.to_str() {
            texts.insert(name.as_str(), value);
        }
    }
    serde_json::to_string(&texts).unwrap_or_else(|_| "{}".to_owned()).into()
}
