//! Checks 72 to 75: times, type names and values as they stand on the wire. Protocol reference, section 4.3.

use serde_json::json;

use super::{Check, Door, In, all_of};
use crate::support::json::Json;

pub(super) const SCHEMA: &str = r"
create type public.feeling as enum ('sad', 'happy');
create table public.valued(id int8 primary key, tags text[], at timestamptz, code char(4), feeling public.feeling,
  amount numeric, odd numeric, meta jsonb, bytes bytea, missing text, flags bit(3), grid int[][], real4 float4);
alter publication supabase_realtime add table public.valued;
grant select on public.valued to anon, authenticated, service_role;
";

pub(super) const CHECKS: &[Check] = &[
    Check {
        number: 72,
        says: "commit_timestamp has milliseconds and a Z",
        encodings: In::Both,
        run: |d| Box::pin(time(d)),
    },
    Check {
        number: 73,
        says: "columns bear the catalogue's type names",
        encodings: In::Both,
        run: |d| Box::pin(types(d)),
    },
    Check { number: 74, says: "numbers are exact, NaN is null", encodings: In::Both, run: |d| Box::pin(numbers(d)) },
    Check { number: 75, says: "json, arrays, times, bytes, null", encodings: In::Both, run: |d| Box::pin(others(d)) },
];

/// One row with something in every column, as it is delivered, and the frame's text.
async fn row(door: &Door) -> (Json, String) {
    door.sql("delete from public.valued").await;
    let mut socket = door.alice().await;
    socket.subscribe("realtime:valued", &all_of("valued")).await;
    door.sql(
        r#"insert into public.valued values (9007199254740993, '{"a b",NULL,"c,d"}', '2026-03-05 10:14:27.318421+01',
             'ab', 'happy', 1.50, 'NaN', '{"a": [1, 2.50, null]}', '\xdeadbeef', null, b'101', '{{1,2},{3,4}}', 0.1)"#,
    )
    .await;
    let message = socket.expect("the row", |m| m.event == "postgres_changes").await;
    (message.payload.at("data").clone(), message.text)
}

async fn time(door: Door) {
    let (data, text) = row(&door).await;
    let time = data.at("commit_timestamp").as_str().unwrap_or_else(|| panic!("a text: {text}"));
    let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
    assert_eq!(shape, "9999-99-99T99:99:99.999Z");
}

async fn types(door: Door) {
    let (data, _) = row(&door).await;
    let types: Vec<_> = data.at("columns").elements().iter().filter_map(|column| column.at("type").as_str()).collect();
    let expected = [
        "int8",
        "_text",
        "timestamptz",
        "bpchar",
        "feeling",
        "numeric",
        "numeric",
        "jsonb",
        "bytea",
        "text",
        "bit",
        "_int4",
        "float4",
    ];
    assert_eq!(types, expected);
    assert_eq!(*data.at("record").at("code"), "ab  ", "char(n) is whole, blanks included");
    assert_eq!(*data.at("record").at("flags"), "101", "bit(n) is whole");
}

async fn numbers(door: Door) {
    let (data, text) = row(&door).await;
    let record = data.at("record");
    let written = |key: &str| match record.at(key) {
        Json::Number(number) => number.text.clone(),
        other => panic!("{key} is no number: {other} in {text}"),
    };
    assert_eq!(written("id"), "9007199254740993");
    assert_eq!(written("amount"), "1.50");
    assert_eq!(written("real4"), "0.1");
    assert!(record.has("odd") && *record.at("odd") == Json::Null, "NaN is null: {text}");
}

async fn others(door: Door) {
    let (data, _) = row(&door).await;
    let record = data.at("record");
    for (key, value) in [
        ("tags", json!(["a b", null, "c,d"])),
        ("at", json!("2026-03-05T09:14:27.318421+00:00")),
        ("feeling", json!("happy")),
        ("meta", json!({"a": [1, 2.50, null]})),
        ("bytes", json!("deadbeef")),
        ("missing", json!(null)),
        ("grid", json!([[1, 2], [3, 4]])),
    ] {
        assert!(record.has(key), "{key} of {record}");
        assert_eq!(*record.at(key), value, "{key}");
    }
}
