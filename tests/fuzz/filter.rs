//! What a client asks for in `postgres_changes`: the entry, the filter's text, and what a filter says of rows.

use super::{
    harness::{MEMORY, Seen, Target, fuzz, seen, shape},
    mutate::{joined, records},
    world,
};
use bytes::Bytes;
use serde_json::Value;
use std::sync::LazyLock;
use walcast::{
    change::{Datum, value::TypeRegistry},
    policy::{
        binding::{BindingRequest, legacy_binding},
        catalog::Table,
        filter::{Filter, Operator, casts_needed, check_columns, parse},
    },
};

const WORDS: &[&str] = &[
    "=eq.",
    "=neq.",
    "=lt.",
    "=lte.",
    "=gt.",
    "=gte.",
    "=in.(",
    "=like.",
    "=ilike.",
    "=match.",
    "=imatch.",
    "=is.null",
    "=is.true",
    "=isdistinct.",
    "=not.",
    "not.",
    ",",
    "\"",
    "\\\"",
    "(",
    ")",
    "%",
    "_",
    "\\",
    "id",
    "level",
    "title",
    "is_public",
    "tags",
    "meta",
    "mood",
    "price",
    "\"schema\"",
    "\"table\"",
    "\"filter\"",
    "\"select\"",
    "\"event\"",
    "\"*\"",
    "\"public\"",
    "\"docs\"",
    "user_token",
];

static TABLE: LazyLock<Table> = LazyLock::new(world::docs);
static TYPES: LazyLock<TypeRegistry> = LazyLock::new(world::types);

#[test]
fn any_entry_of_a_join_is_a_request_or_refused() {
    let entries = [
        r#"{"event":"*","schema":"public","table":"docs","filter":"level=gt.5"}"#,
        r#"{"event":"INSERT","schema":"public","table":"docs","select":["id","title"]}"#,
        r#"{"schema":"*"}"#,
        r#"{"table":"docs","event":"update"}"#,
        r#"{"schema":"public","table":"docs","filter":5,"user_token":"sesame-sesame"}"#,
    ];
    let seeds = entries.iter().map(|entry| entry.as_bytes().to_vec()).collect();
    fuzz(Target { name: "binding", seeds, words: WORDS, memory: (256 * 1024, 400), run: binding });
}

fn binding(input: &[u8]) -> Seen {
    let object = match serde_json::from_slice(input) {
        Ok(Value::Object(object)) => object,
        _ => legacy_binding(&String::from_utf8_lossy(input)),
    };
    match BindingRequest::parse(&object) {
        Ok(request) => {
            request.describe();
            request.not_published();
            let conditions: Vec<Operator> = request.conditions.iter().map(|condition| condition.operator).collect();
            seen((request.event, request.select.map(|select| select.len().min(3)), conditions))
        }
        Err(text) => {
            let has_token = ["user_token", "auth_token"].iter().any(|name| object.contains_key(*name));
            let places = ["schema", "table", "filter", "select"];
            let is_elsewhere = |(name, value): (&String, &Value)| {
                !places.contains(&name.as_str()) && !value.to_string().contains("sesame")
            };
            let is_only_token = object.iter().filter(|(name, _)| !name.ends_with("_token")).all(is_elsewhere);
            let is_said =
                places.iter().any(|name| object.get(*name).is_some_and(|value| value.to_string().contains("sesame")));
            assert!(
                !has_token || !is_only_token || is_said || !text.contains("sesame-sesame"),
                "a token is not repeated: {text}"
            );
            shape(&text.chars().take(30).collect::<String>())
        }
    }
}

#[test]
fn any_filter_is_compiled_or_refused_and_says_something_of_any_row() {
    let filters = [
        "level=gt.5,level=lte.9",
        "title=eq.\"a,b \\\" \\\\\"",
        "id=in.(11111111-1111-1111-1111-111111111111,\"x,y\",)",
        "title=not.like.a%b_c\\%",
        "title=ilike.%\u{fc}%",
        "title=match.^a.*$",
        "is_public=is.true",
        "deleted_at=not.is.null",
        "price=neq.1.50",
        "mood=isdistinct.happy",
        "tags=eq.{a,b}",
        "letter=eq.a ",
        "ratio=eq.NaN",
        "level=in.(1,2,NULL)",
        "meta=eq.{}",
        "created_at=gt.2026-03-05 09:14:27.3+00",
    ];
    let values = [
        "5",
        "a%b",
        "{\"x,y\",NULL}",
        "11111111-1111-1111-1111-111111111111",
        "t",
        "1.50",
        "\u{fc}",
        "",
        "2026-03-05 09:14:27.3+00",
    ];
    let seeds =
        filters.iter().flat_map(|filter| values.iter().map(move |value| joined([*filter, value, value]))).collect();
    fuzz(Target { name: "filter", seeds, words: WORDS, memory: MEMORY, run: filter });
}

/// The first record is the filter, the second what Postgres is taken to have read of its values, the others a row's values.
fn filter(input: &[u8]) -> Seen {
    let records = records(input);
    let Ok(text) = std::str::from_utf8(records[0]) else { return 0 };
    let conditions = match parse(text) {
        Ok(conditions) => conditions,
        Err(refusal) => return shape(&refusal.chars().take(26).collect::<String>()),
    };
    let access = &TABLE.access[world::ROLE];
    if let Err(refusal) = check_columns(&TABLE, &TYPES, access, &conditions, None) {
        return shape(&refusal.chars().take(26).collect::<String>());
    }
    let read = records.get(1).and_then(|record| std::str::from_utf8(record).ok()).map(str::to_owned);
    let mut values = vec![Vec::new(); conditions.len()];
    for cast in casts_needed(&conditions, &TABLE, &TYPES) {
        cast.statement();
        cast.refusal("no");
        values[cast.condition] = vec![read.clone(), None];
        values[cast.condition].truncate(1 + usize::from(conditions[cast.condition].operator == Operator::In));
    }
    let filter = match Filter::compile(&conditions, &values, &TABLE, &TYPES) {
        Ok(filter) => filter,
        Err(refusal) => return shape(&refusal.chars().take(26).collect::<String>()),
    };
    let (key, sql) = (filter.equality_key().is_some(), filter.database_sql(1));
    let mut said = Vec::new();
    for record in records.iter().skip(2).take(3) {
        let datum = Datum::Text(Bytes::copy_from_slice(record));
        said.push(filter.eval(&|_| &datum));
    }
    let missing = [&Datum::Null, &Datum::Absent].map(|datum| filter.eval(&|_| datum));
    assert_ne!(
        filter.eval(&|_| &Datum::Absent).filter(|_| sql.is_none() && !conditions.is_empty()),
        Some(true),
        "what is not there does not match"
    );
    let operators: Vec<(Operator, bool, &str)> = conditions
        .iter()
        .map(|condition| (condition.operator, condition.negate, condition.column.as_str()))
        .take(3)
        .collect();
    seen((key, sql.is_some(), said, missing, operators))
}
