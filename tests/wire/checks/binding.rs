//! Checks 78 to 92, and 51 and 52: what may stand in a binding, what a wrong one is told. Protocol reference, sections
//! 3.7, 4.6 and 4.7.

use serde_json::{Value, json};

use super::{Check, Door, In, all_of, body, changes, fence, filtered};
use crate::support::json::Json;

/// Two names that a LIKE pattern would confuse.
pub(super) const SCHEMA: &str = r"
create table public.my_table(id bigint generated always as identity primary key, body text);
create table public.myxtable(id bigint generated always as identity primary key, body text);
alter publication supabase_realtime add table public.my_table, public.myxtable;
grant select on public.my_table, public.myxtable to anon, authenticated, service_role;
";

pub(super) const CHECKS: &[Check] = &[
    Check { number: 78, says: "events in lower case work", encodings: In::Both, run: |d| Box::pin(lower_case(d)) },
    Check { number: 79, says: "an unknown event means all", encodings: In::Both, run: |d| Box::pin(nonsense(d)) },
    Check {
        number: 80,
        says: "schema only and * take every table",
        encodings: In::Both,
        run: |d| Box::pin(wildcards(d)),
    },
    Check {
        number: 81,
        says: "a table published later is delivered",
        encodings: In::Both,
        run: |d| Box::pin(later(d)),
    },
    Check { number: 82, says: "filters let matching rows through", encodings: In::Both, run: |d| Box::pin(filters(d)) },
    Check {
        number: 83,
        says: "= . and quoted commas are value",
        encodings: In::Both,
        run: |d| Box::pin(odd_values(d)),
    },
    Check {
        number: 84,
        says: "a filter without = is told",
        encodings: In::Both,
        run: |d| Box::pin(told(d, filtered("wrong"), r#"Error parsing `filter` params: ["wrong"]"#)),
    },
    Check {
        number: 85,
        says: "an unknown operator is told",
        encodings: In::Both,
        run: |d| Box::pin(told(d, filtered("id=foo.1"), r#"Error parsing `filter` params: ["foo", "1"]"#)),
    },
    Check {
        number: 86,
        says: "parentheses and empty segments are told",
        encodings: In::Both,
        run: |d| Box::pin(segments(d)),
    },
    Check {
        number: 87,
        says: "a value that does not cast is told",
        encodings: In::Both,
        run: |d| Box::pin(no_cast(d)),
    },
    Check { number: 88, says: "an unpublished table is told", encodings: In::Both, run: |d| Box::pin(unpublished(d)) },
    Check {
        number: 89,
        says: "a binding that names nothing is told",
        encodings: In::Both,
        run: |d| Box::pin(no_params(d)),
    },
    Check { number: 90, says: "a wrong select is told", encodings: In::Both, run: |d| Box::pin(bad_select(d)) },
    Check {
        number: 91,
        says: "after such an error the channel is joined",
        encodings: In::Both,
        run: |d| Box::pin(joined(d)),
    },
    Check {
        number: 92,
        says: "select gives its columns and the key",
        encodings: In::Both,
        run: |d| Box::pin(select(d)),
    },
    Check { number: 203, says: "names are matched exactly", encodings: In::Both, run: |d| Box::pin(exact(d)) },
    Check { number: 205, says: "a bad binding is refused alone", encodings: In::Both, run: |d| Box::pin(bad_alone(d)) },
];

pub(super) const WAITING: &[Check] = &[
    Check { number: 51, says: "wait holds the reply until active", encodings: In::Both, run: |d| Box::pin(waits(d)) },
    Check {
        number: 52,
        says: "wait makes a bad binding a join error",
        encodings: In::Both,
        run: |d| Box::pin(wait_bad(d)),
    },
];

async fn lower_case(door: Door) {
    let mut socket = door.alice().await;
    let bindings = json!([{"event": "insert", "schema": "public", "table": "open_notes"}]);
    socket.subscribe("realtime:lower", &bindings).await;
    door.sql("insert into public.open_notes(body) values ('lower')").await;
    assert_eq!(*socket.change("realtime:lower").await.at("data").at("type"), "INSERT");
    door.sql("update public.open_notes set n = 1 where body = 'lower'").await;
    let others = fence(&door, &mut socket, "realtime:lower").await;
    assert!(others.is_empty(), "only inserts were asked for: {others:?}");
}

async fn nonsense(door: Door) {
    let mut socket = door.alice().await;
    let bindings = json!([{"event": "NONSENSE", "schema": "public", "table": "open_notes"}]);
    socket.subscribe("realtime:all", &bindings).await;
    door.sql("insert into public.open_notes(body) values ('n')").await;
    door.sql("update public.open_notes set n = 1 where body = 'n'").await;
    door.sql("delete from public.open_notes where body = 'n'").await;
    for kind in ["INSERT", "UPDATE", "DELETE"] {
        assert_eq!(*socket.change("realtime:all").await.at("data").at("type"), kind);
    }
}

async fn wildcards(door: Door) {
    let mut socket = door.alice().await;
    let bindings = [
        json!({"event": "*", "schema": "public"}),
        json!({"event": "*", "schema": "public", "table": "*"}),
        json!({"event": "*", "schema": "*"}),
        json!({"event": "*", "table": "open_notes"}),
    ];
    for (index, binding) in bindings.iter().enumerate() {
        socket.subscribe(&format!("realtime:w{index}"), &json!([binding])).await;
    }
    door.sql("insert into public.open_full(body) values ('wild')").await;
    door.sql("insert into public.open_notes(body) values ('wild')").await;
    for index in 0..bindings.len() {
        let topic = format!("realtime:w{index}");
        if index < 3 {
            assert_eq!(*socket.change(&topic).await.at("data").at("table"), "open_full");
        }
        assert_eq!(*socket.change(&topic).await.at("data").at("table"), "open_notes");
    }
}

async fn later(door: Door) {
    let mut socket = door.alice().await;
    socket.subscribe("realtime:later", &json!([{"event": "*", "schema": "public"}])).await;
    let table = format!("later_{:?}", door.vsn).to_lowercase();
    door.sql(&format!(
        "create table public.{table}(id int primary key, body text);
         grant select on public.{table} to authenticated;
         alter publication supabase_realtime add table public.{table};"
    ))
    .await;
    // Known within two seconds; rows are written until one arrives.
    let limit = tokio::time::Instant::now() + std::time::Duration::from_secs(3);
    for id in 0.. {
        door.sql(&format!("insert into public.{table} values ({id}, 'later')")).await;
        socket.listen(std::time::Duration::from_millis(100)).await;
        if socket.take(|m| *m.payload.at("data").at("table") == *table).is_some() {
            break;
        }
        assert!(tokio::time::Instant::now() < limit, "a table published later is not delivered within 3 s");
    }
}

async fn filters(door: Door) {
    // Filter, and which of the rows (n: 1, 2, 5 and NULL; body: their names) it lets through.
    let cases: [(&str, &[&str]); 12] = [
        ("n=eq.1", &["one"]),
        ("n=in.(1,2)", &["one", "two"]),
        ("n=gt.1,n=lt.5", &["two"]),
        // The body of the row without a number is the word, not the value.
        ("body=not.like.o%", &["two", "five", "null"]),
        ("n=is.null", &["null"]),
        ("n=not.is.null", &["one", "two", "five"]),
        ("n=neq.1", &["two", "five"]),
        ("n=isdistinct.1", &["two", "five", "null"]),
        ("body=imatch.^T", &["two"]),
        ("body=ilike.%E", &["one", "five"]),
        ("n=not.in.(1,2)", &["five"]),
        ("  n=lte.2  ", &["one", "two"]),
    ];
    let mut socket = door.alice().await;
    for (index, (filter, _)) in cases.iter().enumerate() {
        socket.subscribe(&format!("realtime:f{index}"), &filtered(filter)).await;
    }
    socket.subscribe("realtime:all", &all_of("open_notes")).await;
    for (n, text) in [("1", "one"), ("2", "two"), ("5", "five"), ("null", "null")] {
        door.sql(&format!("insert into public.open_notes(n, body) values ({n}, '{text}')")).await;
    }
    // Filters that the fence's own row (n 0) passes have it last; it is told apart by its body.
    let heard = fence(&door, &mut socket, "realtime:all").await;
    socket.listen(std::time::Duration::from_millis(100)).await;
    let heard = [heard, socket.drain()].concat();
    for (index, (filter, expected)) in cases.iter().enumerate() {
        let topic = format!("realtime:f{index}");
        let got = heard.iter().filter(|m| m.topic == *topic).filter_map(|m| body(&m.payload));
        let got: Vec<&str> = got.filter(|body| !body.starts_with("fence")).collect();
        assert_eq!(got, *expected, "filter {filter}");
    }
}

async fn odd_values(door: Door) {
    let values = [
        ("body=eq.a=b.c", "a=b.c"),
        (r#"body=eq."a,b""#, "a,b"),
        (r#"body=in.("x,y",z)"#, "x,y"),
        ("body=eq.1 2", "1 2"),
    ];
    for (filter, value) in values {
        let mut socket = door.alice().await;
        socket.subscribe("realtime:odd", &filtered(filter)).await;
        for text in ["other", value] {
            door.sql(&format!("insert into public.open_notes(body) values ('{text}')")).await;
        }
        assert_eq!(body(&socket.change("realtime:odd").await), Some(value), "filter {filter}");
    }
}

/// The join is ok, the system message says this (the beginning of it).
async fn told(door: Door, bindings: Value, text: &str) {
    let said = system_error(&door, &bindings).await;
    assert!(said.starts_with(text), "{bindings}\n  expected {text}\n  got      {said}");
}

async fn system_error(door: &Door, bindings: &Value) -> String {
    let mut socket = door.alice().await;
    let (_, response) = socket.join("realtime:told", &json!({"config": {"postgres_changes": bindings}})).await;
    assert_eq!(response.at("postgres_changes").elements().len(), bindings.as_array().map_or(0, Vec::len), "{response}");
    let system = socket.expect("the system message", |m| m.event == "system").await.payload;
    let expected = json!({"extension": "postgres_changes", "status": "error", "channel": "told"});
    for key in ["extension", "status", "channel"] {
        assert_eq!(*system.at(key), expected[key], "{system}");
    }
    system.at("message").as_str().expect("a text").to_owned()
}

async fn segments(door: Door) {
    let parentheses = "Error parsing `filter` params: `in` filter value must be wrapped by parentheses";
    told(door.clone(), filtered("id=in.1"), parentheses).await;
    let empty = "Error parsing `filter` params: filter must not contain empty segments (check for extra commas)";
    told(door.clone(), filtered("id=eq.1,"), empty).await;
    told(door, filtered(",id=eq.1"), empty).await;
}

async fn no_cast(door: Door) {
    let said = system_error(&door, &filtered("id=eq.hey")).await;
    let start = "Unable to subscribe to changes with given parameters. An exception happened so please check your connect \
                 parameters: [event: *, schema: public, table: open_notes, filters: [{\"id\", \"eq\", \"hey\", false}], \
                 select: nil]. Exception: ERROR 22P02";
    assert!(said.starts_with(start), "{said}");
    assert!(said.contains("invalid input syntax for type bigint: \"hey\""), "{said}");
}

async fn unpublished(door: Door) {
    let text = "Unable to subscribe to changes with given parameters. Please check Realtime is enabled for the given \
                connect parameters: [event: *, schema: public, table: unpublished, filters: [], select: nil]";
    told(door, all_of("unpublished"), text).await;
}

async fn no_params(door: Door) {
    let start = "No subscription params provided. Please provide at least a `schema` or `table` to subscribe to: ";
    for binding in [
        json!({"event": "*"}),
        json!({"event": "*", "schema": "public", "table": "open_notes", "filter": null}),
        json!({"event": "*", "schema": "public", "table": null}),
        json!({"event": "*", "schema": 5}),
    ] {
        told(door.clone(), json!([binding]), start).await;
    }
}

async fn bad_select(door: Door) {
    let text =
        "Error parsing `select` params: expected a list of column name strings, e.g. select: [\"col1\", \"col2\"]";
    let select =
        |table: &str, select: Value| json!([{"event": "*", "schema": "public", "table": table, "select": select}]);
    told(door.clone(), select("open_notes", json!("id")), text).await;
    let text =
        "Column selection is not supported for wildcard subscriptions. Provide an explicit schema and table name.";
    told(door.clone(), select("*", json!(["id"])), text).await;
    let said = system_error(&door, &select("open_notes", json!(["nocol"]))).await;
    assert!(said.contains("invalid column for select nocol"), "{said}");
}

async fn joined(door: Door) {
    for bindings in [filtered("wrong"), filtered("id=eq.hey"), all_of("unpublished"), json!([{"event": "*"}])] {
        let mut socket = door.alice().await;
        let (channel, _) = socket.join("realtime:still", &json!({"config": {"postgres_changes": bindings}})).await;
        socket.expect("the system message", |m| m.event == "system").await;
        // On a topic that is not joined this would be answered as unmatched.
        socket.push_on(&channel, "nonsense", &json!({})).await;
        let reference = socket.push_on(&channel, "phx_leave", &json!({})).await;
        let reply = socket.expect("the first answer", |m| m.topic == "realtime:still").await;
        assert_eq!(reply.reference, *reference, "{}", reply.text);
        let close = socket.expect("the close", |m| m.topic == "realtime:still").await;
        assert_eq!(close.event, *"phx_close", "{}", close.text);
    }
}

async fn select(door: Door) {
    let mut socket = door.alice().await;
    let bindings = json!([{"event": "*", "schema": "public", "table": "open_notes", "select": ["body"]}]);
    socket.subscribe("realtime:select", &bindings).await;
    door.sql("insert into public.open_notes(body, n) values ('chosen', 3)").await;
    let change = socket.change("realtime:select").await;
    assert_eq!(change.at("data").at("record").keys(), ["body", "id"], "{change}");
    let names: Vec<_> =
        change.at("data").at("columns").elements().iter().map(|column| column.at("name").as_str()).collect();
    assert_eq!(names, [Some("id"), Some("body")]);
}

async fn exact(door: Door) {
    let mut socket = door.alice().await;
    socket.subscribe("realtime:exact", &all_of("my_table")).await;
    door.sql("insert into public.myxtable(body) values ('other')").await;
    door.sql("insert into public.my_table(body) values ('mine')").await;
    assert_eq!(body(&socket.change("realtime:exact").await), Some("mine"));
    told(door, all_of("my%"), "Unable to subscribe to changes with given parameters. Please check").await;
}

async fn bad_alone(door: Door) {
    let mut socket = door.alice().await;
    let bindings = json!([
        {"event": "*", "schema": "public", "table": "no_such_table"},
        {"event": "*", "schema": "public", "table": "open_notes"},
        {"event": "*", "schema": "public", "table": "open_notes", "filter": "wrong"},
    ]);
    let (_, response) = socket.join("realtime:mix", &json!({"config": {"postgres_changes": bindings}})).await;
    let good = response.at("postgres_changes").nth(1).at("id").clone();
    let mut errors = Vec::new();
    loop {
        let system = socket.expect("a system message", |m| m.event == "system").await.payload;
        if *system.at("status") == "ok" {
            break;
        }
        errors.push(system.at("message").as_str().unwrap_or_default().to_owned());
    }
    assert!(errors.iter().any(|text| text.contains("no_such_table")), "{errors:?}");
    door.sql("insert into public.open_notes(body) values ('good')").await;
    let change = socket.change("realtime:mix").await;
    assert_eq!(body(&change), Some("good"));
    assert_eq!(*change.at("ids"), Json::Array(vec![good]));
    let others = fence(&door, &mut socket, "realtime:mix").await;
    assert!(changes(&others).is_empty(), "{others:?}");
}

async fn waits(door: Door) {
    let mut socket = door.alice().await;
    let options = json!({"wait": true, "timeout": 5000});
    let config = json!({"postgres_changes": all_of("open_notes"), "postgres_changes_options": options});
    socket.join("realtime:wait", &json!({"config": config})).await;
    // Active with the reply: a row written now is delivered, whenever the system message comes.
    door.sql("insert into public.open_notes(body) values ('at once')").await;
    assert_eq!(body(&socket.change("realtime:wait").await), Some("at once"));
    let system = socket.expect("the system message", |m| m.event == "system").await;
    assert_eq!(*system.payload.at("message"), "Subscribed to PostgreSQL");
}

async fn wait_bad(door: Door) {
    let mut socket = door.alice().await;
    let config = json!({"postgres_changes": all_of("unpublished"), "postgres_changes_options": {"wait": true}});
    let (_, reply) = socket.join_raw("realtime:wait", &json!({"config": config})).await;
    assert_eq!(*reply.at("status"), "error", "{reply}");
    let reason = reply.at("response").at("reason").as_str().unwrap_or_default();
    let start = "RealtimeDisabledForConfiguration: Unable to subscribe to changes";
    assert!(reason.starts_with(start), "{reason}");
}
