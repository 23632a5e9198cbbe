//! What operators write: the file, the environment, the addresses and lists in them. What is refused is not repeated.

use super::{
    harness::{Seen, Target, fuzz, seen, shape},
    mutate::{joined, records},
};
use std::collections::HashMap;
use walcast::{
    config::{Settings, check_environment, supabase},
    hub::outbox,
    limits::Meters,
    lsn::Lsn,
    pg::{Target as Database, connect::describe},
};

const WORDS: &[&str] = &[
    "database_url",
    "jwt_secret",
    "port",
    "slot",
    "api_keys",
    "jwks",
    "jwks_url",
    "jwks_refresh_seconds",
    "issuers",
    "jwt_claim_validators",
    "outbox_frames",
    "outbox_bytes",
    "max_frame_bytes",
    "lookup_bytes",
    "messages_retention_hours",
    "stop_limit_ms",
    "max_payload_size_in_kb",
    "max_events_per_second",
    "idle_timeout_ms",
    "client_presence_window_ms",
    "lane_connections",
    " = ",
    "\n",
    "[[issuers]]",
    "issuer = \"i\"",
    "[jwks]",
    "keys = []",
    "true",
    "false",
    "18446744073709551615",
    "9223372036854775807",
    "4294967295",
    "1979-05-27",
    "inf",
    "'''",
    "\"\"\"",
    "DB_HOST",
    "DB_PORT",
    "DB_PASSWORD",
    "DB_SSL",
    "DB_SSL_CA_CERT",
    "SLOT_NAME_SUFFIX",
    "LOG_LEVEL",
    "MAX_CONNECTIONS",
    "API_JWT_JWKS",
    "postgresql://",
    "postgres://",
    "@",
    ":",
    "/",
    "?",
    "&",
    "#",
    "%",
    "%40",
    "=",
    "'",
    "\\",
    "host=",
    "user=",
    "password=",
    "sslmode=",
    "require",
    "verify-full",
    "connect_timeout=",
    "options=",
    "hostaddr=",
    "target_session_attrs=",
    "127.0.0.1",
    "[::1]",
    ",",
];

/// Whatever is said of a setting that holds this, this is not in it.
const SESAME: &str = "sesame";

#[test]
fn any_file_is_settings_or_refused_without_its_values() {
    let seeds = [
        "database_url = \"postgresql://u:sesame@h:5432/d?sslmode=require\"\njwt_secret = \"sesame\"\nport = 4000\nslot = 'walcast'\n",
        "jwt_secret = 'sesame'\ndatabase_url = 'host=h user=u'\napi_keys = \"sesame=anon,b=authenticated\"\njwt_claim_validators = { aud = \"a\" }\n[[issuers]]\nissuer = \"i\"\nsecret = \"sesame\"\nroles = [\"anon\"]\n",
        "database_url = 'postgresql://u@h/d'\njwt_secret = 's'\noutbox_frames = 1\noutbox_bytes = 1\nmax_payload_size_in_kb = 1\njwks_refresh_seconds = 300\nmessages_retention_hours = 1\nstop_limit_ms = 1\nmax_events_per_second = 1\nclient_presence_window_ms = 1\nmax_joins_per_second = 1\nlookup_load_limit_ms = 1\nidle_timeout_ms = 1\nmax_concurrent_users = 1\n",
        "jwks = '{\"keys\":[{\"kty\":\"oct\",\"kid\":\"a\",\"k\":\"c2VzYW1l\"}]}'\njwks_url = 'https://a.example/k'\ndatabase_url = \"postgres://u@h\"\n",
        "jwks_file = '/dev/null'\nprivate_only = true\nmigrate = 'auto'\ndeletes = 'strict'\nlog_format = 'json'\nhost = '::1'\n",
    ];
    let seeds = seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect();
    fuzz(Target { name: "toml", seeds, words: WORDS, memory: (4 << 20, 600), run: file });
}

fn file(input: &[u8]) -> Seen {
    let Ok(text) = std::str::from_utf8(input) else { return 0 };
    // Names of settings may be shown; those that hold the word are none of ours.
    let is_name = text
        .lines()
        .any(|line| line.split(['=', '.', '[']).take(2).any(|name| name.contains("sesa") || name.contains("same")));
    match Settings::of_toml(text) {
        Ok(settings)
            if settings.jwks_file.is_some()
                || settings.issuers.as_ref().is_some_and(|text| text.contains("jwks_file")) =>
        {
            1
        }
        Ok(settings) => used(&settings),
        Err(why) => {
            assert!(is_name || !why.contains(SESAME), "{why}");
            shape(&why)
        }
    }
}

/// What a server makes of settings that were read.
fn used(settings: &Settings) -> Seen {
    let (log, config) = (settings.log().is_ok(), settings.serve());
    match config {
        Ok(config) => {
            let now = tokio::time::Instant::now();
            assert!(now.checked_add(config.auth.refresh.interval).is_some(), "a clock has an end");
            let limits = config.limits.clone();
            limits.max_payload_bytes();
            Meters::new(limits).count_events(u64::MAX, 1000);
            let (sender, _receiver) = outbox(config.door.outbox_frames, config.door.outbox_bytes);
            assert!(!sender.is_closed());
            assert!(
                !config.target.address().contains(SESAME) || !has_password(settings),
                "{}",
                config.target.address()
            );
            seen((
                log,
                config.auth.issuers.len().min(3),
                config.auth.api_keys.len().min(3),
                config.limits.max_events_per_second.is_some(),
            ))
        }
        Err(error) => {
            let said = describe(&error);
            // Other settings than secrets are shown where they do not fit.
            let shown =
                [&settings.deletes, &settings.migrate, &settings.log_format, &settings.slot].into_iter().flatten();
            assert!(
                !said.contains(SESAME)
                    || shown.into_iter().any(|text| text.contains(SESAME))
                    || !has_password(settings),
                "{said}"
            );
            shape(&said)
        }
    }
}

/// Whether the word stands where it is a password: in an address that is otherwise of the usual form.
fn has_password(settings: &Settings) -> bool {
    settings.database_url.as_deref().is_none_or(|url| url.contains(":sesame@") && !has_named(url))
}

/// Whether the word stands where the name of an option is, beyond doubt.
fn has_named(url: &str) -> bool {
    url.split_once('?')
        .is_some_and(|(base, query)| base.contains('@') && !query.contains('@') && query.contains(SESAME))
}

#[test]
fn any_environment_of_the_replaced_server_is_settings_or_refused() {
    let seeds = [
        joined([
            "DB_HOST=db",
            "DB_PORT=5432",
            "DB_USER=u",
            "DB_PASSWORD=sesame' \\ x",
            "DB_SSL=true",
            "API_JWT_SECRET=sesame",
            "SLOT_NAME_SUFFIX=blue",
        ]),
        joined([
            "DB_HOST=[::1]",
            "MAX_CONNECTIONS=1000",
            "TENANT_MAX_EVENTS_PER_SECOND=100",
            "LOG_LEVEL=warning",
            "CLIENT_PRESENCE_MAX_CALLS=5",
            "ERL_AFLAGS=x",
        ]),
        joined([
            "DATABASE_URL=postgres://u:sesame@h/d",
            "DB_HOST=other",
            "DB_SSL=1",
            "DB_SSL_CA_CERT=/dev/null",
            "JWT_CLAIM_VALIDATORS={\"iss\":\"a\"}",
            "WALCAST_X=1",
        ]),
    ];
    fuzz(Target { name: "environment", seeds: seeds.to_vec(), words: WORDS, memory: (4 << 20, 400), run: environment });
}

fn environment(input: &[u8]) -> Seen {
    let mut variables = HashMap::new();
    for record in records(input) {
        let Some((name, value)) = std::str::from_utf8(record).ok().and_then(|text| text.split_once('=')) else {
            continue;
        };
        variables.insert(name, value);
    }
    let known = supabase::READ.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let refused = check_environment(variables.keys().map(Into::into), &known).is_err();
    let mut settings =
        Settings { database_url: variables.get("DATABASE_URL").map(|url| (*url).to_owned()), ..Settings::default() };
    match settings.fill_from_supabase(|name| variables.get(name).map(|value| (*value).to_owned())) {
        Ok(()) => {
            // A password in quotes is a password, whatever it is made of.
            if !variables.contains_key("DATABASE_URL")
                && let Some(password) = variables.get("DB_PASSWORD").filter(|password| !password.trim().is_empty())
                && let Some(url) = &settings.database_url
            {
                let said = Database::parse(url).map_or_else(|error| describe(&error), |target| target.address());
                let is_elsewhere = ["DB_HOST", "DB_USER", "DB_NAME", "DB_SSL_CA_CERT"]
                    .iter()
                    .any(|name| variables.get(name).is_some_and(|value| value.contains(password)));
                assert!(password.len() < 4 || is_elsewhere || !said.contains(password), "{said}");
            }
            seen((
                refused,
                settings.replaced.ignored.len().min(4),
                settings.replaced.contradictions.len(),
                settings.database_url.is_some(),
            ))
        }
        Err(error) => shape(&error.to_string()),
    }
}

#[test]
fn any_database_url_is_read_or_refused_without_its_password() {
    let seeds = [
        "postgresql://u:sesame@h:5432/d?sslmode=require&connect_timeout=3",
        "postgres://u:sesame%40@[::1]:1,h2:2/d?options=-c%20a%3Db&target_session_attrs=any",
        "host=h user=u password='sesame' dbname=d sslmode=prefer",
        "hostaddr=127.0.0.1 user='a b' password=sesame keepalives_idle=5",
        "postgresql://%2Frun%2Fpg/d?user=u&password=sesame",
        "postgresql://u:se?same=sesame@h/d",
        "postgresql://u:/sesame@h/d",
        "postgres://u:open?sesame=x@h/d",
        "postgresql://u:a#sesame@h",
        "postgresql://u:a@sesame@h/d",
        "user=u host=h password=a sesame",
        "postgresql://u:x?sslmode-require&sesame@h:5432/d?connect_timeout=3",
    ];
    let seeds = seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect();
    fuzz(Target { name: "database_url", seeds, words: WORDS, memory: (4 << 20, 600), run: database_url });
}

fn database_url(input: &[u8]) -> Seen {
    let Ok(text) = std::str::from_utf8(input) else { return 0 };
    let _ = text.parse::<Lsn>();
    match Database::parse(text) {
        Ok(target) => {
            let address = target.address();
            let marks = ['/', '[', ',', '.', '%', ' '].map(|mark| address.contains(mark));
            seen((marks, target.user().is_empty(), target.database().is_empty()))
        }
        Err(error) => {
            let said = describe(&error);
            assert!(!said.contains(SESAME) || has_named(text), "{said}");
            shape(&said)
        }
    }
}
