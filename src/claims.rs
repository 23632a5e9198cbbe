//! What a verified token says about its bearer. Verification itself is `auth`'s; rights are `policy`'s.

use serde_json::{Map, Value};
use std::sync::Arc;

/// The claims of a token whose signature and expiry were checked, or those configured for an opaque key.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims {
    /// The database role of the bearer: claim `role`. Not yet proved to be one that was granted to us.
    pub role: Arc<str>,
    /// Seconds since the epoch at which the token stops being valid; none for an opaque key.
    pub expires_at: Option<i64>,
    /// The whole claims object as JSON text: what policies read from `request.jwt.claims`.
    pub json: Arc<str>,
}

impl Claims {
    /// Claims that consist of a role alone, as for a configured opaque key.
    pub fn of_role(role: &str) -> Claims {
        let mut object = Map::new();
        object.insert("role".to_owned(), Value::from(role));
        Claims { role: role.into(), expires_at: None, json: Value::Object(object).to_string().into() }
    }

    /// Claims that nobody signed, for questions by those who need no token; none when no role is among them.
    pub fn of_object(object: Map<String, Value>) -> Option<Claims> {
        let role = object.get("role")?.as_str()?.into();
        Some(Claims { role, expires_at: None, json: Value::Object(object).to_string().into() })
    }
}
