//! Every answer but the good one: statuses, bodies and texts of the server we replace (protocol reference, sections 6.2
//! and 6.3).

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

/// A value that has to be there is not.
pub(super) const BLANK: &str = "can't be blank";
/// A value is of another type than it has to be.
pub(super) const INVALID: &str = "is invalid";
/// A payload over the limit.
pub(super) const TOO_LARGE: &str = "Payload size exceeds tenant limit";

/// Why nothing was broadcast.
#[derive(Debug, PartialEq)]
pub(super) enum Refusal {
    /// The body is not what its content type says.
    BadRequest,
    /// The body is longer than any message may be.
    BodyTooLarge,
    /// The body did not arrive in time.
    BodySlow,
    /// A content type that is not taken.
    MediaType,
    /// The token is missing or no good.
    Unauthorized,
    /// A private channel the sender may not speak in.
    Forbidden,
    /// Nobody is served.
    Suspended,
    /// Fields and what is wrong with them.
    Errors(Value),
    /// Something else the request asks for cannot be had.
    Unprocessable(&'static str),
    /// Too much, or too much at once.
    TooMany(&'static str),
}

impl Refusal {
    /// What is wrong with one field.
    pub(super) fn field(name: &str, text: &str) -> Refusal {
        Refusal::Errors(json!({ name: [text] }))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let html = |status: StatusCode, text: &'static str| {
            (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], text).into_response()
        };
        let message = |status: StatusCode, text: &str| json_response(status, json!({ "message": text }));
        match self {
            Refusal::BadRequest => html(StatusCode::BAD_REQUEST, "Bad Request"),
            Refusal::BodyTooLarge => html(StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large"),
            Refusal::BodySlow => html(StatusCode::REQUEST_TIMEOUT, "Request Timeout"),
            Refusal::MediaType => json_response(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                json!({ "error": "Unsupported Media Type. Use application/json or application/octet-stream" }),
            ),
            Refusal::Unauthorized => message(StatusCode::UNAUTHORIZED, "Unauthorized"),
            Refusal::Forbidden => message(StatusCode::FORBIDDEN, "Unauthorized"),
            Refusal::Suspended => message(StatusCode::FORBIDDEN, "Tenant is suspended"),
            Refusal::Errors(errors) => json_response(StatusCode::UNPROCESSABLE_ENTITY, json!({ "errors": errors })),
            Refusal::Unprocessable(text) => message(StatusCode::UNPROCESSABLE_ENTITY, text),
            Refusal::TooMany(text) => message(StatusCode::TOO_MANY_REQUESTS, text),
        }
    }
}

fn json_response(status: StatusCode, body: Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json; charset=utf-8")], body.to_string()).into_response()
}
