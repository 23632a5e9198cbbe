//! The settings of the admin API and of `/metrics`.

use super::Settings;
use crate::{auth::Secret, http::tenants};
use std::sync::Arc;

/// What the tenant of a self-hosted stack is called when nobody says.
const TENANT: &str = "realtime-dev";

fn secret(text: Option<&String>) -> Option<Secret> {
    text.filter(|text| !text.is_empty()).map(|text| Secret::from(text.as_str()))
}

impl Settings {
    /// What the admin API goes by; `slot` is the slot's name.
    pub(super) fn tenants(&self, slot: &str) -> tenants::Config {
        let jwt_secret = secret(self.jwt_secret.as_ref());
        let secrets = jwt_secret.iter().cloned().chain(secret(self.api_jwt_secret_next.as_ref())).collect();
        tenants::Config {
            name: self.tenant.clone().unwrap_or_else(|| TENANT.to_owned()),
            secrets,
            admin_role: self.admin_role(),
            jwt_secret: jwt_secret.unwrap_or_default(),
            publication: self.publication(),
            slot: slot.to_owned(),
        }
    }

    /// What signs the tokens of whoever may read metrics.
    pub(super) fn metrics_secrets(&self) -> Arc<[Secret]> {
        secret(self.metrics_jwt_secret.as_ref()).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_secret_is_none_and_the_next_one_counts_beside_the_first() {
        let settings = |next: &str, metrics: &str| Settings {
            jwt_secret: Some("one".to_owned()),
            api_jwt_secret_next: Some(next.to_owned()),
            metrics_jwt_secret: Some(metrics.to_owned()),
            ..Settings::default()
        };
        let reveal = |secrets: &[Secret]| secrets.iter().map(|secret| secret.reveal().to_owned()).collect::<Vec<_>>();
        assert_eq!(reveal(&settings("two", "").tenants("s").secrets), ["one", "two"]);
        assert_eq!(reveal(&settings("", "").tenants("s").secrets), ["one"]);
        assert!(settings("", "").metrics_secrets().is_empty());
        assert_eq!(reveal(&settings("", "m").metrics_secrets()), ["m"]);
        assert!(Settings::default().tenants("s").secrets.is_empty());
        assert_eq!(Settings::default().tenants("s").name, "realtime-dev");
    }
}
