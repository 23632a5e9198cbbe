//! `walcast token`.

use super::{output, stderr, stdout};
use crate::support::token::{ALICE, SECRET, in_seconds};
use serde_json::{Value, json};
use walcast::auth::{Config, Verifier};

fn run(arguments: &[&str]) -> std::process::Output {
    output(&[&["token"], arguments].concat(), &[("JWT_SECRET", SECRET)])
}

/// The claims of the token that was printed, as the server verifies it.
fn claims(arguments: &[&str]) -> Value {
    let output = run(arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    let token = text.strip_suffix('\n').unwrap();
    assert!(!token.contains(char::is_whitespace), "only the token: {text}");
    let verifier = Verifier::new(&Config { jwt_secret: SECRET.into(), ..Config::default() });
    serde_json::from_str(&verifier.verify(token, in_seconds(0)).unwrap().json).unwrap()
}

fn refusal(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    assert_eq!(stdout(&output), "");
    stderr(&output)
}

#[test]
fn a_token_is_accepted_by_the_server_and_carries_what_was_asked() {
    let claims = claims(&["--role", "authenticated", "--sub", ALICE, "--ttl", "15m"]);
    assert_eq!((claims["role"].as_str(), claims["sub"].as_str()), (Some("authenticated"), Some(ALICE)));
    let (issued, expires) = (claims["iat"].as_i64().unwrap(), claims["exp"].as_i64().unwrap());
    assert_eq!(expires - issued, 15 * 60);
    assert!((in_seconds(0) - issued).abs() < 60);
}

#[test]
fn claims_are_json_where_they_can_be_and_dots_nest() {
    let claims = claims(&[
        "--role=anon",
        "--claim=app_metadata.role=agent",
        "--claim=app_metadata.level=3",
        "--claim=list=[1,\"a\"]",
        "--claim=text=5 apples",
        "--claim=quoted=\"5\"",
        "--claim=equation=a=b",
        "--claim=empty=",
    ]);
    assert_eq!(claims["app_metadata"], json!({"role": "agent", "level": 3}));
    assert_eq!(claims["list"], json!([1, "a"]));
    assert_eq!(
        (&claims["text"], &claims["quoted"], &claims["equation"], &claims["empty"]),
        (&json!("5 apples"), &json!("5"), &json!("a=b"), &json!(""))
    );
    assert!(claims.get("sub").is_none());
}

#[test]
fn every_unit_of_time_is_understood() {
    for (ttl, seconds) in [("30s", 30), ("15m", 900), ("1h", 3600), ("7d", 604_800)] {
        let claims = claims(&["--role=anon", "--ttl", ttl]);
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), seconds);
    }
}

#[test]
fn what_makes_no_token_is_refused_in_a_sentence() {
    for (arguments, words) in [
        (&["--ttl=0s"][..], "--ttl is 0"),
        (&["--ttl=0d"], "--ttl is 0"),
        (&["--ttl="], "is not a time"),
        (&["--ttl=h"], "is not a time"),
        (&["--ttl=5"], "is not a time"),
        (&["--ttl=5é"], "is not a time"),
        (&["--ttl=-5m"], "is not a time"),
        (&["--ttl=99999999999999999999d"], "is not a time"),
        (&["--ttl=18446744073709551615s"], "is not a time"),
        (&["--claim=exp=5"], "use --ttl"),
        (&["--claim=iat=5"], "use --ttl"),
        (&["--claim=role=x"], "use --role"),
        (&["--claim=sub.x=x"], "use --sub"),
        (&["--claim=a=1", "--claim=a=2"], "--claim a would set the claim twice"),
        (&["--claim=a=1", "--claim=a.b=2"], "--claim a.b would set the claim twice"),
        (&["--claim=novalue"], "--claim number 1"),
        (&["--claim==x"], "--claim number 1"),
        (&["--claim=a..b=x"], "--claim number 1"),
    ] {
        let text = refusal(&[&["--role=anon"], arguments].concat());
        assert!(text.contains(words) && text.lines().count() == 1, "{arguments:?}: {text}");
    }
}

#[test]
fn without_a_secret_there_is_no_token_and_the_alias_will_do() {
    let none = output(&["token", "--role=anon"], &[]);
    assert_eq!(none.status.code(), Some(1));
    assert!(stderr(&none).contains("set JWT_SECRET"));
    assert!(output(&["token", "--role=anon"], &[("API_JWT_SECRET", SECRET)]).status.success());
    assert!(output(&["token", "--role=anon", "--jwt-secret", SECRET], &[]).status.success());
}

#[test]
fn a_user_id_that_no_policy_can_read_is_warned_of_on_stderr() {
    let output = run(&["--role=authenticated", "--sub=me"]);
    assert!(output.status.success() && stderr(&output).contains("not a UUID"));
    assert_eq!(stdout(&output).lines().count(), 1);
}
