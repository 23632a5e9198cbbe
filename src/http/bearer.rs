//! Which token a request carries, and when it came. Whether it is a good one is for others to say.

use axum::http::{HeaderMap, HeaderValue, header};
use std::time::{SystemTime, UNIX_EPOCH};

fn text(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok().map(str::trim)
}

/// The token of `Authorization: Bearer`; it may be empty.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION).and_then(text)?;
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The same; without one, the header `apikey`.
pub(super) fn bearer_or_key(headers: &HeaderMap) -> Option<&str> {
    bearer(headers).or_else(|| headers.get("apikey").and_then(text))
}

/// Seconds since the epoch, as tokens and rates have them.
pub(super) fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    i64::try_from(now).unwrap_or(i64::MAX)
}
