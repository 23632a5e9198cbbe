//! Every error a call can be answered with: PostgREST's codes, statuses and body `{code, message, details, hint}`.
//!
//! Errors of the database keep what Postgres says to the role that asked, details included: Postgres itself leaves
//! row values out where the role may not see them. None of it is logged.

use super::call::Call;
use crate::auth::TokenError;
use axum::{
    Json,
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use deadpool_postgres::{PoolError, TimeoutType};
use serde::Serialize;
use tokio_postgres::{
    Error,
    error::{DbError, SqlState},
};

/// The role of whoever has not signed in: told to do so, where another is told that he may not.
const ANONYMOUS: &str = "anon";

/// An error as the client sees it.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    /// The value of `WWW-Authenticate`, with status 401.
    challenge: Option<String>,
    /// Boxed: it is the rare half of a result.
    body: Box<ErrorBody>,
}

#[derive(Debug, Serialize)]
struct ErrorBody {
    code: String,
    details: Option<String>,
    hint: Option<String>,
    message: String,
}

impl Refusal {
    fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Refusal {
        let body = ErrorBody { code: code.to_owned(), details: None, hint: None, message: message.into() };
        Refusal { status, challenge: None, body: Box::new(body) }
    }

    fn details(mut self, details: impl Into<String>) -> Refusal {
        self.body.details = Some(details.into());
        self
    }

    fn hint(mut self, hint: impl Into<String>) -> Refusal {
        self.body.hint = Some(hint.into());
        self
    }

    fn challenge(mut self, challenge: impl Into<String>) -> Refusal {
        self.challenge = Some(challenge.into());
        self
    }

    pub(super) fn no_token() -> Refusal {
        Refusal::new(StatusCode::UNAUTHORIZED, "PGRST302", "Anonymous access is disabled")
            .hint("Send a token as Authorization: Bearer, or a key as apikey.")
            .challenge("Bearer")
    }

    pub(super) fn empty_token() -> Refusal {
        Refusal::new(StatusCode::UNAUTHORIZED, "PGRST301", "Empty JWT is sent in Authorization header")
            .challenge("Bearer error=\"invalid_token\"")
    }

    pub(super) fn token(error: &TokenError) -> Refusal {
        let (code, message) = match error {
            TokenError::Malformed => ("PGRST301", "the token is no JWT".to_owned()),
            TokenError::Signer { .. } | TokenError::Signature => {
                ("PGRST301", "No suitable key or wrong key type".to_owned())
            }
            TokenError::Expired { .. } | TokenError::ExpiresNow => ("PGRST303", "JWT expired".to_owned()),
            TokenError::MissingClaims | TokenError::Claim { .. } => ("PGRST303", error.to_string()),
        };
        let expired = if message == "JWT expired" { ", error_description=\"JWT expired\"" } else { "" };
        Refusal::new(StatusCode::UNAUTHORIZED, code, message)
            .challenge(format!("Bearer error=\"invalid_token\"{expired}"))
    }

    pub(super) fn role(role: &str) -> Refusal {
        Refusal::new(StatusCode::FORBIDDEN, "42501", format!("permission denied to set role \"{role}\""))
    }

    pub(super) fn method(method: &Method) -> Refusal {
        let message = format!("Unsupported HTTP method: {method}");
        Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "PGRST117", message)
    }

    pub(super) fn schema(schema: &str) -> Refusal {
        Refusal::new(StatusCode::NOT_ACCEPTABLE, "PGRST106", format!("Invalid schema: {schema}"))
            .hint("Only the following schemas are exposed: public")
    }

    pub(super) fn not_acceptable(accepted: &str) -> Refusal {
        let message = format!("None of these media types are available: {accepted}");
        Refusal::new(StatusCode::NOT_ACCEPTABLE, "PGRST107", message)
    }

    pub(super) fn parameter(message: &str) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, "PGRST100", message)
    }

    pub(super) fn body(message: &str) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, "PGRST102", message)
    }

    pub(super) fn content_type(kind: &str) -> Refusal {
        Refusal::body(&format!("Content-Type not acceptable: {kind}"))
    }

    pub(super) fn too_large(limit_bytes: usize) -> Refusal {
        let message = format!("the body is longer than {limit_bytes} bytes");
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "PGRST102", message)
    }

    pub(super) fn slow_body() -> Refusal {
        Refusal::new(StatusCode::REQUEST_TIMEOUT, "PGRST102", "the body did not arrive in time")
    }

    pub(super) fn no_function(name: &str, given: &[String]) -> Refusal {
        let (call, searched) = if given.is_empty() {
            (format!("public.{name} without parameters"), "without parameters".to_owned())
        } else {
            let names = given.join(", ");
            (format!("public.{name}({names})"), format!("with parameters {names}"))
        };
        let message = format!("Could not find the function {call} in the schema cache");
        let details = format!(
            "Searched for the function public.{name} {searched}, but no matches were found in the schema cache."
        );
        Refusal::new(StatusCode::NOT_FOUND, "PGRST202", message).details(details)
    }

    pub(super) fn no_catalog() -> Refusal {
        let message = "Could not query the database for the schema cache. Retrying.";
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "PGRST002", message)
    }

    pub(super) fn silent_database() -> Refusal {
        Refusal::new(StatusCode::GATEWAY_TIMEOUT, "PGRST003", "The database did not answer in time.")
    }

    pub(super) fn pool(error: &PoolError) -> Refusal {
        match error {
            PoolError::Timeout(TimeoutType::Wait) => {
                let message = "Timed out acquiring connection from connection pool.";
                Refusal::new(StatusCode::GATEWAY_TIMEOUT, "PGRST003", message)
            }
            // What exactly the server said to our login is none of the client's business.
            _ => Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "PGRST000", "Database connection error. Retrying."),
        }
    }

    /// What went wrong inside the transaction of a call that ran as `role`.
    pub(super) fn database(error: &Error, role: &str, call: &Call<'_>) -> Refusal {
        let Some(reason) = error.as_db_error() else {
            return Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "PGRST001", "Database connection lost. Retrying.");
        };
        // Without a context it is our own statement that names no function, not something the function calls.
        if *reason.code() == SqlState::UNDEFINED_FUNCTION && reason.where_().is_none() {
            return Refusal::no_function(call.name(), call.given);
        }
        let status = status(reason, role);
        let mut refusal = Refusal::new(status, reason.code().code(), reason.message());
        refusal.body.details = reason.detail().map(str::to_owned);
        refusal.body.hint = reason.hint().map(str::to_owned);
        if status == StatusCode::UNAUTHORIZED {
            return refusal.challenge("Bearer");
        }
        refusal
    }

    /// Logs what an operator must know: code and status, nothing of the request.
    pub(super) fn log(&self) {
        let (status, code) = (self.status.as_u16(), self.body.code.as_str());
        if self.status.is_server_error() {
            tracing::warn!(status, code, "call failed");
        } else {
            tracing::debug!(status, code, "call refused");
        }
    }
}

/// PostgREST's table from SQLSTATE to status.
fn status(reason: &DbError, role: &str) -> StatusCode {
    let code = reason.code().code();
    // RAISE SQLSTATE 'PT404': the function chooses the status.
    if let Some(chosen) = code.strip_prefix("PT").and_then(|digits| digits.parse::<u16>().ok()) {
        let chosen = StatusCode::from_u16(chosen).ok();
        return chosen.filter(|status| status.as_u16() >= 400).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    }
    match code {
        "23503" | "23505" => return StatusCode::CONFLICT,
        "25006" => return StatusCode::METHOD_NOT_ALLOWED,
        "42883" | "42P01" => return StatusCode::NOT_FOUND,
        "42P17" | "53400" => return StatusCode::INTERNAL_SERVER_ERROR,
        "42501" if role == ANONYMOUS => return StatusCode::UNAUTHORIZED,
        "42501" => return StatusCode::FORBIDDEN,
        "57P01" | "57P02" | "57P03" => return StatusCode::SERVICE_UNAVAILABLE,
        "P0001" => return StatusCode::BAD_REQUEST,
        _ => {}
    }
    match code.get(..2).unwrap_or_default() {
        "08" | "53" => StatusCode::SERVICE_UNAVAILABLE,
        "0L" | "0P" | "28" => StatusCode::FORBIDDEN,
        "09" | "25" | "2D" | "38" | "39" | "3B" | "40" | "54" | "55" | "57" | "58" | "F0" | "HV" | "P0" | "XX" => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
        _ => StatusCode::BAD_REQUEST,
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body)).into_response();
        let headers = response.headers_mut();
        if let Some(challenge) = self.challenge.and_then(|text| HeaderValue::from_str(&text).ok()) {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(header::ALLOW, HeaderValue::from_static("POST, OPTIONS"));
        }
        response
    }
}
