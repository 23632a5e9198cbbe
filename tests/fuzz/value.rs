//! Values in Postgres' text form: arrays, row types, numbers, times, JSON. Whatever comes, what goes out is JSON.

use super::{
    harness::{Seen, Target, fuzz, seen},
    mutate::{joined, records},
};
use bytes::Bytes;
use serde::de::IgnoredAny;
use std::sync::LazyLock;
use walcast::change::{
    Datum,
    value::{TypeInfo, TypeKind, TypeRegistry, composite::split, oid, render},
};

/// Types beside the built-in ones.
const BOXES: u32 = 1020;
const POINT: u32 = 50_000;
const POINTS: u32 = 50_001;
const NESTED: u32 = 50_002;
const DOMAIN: u32 = 50_003;
const ENDLESS: u32 = 50_004;
const ENDLESS_ARRAY: u32 = 50_005;

static TYPES: LazyLock<TypeRegistry> = LazyLock::new(|| {
    let info = |oid, kind| TypeInfo { oid, name: format!("t{oid}"), sql_name: format!("t{oid}"), kind };
    let list = |element| TypeKind::Array { element, delimiter: b',' };
    let field = |name: &str, oid| (name.to_owned(), oid);
    TypeRegistry::new([
        info(1007, list(oid::INT4)),
        info(1009, list(oid::TEXT)),
        info(1022, list(oid::FLOAT8)),
        info(3807, list(oid::JSONB)),
        info(oid::INT2VECTOR, list(oid::INT2)),
        info(BOXES, TypeKind::Array { element: 603, delimiter: b';' }),
        info(
            POINT,
            TypeKind::Composite {
                fields: vec![field("x", oid::INT4), field("na\"me", 1009), field("at", oid::TIMESTAMPTZ)],
            },
        ),
        info(POINTS, list(POINT)),
        info(NESTED, TypeKind::Composite { fields: vec![field("all", POINTS), field("one", DOMAIN)] }),
        info(DOMAIN, TypeKind::Domain { base: NESTED }),
        // No catalogue says such a thing, but a type may be dropped and its oid given again while one is read.
        info(ENDLESS, TypeKind::Composite { fields: vec![field("", ENDLESS_ARRAY)] }),
        info(ENDLESS_ARRAY, list(ENDLESS)),
    ])
});

const OIDS: &[u32] = &[
    oid::BOOL,
    oid::BYTEA,
    oid::INT4,
    oid::FLOAT8,
    oid::NUMERIC,
    oid::TEXT,
    oid::TIMESTAMP,
    oid::TIMESTAMPTZ,
    oid::JSON,
    oid::JSONB,
    oid::INT2VECTOR,
    1007,
    1009,
    1022,
    3807,
    BOXES,
    POINT,
    POINTS,
    NESTED,
    DOMAIN,
    ENDLESS,
    ENDLESS_ARRAY,
];

const SEEDS: &[&str] = &[
    "t",
    r"\x00ff",
    "-42",
    "1e+300",
    "-0.00120",
    "NaN",
    "text \"with\" quotes\\ and \u{1}",
    "2026-03-05 09:14:27.3+05:30:10",
    "0044-03-15 00:00:00 BC",
    "infinity",
    r#"{"a": [1, null, {"b": "ü"}]}"#,
    "1 2 3",
    "{1,2,NULL}",
    r#"{a,"b \" \\ c",NULL,"NULL",""}"#,
    "{{1,2},{3,4}}",
    "[0:1][2:3]={{1,2},{3,4}}",
    "{}",
    r#"{"(1,\"{a,\\\"b,c\\\"}\",\"2026-03-05 09:14:27+00\")",NULL}"#,
    "(1,2);(3,4)",
    "{(1,1),(0,0);(2,2),(3,3)}",
    r#"(1,"{""a"",b}","2026-03-05 09:14:27+00")"#,
    "(,,)",
    r#"("{""(1,{},)""}","(\"{}\",)")"#,
    r#"("{""(\\""{}\\"")""}")"#,
];

const WORDS: &[&str] = &[
    "NULL", "\"\"", "\\\"", "{\"(", ")\"}", "[0:1]=", " BC", "+00", "e+30", "\\x", "infinity", "(\"", "\")", "{{",
    "}}", "\\\\", ",,",
];

#[test]
fn any_text_of_any_type_becomes_json() {
    let kinds = OIDS.iter().zip(0_u8..).map(|(_, kind)| kind);
    let seeds = kinds.flat_map(|kind| SEEDS.iter().map(move |seed| joined([&[kind][..], seed.as_bytes()]))).collect();
    fuzz(Target { name: "value", seeds, words: WORDS, memory: (256 * 1024, 600), run: value });
}

/// The first record says which type, the second is the text.
fn value(input: &[u8]) -> Seen {
    let records = records(input);
    let (Some(kind), Some(text)) = (records[0].first(), records.get(1)) else { return 0 };
    let oid = OIDS[usize::from(*kind) % OIDS.len()];
    let mut out = b"kept".to_vec();
    render(&TYPES, oid, text, &mut out);
    let json = std::str::from_utf8(out.strip_prefix(b"kept").expect("what was there stays")).expect("UTF-8");
    serde_json::from_str::<IgnoredAny>(json).unwrap_or_else(|error| panic!("{error}: {json}"));
    assert!(!json.contains('\0'));
    // Its brackets and the first letters of its tokens.
    let tokens = json.bytes().filter(|byte| b"{[\"]}n.".contains(byte)).take(10);
    seen((oid, tokens.collect::<Vec<u8>>()))
}

#[test]
fn any_row_is_split_into_what_it_was_written_of() {
    let seeds = SEEDS.iter().map(|seed| joined([&[3][..], seed.as_bytes(), b"a", b"", b"\"(\\"])).collect();
    fuzz(Target { name: "row", seeds, words: WORDS, memory: (256 * 1024, 200), run: row });
}

/// How many columns, the text of a row, and values to write another one of.
fn row(input: &[u8]) -> Seen {
    let records = records(input);
    let width = records[0].first().copied().map_or(1, usize::from);
    let text = records.get(1).copied().unwrap_or_default();
    let read = split(&Bytes::copy_from_slice(text), width);
    if let Ok(values) = &read {
        assert_eq!(values.len(), width);
        assert_eq!(&split(&written(values), width).expect("a row"), values);
    }
    let values = records.iter().skip(2).map(|value| match value.is_empty() {
        true => Datum::Null,
        false => Datum::Text(Bytes::copy_from_slice(value)),
    });
    // A row without columns is written as one whose only value is NULL.
    let values: Vec<Datum> = values.collect();
    if !values.is_empty() {
        assert_eq!(split(&written(&values), values.len()).expect("a row"), values);
    }
    seen((read.map(|values| values.iter().filter(|value| **value == Datum::Null).count()).ok(), width))
}

/// As `record_out` writes them, but for values that it would leave without quotes.
fn written(values: &[Datum]) -> Bytes {
    let value = |value: &Datum| match value {
        Datum::Text(text) => {
            let doubled =
                text.iter().flat_map(|&byte| if b"\"\\".contains(&byte) { vec![byte, byte] } else { vec![byte] });
            [b"\"".to_vec(), doubled.collect(), b"\"".to_vec()].concat()
        }
        Datum::Null | Datum::Absent => Vec::new(),
    };
    let values: Vec<Vec<u8>> = values.iter().map(value).collect();
    [&b"("[..], &values.join(&b','), b")"].concat().into()
}
