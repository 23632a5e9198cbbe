//! `POST /rest/v1/rpc/insert_message` in PostgREST's conventions, with a real database behind the routes.

use crate::support::{
    postgres::{Database, Postgres, drive},
    skip,
    token::{ALICE, BOB, SECRET, in_seconds, sign, user},
    wait::until,
};
use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Method, Request, StatusCode},
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;
use tokio_postgres::Client;
use tower::ServiceExt;
use walcast::{
    auth::{self, Verifier},
    http::rpc::{Config, Rpc, routes},
    pg::{Target, migrate::migrate},
    policy::catalog::Catalog,
};

const SOON: Duration = Duration::from_secs(20);
const CAROL: &str = "33333333-3333-3333-3333-333333333333";
const CONVERSATION: &str = "d0000000-0000-4000-8000-000000000001";
const PATH: &str = "/rest/v1/rpc/insert_message";

/// A server whose login is the least-privileged role.
struct Served {
    _database: Database,
    superuser: Client,
    roles: watch::Sender<Arc<Catalog>>,
    router: Router,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {}", self.text))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Status and code of an error, its body being of PostgREST's shape.
    fn error(&self) -> (u16, String) {
        let body = self.json();
        let mut keys: Vec<_> = body.as_object().unwrap().keys().cloned().collect();
        keys.sort();
        assert_eq!(keys, ["code", "details", "hint", "message"]);
        assert!(body["message"].is_string());
        (self.status.as_u16(), body["code"].as_str().unwrap().to_owned())
    }
}

impl Served {
    async fn new() -> Served {
        Served::with(Config::default()).await
    }

    async fn with(config: Config) -> Served {
        let database = Postgres::default().database().await;
        let mut superuser = database.connect().await;
        assert!(migrate(&mut superuser, true).await.unwrap().is_complete());
        let granted = ["anon", "authenticated", "service_role"].map(Arc::from).to_vec();
        let (roles, catalog) = watch::channel(Arc::new(Catalog { roles: granted, ..Catalog::default() }));
        let pool = Target::parse(&database.walcast_url()).unwrap().pool("walcast test", 2, "").unwrap();
        let verifier = Verifier::new(&auth::Config {
            jwt_secret: SECRET.into(),
            api_keys: vec![("sb_secret_1".into(), "service_role".into())],
            ..auth::Config::default()
        });
        let router = routes(Rpc { pool, verifier, catalog, config });
        Served { _database: database, superuser, roles, router }
    }

    async fn ask(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let text = String::from_utf8(to_bytes(body, 1 << 20).await.unwrap().into()).unwrap();
        Answer { status: head.status, headers: head.headers, text }
    }

    async fn call(&self, token: &str, body: impl ToString) -> Answer {
        self.ask(post(token).body(Body::from(body.to_string())).unwrap()).await
    }

    /// Ends the connections of the server under test, and waits until they have ended.
    async fn cut(&self) {
        let ours = "from pg_stat_activity where datname = current_database() and usename = 'walcast'";
        self.superuser.query(&format!("select pg_terminate_backend(pid) {ours}"), &[]).await.unwrap();
        let gone = format!("select not exists (select {ours})");
        until(SOON, || self.says(&gone)).await;
    }

    async fn says(&self, query: &str) -> bool {
        self.superuser.query_one(query, &[]).await.unwrap().get(0)
    }

    async fn count(&self) -> i64 {
        self.superuser.query_one("select count(*) from messages", &[]).await.unwrap().get(0)
    }
}

fn post(token: &str) -> axum::http::request::Builder {
    let request = Request::post(PATH).header("content-type", "application/json");
    request.header("authorization", format!("Bearer {token}"))
}

fn of_role(role: &str) -> String {
    sign(json!({"role": role, "exp": in_seconds(600)}))
}

fn hello() -> Value {
    json!({"content": "Hi", "conversation_id": CONVERSATION})
}

#[tokio::test]
async fn a_call_answers_with_the_row_and_the_row_is_there() {
    let served = Served::new().await;
    let arguments = json!({"content": "Hi", "conversation_id": CONVERSATION, "metadata": {"n": 1.50, "q": "'; drop"}});
    let answer = served.call(&user(BOB), &arguments).await;
    assert_eq!((answer.status, answer.header("content-type")), (StatusCode::OK, "application/json; charset=utf-8"));
    let row = answer.json();
    assert_eq!(row["content"], "Hi");
    assert_eq!(row["sender_id"], BOB);
    assert_eq!((&row["sender_type"], &row["recipient_id"]), (&json!("customer"), &Value::Null));
    assert_eq!(row["metadata"], arguments["metadata"]);
    let stored =
        served.superuser.query_one("select row_to_json(m)::text from messages m where content = 'Hi'", &[]).await;
    let stored: Value = serde_json::from_str(stored.unwrap().get(0)).unwrap();
    assert_eq!(stored["id"], row["id"]);

    // The next call on the same connections has none of the last one's rights.
    for _ in 0..4 {
        assert_eq!(served.call(&user(CAROL), hello()).await.error(), (403, "42501".into()));
    }
}

#[tokio::test]
async fn preferences_columns_and_media_types_are_postgrests() {
    let served = Served::new().await;
    let minimal =
        post(&user(BOB)).header("prefer", "tx=commit, return=minimal").body(hello().to_string().into()).unwrap();
    let minimal = served.ask(minimal).await;
    assert_eq!((minimal.status, minimal.text.as_str()), (StatusCode::NO_CONTENT, ""));
    assert_eq!(minimal.header("preference-applied"), "return=minimal");

    let ask = |query: &str, name: &str, value: &str| {
        let mut request = post(&user(BOB)).header(name, value).body(Body::from(hello().to_string())).unwrap();
        *request.uri_mut() = format!("{PATH}{query}").parse().unwrap();
        served.ask(request)
    };
    let one = ask("?select=content,who:sender_id", "accept", "application/vnd.pgrst.object+json").await;
    assert_eq!(one.json(), json!({"content": "Hi", "who": BOB}));
    assert_eq!(ask("?select=*", "content-profile", "public").await.status, StatusCode::OK);
    let before = served.count().await;
    for (query, name, value, expected) in [
        ("", "accept", "text/csv", (406, "PGRST107")),
        ("", "content-profile", "auth", (406, "PGRST106")),
        ("?select=nothing", "x-client-info", "t", (400, "42703")),
        ("?select=a(b)", "x-client-info", "t", (400, "PGRST100")),
        ("?select=a%22,b", "x-client-info", "t", (400, "PGRST100")),
        ("?id=eq.1", "x-client-info", "t", (400, "PGRST100")),
    ] {
        let answer = ask(query, name, value).await;
        assert_eq!(answer.error(), (expected.0, expected.1.to_owned()), "{query} {name} {value}");
    }
    assert_eq!(served.count().await, before);
}

#[tokio::test]
async fn a_token_that_is_not_good_is_unauthorized() {
    let served = Served::new().await;
    let without = Request::post(PATH).body(Body::from(hello().to_string())).unwrap();
    let without = served.ask(without).await;
    assert_eq!(without.error(), (401, "PGRST302".into()));
    assert_eq!(without.header("www-authenticate"), "Bearer");
    for (token, code) in [
        (String::new(), "PGRST301"),
        ("nonsense".into(), "PGRST301"),
        ("sb_secret_2".into(), "PGRST301"),
        (format!("{}A", user(BOB)), "PGRST301"),
        (sign(json!({"role": "authenticated", "exp": in_seconds(-1)})), "PGRST303"),
        (sign(json!({"role": "authenticated"})), "PGRST303"),
    ] {
        let answer = served.call(&token, hello()).await;
        assert_eq!(answer.error(), (401, code.into()), "{token}: {}", answer.text);
        assert!(answer.header("www-authenticate").starts_with("Bearer error=\"invalid_token\""));
    }
    // Only `apikey`, and another scheme beside it.
    let keyed = Request::post(PATH).header("apikey", user(BOB)).header("authorization", "Basic eDp5");
    assert_eq!(served.ask(keyed.body(hello().to_string().into()).unwrap()).await.status, StatusCode::OK);
    // The token counts, not the key.
    let both = post(&of_role("anon")).header("apikey", "sb_secret_1").body(Body::from(hello().to_string()));
    assert_eq!(served.ask(both.unwrap()).await.error(), (401, "42501".into()));
    let system = json!({"content": "Hi", "recipient_id": ALICE, "sender_type": "system"});
    let opaque = served.call("sb_secret_1", &system).await;
    assert_eq!((opaque.status, &opaque.json()["sender_id"]), (StatusCode::OK, &Value::Null));
}

#[tokio::test]
async fn a_role_that_was_not_granted_to_us_is_forbidden() {
    let served = Served::new().await;
    for role in ["postgres", "walcast", "none", "nobody", "", "pg_read_all_data"] {
        assert_eq!(served.call(&of_role(role), hello()).await.error(), (403, "42501".into()), "{role}");
    }
    // Even if the catalogue were wrong, the database says no.
    let wrong = vec!["postgres".into(), "nobody".into()];
    served.roles.send_replace(Arc::new(Catalog { roles: wrong, ..Catalog::default() }));
    assert_eq!(served.call(&of_role("postgres"), hello()).await.error(), (403, "42501".into()));
    assert_eq!(served.call(&of_role("nobody"), hello()).await.status, StatusCode::BAD_REQUEST);
    served.roles.send_replace(Arc::default());
    assert_eq!(served.call(&user(BOB), hello()).await.error(), (503, "PGRST002".into()));
    assert_eq!(served.count().await, 1);
}

#[tokio::test]
async fn what_the_database_refuses_keeps_its_code_and_gets_postgrests_status() {
    let served = Served::new().await;
    let service = of_role("service_role");
    let to = |target: &str, id: &str| json!({"content": "Hi", target: id, "sender_type": "system"});
    for (token, arguments, expected) in [
        (user(BOB), to("conversation_id", CONVERSATION), (403, "42501")),
        (of_role("anon"), hello(), (401, "42501")),
        (of_role("authenticated"), hello(), (403, "42501")),
        (service.clone(), to("conversation_id", CAROL), (409, "23503")),
        (service.clone(), to("conversation_id", "no uuid"), (400, "22P02")),
        (
            service.clone(),
            json!({"content": "a\u{0}b", "recipient_id": ALICE, "sender_type": "system"}),
            (400, "22P05"),
        ),
        (user(BOB), json!({"content": "Hi"}), (400, "22023")),
        (user(BOB), json!({"content": null, "recipient_id": ALICE}), (400, "22023")),
        (user("no uuid"), hello(), (400, "22P02")),
        (user(BOB), json!({"content": "Hi", "colour": "red", "recipient_id": ALICE}), (404, "PGRST202")),
        (user(BOB), json!({"recipient_id": ALICE}), (404, "PGRST202")),
    ] {
        let answer = served.call(&token, &arguments).await;
        assert_eq!(answer.error(), (expected.0, expected.1.to_owned()), "{arguments}: {}", answer.text);
    }
    assert_eq!(served.count().await, 1);

    let replace = |body: &str| {
        format!(
            "create or replace function public.insert_message(content text, conversation_id uuid default null, \
             recipient_id uuid default null, sender_type text default 'customer', metadata jsonb default '{{}}') \
             returns public.messages language plpgsql as $$ declare m public.messages; begin {body} return m; end $$"
        )
    };
    for (body, expected) in [
        ("raise exception 'no' using hint = 'h', detail = 'd';", (400, "P0001")),
        ("raise sqlstate 'PT418';", (418, "PT418")),
        ("raise sqlstate 'PT200';", (500, "PT200")),
        ("perform no_such_function();", (404, "42883")),
        ("perform 1 from no_such_table;", (404, "42P01")),
        ("raise sqlstate '23505';", (409, "23505")),
        ("raise sqlstate '53300';", (503, "53300")),
        ("raise sqlstate 'XX000';", (500, "XX000")),
    ] {
        served.superuser.batch_execute(&replace(body)).await.unwrap();
        let answer = served.call(&user(BOB), hello()).await;
        assert_eq!(answer.error(), (expected.0, expected.1.to_owned()), "{body}: {}", answer.text);
        if expected.1 == "P0001" {
            assert_eq!(answer.json(), json!({"code": "P0001", "message": "no", "hint": "h", "details": "d"}));
        }
    }
    served.superuser.batch_execute("drop function public.insert_message").await.unwrap();
    assert_eq!(served.call(&user(BOB), hello()).await.error(), (404, "PGRST202".into()));
}

#[tokio::test]
async fn a_request_that_is_no_call_is_told_what_is_wrong() {
    let config = Config { body_limit_bytes: 1000, ..Config::default() };
    let served = Served::with(config).await;
    for body in ["[]", "null", "1", "{", "{\"content\":\"Hi\"}x", "\u{feff}{}"] {
        assert_eq!(served.call(&user(BOB), body).await.error(), (400, "PGRST102".into()), "{body}");
    }
    let not_text = post(&user(BOB)).body(Body::from(b"{\"content\":\"\xff\"}".to_vec())).unwrap();
    assert_eq!(served.ask(not_text).await.error(), (400, "PGRST102".into()));
    assert_eq!(served.call(&user(BOB), "").await.error(), (404, "PGRST202".into()));

    let form =
        Request::post(PATH).header("apikey", user(BOB)).header("content-type", "application/x-www-form-urlencoded");
    assert_eq!(served.ask(form.body("content=Hi".into()).unwrap()).await.error(), (400, "PGRST102".into()));

    let long = json!({"content": "x".repeat(1000), "recipient_id": ALICE}).to_string();
    assert_eq!(served.call(&user(BOB), &long).await.error(), (413, "PGRST102".into()));
    let chunks = futures_util::stream::iter([1, 2, 3].map(move |_| Ok::<_, std::io::Error>(long.clone())));
    let endless = post(&user(BOB)).body(Body::from_stream(chunks)).unwrap();
    assert_eq!(served.ask(endless).await.error(), (413, "PGRST102".into()));

    for method in [Method::GET, Method::PUT, Method::DELETE, Method::PATCH] {
        let request = Request::builder().method(&method).uri(PATH).body(Body::empty()).unwrap();
        let answer = served.ask(request).await;
        assert_eq!(answer.error(), (405, "PGRST117".into()), "{method}");
        assert_eq!(answer.header("allow"), "POST, OPTIONS");
    }
    let other =
        Request::post("/rest/v1/rpc/pg_sleep").header("apikey", user(BOB)).body(Body::from("{\"x\":1}")).unwrap();
    assert_eq!(served.ask(other).await.error(), (404, "PGRST202".into()));
}

#[tokio::test]
async fn a_browser_on_any_page_may_call() {
    let served = Served::new().await;
    let asked = "authorization,apikey,content-profile,content-type,x-client-info,prefer";
    let preflight = Request::options(PATH)
        .header("origin", "https://app.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", asked);
    let answer = served.ask(preflight.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    assert_eq!(answer.header("access-control-allow-headers"), asked);
    assert!(answer.header("access-control-allow-methods").contains("POST"));
    // The page must be able to read why it was refused, too.
    let refused = post("nonsense").header("origin", "https://app.example").body(Body::empty()).unwrap();
    assert_eq!(served.ask(refused).await.header("access-control-allow-origin"), "*");
}

#[tokio::test]
async fn a_call_that_hangs_is_ended_and_leaves_no_transaction() {
    let served = Served::with(Config { statement_timeout: Duration::from_millis(200), ..Config::default() }).await;
    served.superuser.batch_execute("begin; lock table messages in access exclusive mode").await.unwrap();
    assert_eq!(served.call(&user(BOB), hello()).await.error(), (500, "57014".into()));
    served.superuser.batch_execute("rollback").await.unwrap();
    let left = "select not exists (select from pg_stat_activity \
                where datname = current_database() and usename = 'walcast' and state <> 'idle')";
    until(SOON, || served.says(left)).await;
    assert_eq!(served.call(&user(BOB), hello()).await.status, StatusCode::OK);
    assert_eq!(served.count().await, 2);
}

#[tokio::test]
async fn a_database_that_is_away_is_unavailable_until_it_is_back() {
    let served = Served::new().await;
    assert_eq!(served.call(&user(BOB), hello()).await.status, StatusCode::OK);
    served
        .superuser
        .batch_execute("do $$ begin execute format('alter database %I connection limit 0', current_database()); end $$")
        .await
        .unwrap();
    served.cut().await;
    // Whether the end of a connection is noticed before a call or in it is a race, but it is always unavailable.
    until(SOON, || async {
        let (status, code) = served.call(&user(BOB), hello()).await.error();
        assert_eq!(status, 503, "{code}");
        code == "PGRST000"
    })
    .await;
    served
        .superuser
        .batch_execute(
            "do $$ begin execute format('alter database %I connection limit -1', current_database()); end $$",
        )
        .await
        .unwrap();
    assert_eq!(served.call(&user(BOB), hello()).await.status, StatusCode::OK);
    served.cut().await;
    until(SOON, || async { served.call(&user(BOB), hello()).await.status == StatusCode::OK }).await;
}

#[tokio::test]
async fn the_unmodified_javascript_client_calls_it() {
    let node = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/.cache/bin/node");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/rpc.mjs");
    if !std::path::Path::new(node).exists() {
        return skip("rpc::the_unmodified_javascript_client_calls_it", "no Node: run tests/setup");
    }
    let served = Served::new().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = served.router.clone();
    drive(async move { axum::serve(listener, router).await.unwrap() });
    let output = tokio::process::Command::new(node).args([script, &url, &user(BOB), CONVERSATION]).output();
    let output = tokio::time::timeout(SOON, output).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answers: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answers["whole"]["data"]["metadata"], json!({"from": "js"}), "{answers:#}");
    assert_eq!(answers["whole"]["data"]["sender_id"], BOB);
    let single = json!({"data": {"content": "single", "sender_type": "customer"}, "error": null, "status": 200});
    assert_eq!(answers["single"], single);
    assert_eq!((&answers["refused"]["status"], &answers["refused"]["error"]["code"]), (&json!(403), &json!("42501")));
    assert_eq!(
        (&answers["unknown"]["status"], &answers["unknown"]["error"]["code"]),
        (&json!(404), &json!("PGRST202"))
    );
    assert_eq!(served.count().await, 3);
}
