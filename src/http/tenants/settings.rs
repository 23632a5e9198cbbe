//! What the admin API may change, and what only the environment can: reading a `tenant` object into limits. Pure.

use crate::limits::{ClientPresence, Limits};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A limit that is not said, while the other one of the two is: as the server we replace has them.
const DEFAULT_PRESENCE: ClientPresence = ClientPresence { max_calls: 5, window_ms: 30_000 };

const INVALID: &str = "is invalid";

/// What is wrong with the fields.
pub(super) type Errors = BTreeMap<&'static str, [String; 1]>;

/// What the environment has said, and a request can only repeat.
#[derive(Clone, Copy)]
pub(super) struct Fixed<'a> {
    pub(super) name: &'a str,
    pub(super) publication: &'a str,
    pub(super) is_jwt_secret: &'a dyn Fn(&str) -> bool,
}

/// The limits in force, with those of a `tenant` object in their places; or why not.
pub(super) fn apply(tenant: &Map<String, Value>, before: &Limits, fixed: Fixed<'_>) -> Result<Limits, Errors> {
    let mut fields = Fields { tenant, errors: Errors::new() };
    fields.check_fixed(fixed);
    let mut limits = before.clone();
    fields.optional("max_concurrent_users", &mut limits.max_concurrent_users);
    fields.optional("max_events_per_second", &mut limits.max_events_per_second);
    fields.optional("max_joins_per_second", &mut limits.max_joins_per_second);
    fields.optional("max_presence_events_per_second", &mut limits.max_presence_events_per_second);
    fields.required("max_channels_per_client", &mut limits.max_channels_per_client);
    fields.required("max_payload_size_in_kb", &mut limits.max_payload_size_in_kb);
    fields.presence(&mut limits.client_presence);
    fields.flag("private_only", &mut limits.private_only);
    fields.flag("presence_enabled", &mut limits.presence_enabled);
    fields.flag("suspend", &mut limits.suspend);
    if fields.errors.is_empty() { Ok(limits) } else { Err(fields.errors) }
}

struct Fields<'a> {
    tenant: &'a Map<String, Value>,
    errors: Errors,
}

impl Fields<'_> {
    fn refuse(&mut self, name: &'static str, why: impl Into<String>) {
        self.errors.insert(name, [why.into()]);
    }

    /// A number, or null for none.
    fn optional<T: TryFrom<u64>>(&mut self, name: &'static str, limit: &mut Option<T>) {
        match self.tenant.get(name) {
            None => {}
            Some(Value::Null) => *limit = None,
            Some(value) => {
                if let Some(number) = self.number(name, value) {
                    *limit = Some(number);
                }
            }
        }
    }

    fn required<T: TryFrom<u64>>(&mut self, name: &'static str, limit: &mut T) {
        if let Some(value) = self.tenant.get(name)
            && let Some(number) = self.number(name, value)
        {
            *limit = number;
        }
    }

    /// A whole number from 1 on: a limit of none serves nobody, which is what `suspend` is for.
    fn number<T: TryFrom<u64>>(&mut self, name: &'static str, value: &Value) -> Option<T> {
        let number = match value {
            Value::String(text) => text.parse().ok(),
            value => value.as_u64(),
        };
        match number {
            Some(0) => {
                self.refuse(name, "must be greater than 0");
                None
            }
            Some(number) => {
                let number = T::try_from(number).ok();
                if number.is_none() {
                    self.refuse(name, INVALID);
                }
                number
            }
            None => {
                self.refuse(name, INVALID);
                None
            }
        }
    }

    fn flag(&mut self, name: &'static str, flag: &mut bool) {
        match self.tenant.get(name) {
            None => {}
            Some(Value::Bool(value)) => *flag = *value,
            Some(_) => self.refuse(name, INVALID),
        }
    }

    fn presence(&mut self, limit: &mut Option<ClientPresence>) {
        let (mut calls, mut window) = (limit.map(|limit| limit.max_calls), limit.map(|limit| limit.window_ms));
        self.optional("max_client_presence_events_per_window", &mut calls);
        self.optional("client_presence_window_ms", &mut window);
        *limit = match (calls, window) {
            (None, None) => None,
            (calls, window) => Some(ClientPresence {
                max_calls: calls.unwrap_or(DEFAULT_PRESENCE.max_calls),
                window_ms: window.unwrap_or(DEFAULT_PRESENCE.window_ms),
            }),
        };
    }

    /// Tools that make the tenant at every start name what the environment names already: that may stand there as long
    /// as it is the same. Where the database is they may see from elsewhere, so that is passed over.
    fn check_fixed(&mut self, fixed: Fixed<'_>) {
        let given = |name| self.tenant.get(name).filter(|value| !value.is_null());
        let (id, secret, keys) = (given("external_id"), given("jwt_secret"), given("jwt_jwks"));
        let extensions = given("extensions");
        if id.is_some_and(|id| id != fixed.name) {
            self.refuse("external_id", format!("this server has one tenant, {} (SELF_HOST_TENANT_NAME)", fixed.name));
        }
        if secret.is_some_and(|secret| !secret.as_str().is_some_and(fixed.is_jwt_secret)) {
            self.refuse("jwt_secret", "is another than the server was started with (API_JWT_SECRET)");
        }
        if keys.is_some() {
            self.refuse("jwt_jwks", "can only be set by the environment (API_JWT_JWKS)");
        }
        match extensions {
            None => {}
            Some(Value::Array(list)) => {
                let publication = |extension: &Value| extension.get("settings")?.get("publication").cloned();
                if list.iter().filter_map(publication).any(|publication| publication != fixed.publication) {
                    let text = format!("publication is {} (WALCAST_PUBLICATION)", fixed.publication);
                    self.refuse("extensions", text);
                }
            }
            Some(_) => self.refuse("extensions", INVALID),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn outcome(tenant: Value, before: &Limits) -> Result<Limits, Errors> {
        let is_jwt_secret = |secret: &str| secret == "sesame";
        let fixed = Fixed { name: "realtime-dev", publication: "supabase_realtime", is_jwt_secret: &is_jwt_secret };
        apply(tenant.as_object().unwrap(), before, fixed)
    }

    #[test]
    fn every_limit_can_be_set_and_lifted_and_what_is_not_said_stays() {
        let all = json!({
            "max_concurrent_users": 5, "max_events_per_second": "100", "max_joins_per_second": 6,
            "max_presence_events_per_second": 7, "max_channels_per_client": 8, "max_payload_size_in_kb": 9,
            "max_client_presence_events_per_window": 10, "client_presence_window_ms": 11,
            "private_only": true, "presence_enabled": true, "suspend": true,
        });
        let limits = Limits {
            max_concurrent_users: Some(5),
            max_events_per_second: Some(100),
            max_joins_per_second: Some(6),
            max_channels_per_client: 8,
            max_presence_events_per_second: Some(7),
            max_payload_size_in_kb: 9,
            client_presence: Some(ClientPresence { max_calls: 10, window_ms: 11 }),
            private_only: true,
            presence_enabled: true,
            suspend: true,
        };
        assert_eq!(outcome(all, &Limits::default()), Ok(limits.clone()));
        assert_eq!(outcome(json!({"name": "x", "unknown": 1}), &limits), Ok(limits.clone()));
        let lifted = outcome(json!({"max_events_per_second": null, "suspend": false}), &limits).unwrap();
        assert_eq!(lifted, Limits { max_events_per_second: None, suspend: false, ..limits });
    }

    #[test]
    fn half_a_presence_limit_gets_the_usual_other_half() {
        let half = outcome(json!({"client_presence_window_ms": 1}), &Limits::default()).unwrap();
        assert_eq!(half.client_presence, Some(ClientPresence { max_calls: 5, window_ms: 1 }));
        let none = json!({"client_presence_window_ms": null, "max_client_presence_events_per_window": null});
        assert_eq!(outcome(none, &half).unwrap().client_presence, None);
    }

    #[test]
    fn what_cannot_be_a_limit_is_refused_by_name_and_then_nothing_changes() {
        for (name, value, why) in [
            ("max_concurrent_users", json!(0), "must be greater than 0"),
            ("max_events_per_second", json!(-1), "is invalid"),
            ("max_events_per_second", json!(4_294_967_296_u64), "is invalid"),
            ("max_joins_per_second", json!("many"), "is invalid"),
            ("max_channels_per_client", json!(null), "is invalid"),
            ("max_payload_size_in_kb", json!(1.5), "is invalid"),
            ("private_only", json!("yes"), "is invalid"),
            ("suspend", json!(null), "is invalid"),
        ] {
            let errors = outcome(json!({ name: value }), &Limits::default()).unwrap_err();
            assert_eq!(json!(errors), json!({ name: [why] }), "{name}");
        }
    }

    #[test]
    fn what_the_environment_sets_may_be_repeated_and_not_changed() {
        let same = json!({
            "external_id": "realtime-dev", "jwt_secret": "sesame", "jwt_jwks": null,
            "extensions": [{"type": "postgres_cdc_rls", "settings": {
                "db_host": "elsewhere", "publication": "supabase_realtime", "region": "us-east-1",
            }}],
        });
        assert_eq!(outcome(same, &Limits::default()), Ok(Limits::default()));
        for (name, value) in [
            ("external_id", json!("other")),
            ("jwt_secret", json!("other")),
            ("jwt_secret", json!(5)),
            ("jwt_jwks", json!({"keys": []})),
            ("extensions", json!([{"settings": {"publication": "other"}}])),
            ("extensions", json!({})),
        ] {
            let errors = outcome(json!({ name: value }), &Limits::default()).unwrap_err();
            assert_eq!(errors.keys().collect::<Vec<_>>(), [&name]);
            assert!(!json!(errors).to_string().contains("sesame"));
        }
    }
}
