use super::{IGNORED, READ, READ_ELSEWHERE};
use crate::{
    config::{ConfigError, Settings},
    pg::Target,
};
use std::collections::BTreeSet;

fn read(own: Settings, variables: &[(&str, &str)]) -> Result<Settings, ConfigError> {
    let mut settings = own;
    let value = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    settings.fill_from_supabase(value)?;
    Ok(settings)
}

fn target(variables: &[(&str, &str)]) -> Target {
    read(Settings::default(), variables).unwrap().target().unwrap()
}

#[test]
fn the_database_is_found_whatever_the_password_and_the_host_look_like() {
    for password in ["plain", "p@ss/w:rd?#%&", "it's", r"back\slash", "two words ", "'\\'", "ümlaut=1", "a,b"] {
        let target = target(&[("DB_HOST", "db"), ("DB_USER", "supabase_admin"), ("DB_PASSWORD", password)]);
        assert_eq!(target.password(), Some(password.as_bytes().to_vec()), "{password}");
        assert_eq!((target.user().as_str(), target.database().as_str()), ("supabase_admin", "postgres"));
        assert_eq!(target.address(), "db:5432");
    }
    for (host, address) in [("fd00::1", "fd00::1:6543"), ("[fd00::1]", "fd00::1:6543"), ("10.0.0.1", "10.0.0.1:6543")] {
        assert_eq!(target(&[("DB_HOST", host), ("DB_PORT", "6543")]).address(), address);
    }
    let named = target(&[("DB_HOST", "db"), ("DB_NAME", "my db")]);
    assert_eq!((named.user().as_str(), named.database().as_str()), ("postgres", "my db"));
}

#[test]
fn an_empty_variable_is_an_unset_one() {
    let all: Vec<(&str, &str)> = READ.iter().map(|name| (*name, " ")).collect();
    let settings = read(Settings::default(), &all).unwrap();
    assert!(settings.differences(&Settings::default()).is_empty());
    assert!(settings.target().is_err());
}

#[test]
fn own_settings_go_over_those_of_the_replaced_server_and_contradictions_are_said() {
    let own = |url: &str| Settings {
        database_url: Some(url.to_owned()),
        jwt_secret: Some("own".to_owned()),
        max_joins_per_second: Some(7),
        ..Settings::default()
    };
    let theirs = [
        ("DB_HOST", "db"),
        ("DB_PASSWORD", "sesame"),
        ("API_JWT_SECRET", "theirs"),
        ("TENANT_MAX_JOINS_PER_SECOND", "100"),
        ("TENANT_MAX_EVENTS_PER_SECOND", "50"),
    ];
    let settings = read(own("postgres://me:sesame@elsewhere/d"), &theirs).unwrap();
    assert_eq!(settings.target().unwrap().address(), "elsewhere:5432");
    assert_eq!((settings.max_joins_per_second, settings.max_events_per_second), (Some(7), Some(50)));
    assert_eq!(settings.jwt_secret.as_deref(), Some("own"));
    let said = settings.replaced.contradictions.join("; ");
    assert!(said.contains("elsewhere:5432") && said.contains("db:5432") && said.contains("API_JWT_SECRET"), "{said}");
    assert!(!said.contains("sesame") && !said.contains("theirs"), "{said}");
    assert!(!settings.replaced.names_database);

    let same = read(own("postgres://postgres:other@db:5432/postgres"), &[("DB_HOST", "db")]).unwrap();
    assert!(same.replaced.contradictions.is_empty());
}

#[test]
fn every_limit_of_the_replaced_server_is_taken_over() {
    let settings = read(
        Settings { jwt_secret: Some("s".to_owned()), ..Settings::default() },
        &[
            ("DB_HOST", "db"),
            ("TENANT_MAX_CONCURRENT_USERS", "1"),
            ("TENANT_MAX_EVENTS_PER_SECOND", "2"),
            ("TENANT_MAX_JOINS_PER_SECOND", "3"),
            ("TENANT_MAX_CHANNELS_PER_CLIENT", "4"),
            ("TENANT_MAX_BYTES_PER_SECOND", "5"),
            ("CLIENT_PRESENCE_MAX_CALLS", "6"),
            ("MAX_CONNECTIONS", "8"),
            ("MAX_HEADER_LENGTH", "9000000"),
            ("LOG_LEVEL", "Warning"),
            ("SLOT_NAME_SUFFIX", "Blue_1"),
        ],
    );
    let settings = settings.unwrap();
    let limits = settings.limits().unwrap();
    assert_eq!(limits.max_concurrent_users, Some(1));
    assert_eq!((limits.max_events_per_second, limits.max_joins_per_second), (Some(2), Some(3)));
    assert_eq!(limits.max_channels_per_client, 4);
    let presence = limits.client_presence.unwrap();
    assert_eq!((presence.max_calls, presence.window_ms), (6, 30_000), "the other one has the default of there");
    let serve = settings.serve().unwrap();
    assert_eq!((serve.door.max_connections, serve.max_header_bytes), (8, 9_000_000));
    assert_eq!((settings.log().unwrap().level.as_str(), serve.slot.slot.as_str()), ("warn", "walcast_blue_1"));
    assert!(serve.start.migrates && !serve.start.wait.is_zero(), "as the replaced server does");
}

#[test]
fn what_cannot_be_read_is_refused_by_its_name_and_never_repeats_a_password() {
    for (name, value) in [
        ("TENANT_MAX_EVENTS_PER_SECOND", "many"),
        ("TENANT_MAX_JOINS_PER_SECOND", "-1"),
        ("DB_PORT", "70000"),
        ("DB_SSL", "perhaps"),
        ("SLOT_NAME_SUFFIX", "with-dash"),
        ("MAX_CONNECTIONS", "1e3"),
    ] {
        let variables = [("DB_HOST", "db"), ("DB_PASSWORD", "sesame"), (name, value)];
        let error = read(Settings::default(), &variables).err().unwrap().to_string();
        assert!(error.starts_with(name) && !error.contains("sesame"), "{error}");
    }
}

#[test]
fn tls_is_asked_for_as_there() {
    let mode = |more: &[(&str, &str)]| {
        let settings = read(Settings::default(), &[&[("DB_HOST", "db")], more].concat()).unwrap();
        settings.database_url.unwrap()
    };
    assert!(!mode(&[]).contains("sslmode") && !mode(&[("DB_SSL", "false")]).contains("sslmode"));
    assert!(mode(&[("DB_SSL", "true")]).ends_with("sslmode=require"));
    let verified = mode(&[("DB_SSL", "true"), ("DB_SSL_CA_CERT", "/etc/ca.pem")]);
    assert!(verified.ends_with("sslmode=verify-full sslrootcert='/etc/ca.pem'"), "{verified}");
}

#[test]
fn what_means_nothing_here_is_accepted_with_a_reason() {
    let settings = read(Settings::default(), &[("ERL_AFLAGS", "-proto_dist inet_tcp"), ("RUN_JANITOR", "")]).unwrap();
    assert_eq!(settings.replaced.ignored, [("ERL_AFLAGS", "there is no Erlang")]);
    let ignored = IGNORED.iter().map(|(name, _)| *name);
    let all: Vec<&str> = READ.iter().chain(READ_ELSEWHERE).copied().chain(ignored).collect();
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "each is in one list");
}
