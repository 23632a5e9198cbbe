//! The rules that need no database. That Postgres agrees is shown by `tests/changes/values.rs`.

use super::*;
use proptest::prelude::*;

fn registry() -> TypeRegistry {
    let info = |oid, name: &str, kind| TypeInfo { oid, name: name.to_owned(), sql_name: name.to_owned(), kind };
    let array = |oid, name, element, delimiter| info(oid, name, TypeKind::Array { element, delimiter });
    TypeRegistry::new([
        array(22, "int2vector", 21, b','),
        array(1007, "_int4", 23, b','),
        array(1009, "_text", 25, b','),
        array(1020, "_box", 603, b';'),
        array(1231, "_numeric", 1700, b','),
        info(20_000, "whole", TypeKind::Domain { base: 23 }),
        info(20_001, "list", TypeKind::Domain { base: 1007 }),
        info(
            20_002,
            "pair",
            TypeKind::Composite { fields: vec![("a".to_owned(), 20_000), ("b \"q\"".to_owned(), 1009)] },
        ),
        array(20_003, "_pair", 20_002, b','),
        info(20_004, "mood", TypeKind::Enum),
        info(20_005, "loop", TypeKind::Domain { base: 20_005 }),
        array(20_006, "_self", 20_006, b','),
    ])
}

fn json(type_oid: u32, text: &str) -> String {
    let mut out = Vec::new();
    render(&registry(), type_oid, text.as_bytes(), &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn numbers_keep_their_digits_and_lose_their_exponent() {
    for (type_oid, text, expected) in [
        (oid::INT8, "9007199254740993", "9007199254740993"),
        (oid::OID, "4294967295", "4294967295"),
        (oid::NUMERIC, "1.50", "1.50"),
        (oid::NUMERIC, "-0.00", "0.00"),
        (oid::FLOAT8, "1e-09", "0.000000001"),
        (oid::FLOAT8, "-1.5e-07", "-0.00000015"),
        (oid::FLOAT8, "1e+20", "100000000000000000000"),
        (oid::FLOAT8, "1.25e+1", "12.5"),
        (oid::FLOAT8, "12.5e-1", "1.25"),
        (oid::FLOAT8, "0e+3", "0"),
        (oid::FLOAT8, "-0", "0"),
        (oid::FLOAT4, "NaN", "null"),
        (oid::NUMERIC, "-Infinity", "null"),
    ] {
        assert_eq!(json(type_oid, text), expected, "{text}");
    }
}

#[test]
fn what_is_no_number_is_sent_as_a_string() {
    for text in ["", "-", "007", "1.", ".5", "1e", "1e9999", "1e999", "0x1", "--1", "1e-999"] {
        assert_eq!(json(oid::FLOAT8, text), format!("\"{text}\""));
        assert_eq!(json(oid::INT4, text), format!("\"{text}\""));
    }
}

#[test]
fn timestamps_have_a_t_and_their_whole_offset() {
    for (type_oid, text, expected) in [
        (oid::TIMESTAMP, "2024-02-29 12:34:56.789", "2024-02-29T12:34:56.789"),
        (oid::TIMESTAMP, "0044-03-15 00:00:00 BC", "0044-03-15T00:00:00 BC"),
        (oid::TIMESTAMP, "infinity", "infinity"),
        (oid::TIMESTAMPTZ, "2024-02-29 12:34:56+00", "2024-02-29T12:34:56+00:00"),
        (oid::TIMESTAMPTZ, "2024-02-29 12:34:56-05:30", "2024-02-29T12:34:56-05:30"),
        (oid::TIMESTAMPTZ, "0044-03-15 00:00:00+00 BC", "0044-03-15T00:00:00+00:00 BC"),
        (oid::TIMESTAMPTZ, "-infinity", "-infinity"),
        (oid::TIMESTAMPTZ, "yesterday or so", "yesterday or so"),
    ] {
        assert_eq!(json(type_oid, text), format!("\"{expected}\""));
    }
}

#[test]
fn arrays_nest_and_unquote_their_elements() {
    for (type_oid, text, expected) in [
        (1007, "{}", "[]"),
        (1007, "{1,NULL,-3}", "[1,null,-3]"),
        (1007, "[0:1]={1,2}", "[1,2]"),
        (1007, "{{1,2},{3,NULL}}", "[[1,2],[3,null]]"),
        (1007, "[1:1][-2:-1]={{1,2}}", "[[1,2]]"),
        (1009, r#"{"a b","c,d",NULL,"NULL","","q\"b\\"}"#, r#"["a b","c,d",null,"NULL","","q\"b\\"]"#),
        (1020, "{(1,1),(0,0);(2,2),(1,1)}", r#"["(1,1),(0,0)","(2,2),(1,1)"]"#),
        (1231, "{1.50,NaN}", "[1.50,null]"),
        (22, "1 2 3", "[1,2,3]"),
        (22, "", "[]"),
        (20_001, "{7}", "[7]"),
    ] {
        assert_eq!(json(type_oid, text), expected, "{text}");
    }
}

#[test]
fn composites_are_objects_with_their_types_own_rules_inside() {
    assert_eq!(json(20_002, r#"(1,"{""a b"",c}")"#), r#"{"a":1,"b \"q\"":["a b","c"]}"#);
    assert_eq!(json(20_002, "(,)"), r#"{"a":null,"b \"q\"":null}"#);
    assert_eq!(json(20_003, r#"{"(1,\"{x,\"\"y z\"\"}\")",NULL}"#), r#"[{"a":1,"b \"q\"":["x","y z"]},null]"#);
}

#[test]
fn json_is_spliced_and_what_only_calls_itself_json_is_a_string() {
    assert_eq!(json(oid::JSON, "{\"b\": 1,\n \"a\": []}"), "{\"b\": 1,\n \"a\": []}");
    assert_eq!(json(oid::JSONB, "1e400"), "1e400");
    assert_eq!(json(oid::JSON, "{\"b\": }"), r#""{\"b\": }""#);
    assert_eq!(json(oid::JSON, "1 2"), "\"1 2\"");
}

#[test]
fn strings_are_escaped_and_the_rest_is_a_string() {
    assert_eq!(json(oid::TEXT, "q\" \\ \n\r\t\u{8}\u{c}\u{1} é 😀"), r#""q\" \\ \n\r\t\b\f\u0001 é 😀""#);
    assert_eq!(json(oid::BYTEA, "\\xdeadbeef"), "\"deadbeef\"");
    assert_eq!(json(20_004, "ok"), "\"ok\"");
    assert_eq!(json(99_999, "(1,2)"), "\"(1,2)\"");
}

#[test]
fn malformed_text_of_a_structured_type_is_a_string_of_it() {
    for text in
        ["", "{", "}", "{1", "{1}}", "{1,}", "{,1}", "{{1},2}", "{1,{2}}", "{\"a}", "{\"a\\", "[0:1={1}", "{{}}"]
    {
        let expected = serde_json::to_string(text).unwrap();
        assert_eq!(json(1007, text), expected, "{text}");
    }
    for text in ["", "(", "(1)", "(1,2,3)", "(1,\"x)", "(1,x\"y)", "1,2"] {
        assert_eq!(json(20_002, text), serde_json::to_string(text).unwrap(), "{text}");
    }
}

#[test]
fn bytes_that_are_not_utf8_are_null() {
    let mut out = Vec::new();
    render(&registry(), oid::TEXT, b"\xFF", &mut out);
    assert_eq!(out, b"null");
}

#[test]
fn a_type_that_contains_itself_does_not_loop() {
    assert_eq!(json(20_005, "x"), "\"x\"");
    let deep = (0..200).fold("{x}".to_owned(), |text, _| format!("{{\"{}\"}}", text.replace(['\\', '"'], "")));
    json(20_006, &deep);
}

proptest! {
    #[test]
    fn whatever_goes_in_valid_json_comes_out(
        type_oid in prop::sample::select(vec![
            16, 17, 20, 21, 22, 23, 25, 26, 30, 114, 700, 701, 1007, 1009, 1020, 1082, 1114, 1184, 1231, 1700, 3802,
            20_000, 20_001, 20_002, 20_003, 20_004, 20_005, 20_006, 77_777,
        ]),
        text in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..64),
            r#"[-+0-9eE.:{}\[\],;"\\() a-cNUL=]{0,40}"#.prop_map(String::into_bytes),
        ],
    ) {
        let mut out = b"[".to_vec();
        render(&registry(), type_oid, &text, &mut out);
        out.push(b']');
        prop_assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&out).is_ok(), "{:?}", String::from_utf8_lossy(&out));
    }
}
