//! The settings about tokens → what the verifier is made of. Nothing that may hold a secret is repeated in an error.

use super::{ConfigError, Settings};
use crate::auth::{Config, Issuer, JwksUrl, KeySet, MAX_KEY_SET_BYTES, Refresh, Secret};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use std::{fs::File, io::Read, path::Path, time::Duration};

/// Published keys are fetched again once a year at least; a clock has an end.
const REFRESH_MOST: Duration = Duration::from_secs(365 * 24 * 3600);

/// An issuer as it is configured.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IssuerSettings {
    issuer: String,
    jwks: Option<Value>,
    jwks_file: Option<String>,
    jwks_url: Option<String>,
    secret: Option<String>,
    audience: Option<String>,
    roles: Option<Vec<String>>,
}

/// In the file a structured setting may be a text of JSON, as in the environment, or a table of the file itself.
pub(super) fn text_or_json<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Some(match Value::deserialize(deserializer)? {
        Value::String(text) => text,
        other => other.to_string(),
    }))
}

impl Settings {
    /// What tokens are checked against. Reads the files of keys, so a reload reads them again.
    pub fn auth(&self) -> Result<Config, ConfigError> {
        let plain_http = self.jwks_plain_http.unwrap_or(false);
        let mut keys = given("jwks", text(&self.jwks).map(str::as_bytes))?;
        if let Some(path) = &self.jwks_file {
            keys = keys.and(of_file("jwks_file", path)?);
        }
        let config = Config {
            jwt_secret: Secret::from(self.jwt_secret.clone().unwrap_or_default()),
            keys,
            jwks_url: url("jwks_url", text(&self.jwks_url), plain_http)?,
            refresh: self.refresh()?,
            audience: self.jwt_audience.clone(),
            issuer: self.jwt_issuer.clone(),
            required_claims: list(self.jwt_required_claims.as_deref()),
            claim_values: self.claim_values()?,
            issuers: self.issuers(plain_http)?,
            api_keys: api_keys(self.api_keys.as_deref())?,
        };
        let has_keys = !config.jwt_secret.is_empty() || !config.keys.is_empty() || config.jwks_url.is_some();
        if !has_keys && config.issuers.is_empty() {
            return Err(ConfigError::Missing {
                setting: "jwt_secret",
                fix: "set JWT_SECRET to the secret your tokens are signed with, or WALCAST_JWKS_URL to where their keys \
                      are published",
            });
        }
        Ok(config)
    }

    fn refresh(&self) -> Result<Refresh, ConfigError> {
        let default = Refresh::default();
        let interval = self.jwks_refresh_seconds.map_or(default.interval, Duration::from_secs);
        if !(default.pause..=REFRESH_MOST).contains(&interval) {
            let why = format!("it must be from {} to {}", default.pause.as_secs(), REFRESH_MOST.as_secs());
            return Err(ConfigError::Value { setting: "jwks_refresh_seconds", why });
        }
        Ok(Refresh { interval, ..default })
    }

    fn claim_values(&self) -> Result<Map<String, Value>, ConfigError> {
        let Some(text) = text(&self.jwt_claim_validators) else { return Ok(Map::new()) };
        serde_json::from_str(text).map_err(|_| ConfigError::Value {
            setting: "jwt_claim_validators",
            why: "it is no JSON object such as {\"iss\": \"https://auth.example.com\"}".to_owned(),
        })
    }

    fn issuers(&self, plain_http: bool) -> Result<Vec<Issuer>, ConfigError> {
        let Some(text) = text(&self.issuers) else { return Ok(Vec::new()) };
        // The parser's own words could quote a secret.
        let listed: Vec<IssuerSettings> = serde_json::from_str(text).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            refused(format!(
                "it is no JSON array of objects with `issuer`, one of `jwks`, `jwks_file`, `jwks_url` and `secret`, and \
                 perhaps `audience` and `roles` (line {line}, column {column})"
            ))
        })?;
        let mut issuers: Vec<Issuer> = Vec::with_capacity(listed.len());
        for (number, listed) in listed.into_iter().enumerate() {
            let issuer = issuer(listed, plain_http).map_err(|why| refused(format!("entry {}: {why}", number + 1)))?;
            if issuers.iter().any(|other| other.name == issuer.name) {
                return Err(refused(format!("entry {} names an issuer that has been named before", number + 1)));
            }
            issuers.push(issuer);
        }
        Ok(issuers)
    }
}

fn refused(why: String) -> ConfigError {
    ConfigError::Value { setting: "issuers", why }
}

fn issuer(settings: IssuerSettings, plain_http: bool) -> Result<Issuer, ConfigError> {
    let inline = settings.jwks.map(|jwks| match jwks {
        Value::String(text) => text,
        other => other.to_string(),
    });
    let mut keys = given("jwks", inline.as_deref().map(str::as_bytes))?;
    if let Some(path) = &settings.jwks_file {
        keys = keys.and(of_file("jwks_file", Path::new(path))?);
    }
    let issuer = Issuer {
        name: settings.issuer,
        secret: Secret::from(settings.secret.unwrap_or_default()),
        keys,
        jwks_url: url("jwks_url", settings.jwks_url.as_deref(), plain_http)?,
        audience: settings.audience,
        roles: settings.roles,
    };
    let why = if issuer.name.is_empty() {
        "it is empty"
    } else if issuer.secret.is_empty() && issuer.keys.is_empty() && issuer.jwks_url.is_none() {
        "it has no key: give jwks, jwks_file, jwks_url or secret"
    } else {
        return Ok(issuer);
    };
    Err(ConfigError::Value { setting: "issuer", why: why.to_owned() })
}

/// A setting that says something.
fn text(setting: &Option<String>) -> Option<&str> {
    setting.as_deref().map(str::trim).filter(|text| !text.is_empty())
}

fn given(setting: &'static str, text: Option<&[u8]>) -> Result<KeySet, ConfigError> {
    let Some(text) = text else { return Ok(KeySet::default()) };
    let keys = KeySet::read(text).map_err(|error| ConfigError::Value { setting, why: error.to_string() })?;
    if keys.unusable() > 0 {
        tracing::warn!(setting, unusable = keys.unusable(), usable = keys.len(), "some keys cannot verify tokens");
    }
    Ok(keys)
}

fn of_file(setting: &'static str, path: &Path) -> Result<KeySet, ConfigError> {
    let mut text = Vec::new();
    let limit = MAX_KEY_SET_BYTES as u64 + 1;
    match File::open(path).and_then(|file| file.take(limit).read_to_end(&mut text)) {
        Ok(_) => given(setting, Some(&text)),
        Err(error) => Err(ConfigError::Value { setting, why: format!("cannot read {}: {error}", path.display()) }),
    }
}

fn url(setting: &'static str, text: Option<&str>, plain_http: bool) -> Result<Option<JwksUrl>, ConfigError> {
    let read = |text| JwksUrl::read(text, plain_http);
    text.map(read).transpose().map_err(|error| ConfigError::Value { setting, why: error.to_string() })
}

fn list(text: Option<&str>) -> Vec<String> {
    let entries = text.unwrap_or_default().split(',').map(str::trim);
    entries.filter(|entry| !entry.is_empty()).map(str::to_owned).collect()
}

/// `key=role,key=role`. Keys are secrets: they are not repeated in errors.
fn api_keys(text: Option<&str>) -> Result<Vec<(String, String)>, ConfigError> {
    let pair = |(number, entry): (usize, String)| match entry.split_once('=') {
        Some((key, role)) if !key.is_empty() && !role.is_empty() => Ok((key.to_owned(), role.to_owned())),
        _ => Err(ConfigError::Value {
            setting: "api_keys",
            why: format!("entry {} is not of the form key=role", number + 1),
        }),
    };
    list(text).into_iter().enumerate().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OCT: &str = r#"{"keys":[{"kty":"oct","kid":"a","k":"c2VzYW1l"}]}"#;

    fn refusal(settings: &Settings) -> String {
        settings.auth().err().map(|error| error.to_string()).unwrap_or_default()
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn one_source_of_keys_is_enough_and_none_is_refused() {
        for settings in [
            Settings { jwt_secret: some("s"), ..Settings::default() },
            Settings { jwks: some(OCT), ..Settings::default() },
            Settings { jwks_url: some("https://a.example/k"), ..Settings::default() },
            Settings { issuers: some(r#"[{"issuer":"i","secret":"s"}]"#), ..Settings::default() },
        ] {
            assert_eq!(refusal(&settings), "");
        }
        for settings in [
            Settings::default(),
            Settings { jwks: some(r#"{"keys":[]}"#), ..Settings::default() },
            Settings { jwks: some(" "), jwks_url: some(""), jwt_secret: some(""), ..Settings::default() },
        ] {
            assert!(refusal(&settings).contains("set JWT_SECRET"), "{}", refusal(&settings));
        }
    }

    #[test]
    fn what_cannot_be_used_is_refused_by_name_and_not_repeated() {
        let settings = || Settings { jwt_secret: some("s"), ..Settings::default() };
        let cases = [
            ("jwks:", Settings { jwks: some("sesame"), ..settings() }),
            ("jwks:", Settings { jwks: some(r#"{"keys":"sesame"}"#), ..settings() }),
            ("jwks_file: cannot read", Settings { jwks_file: Some("/nowhere/keys".into()), ..settings() }),
            ("jwks_url:", Settings { jwks_url: some("https://u:sesame@a.example/"), ..settings() }),
            ("jwks_url: over plain http", Settings { jwks_url: some("http://a.example/?k=sesame"), ..settings() }),
            ("jwks_refresh_seconds:", Settings { jwks_refresh_seconds: Some(9), ..settings() }),
            ("jwks_refresh_seconds:", Settings { jwks_refresh_seconds: Some(u64::MAX), ..settings() }),
            ("jwt_claim_validators:", Settings { jwt_claim_validators: some("[\"sesame\"]"), ..settings() }),
            ("issuers: it is no", Settings { issuers: some(r#"[{"issuer":"i","sesame":1}]"#), ..settings() }),
            (
                "issuers: it is no",
                Settings { issuers: some(r#"[{"issuer":"i","secret":{"sesame":1}}]"#), ..settings() },
            ),
            (
                "issuers: entry 1: issuer: it has no key",
                Settings { issuers: some(r#"[{"issuer":"i"}]"#), ..settings() },
            ),
            (
                "issuers: entry 2 names",
                Settings {
                    issuers: some(r#"[{"issuer":"i","secret":"sesame"},{"issuer":"i","secret":"sesame"}]"#),
                    ..settings()
                },
            ),
            ("api_keys: entry 2", Settings { api_keys: some("sb_a=anon,sb_sesame"), ..settings() }),
        ];
        for (expected, settings) in cases {
            let said = refusal(&settings);
            assert!(said.starts_with(expected) && !said.contains("sesame"), "{expected}: {said}");
        }
    }

    #[test]
    fn the_file_may_hold_tables_where_the_environment_holds_json() {
        let file = "jwks = '{\"keys\":[]}'\njwt_claim_validators = { aud = \"a\" }\n\
                    [[issuers]]\nissuer = \"i\"\nsecret = \"s\"\nroles = [\"anon\"]\n";
        let config = toml::from_str::<Settings>(file).unwrap().auth().unwrap();
        assert_eq!(Value::Object(config.claim_values), serde_json::json!({"aud": "a"}));
        let issuer = &config.issuers[0];
        assert_eq!((issuer.name.as_str(), issuer.roles.as_deref()), ("i", Some(&["anon".to_owned()][..])));
    }

    #[test]
    fn the_replaced_servers_names_fill_what_is_missing() {
        let mut settings = Settings { jwt_secret: some("ours"), ..Settings::default() };
        let variable = |name: &str| name.starts_with("API_JWT_").then(|| format!("of {name}"));
        settings.fill_from_supabase(variable).unwrap();
        assert_eq!(settings.jwt_secret.as_deref(), Some("ours"));
        assert_eq!(settings.jwks.as_deref(), Some("of API_JWT_JWKS"));
    }
}
