//! Values to try functions with: ordinary ones, the ends of ranges, and odd ones.

use walcast::policy::value::{Scalar, Type};

const TEXTS: &[&str] = &[
    "", "a", "A", "abc", "b", " abc ", "a,b,,c", ",", "é", "aé😀b", "É", "ß", "it's", "%", "a%", "_b%", "\\", "a\\",
    "ab\\%", "NULL", "\t", "aaa", "aa",
];

const SPLIT: &[&str] = &["", "a/b/c", "/a//b/", "aaaaa", "é/ü", "a@b.c", "//", "abc"];
const SEPARATORS: &[&str] = &["/", "", "//", "aa", "ü", "abc", "/a", "@"];

const JSON: &[&str] = &[
    "null",
    "true",
    "false",
    "0",
    "-0",
    "-0.0",
    "1",
    "1.0",
    "1.50e1",
    "1e3",
    "12345678901234567890.5",
    "2147483648",
    "-1.5",
    r#""a""#,
    r#""""#,
    r#""é \" \\ \/ \n \u0001 \u007f \ud83d\ude00""#,
    "[]",
    "{}",
    "[1, 2]",
    "[2,1]",
    "[1,1.0,2]",
    r#"["a", "b", null]"#,
    r#"["a",["b"],{"a":1}]"#,
    "[[1,2],[3]]",
    "[[1]]",
    r#" { "b" : 1 , "a" : [ 1 , { "c" : null } ] } "#,
    r#"{"a": 1}"#,
    r#"{"a":1.00,"a":2}"#,
    r#"{"a":{"b":1},"a":{"c":2}}"#,
    r#"{"a":{"b":{"c":"d"}},"aa":null,"":5}"#,
    r#"{"readers":["x","y"],"visibility":"public"}"#,
    r#"{"readers":["x"]}"#,
    "[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,[1],{\"a\":1}]",
    "[18,17,16,15,14,13,12,11,10,9,8,7,6,5,4,3,2,1]",
];

/// Fine as `json`, not as values.
const LAME_JSON: &[&str] = &[r#"{"a":1,"b":"\u0000"}"#, r#"["\ud800","a"]"#, r#""\udc00x""#, r#"{"\u0000":1}"#];

/// The texts of a type's values.
pub(super) fn of_scalar(scalar: Scalar) -> Vec<&'static str> {
    match scalar {
        Scalar::Bool => vec!["t", "f"],
        Scalar::Int2 => vec!["0", "1", "-1", "7", "-32768", "32767"],
        Scalar::Int4 => vec!["0", "1", "-1", "2", "-3", "7", "-2147483648", "2147483647"],
        Scalar::Int8 => vec!["0", "1", "-1", "2", "7", "-9223372036854775808", "9223372036854775807"],
        Scalar::Numeric => vec![
            "0",
            "0.00",
            "1",
            "1.0",
            "1.00",
            "-1",
            "0.5",
            "-0.5",
            "1.5",
            "2.5",
            "-2.50",
            "0.001",
            "100",
            "0.4999",
            "32767.5",
            "2147483647.49",
            "9223372036854775807.4",
            "9223372036854775807.5",
            "-9223372036854775808.4",
            "1e30",
            "123456789012345678901234567890.12345678901234567890",
            "1e-40",
            "NaN",
            "Infinity",
            "-Infinity",
        ],
        Scalar::Float4 => vec!["0", "-0", "1", "0.1", "-1.5", "3.4028235e38", "1e-45", "NaN", "Infinity", "-Infinity"],
        Scalar::Float8 => vec![
            "0",
            "-0",
            "1",
            "0.1",
            "0.10000000149011612",
            "1700000000.123456",
            "-1e9",
            "1.7976931348623157e308",
            "5e-324",
            "9224318015999",
            "9224318016000",
            "-210866803200",
            "-210866803201",
            "NaN",
            "Infinity",
            "-Infinity",
        ],
        Scalar::Text | Scalar::Name => TEXTS.to_vec(),
        Scalar::Uuid => vec![
            "00000000-0000-0000-0000-000000000000",
            "33333333-3333-4333-8333-333333333333",
            "33333333-3333-4333-8333-333333333334",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
        ],
        Scalar::Bytea => vec!["", "\\x00", "\\x00ff", "\\xff", "\\xdeadbeef"],
        Scalar::Date => vec![
            "2000-01-01",
            "1999-12-31",
            "2024-02-29",
            "2023-01-31",
            "0001-01-01",
            "4714-11-24 BC",
            "5874897-12-31",
            "294276-12-31",
            "294277-01-01",
            "infinity",
            "-infinity",
        ],
        Scalar::Timestamp => vec![
            "2000-01-01 00:00:00",
            "1999-12-31 23:59:59.999999",
            "2024-02-29 12:34:56.789",
            "2023-01-31 01:02:03",
            "1900-03-01 10:00:00.000001",
            "0044-03-15 12:00:00.5 BC",
            "4714-11-24 00:00:00 BC",
            "294276-12-31 23:59:59.999999",
            "infinity",
            "-infinity",
        ],
        Scalar::Timestamptz => vec![
            "2000-01-01 00:00:00+00",
            "1999-12-31 23:59:59.999999+00",
            "2024-03-10 12:34:56.789+05:30",
            "2023-11-01 01:02:03-04",
            "1850-03-01 10:00:00.000001-00:25:21",
            "0044-03-15 12:00:00.5+00 BC",
            "4714-11-24 00:00:00+00 BC",
            "294276-12-31 23:59:59.999999+00",
            "infinity",
            "-infinity",
        ],
        Scalar::Interval => vec![
            "00:00:00",
            "1 day",
            "24:00:00",
            "1 mon",
            "30 days",
            "30 days 00:00:00.000001",
            "-1 mons +3 days -00:00:01",
            "1 year 2 mons 3 days 04:05:06.789",
            "-1 days",
            "-12:34:56.000001",
            "11 mons 31 days",
            "178956970 years",
            "2147483647 days",
            "-2147483648 days",
            "2562047788:00:54.775807",
            "-2562047788:00:54.775807",
        ],
        Scalar::Json => JSON.iter().chain(LAME_JSON).copied().collect(),
        Scalar::Jsonb => JSON.to_vec(),
        Scalar::Enum(_) => vec!["sad", "ok"],
    }
}

/// Arrays of a type's values.
fn of_array(scalar: Scalar) -> Vec<String> {
    let values = of_scalar(scalar);
    let quoted = |value: &str| format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""));
    let array = |values: &[&str]| {
        let elements: Vec<_> = values.iter().map(|value| quoted(value)).collect();
        format!("{{{}}}", elements.join(","))
    };
    let repeated: Vec<_> = values.iter().cycle().take(40).copied().collect();
    vec![
        "{}".to_owned(),
        "{NULL}".to_owned(),
        array(&values[..1]),
        array(&values[1..2]),
        array(&values[..2]),
        array(&[values[1], values[0], values[1]]),
        format!("{{NULL,{}}}", quoted(values[0])),
        array(&values),
        array(&repeated),
    ]
}

/// Texts that a cast reads, and some that it does not.
fn of_cast(name: &str) -> Option<Vec<String>> {
    let scalar = match name.strip_prefix("text::")? {
        "boolean" => Scalar::Bool,
        "smallint" => Scalar::Int2,
        "integer" => Scalar::Int4,
        "bigint" => Scalar::Int8,
        "numeric" => Scalar::Numeric,
        "real" => Scalar::Float4,
        "double precision" => Scalar::Float8,
        "uuid" => Scalar::Uuid,
        "bytea" => Scalar::Bytea,
        "date" => Scalar::Date,
        "timestamp" => Scalar::Timestamp,
        "timestamptz" => Scalar::Timestamptz,
        "interval" => Scalar::Interval,
        "json" => Scalar::Json,
        "jsonb" => Scalar::Jsonb,
        "integer[]" => return Some(of_array(Scalar::Int4)),
        "bigint[]" => return Some(of_array(Scalar::Int8)),
        "uuid[]" => return Some(of_array(Scalar::Uuid)),
        _ => return None,
    };
    let odd = ["", " 1", "2024-02-30", "2024-02-29", "2024-02-29T10:00:00Z", "99999999999999999999", "{\"a\": 1", "x"];
    // The names of days and the like are not read.
    Some(of_scalar(scalar).into_iter().chain(odd).map(str::to_owned).collect())
}

/// What argument number `index` of a function is tried with.
pub(super) fn of(name: &str, index: usize, of: Type) -> Vec<String> {
    let owned = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
    if let Some(texts) = of_cast(name) {
        return texts;
    }
    match (name, index) {
        ("text[]::uuid[]", _) => of_array(Scalar::Uuid),
        ("text[]::integer[]" | "text[]::bigint[]", _) => {
            of_array(Scalar::Int4).into_iter().chain(["{x,1}".to_owned()]).collect()
        }
        ("split_part" | "replace" | "string_to_array", 0) if of == Type::TEXT => owned(SPLIT),
        ("split_part" | "replace" | "string_to_array", 1) if of == Type::TEXT => owned(SEPARATORS),
        ("replace", 2) => owned(&["", "x", "/", "aa", "éé"]),
        ("substring" | "substr", 1 | 2) => owned(&["0", "1", "2", "3", "-1", "2147483647", "-2147483648"]),
        ("->" | "->>", 1) if of == Type::of(Scalar::Int4) => {
            owned(&["0", "1", "-1", "-2", "-3", "2", "2147483647", "-2147483648"])
        }
        ("->" | "->>" | "?" | "jsonb_exists", 1) if of == Type::TEXT => {
            owned(&["a", "b", "", "aa", "0", "é", "readers"])
        }
        ("json_extract_path" | "json_extract_path_text" | "jsonb_extract_path" | "jsonb_extract_path_text", 1 | 2) => {
            owned(&["a", "b", "0", "-1", ""])
        }
        ("#>" | "#>>", 1) => owned(&[
            "{}",
            "{a}",
            "{a,b}",
            "{a,c}",
            "{a,b,c}",
            "{0}",
            "{-1}",
            "{-2}",
            "{\" +1\"}",
            "{\"1 \"}",
            "{x}",
            "{\"\"}",
            "{a,NULL}",
            "{1,0}",
            "{1,c}",
            "{2147483648}",
            "{-2147483648}",
            "{2,a}",
            "{aa,b}",
            "{b}",
            "{a,1,c}",
        ]),
        ("?|" | "?&" | "jsonb_exists_any" | "jsonb_exists_all", 1) => {
            owned(&["{}", "{NULL}", "{a}", "{a,NULL}", "{a,b}", "{x,a}", "{x,y}", "{readers,visibility}"])
        }
        ("date_trunc", 0) => owned(&[
            "microseconds",
            "milliseconds",
            "second",
            "minute",
            "hour",
            "day",
            "week",
            "month",
            "quarter",
            "year",
            "decade",
        ]),
        ("timezone", 0) => owned(&["utc", "UTC", "Europe/Berlin"]),
        _ if of.is_array => of_array(of.scalar),
        _ => owned(&of_scalar(of.scalar)),
    }
}
