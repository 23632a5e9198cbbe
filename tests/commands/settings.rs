//! Where settings come from, what is refused by name, and that secrets stay inside.

use super::{output, stderr, stdout};
use crate::support::{
    postgres::new_directory,
    token::{SECRET, in_seconds},
};
use std::fs;
use walcast::auth::{Config, Verifier};

const COMMANDS: [&str; 4] = ["serve", "check", "tap", "token"];

fn is_signed_with(token: &str, secret: &str) -> bool {
    let verifier = Verifier::new(&Config { jwt_secret: secret.into(), ..Config::default() });
    verifier.verify(token.trim(), in_seconds(0)).is_ok()
}

#[test]
fn flags_go_over_environment_over_the_file() {
    let directory = new_directory();
    fs::create_dir_all(&directory).unwrap();
    let file = directory.join("walcast.toml");
    fs::write(&file, "jwt_secret = 'of the file'").unwrap();
    let file = file.to_str().unwrap();
    let token = |arguments: &[&str], environment: &[(&str, &str)]| {
        let output = output(&[&["token", "--role=anon", "--config", file], arguments].concat(), environment);
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output)
    };
    assert!(is_signed_with(&token(&[], &[]), "of the file"));
    assert!(is_signed_with(&token(&[], &[("JWT_SECRET", "of the environment")]), "of the environment"));
    assert!(is_signed_with(&token(&[], &[("API_JWT_SECRET", "of the alias")]), "of the alias"));
    let all = token(&["--jwt-secret", "of the flag"], &[("JWT_SECRET", "of the environment")]);
    assert!(is_signed_with(&all, "of the flag"));
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn help_shows_no_secret_of_any_command() {
    let marker = "sesame-open-0815";
    let url = format!("postgres://u:{marker}@h/d");
    let environment = [
        ("DATABASE_URL", url.as_str()),
        ("MIGRATE_DATABASE_URL", url.as_str()),
        ("JWT_SECRET", marker),
        ("API_JWT_SECRET", marker),
        ("WALCAST_API_KEYS", marker),
        ("WALCAST_JWKS", marker),
        ("WALCAST_JWKS_URL", marker),
        ("WALCAST_ISSUERS", marker),
    ];
    for command in COMMANDS.iter().chain(&["dev", "migrate"]) {
        for flag in ["--help", "-h"] {
            let output = output(&[command, flag], &environment);
            assert!(stdout(&output).contains("Usage: walcast"), "{command}");
            assert!(!(stdout(&output) + &stderr(&output)).contains(marker), "{command} {flag}");
        }
    }
}

#[test]
fn no_refusal_repeats_a_secret() {
    let marker = "sesame-open-0815";
    let bad_url = format!("postgres://u:{marker}@h/d?sslmode=maybe");
    let unreachable = format!("postgres://u:{marker}@127.0.0.1:1/d");
    for command in ["serve", "check", "tap"] {
        for url in [&bad_url, &unreachable] {
            let output = output(&[command], &[("DATABASE_URL", url), ("JWT_SECRET", marker)]);
            let text = stdout(&output) + &stderr(&output);
            assert_eq!(output.status.code(), Some(1), "{command}: {text}");
            assert!(!text.contains(marker), "{command}: {text}");
            assert!(!text.contains("panicked"), "{command}: {text}");
        }
    }
}

#[test]
fn what_nobody_knows_is_refused_by_name() {
    let directory = new_directory();
    fs::create_dir_all(&directory).unwrap();
    let file = directory.join("walcast.toml");
    fs::write(&file, "slot = 'a'\nslotz = 'b'\n").unwrap();
    for command in COMMANDS {
        let role: &[&str] = if command == "token" { &["--role=anon"] } else { &[] };
        let flag = output(&[&[command, "--nonsense"], role].concat(), &[]);
        assert!(!flag.status.success() && stderr(&flag).contains("--nonsense"), "{command}");

        let environment = [("WALCAST_NONSENSE", "1"), ("JWT_SECRET", SECRET), ("NONSENSE", "1")];
        let variable = output(&[&[command], role].concat(), &environment);
        assert_eq!(variable.status.code(), Some(1), "{command}");
        assert!(stderr(&variable).contains("WALCAST_NONSENSE"), "{command}: {}", stderr(&variable));

        let environment = [("WALCAST_CONFIG", file.to_str().unwrap()), ("JWT_SECRET", SECRET)];
        let key = output(&[&[command], role].concat(), &environment);
        assert_eq!(key.status.code(), Some(1), "{command}");
        assert!(stderr(&key).contains("slotz"), "{command}: {}", stderr(&key));
    }
    fs::remove_dir_all(directory).unwrap();
}
