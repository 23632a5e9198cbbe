//! Batches: what is taken, and the words for what is not.

use super::*;

fn outcome(body: &str) -> Result<Vec<Message>, Refusal> {
    messages(body.as_bytes(), 50)
}

fn errors(body: Value) -> Value {
    match outcome(&body.to_string()) {
        Err(Refusal::Errors(errors)) => errors,
        other => panic!("{body}: {other:?}"),
    }
}

fn one_error(message: Value) -> Value {
    errors(json!({ "messages": [message] }))["messages"][0].clone()
}

#[test]
fn a_message_becomes_the_text_members_get_with_its_payload_as_it_was_written() {
    let payload = r#"{ "x" : 1.50, "x":2, "é":"\u00e9" }"#;
    let body = format!(r#"{{"messages":[{{"payload":{payload},"topic":"room:1","event":"a\"b","extra":[1]}}],"x":0}}"#);
    let read = outcome(&body).unwrap();
    let [message] = &read[..] else { panic!("{read:?}") };
    let text = format!(r#"{{"event":"a\"b","payload":{payload},"type":"broadcast"}}"#);
    assert_eq!((&*message.topic, message.is_private), ("room:1", false));
    assert_eq!(message.broadcast, Broadcast::Text(text.into()));
}

#[test]
fn an_id_becomes_metadata() {
    let id = "00000000-0000-4000-8000-00000000000A";
    let message = json!({"topic": "t", "event": "e", "payload": {}, "id": id, "private": true});
    let read = outcome(&json!({ "messages": [message] }).to_string()).unwrap();
    let text = format!(r#"{{"event":"e","payload":{{}},"type":"broadcast","meta":{{"id":"{}"}}}}"#, id.to_lowercase());
    assert_eq!((&read[0].broadcast, read[0].is_private), (&Broadcast::Text(text.into()), true));
}

#[test]
fn what_is_missing_or_of_another_type_is_told_by_position_and_field() {
    let good = json!({"topic": "t", "event": "e", "payload": {}});
    assert_eq!(
        errors(json!({"messages": [{"event": "e"}, good, {"topic": 5, "event": " ", "payload": []}]})),
        json!({"messages": [
            {"payload": ["can't be blank"], "topic": ["can't be blank"]},
            {},
            {"event": ["can't be blank"], "payload": ["is invalid"], "topic": ["is invalid"]},
        ]})
    );
    let with = |name: &str, value: Value| {
        let mut message = good.clone();
        message[name] = value;
        one_error(message)
    };
    for (name, value) in [
        ("private", json!("maybe")),
        ("private", json!(1)),
        ("private", json!([])),
        ("id", json!("1")),
        ("id", json!(5)),
        ("id", json!("00000000000040008000000000000000")),
        ("topic", json!({})),
        ("event", json!(true)),
        ("payload", json!("text")),
        ("payload", json!(0)),
    ] {
        assert_eq!(with(name, value.clone()), json!({ name: ["is invalid"] }), "{value}");
    }
    for (name, value) in [("topic", json!(null)), ("event", json!("")), ("payload", json!(null))] {
        assert_eq!(with(name, value.clone()), json!({ name: ["can't be blank"] }), "{value}");
    }
}

#[test]
fn private_is_taken_as_a_word_too_and_null_says_nothing() {
    for (value, expected) in [
        (json!(true), true),
        (json!("true"), true),
        (json!("1"), true),
        (json!("FALSE"), false),
        (json!(false), false),
        (json!(null), false),
    ] {
        let message = json!({"topic": "t", "event": "e", "payload": {}, "private": value, "id": null});
        let read = outcome(&json!({ "messages": [message] }).to_string()).unwrap();
        assert_eq!(read[0].is_private, expected, "{value}");
    }
}

#[test]
fn a_body_without_messages_is_told_so() {
    let blank = json!({"messages": ["can't be blank"]});
    for body in ["", " \n", "{}", "[]", "5", "null", "\"x\"", r#"{"messages":[]}"#, r#"[{"messages":[]}]"#] {
        assert_eq!(outcome(body), Err(Refusal::Errors(blank.clone())), "{body}");
    }
    let invalid = json!({"messages": ["is invalid"]});
    for body in ["null", "5", "{}", "[5]", "[[]]", "[null]"] {
        let body = format!(r#"{{"messages":{body}}}"#);
        assert_eq!(outcome(&body), Err(Refusal::Errors(invalid.clone())), "{body}");
    }
    let many = vec![json!({}); MAX_MESSAGES + 1];
    assert_eq!(errors(json!({ "messages": many })), json!({"messages": ["should have at most 10000 item(s)"]}));
}

#[test]
fn what_is_no_json_is_a_bad_request() {
    for body in [
        "{nope",
        "{\"messages\":[",
        "{\"messages\":[{]}",
        "{} {}",
        "nope",
        "{\"a\":\"\u{1}\"}",
        r#"{"messages":[{"\ud800":1}]}"#,
    ] {
        assert_eq!(outcome(body), Err(Refusal::BadRequest), "{body}");
    }
    assert_eq!(messages(b"{\"messages\":\"\xff\"}", 50), Err(Refusal::BadRequest));
}

#[test]
fn a_payload_over_the_limit_or_too_deep_is_refused() {
    let payload = |size: usize| json!({"x": "a".repeat(size - r#"{"x":""}"#.len())});
    let sized = |size| json!({"topic": "t", "event": "e", "payload": payload(size)});
    assert!(outcome(&json!({"messages": [sized(50)]}).to_string()).is_ok());
    assert_eq!(one_error(sized(51)), json!({"payload": ["Payload size exceeds tenant limit"]}));

    let deep = format!(r#"{{"x":{}{}}}"#, "[".repeat(200), "]".repeat(200));
    for payload in [deep.as_str(), r#"{"x":1e999}"#] {
        let body = format!(r#"{{"messages":[{{"topic":"t","event":"e","payload":{payload}}}]}}"#);
        let outcome = messages(body.as_bytes(), 5000);
        assert_eq!(outcome, Err(Refusal::Errors(json!({"messages": [{"payload": ["is invalid"]}]}))), "{payload:.20}");
    }
}
