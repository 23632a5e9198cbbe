//! Every built-in type's values as JSON, with `to_jsonb` as the oracle.

use super::types::{literal, pin_output, registry, rows};
use crate::support::postgres::{Postgres, majors};
use tokio_postgres::{Client, error::SqlState};
use walcast::change::value::{TypeRegistry, render};

/// Types no value can be put in.
const WITHOUT_VALUES: [&str; 7] = [
    "gtsvector",
    "pg_brin_bloom_summary",
    "pg_brin_minmax_multi_summary",
    "pg_dependencies",
    "pg_mcv_list",
    "pg_ndistinct",
    "pg_node_tree",
];

/// Where we do not follow `to_jsonb` (protocol reference, section 4.3): type, value, and what is sent.
pub(crate) const DEVIATIONS: [(&str, &str, &str); 17] = [
    ("float4", "NaN", "null"),
    ("float4", "Infinity", "null"),
    ("float8", "NaN", "null"),
    ("float8", "Infinity", "null"),
    ("float8", "-Infinity", "null"),
    ("numeric", "NaN", "null"),
    ("numeric", "Infinity", "null"),
    ("numeric", "-Infinity", "null"),
    ("_numeric", "{1.50,NaN}", "[1.50, null]"),
    ("bytea", r"\xdeadbeef", r#""deadbeef""#),
    ("bytea", "", r#""""#),
    ("_bytea", r#"{"\\x00ff",NULL}"#, r#"["00ff", null]"#),
    ("oid", "0", "0"),
    ("oid", "4294967295", "4294967295"),
    ("_oid", "{1,2}", "[1, 2]"),
    ("oidvector", "1 2", "[1, 2]"),
    ("oidvector", "", "[]"),
];

/// Values of each type that follows `to_jsonb`.
pub(crate) const VALUES: [(&str, &[&str]); 72] = [
    ("aclitem", &["pg_monitor=r*w/pg_monitor"]),
    ("bit", &["101", ""]),
    ("bool", &["true", "false"]),
    ("box", &["(1,1),(0,0)"]),
    ("bpchar", &["", "abc  ", "é"]),
    ("char", &["a", "", "\"", "\\"]),
    ("cid", &["7"]),
    ("cidr", &["10.0.0.0/8", "::/0"]),
    ("circle", &["<(1,2),3>"]),
    ("date", &["2024-02-29", "infinity", "-infinity", "0044-03-15 BC", "10000-01-01", "5874897-12-31"]),
    ("datemultirange", &["{[2024-01-01,2024-02-01),[2025-01-01,)}"]),
    ("daterange", &["[2024-01-01,2024-02-01)", "empty", "(,)"]),
    ("float4", &["0", "-0", "1.5", "0.1", "1e-9", "3.4028235e38", "1e-45", "16777216", "123456.7", "1e6", "1.2e-5"]),
    (
        "float8",
        &[
            "0",
            "-0",
            "0.1",
            "-1e-9",
            "1.5e-7",
            "1e15",
            "1e16",
            "1.25e20",
            "123456789012345680",
            "1.7976931348623157e308",
            "5e-324",
            "2.2250738585072014e-308",
            "-123.456",
        ],
    ),
    ("inet", &["10.0.0.1", "10.0.0.1/8", "::1"]),
    ("int2", &["0", "-32768", "32767"]),
    ("int2vector", &["", "1", "1 2 -3"]),
    ("int4", &["0", "-2147483648", "2147483647"]),
    ("int4multirange", &["{}", "{[1,5),[7,9)}"]),
    ("int4range", &["[1,5)", "empty"]),
    ("int8", &["-9223372036854775808", "9007199254740993"]),
    ("int8multirange", &["{[1,5)}"]),
    ("int8range", &["[1,5)"]),
    ("interval", &["1 day 02:03:04.5", "-1 mons +3 days -00:00:01", "0", "P1Y2M3DT4H5M6S"]),
    ("json", &["{\"b\": 1, \"a\": [1, 2.50, \"x\\u00e9\"]}", "null", "\"q\\\"\"", " [ ] ", "{\"a\":1,\"a\":2}", "1e3"]),
    ("jsonb", &["{\"b\": 1, \"a\": [1, 2.50, \"x\\u00e9\"]}", "null", "\"q\\\"\"", "1e40", "true"]),
    ("jsonpath", &["$.a[*] ? (@ > 1)"]),
    ("line", &["{1,2,3}"]),
    ("lseg", &["[(1,2),(3,4)]"]),
    ("macaddr", &["08:00:2b:01:02:03"]),
    ("macaddr8", &["08:00:2b:01:02:03:04:05"]),
    ("money", &["12.34", "-1234567.89"]),
    ("name", &["abc", "with \"q\" {,} \\ ()"]),
    (
        "numeric",
        &[
            "0",
            "0.00",
            "-0.5",
            "1.50",
            "12345678901234567890.123456789",
            "1e-20",
            "1e1000",
            "-99999999999999999999999999999999999999.00001",
        ],
    ),
    ("nummultirange", &["{[1.5,2.50)}"]),
    ("numrange", &["[1.5,2.50)", "(,1]"]),
    ("path", &["[(1,2),(3,4)]", "((1,2),(3,4))"]),
    ("pg_lsn", &["16/B374D848"]),
    ("pg_snapshot", &["10:20:10,14,15"]),
    ("point", &["(1,2)", "(1e-10,-0)"]),
    ("polygon", &["((1,2),(3,4))"]),
    ("refcursor", &["cursor"]),
    ("regclass", &["pg_class", "-"]),
    ("regcollation", &["\"C\""]),
    ("regconfig", &["english"]),
    ("regdictionary", &["simple"]),
    ("regnamespace", &["pg_catalog"]),
    ("regoper", &["||/"]),
    ("regoperator", &["+(integer,integer)"]),
    ("regproc", &["now", "-"]),
    ("regprocedure", &["now()", "abs(integer)"]),
    ("regrole", &["pg_monitor"]),
    ("regtype", &["integer", "character varying"]),
    (
        "text",
        &["", "plain", "quote \" slash \\ nl \n cr \r tab \t bell \u{7} del \u{7f} é 😀", "NULL", "{}", "(a,b)", " "],
    ),
    ("tid", &["(0,1)"]),
    ("time", &["09:14:27", "24:00:00", "09:14:27.123456"]),
    (
        "timestamp",
        &[
            "2024-02-29 12:34:56.789",
            "2024-02-29",
            "infinity",
            "-infinity",
            "0044-03-15 12:00:00.5 BC",
            "10000-01-01",
            "294276-12-31 23:59:59.999999",
        ],
    ),
    (
        "timestamptz",
        &["2024-02-29 12:34:56.789+02", "infinity", "-infinity", "0044-03-15 12:00:00.5+00 BC", "10000-01-01+00"],
    ),
    ("timetz", &["09:14:27+00", "09:14:27.5-05:30"]),
    ("tsmultirange", &["{[2024-01-01,2024-01-02)}"]),
    ("tsquery", &["'fat' & !'rat'"]),
    ("tsrange", &["[2024-01-01,2024-01-02)"]),
    ("tstzmultirange", &["{[2024-01-01+00,2024-01-02+00)}"]),
    ("tstzrange", &["[2024-01-01+00,)"]),
    ("tsvector", &["'a':1 'it''s':2A"]),
    ("txid_snapshot", &["10:20:10,14,15"]),
    ("uuid", &["33333333-3333-3333-3333-333333333333"]),
    ("varbit", &["", "1011"]),
    ("varchar", &["", "vc é"]),
    ("xid", &["4294967295"]),
    ("xid8", &["18446744073709551615"]),
    ("xml", &["<a b=\"c\">&lt;</a>"]),
];

/// A database whose answers are compared with ours.
struct Oracle {
    client: Client,
    types: TypeRegistry,
}

impl Oracle {
    /// Renders an expression's value and demands that `expected`, an SQL expression over `x`, is the same JSON.
    async fn check(&self, expression: &str, expected: &str) -> Result<(), tokio_postgres::Error> {
        let value = format!("select x, pg_typeof(x)::oid, ({expected})::text from (select {expression} as x) as q");
        let row = rows(&self.client, &value).await?.remove(0);
        let (text, type_oid, expected) = (row.get(0).unwrap(), row.get(1).unwrap(), row.get(2).unwrap());
        let mut ours = Vec::new();
        render(&self.types, type_oid.parse().unwrap(), text.as_bytes(), &mut ours);
        let ours = String::from_utf8(ours).unwrap();
        // jsonb keeps the digits of a number, so its text is one for each value.
        let normal = rows(&self.client, &format!("select ({}::jsonb)::text", literal(&ours))).await;
        let normal = normal.unwrap_or_else(|error| panic!("{expression}: {ours}: {error:?}")).remove(0);
        assert_eq!(normal.get(0).unwrap(), expected, "{expression} of type {type_oid}: {ours}");
        Ok(())
    }

    /// `check` with what Postgres makes of the value.
    async fn check_plain(&self, expression: &str) -> Result<(), tokio_postgres::Error> {
        self.check(expression, "to_jsonb(x)").await
    }
}

#[tokio::test]
async fn every_built_in_type_is_sent_as_to_jsonb_has_it() {
    for major in majors() {
        let database = Postgres::shared(major).database().await;
        let client = database.connect().await;
        pin_output(&client).await;
        let sql = "select typname from pg_type where typnamespace = 'pg_catalog'::regnamespace \
                   and typtype in ('b', 'r', 'm') and not (typcategory = 'A' and typname like '\\_%')";
        let names: Vec<String> =
            rows(&client, sql).await.unwrap().iter().map(|row| row.get(0).unwrap().to_owned()).collect();
        let deviates = |name: &str| DEVIATIONS.iter().any(|(deviating, ..)| *deviating == name);
        let untested = names.iter().filter(|name| {
            let listed = VALUES.iter().any(|(known, _)| known == name);
            !listed && !deviates(name) && !WITHOUT_VALUES.contains(&name.as_str())
        });
        assert_eq!(untested.collect::<Vec<_>>(), Vec::<&String>::new(), "PostgreSQL {major} has types without a case");

        // A domain, a domain over the array, and a composite of all of them for every type.
        for name in &names {
            if WITHOUT_VALUES.contains(&name.as_str()) {
                continue;
            }
            let sql = format!(
                "create domain d_{name} as pg_catalog.\"{name}\"; create domain l_{name} as pg_catalog.\"{name}\"[]; \
                 create type c_{name} as (\"v \"\"1\"\"\" pg_catalog.\"{name}\", a pg_catalog.\"{name}\"[], \
                 d d_{name}, l l_{name}, m l_{name}[])"
            );
            client.batch_execute(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        }
        let oracle = Oracle { types: registry(&client).await, client };
        let mut checked = 0;
        for (name, values) in VALUES.iter().filter(|(name, _)| names.iter().any(|known| known == name)) {
            for value in *values {
                let scalar = format!("{}::pg_catalog.\"{name}\"", literal(value));
                match oracle.check_plain(&scalar).await {
                    // The one type a server can be built without.
                    Err(error) if *name == "xml" && error.code() == Some(&SqlState::FEATURE_NOT_SUPPORTED) => continue,
                    result => result.unwrap_or_else(|error| panic!("{scalar}: {error:?}")),
                }
                let array = format!("array[{scalar}, null, {scalar}]");
                for expression in [
                    format!("{scalar}::d_{name}"),
                    array.clone(),
                    format!("array[{array}, {array}]"),
                    format!("{array}::l_{name}"),
                    format!(
                        "row({scalar}, {array}, {scalar}, {array}, array[(select {array}::l_{name}), null]::l_{name}[])::c_{name}"
                    ),
                    format!("array[row({scalar}, null, null, '{{}}', null)::c_{name}, null]"),
                ] {
                    oracle.check_plain(&expression).await.unwrap_or_else(|error| panic!("{expression}: {error:?}"));
                }
                checked += 1;
            }
        }
        assert!(checked > 100, "only {checked} values were checked");
        for (name, value, json) in DEVIATIONS {
            let scalar = format!("{}::pg_catalog.\"{name}\"", literal(value));
            oracle.check(&scalar, &literal(json)).await.unwrap_or_else(|error| panic!("{scalar}: {error:?}"));
        }
    }
}

#[tokio::test]
async fn arrays_with_bounds_enums_and_nested_composites_are_sent_as_to_jsonb_has_them() {
    let database = Postgres::default().database().await;
    let client = database.connect().await;
    pin_output(&client).await;
    let sql = r#"
        create type mood as enum ('sad', 'o"k', 'very, {happy}');
        create domain short as varchar(5);
        create type inner_row as (a int, "b c" text[], m mood);
        create type outer_row as (i inner_row, many inner_row[], s short, r int4range);
        create domain checked as outer_row check (true);
        create type empty_row as ();
        create type gone as (a int, b int, c text);
        alter type gone drop attribute b;
    "#;
    client.batch_execute(sql).await.unwrap();
    let oracle = Oracle { types: registry(&client).await, client };
    let inner = r#"row(1, array['x "y"', 'a\b', null, '', '(,)'], 'very, {happy}')::inner_row"#;
    for expression in [
        r#"'o"k'::mood"#.to_owned(),
        r#"array['sad', 'o"k', 'very, {happy}', null]::mood[]"#.to_owned(),
        "'[0:2]={1,2,3}'::int[]".to_owned(),
        "'[-1:0][5:6]={{1,2},{3,NULL}}'::int[]".to_owned(),
        "'{{{{{{1}}}}}}'::int[]".to_owned(),
        r#"'{"NULL",NULL,"null","\"","\\","{","}",","," x "}'::text[]"#.to_owned(),
        "'{(1,1),(0,0);(2,2),(1,1)}'::box[]".to_owned(),
        inner.to_owned(),
        format!("row({inner}, array[{inner}, null], 'abc', '[1,5)')::outer_row"),
        format!("row({inner}, array[{inner}, {inner}], '(\"', 'empty')::outer_row::checked"),
        format!("array[row({inner}, '{{}}', null, null)::outer_row]"),
        "row()::empty_row".to_owned(),
        "row(null, null, null)::inner_row".to_owned(),
        "row(1, ' x ')::gone".to_owned(),
    ] {
        oracle.check_plain(&expression).await.unwrap_or_else(|error| panic!("{expression}: {error:?}"));
    }
}
