//! `POST /api/explain`: who may ask, what is refused, and what only the running server knows.

use super::{MARKER, database};
use crate::{
    line::setup,
    support::{
        json::Json,
        server::Server,
        token::{ALICE, alice, anon, bob, in_seconds, service, sign},
    },
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Status and body of a request to the endpoint. No answer ever holds a value of a row or of claims.
async fn request(server: &Server, method: &str, token: Option<&str>, body: &str) -> (u16, Value) {
    let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let request = format!(
        "{method} /api/explain HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{authorization}Content-Length: {}\r\n\r\n{body}",
        server.address(),
        body.len()
    );
    let mut stream = TcpStream::connect(server.address()).await.expect("the server listens");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(!answer.contains(MARKER) && !answer.contains(ALICE), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}")))
}

async fn ask(server: &Server, body: &Value) -> (u16, Value) {
    request(server, "POST", Some(&service()), &body.to_string()).await
}

fn question(token: &str, row: impl Into<Value>) -> Value {
    json!({"table": "notes", "row": row.into(), "token": token})
}

/// Waits until the server follows the table its policies look into.
async fn wait_for_lookups(server: &Server, state: &str) {
    let is = |health: &Json| health.at("lookups").at("public.members").at("state").as_str() == Some(state);
    setup::wait_for_health(server, |status, health| status == 200 && is(health)).await;
}

#[tokio::test]
async fn an_operator_hears_what_the_running_server_does_for_a_user() {
    let database = database().await;
    let server = Server::start(&database, &[]).await;
    wait_for_lookups(&server, "ready").await;
    let (status, mine) = ask(&server, &question(&alice(), 1)).await;
    assert_eq!((status, &mine["visible"]), (200, &true.into()), "{mine:#}");
    assert_eq!(mine["verdict"], "visible: policy \"mine\" of public.notes lets role \"authenticated\" see this row");
    assert_eq!((&mine["decided_by"], &mine["postgres"]["agrees"]), (&"process".into(), &true.into()));
    let (status, foreign) = ask(&server, &question(&alice(), "2")).await;
    assert_eq!((status, &foreign["visible"]), (200, &false.into()));
    assert!(foreign["verdict"].as_str().unwrap().contains("closest: policy \"members\" – clause exists (select"));
    let (status, member) =
        ask(&server, &json!({"table": "public.notes", "row": {"id": 2}, "token": bob(), "filter": "room=eq.7"})).await;
    assert_eq!((status, &member["visible"]), (200, &true.into()), "{member:#}");
    let claims = json!({"table": "notes", "row": [1], "claims": {"role": "anon"}});
    assert!(ask(&server, &claims).await.1["verdict"].as_str().unwrap().contains("applies to role \"anon\""));
    assert!(!server.log().concat().contains(MARKER));

    // The catalogue is the server's: what it has not followed yet goes to the database, and the reason is told.
    database.execute("alter publication walcast_lookups drop table members").await;
    let health = |health: &Json| health.at("lookups").at("public.members").at("state").as_str() != Some("ready");
    setup::wait_for_health(&server, |_, body| health(body)).await;
    let (_, unfollowed) = ask(&server, &question(&alice(), 2)).await;
    assert_eq!(
        (&unfollowed["decided_by"], &unfollowed["visible"]),
        (&"database".into(), &false.into()),
        "{unfollowed:#}"
    );
    assert!(unfollowed["why_database"][0].as_str().unwrap().contains("members"), "{unfollowed:#}");
    assert_eq!(unfollowed["postgres"]["agrees"], true);
}

#[tokio::test]
async fn nobody_but_the_admin_role_is_answered() {
    let database = database().await;
    let server = Server::start(&database, &[]).await;
    let body = question(&alice(), 1).to_string();
    let expired = sign(json!({"role": "service_role", "exp": in_seconds(-30)}));
    for (token, status, code) in [
        (None, 401, "unauthorized"),
        (Some("a.b.c"), 401, "unauthorized"),
        (Some(&*expired), 401, "unauthorized"),
        (Some(&*anon()), 403, "forbidden"),
        (Some(&*alice()), 403, "forbidden"),
        (Some(&*service()), 200, ""),
    ] {
        let (answered, answer) = request(&server, "POST", token, &body).await;
        assert_eq!((answered, answer["code"].as_str().unwrap_or_default()), (status, code), "{token:?}: {answer}");
    }
    let other = Server::start_at(
        &database.walcast_url(),
        &format!("{}_b", database.slot()),
        &[("WALCAST_ADMIN_ROLE", "authenticated")],
    )
    .await;
    assert_eq!(request(&other, "POST", Some(&service()), &body).await.0, 403);
    assert_eq!(request(&other, "POST", Some(&bob()), &body).await.0, 200);
}

#[tokio::test]
async fn what_cannot_be_answered_is_refused_with_a_code_and_a_text() {
    let database = database().await;
    let server = Server::start(&database, &[]).await;
    let expired = sign(json!({"role": "authenticated", "sub": ALICE, "exp": in_seconds(-30)}));
    let long = json!({"table": "n".repeat(70_000), "row": 1, "claims": {"role": "anon"}});
    for (body, status, code) in [
        (json!({"table": "nothing", "row": 1, "token": alice()}), 404, "no_table"),
        (question(&alice(), 99), 404, "no_row"),
        (question(&alice(), "x"), 400, "bad_key"),
        (question(&alice(), json!([1, 2])), 400, "bad_key"),
        (question(&alice(), Value::Null), 400, "bad_request"),
        (question(&expired, 1), 400, "bad_token"),
        (json!({"table": "notes", "row": 1}), 400, "bad_request"),
        (json!({"table": "notes", "row": 1, "claims": {"sub": "x"}}), 400, "bad_request"),
        (json!({"table": "notes", "row": 1, "token": alice(), "claims": {"role": "anon"}}), 400, "bad_request"),
        (json!({"table": "notes", "row": 1, "token": alice(), "also": 1}), 400, "bad_request"),
        (json!([1]), 400, "bad_request"),
        (long, 413, "too_large"),
    ] {
        let (answered, answer) = ask(&server, &body).await;
        assert_eq!((answered, answer["code"].as_str().unwrap()), (status, code), "{answer}");
        assert!(answer["message"].as_str().is_some_and(|message| !message.is_empty()));
    }
    assert_eq!(request(&server, "GET", Some(&service()), "").await.0, 405);
    assert_eq!(ask(&server, &question(&alice(), 1)).await.0, 200, "the connections are as good as before");
}
