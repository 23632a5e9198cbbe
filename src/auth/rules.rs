//! What the claims of a genuine token must say (protocol reference, section 9). Pure: the time is an argument.

use super::{compact::seconds, jwt::TokenError};
use crate::claims::Claims;
use serde_json::{Map, Value};

/// What must hold beyond `role` and `exp`.
#[derive(Clone, Default)]
pub(super) struct Rules {
    /// The audience it must name.
    pub(super) audience: Option<String>,
    /// The issuer it must name.
    pub(super) issuer: Option<String>,
    /// The roles it may name; any when none are given.
    pub(super) roles: Option<Vec<String>>,
    /// Claims it must have.
    pub(super) required: Vec<String>,
    /// Claims it must have with exactly this value.
    pub(super) values: Map<String, Value>,
}

impl Rules {
    /// The claims, when they hold at `now`. There is no leeway.
    pub(super) fn check(&self, claims: Map<String, Value>, now: i64) -> Result<Claims, TokenError> {
        let role = claims.get("role").and_then(Value::as_str).ok_or(TokenError::MissingClaims)?;
        let expires_at = claims.get("exp").and_then(seconds).ok_or(TokenError::MissingClaims)?;
        match now.saturating_sub(expires_at) {
            0 => return Err(TokenError::ExpiresNow),
            late if late > 0 => return Err(TokenError::Expired { seconds_ago: late }),
            _ => {}
        }
        if let Some(claim) = self.broken(&claims, role, now) {
            return Err(TokenError::Claim { claim: claim.to_owned() });
        }
        let role = role.into();
        Ok(Claims { role, expires_at: Some(expires_at), json: Value::Object(claims).to_string().into() })
    }

    /// The first claim that does not hold.
    fn broken<'a>(&'a self, claims: &Map<String, Value>, role: &str, now: i64) -> Option<&'a str> {
        let is_time = |claim: &str, fits: &dyn Fn(i64) -> bool| {
            claims.get(claim).is_none_or(|value| seconds(value).is_some_and(fits))
        };
        let names = |claim: &str, wanted: Option<&str>| {
            wanted.is_none_or(|wanted| match claims.get(claim) {
                Some(Value::String(one)) => one == wanted,
                Some(Value::Array(several)) => several.iter().any(|one| one == wanted),
                _ => false,
            })
        };
        if !is_time("nbf", &|start| start <= now) {
            return Some("nbf");
        }
        if !is_time("iat", &|_| true) {
            return Some("iat");
        }
        if !names("aud", self.audience.as_deref()) {
            return Some("aud");
        }
        if !names("iss", self.issuer.as_deref()) {
            return Some("iss");
        }
        if self.roles.as_ref().is_some_and(|roles| !roles.iter().any(|one| one == role)) {
            return Some("role");
        }
        let is_missing = |claim: &&String| claims.get(*claim).is_none_or(Value::is_null);
        let is_other = |(claim, value): &(&String, &Value)| claims.get(*claim) != Some(*value);
        let missing = self.required.iter().find(is_missing);
        missing.or_else(|| self.values.iter().find(is_other).map(|(claim, _)| claim)).map(String::as_str)
    }
}
