//! The HTTP routes of a server whose database cannot be reached: bodies, heads, queries, upgrades. What only the database
//! could say is answered as when it is away.

use super::{
    harness::{Seen, Target, fuzz, seen, shape},
    mutate::{joined, records},
    world,
};
use crate::support::token::{SECRET, in_seconds, sign};
use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, Response, StatusCode},
};
use serde::de::IgnoredAny;
use serde_json::json;
use std::{
    sync::{Arc, LazyLock, OnceLock},
    time::Duration,
};
use tokio::{runtime::Runtime, sync::watch};
use tower::ServiceExt;
use walcast::{
    auth::Verifier,
    config::Settings,
    doors::phoenix::{self, Door, Recall},
    http::{
        broadcast,
        explain::{self, Explain},
        metrics as scrape, rpc,
        rpc::Rpc,
        tenants,
    },
    hub::Rooms,
    limits::Meters,
    lsn::Lsn,
    messages::{Publisher, Replay},
    metrics::Metrics,
    policy::catalog::Catalog,
    rights::{self, ChannelRights},
    router::{self, Preparer, Refresh},
    shutdown::Tasks,
};

const WORDS: &[&str] = &[
    "\"messages\"",
    "\"topic\"",
    "\"event\"",
    "\"payload\"",
    "\"private\"",
    "\"id\"",
    "true",
    "false",
    "null",
    "\"table\"",
    "\"row\"",
    "\"token\"",
    "\"claims\"",
    "\"filter\"",
    "\"role\"",
    "\"tenant\"",
    "\"max_concurrent_users\"",
    "\"max_payload_size_in_kb\"",
    "\"client_presence_window_ms\"",
    "\"extensions\"",
    "\"settings\"",
    "\"publication\"",
    "\"jwt_secret\"",
    "\"external_id\"",
    "\"suspend\"",
    "\"content\"",
    "\"metadata\"",
    "private=",
    "persist=",
    "&",
    "select=",
    "apikey=",
    "vsn=",
    "1.0.0",
    "2.0.0",
    "%70",
    "%00",
    "%ff",
    "%2F",
    "..",
    "/",
    "?",
    "#",
];

/// Everything that was sent under this name is secret.
const SESAME: &str = "sesame-sesame";

struct Served {
    runtime: Runtime,
    routes: Router,
    /// A key for clients, and for the admin API.
    token: String,
}

static SERVED: LazyLock<Served> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let routes = runtime.block_on(async { routes() });
    let token = sign(json!({ "role": "service_role", "exp": in_seconds(1_000_000) }));
    Served { runtime, routes, token }
});

/// As `serve` puts them together; nobody runs the router.
fn routes() -> Router {
    let settings = Settings {
        // Nobody listens there.
        database_url: Some("postgresql://walcast:sesame-sesame@127.0.0.1:1/none?connect_timeout=1".to_owned()),
        jwt_secret: Some(SECRET.to_owned()),
        connect_error_delay_ms: Some(0),
        ..Settings::default()
    };
    let config = settings.serve().expect("settings");
    let pool = config.target.pool("walcast", 1, "").expect("a pool");
    let mut catalog =
        Catalog { roles: vec!["service_role".into()], types: Arc::new(world::types()), ..Catalog::default() };
    catalog.tables.insert(world::DOCS, Arc::new(world::docs()));
    let refresh = Refresh::once(catalog);
    let (metrics, meters, rooms) =
        (Arc::<Metrics>::default(), Arc::new(Meters::new(config.limits.clone())), Rooms::default());
    let verifier = Verifier::new(&config.auth);
    let (_, source) = watch::channel(Default::default());
    let (state, router_state) = watch::channel(Default::default());
    let (router, _) = walcast::router::Router::new(router::Parts {
        config: config.router.clone(),
        lane: config.lane.clone(),
        pool: pool.clone(),
        own_pool: pool.clone(),
        lookup_pool: pool.clone(),
        follow: config.follow.clone(),
        wish: watch::channel(Default::default()).0,
        feed: walcast::source::feed(1, 1024).1,
        spill: config.spill.clone(),
        interruption_notice: config.interruption_notice,
        state,
        handed_on: watch::channel(Default::default()).0,
        refresh: refresh.clone(),
        source: source.clone(),
        messages: Publisher::new(rooms.clone(), meters.clone(), metrics.clone(), Lsn(1)),
        metrics: metrics.clone(),
        tasks: Tasks::new(),
    });
    let rights = ChannelRights::new(rights::Parts {
        target: config.target.clone(),
        refresh: refresh.clone(),
        statement_timeout: Duration::from_secs(1),
        metrics: metrics.clone(),
    });
    let rights = rights.expect("rights");
    let (recall, connections) = (Recall::default(), Arc::default());
    let door = Door {
        config: Arc::new(config.door.clone()),
        verifier: verifier.clone(),
        router,
        preparer: Preparer::new(pool.clone(), source.clone()),
        refresh: refresh.clone(),
        metrics: metrics.clone(),
        connections: Arc::clone(&connections),
        tasks: Tasks::new(),
        rooms: rooms.clone(),
        meters: meters.clone(),
        rights: rights.clone(),
        replay: Replay::new(pool.clone(), refresh.watch(), Duration::from_secs(1)),
        source: source.clone(),
        numbers: Arc::default(),
        recall: recall.clone(),
    };
    let (_, admin) = watch::channel(config.tenants.clone());
    let tenants = tenants::Parts {
        config: admin,
        meters: meters.clone(),
        recall,
        connections,
        source: source.clone(),
        refresh: refresh.clone(),
    };
    let broadcast =
        broadcast::Parts { config: Default::default(), verifier: verifier.clone(), rooms, meters, metrics, rights };
    let rpc =
        Rpc { pool: pool.clone(), verifier: verifier.clone(), catalog: refresh.watch(), config: Default::default() };
    let explain = Explain {
        pool,
        verifier,
        admin_role: config.admin_role.as_str().into(),
        publication: config.slot.publication.as_str().into(),
        refresh,
        source,
        router: router_state,
    };
    phoenix::routes(door)
        .merge(broadcast::routes(broadcast))
        .merge(rpc::routes(rpc))
        .merge(tenants::routes(tenants))
        .merge(explain::routes(explain))
}

/// What comes of a request: its status, and the shape of its body.
fn ask(request: Request<Body>) -> (StatusCode, Seen, String) {
    let Served { runtime, routes, .. } = &*SERVED;
    let (head, body) = runtime.block_on(async {
        let response: Response<Body> = routes.clone().oneshot(request).await.expect("an answer");
        let (head, body) = response.into_parts();
        (head, to_bytes(body, 1 << 24).await.expect("a body"))
    });
    let text = String::from_utf8(body.into()).expect("an answer in UTF-8");
    let kind = head.headers.get("content-type").map_or("", |kind| kind.to_str().expect("a readable header"));
    if kind.starts_with("application/json") {
        serde_json::from_str::<IgnoredAny>(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    }
    assert!(head.status != StatusCode::INTERNAL_SERVER_ERROR, "{text}");
    assert!(!text.contains(SESAME), "a secret: {text}");
    let start: String = text.chars().filter(|letter| !letter.is_ascii_digit()).take(120).collect();
    let start = if head.status == StatusCode::UNPROCESSABLE_ENTITY { seen(start) } else { shape(&start) };
    (head.status, seen((head.status.as_u16(), start)), text)
}

/// A request with the admin's token, unless the address or a header cannot be said in HTTP at all.
fn request(method: &str, uri: &str, headers: &[u8], body: &[u8]) -> Option<Request<Body>> {
    let mut request =
        Request::builder().method(method).uri(uri).header("authorization", format!("Bearer {}", SERVED.token));
    for line in headers.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let at = memchr::memchr(b':', line)?;
        request = request.header(&line[..at], &line[at + 1..]);
    }
    request.body(Body::from(body.to_vec())).ok()
}

fn fuzz_bodies(name: &'static str, seeds: &[&str], run: fn(&[u8]) -> Seen) {
    let seeds = seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect();
    fuzz(Target { name, seeds, words: WORDS, memory: (4 << 20, 400), run });
}

#[test]
fn any_body_of_a_batch_is_broadcast_or_refused() {
    let seeds = [
        r#"{"messages": [{"topic": "room-1", "event": "cursor", "payload": {"x": 1.0}}]}"#,
        r#"{"messages": [{"topic": "a", "event": "b", "payload": {}, "private": "false", "id": "11111111-1111-1111-1111-111111111111"},
            {"topic": "", "event": null, "payload": [], "private": 1}]}"#,
        r#"{"messages": [{"topic": "a", "event": "b", "payload": {}, "private": true}]}"#,
    ];
    fuzz_bodies("batch", &seeds, |body| {
        let request = request("POST", "/api/broadcast", b"content-type:application/json", body).expect("a request");
        ask(request).1
    });
}

#[test]
fn any_single_message_is_broadcast_or_refused() {
    let seeds = [
        joined(["/room/events/cursor?private=false&apikey=x", "content-type:application/json", r#"{"x": [1, "a"]}"#]),
        joined(["/r%20m/events/%C3%A9", "content-type:application/octet-stream", "\0\u{1}"]),
        joined([
            "/room/events/e?persist[ttl]=5&private=1",
            "content-type:application/vnd.api+json; charset=utf-8\nx-a:b",
            "5",
        ]),
    ];
    fuzz(Target { name: "single", seeds: seeds.to_vec(), words: WORDS, memory: (4 << 20, 400), run: single });
}

/// Address, headers and body.
fn single(input: &[u8]) -> Seen {
    let [uri, headers, body, ..] = records(input)[..] else { return 0 };
    let Ok(uri) = std::str::from_utf8(uri) else { return 1 };
    request("POST", &format!("/api/broadcast{uri}"), headers, body).map_or(2, |request| ask(request).1)
}

#[test]
fn any_call_of_a_function_is_made_or_refused() {
    let seeds = [
        joined([
            "/insert_message?select=id,text:content",
            "content-type:application/json\nprefer:return=minimal",
            r#"{"content": "x", "metadata": {"a": [1]}}"#,
        ]),
        joined([
            "/insert_message",
            "accept:application/vnd.pgrst.object+json\ncontent-profile:public",
            r#"{"content": "x", "recipient_id": null}"#,
        ]),
        joined(["/none?x=1", "", "{}"]),
    ];
    fuzz(Target { name: "rpc", seeds: seeds.to_vec(), words: WORDS, memory: (4 << 20, 400), run: call });
}

fn call(input: &[u8]) -> Seen {
    let [uri, headers, body, ..] = records(input)[..] else { return 0 };
    let Ok(uri) = std::str::from_utf8(uri) else { return 1 };
    request("POST", &format!("/rest/v1/rpc{uri}"), headers, body).map_or(2, |request| ask(request).1)
}

#[test]
fn any_question_for_an_explanation_is_asked_or_refused_without_its_token() {
    let seeds = [
        r#"{"table": "docs", "row": 42, "claims": {"role": "authenticated", "sub": "x"}, "filter": "level=eq.7"}"#,
        r#"{"table": "public.docs", "row": ["a", 1], "token": "sesame-sesame.e30.x"}"#,
        r#"{"table": "docs", "row": {"id": "a"}, "token": "sesame-sesame", "claims": {}}"#,
    ];
    fuzz_bodies("explain", &seeds, |body| {
        ask(request("POST", "/api/explain", b"content-type:application/json", body).expect("a request")).1
    });
}

#[test]
fn any_change_of_the_tenant_is_made_or_refused_without_its_secret() {
    let seeds = [
        r#"{"tenant": {"external_id": "realtime-dev", "max_events_per_second": 4294967295, "suspend": false, "jwt_secret": "sesame-sesame"}}"#,
        r#"{"tenant": {"max_concurrent_users": null, "max_channels_per_client": "100", "client_presence_window_ms": 1,
            "extensions": [{"type": "x", "settings": {"publication": "supabase_realtime", "db_password": "sesame-sesame"}}]}}"#,
    ];
    fuzz_bodies("tenant", &seeds, |body| {
        // What others are fuzzed with goes by the limits, too.
        let lifted = r#"{"tenant": {"suspend": false, "private_only": false, "max_events_per_second": null, "max_concurrent_users": null,
            "max_joins_per_second": null, "max_payload_size_in_kb": 3000, "max_channels_per_client": 100}}"#;
        let put = |body: &[u8]| ask(request("PUT", "/api/tenants/realtime-dev", b"", body).expect("a request"));
        let (status, seen, text) = put(body);
        if status == StatusCode::OK {
            assert!(text.contains("supabase_realtime"));
            assert_eq!(put(lifted.as_bytes()).0, StatusCode::OK);
        }
        seen
    });
}

#[test]
fn any_upgrade_is_made_or_refused() {
    let seeds = [
        "/socket/websocket?apikey=KEY&vsn=2.0.0",
        "/realtime/v1/websocket?vsn=1.0.0&x=%20",
        "/socket/websocket?apikey=a.b.c&apikey=KEY",
    ];
    let headers = ["x-api-key:KEY", "x-client-info:\u{e9}", ""];
    let seeds = seeds.iter().flat_map(|uri| headers.iter().map(move |headers| joined([uri, headers])));
    fuzz(Target { name: "upgrade", seeds: seeds.collect(), words: WORDS, memory: (4 << 20, 400), run: upgrade });
}

/// Address and headers; KEY stands for a good key.
fn upgrade(input: &[u8]) -> Seen {
    static TAIL: OnceLock<String> = OnceLock::new();
    let tail = TAIL.get_or_init(|| "connection:upgrade\nupgrade:websocket\nsec-websocket-version:13\nsec-websocket-key:AAAAAAAAAAAAAAAAAAAAAA==\n".to_owned());
    let [uri, headers, ..] = records(input)[..] else { return 0 };
    let key = |text: &[u8]| String::from_utf8_lossy(text).replace("KEY", &SERVED.token);
    let headers = [tail.as_bytes(), key(headers).as_bytes()].concat();
    let Some(mut request) = request("GET", &key(uri), &headers, b"") else { return 1 };
    // A socket that is never upgraded, as far as the routes can see.
    let pending = hyper::upgrade::on(Request::new(()));
    request.extensions_mut().insert(pending);
    let (status, seen, _) = ask(request);
    let known = [101, 400, 401, 403, 404, 405, 415, 422];
    assert!(known.contains(&status.as_u16()), "{status}");
    seen
}

/// What may be asked of `/metrics` is a token.
#[test]
fn the_routes_that_are_fuzzed_are_those_of_the_server() {
    let _: fn(scrape::Parts) -> Router = scrape::routes;
    let good = br#"{"messages": [{"topic": "t", "event": "e", "payload": {}}]}"#;
    assert_eq!(
        ask(request("POST", "/api/broadcast", b"content-type:application/json", good).expect("a request")).0,
        StatusCode::ACCEPTED
    );
    let question = br#"{"table": "docs", "row": 1, "claims": {"role": "x"}}"#;
    assert_eq!(
        ask(request("POST", "/api/explain", b"", question).expect("a request")).0,
        StatusCode::SERVICE_UNAVAILABLE
    );
    let call = br#"{"content": "x"}"#;
    assert_eq!(
        ask(request("POST", "/rest/v1/rpc/insert_message", b"", call).expect("a request")).0,
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(ask(request("GET", "/api/tenants", b"", b"").expect("a request")).0, StatusCode::OK);
}
