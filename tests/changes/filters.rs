//! Every filter operator on every kind of column, with Postgres as the oracle: what is decided in the process and
//! what is sent to Postgres as SQL must both be what Postgres says of the plain expression, NULL included.

use super::types::{literal, pin_output, registry, rows};
use crate::support::postgres::{Database, Postgres};
use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use std::collections::HashMap;
use tokio_postgres::{Client, types::ToSql};
use walcast::{
    change::{
        Datum,
        relation::ReplicaIdentity,
        value::{TypeRegistry, oid},
    },
    policy::{
        catalog::{Access, Collation, Table, TableColumn},
        filter::{Cast, Condition, Filter, Operator, casts_needed, check_columns},
    },
};

const COMPARISONS: [(Operator, &str); 7] = [
    (Operator::Eq, "="),
    (Operator::Neq, "<>"),
    (Operator::Lt, "<"),
    (Operator::Lte, "<="),
    (Operator::Gt, ">"),
    (Operator::Gte, ">="),
    (Operator::Isdistinct, "is distinct from"),
];
const PATTERNS: [(Operator, &str); 4] =
    [(Operator::Like, "like"), (Operator::Ilike, "ilike"), (Operator::Match, "~"), (Operator::Imatch, "~*")];
const WORDS: [&str; 4] = ["null", "true", "false", "unknown"];
const PATTERN_TEXTS: [&str; 16] =
    ["", "%", "a%", "%b", "_", "__", "é_", "%é%", "A%", r"\%", r"a\_b", r"\\", r"a\", "^a", "(", "a.*b$"];

/// A column to filter on: its type, how the catalogue describes its collation, and its values.
struct Column {
    sql_type: &'static str,
    collate: &'static str,
    collation: Collation,
    values: Vec<String>,
}

fn column(sql_type: &'static str, values: &[&str]) -> Column {
    let values = values.iter().map(|value| (*value).to_owned()).collect();
    Column { sql_type, collate: "", collation: Collation::None, values }
}

fn text_column(sql_type: &'static str, collate: &'static str, collation: Collation) -> Column {
    let values =
        ["", "a", "A", "b", "ab", "a_b", "aXb", "é", "éa", "e\u{301}", "%", "\\", "a ", "Zz", "zz", "\"q\"", "NULL"];
    Column { collate, collation, ..column(sql_type, &values) }
}

fn columns() -> Vec<Column> {
    let moments = ["2024-02-29", "2024-03-01", "0044-03-15 BC", "0001-01-01", "10000-01-01", "infinity", "-infinity"];
    let times = [
        "2024-02-29 12:34:56",
        "2024-02-29 12:34:56.5",
        "2024-02-29 12:34:56.25",
        "0044-03-15 12:00:00.5 BC",
        "0044-03-15 12:00:00 BC",
        "10000-01-01 00:00:00",
        "infinity",
        "-infinity",
    ];
    vec![
        column("smallint", &["-32768", "-2", "0", "5", "10"]),
        column("integer", &["-2147483648", "-10", "-9", "0", "5", "10", "+7", " 8 "]),
        column("bigint", &["-9223372036854775808", "9007199254740993", "9007199254740992", "2", "10"]),
        column("oid", &["0", "2147483648", "4294967295", "10", "9"]),
        column("boolean", &["true", "false", "yes", "off"]),
        column("uuid", &["33333333-3333-3333-3333-333333333333", "A3333333333333333333333333333333"]),
        column(
            "numeric",
            &["1.5", "1.50", "-1", "-1.0", "10", "9", "0", "0.000", "1e30", "NaN", "Infinity", "-Infinity"],
        ),
        column("numeric(10,2)", &["1.5", "1.499", "-0.001", "100"]),
        column("double precision", &["0", "-0", "0.1", "1e300", "NaN", "Infinity", "-1.5"]),
        column("real", &["0.1", "16777217", "NaN"]),
        column("date", &moments),
        column("timestamp", &times),
        column("timestamptz", &times),
        column("time", &["00:00:00", "24:00:00", "12:00:00.5"]),
        column("interval", &["1 mon", "30 days", "720:00:00", "1 year"]),
        column("bytea", &["", r"\x00", r"\x00ff", r"\xff", "abc"]),
        column("jsonb", &["{}", "{\"a\": 1}", "1", "1.0", "\"x\"", "null"]),
        column("json", &["{}"]),
        column("inet", &["10.0.0.1", "10.0.0.1/32", "10.0.0.0/8"]),
        column("int4range", &["[1,5)", "[1,4]", "empty"]),
        column("integer[]", &["{}", "{1,2}", "{1,NULL}"]),
        column("point", &["(1,2)"]),
        column("box", &["(1,1),(0,0)", "(2,2),(0,0)"]),
        column("bit(3)", &["101", "111"]),
        column("pair", &["(1,a)", "(1,)", "(,)"]),
        column("mood", &["sad", "ok", "happy, \"very\""]),
        column("whole", &["1", "10", "9"]),
        column("feeling", &["sad", "ok"]),
        text_column("text", "collate \"C\"", Collation::Bytewise),
        text_column("text", "", Collation::Deterministic),
        text_column("varchar(5)", "", Collation::Deterministic),
        text_column("char(5)", "", Collation::Deterministic),
        text_column("name", "", Collation::Bytewise),
        text_column("label", "", Collation::Deterministic),
        // One byte: before PostgreSQL 15 a longer character is cut to what is no text at all.
        column("\"char\"", &["", "a", "A", "%", "\\"]),
    ]
}

/// One filter column in a table of its own, and what is needed to judge its rows.
struct Case<'a> {
    client: &'a Client,
    types: &'a TypeRegistry,
    table: Table,
    /// The column's type in casts, without its length.
    cast: String,
    rows: Vec<Datum>,
    /// How many conditions were decided here, and how many by the SQL made for them.
    here: usize,
    there: usize,
}

impl<'a> Case<'a> {
    async fn new(client: &'a Client, types: &'a TypeRegistry, column: &Column) -> Case<'a> {
        let Column { sql_type, collate, collation, values } = column;
        let create =
            format!("drop table if exists t; create table t (id serial, \"V \"\"1\"\"\" {sql_type} {collate})");
        client.batch_execute(&create).await.unwrap_or_else(|error| panic!("{create}: {error:?}"));
        for value in values {
            let insert = format!("insert into t (\"V \"\"1\"\"\") select {}::{sql_type}", literal(value));
            client.batch_execute(&insert).await.unwrap_or_else(|error| panic!("{insert}: {error:?}"));
        }
        client.batch_execute("insert into t default values").await.unwrap();
        let texts = rows(client, "select \"V \"\"1\"\"\" from t order by id").await.unwrap();
        let datum =
            |text: Option<&str>| text.map_or(Datum::Null, |text| Datum::Text(Bytes::copy_from_slice(text.as_bytes())));
        let of_type =
            "select atttypid, atttypid::regtype from pg_attribute where attrelid = 't'::regclass and attnum = 2";
        let of_type = rows(client, of_type).await.unwrap().remove(0);
        let type_oid = of_type.get(0).unwrap().parse().unwrap();
        let column = TableColumn {
            number: 2,
            name: "V \"1\"".to_owned(),
            type_oid,
            type_name: types.get(type_oid).unwrap().name.clone(),
            collation: *collation,
            collation_oid: 0,
            generated: None,
        };
        let cast = match type_oid {
            oid::BPCHAR => "pg_catalog.bpchar",
            oid::BIT => "pg_catalog.\"bit\"",
            _ => of_type.get(1).unwrap(),
        };
        let table = Table {
            oid: 1,
            schema: "public".to_owned(),
            name: "t".to_owned(),
            columns: vec![column],
            listed: Vec::new(),
            published: None,
            primary_key: vec![],
            replica_identity: ReplicaIdentity::Default,
            row_security: false,
            access: HashMap::new(),
        };
        let rows = texts.iter().map(|row| datum(row.get(0))).collect();
        Case { client, types, table, cast: cast.to_owned(), rows, here: 0, there: 0 }
    }

    /// All operators with this operand.
    async fn compare(&mut self, operand: &str) {
        for (operator, symbol) in COMPARISONS {
            let right = format!("{}::{}", literal(operand), self.cast);
            self.check(operator, operand, &format!("\"V \"\"1\"\"\" {symbol} {right}")).await;
        }
    }

    async fn pattern(&mut self, operator: Operator, symbol: &str, pattern: &str) {
        self.check(operator, pattern, &format!("\"V \"\"1\"\"\" {symbol} {}", literal(pattern))).await;
    }

    async fn contained(&mut self, elements: &[Option<&str>]) {
        let quoted = elements.iter().map(|element| match element {
            Some(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
            None => "NULL".to_owned(),
        });
        let delimiter = if self.cast == "box" { ";" } else { "," };
        let array = format!("{{{}}}", quoted.collect::<Vec<_>>().join(delimiter));
        let right = format!("any ({}::{}[])", literal(&array), self.cast);
        self.check(Operator::In, &array, &format!("\"V \"\"1\"\"\" = {right}")).await;
    }

    /// The operator and its negation on all rows, against what Postgres says of the expression.
    async fn check(&mut self, operator: Operator, value: &str, expression: &str) {
        for negate in [false, true] {
            let condition =
                Condition { column: self.table.columns[0].name.clone(), negate, operator, value: value.to_owned() };
            let access = Access { select: vec![true], ..Access::default() };
            let conditions = [condition];
            if check_columns(&self.table, self.types, &access, &conditions, None).is_err() {
                continue;
            }
            let plain = if negate { format!("not ({expression})") } else { expression.to_owned() };
            let expected = rows(self.client, &format!("select ({plain}) from t order by id")).await;
            let expected: Option<Vec<Option<bool>>> =
                expected.ok().map(|rows| rows.iter().map(|row| row.get(0).map(|text| text == "t")).collect());
            let ours = self.answers(&conditions).await;
            assert_eq!(ours, expected, "{} of {}: {plain}", self.cast, self.table.columns[0].type_name);
        }
    }

    /// What we say of each row; none if Postgres refused the value or its evaluation.
    async fn answers(&mut self, conditions: &[Condition]) -> Option<Vec<Option<bool>>> {
        let mut values = vec![Vec::new(); conditions.len()];
        for cast in casts_needed(conditions, &self.table, self.types) {
            values[cast.condition] = canonical(self.client, &cast).await.ok()?;
        }
        let filter = Filter::compile(conditions, &values, &self.table, self.types).unwrap();
        let Some((sql, values)) = filter.database_sql(1) else {
            self.here += 1;
            return Some(self.rows.iter().map(|row| filter.eval(&|_| row)).collect());
        };
        self.there += 1;
        assert_eq!(filter.eval(&|_| &Datum::Absent), Some(true), "nothing else is left to decide");
        let parameters: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
        let rows = self.client.query(&format!("select {sql} from t order by id"), &parameters).await.ok()?;
        Some(rows.iter().map(|row| row.get(0)).collect())
    }
}

async fn canonical(client: &Client, cast: &Cast) -> Result<Vec<Option<String>>, tokio_postgres::Error> {
    Ok(client.query_one(&cast.statement(), &[&cast.value]).await?.get(0))
}

/// Whether the server was built with ICU.
async fn has_icu(client: &Client) -> bool {
    !rows(client, "select 1 from pg_collation where collprovider = 'i' limit 1").await.unwrap().is_empty()
}

/// A connection to a database with the types of `columns`, and all its types.
async fn prepared(database: &Database) -> (Client, TypeRegistry) {
    let client = database.connect().await;
    pin_output(&client).await;
    let types = "create type pair as (a int, b text); create type mood as enum ('sad', 'ok', 'happy, \"very\"'); \
                 create domain whole as int; create domain label as text; create domain feeling as mood";
    client.batch_execute(types).await.unwrap();
    let types = registry(&client).await;
    (client, types)
}

#[tokio::test]
async fn filters_say_of_every_row_what_postgres_says() {
    let database = Postgres::default().database().await;
    let (client, _) = prepared(&database).await;
    let (mut here, mut there) = (0, 0);
    let mut columns = columns();
    // An extension that comes with every server but the barest.
    client.batch_execute("create extension citext").await.unwrap();
    let types = registry(&client).await;
    columns.push(text_column("citext", "", Collation::Deterministic));
    if has_icu(&client).await {
        // The one collation at hand whose order surely is not that of the bytes.
        columns.push(text_column("text", "collate \"en-x-icu\"", Collation::Deterministic));
    }
    for column in columns {
        let mut case = Case::new(&client, &types, &column).await;
        for operand in column.values.iter().map(String::as_str).chain(["", "x", "5", "2024-06-01"]) {
            case.compare(operand).await;
        }
        for word in WORDS {
            case.check(Operator::Is, word, &format!("\"V \"\"1\"\"\" is {word}")).await;
        }
        for (operator, symbol) in PATTERNS {
            for pattern in PATTERN_TEXTS {
                case.pattern(operator, symbol, pattern).await;
            }
        }
        let all: Vec<Option<&str>> = column.values.iter().map(|value| Some(value.as_str())).collect();
        case.contained(&[]).await;
        case.contained(&[None]).await;
        case.contained(&all[..1]).await;
        case.contained(&[all[0], None]).await;
        case.contained(&all).await;
        (here, there) = (here + case.here, there + case.there);
    }
    assert!(here > 500 && there > 500, "{here} were decided here, {there} by Postgres");
}

#[tokio::test]
async fn random_values_compare_as_in_postgres() {
    let database = Postgres::default().database().await;
    let (client, types) = prepared(&database).await;
    let mut random = StdRng::seed_from_u64(20_240_229);
    let mut column_of = |sql_type, collate, collation, make: fn(&mut StdRng) -> String| {
        let values = (0..60).map(|_| make(&mut random)).collect();
        Column { sql_type, collate, collation, values }
    };
    let text = |random: &mut StdRng| {
        let alphabet = ["a", "b", "A", "_", "%", "\\", "é", "😀", " "];
        (0..random.random_range(0..5)).map(|_| *alphabet.choose(random).unwrap()).collect()
    };
    let columns = [
        column_of("bigint", "", Collation::None, |random| random.random_range(-20..20).to_string()),
        column_of("numeric", "", Collation::None, |random| {
            let scale = random.random_range(0..4);
            format!("{:.scale$}", f64::from(random.random_range(-2000..2000)) / 1000.0)
        }),
        column_of("date", "", Collation::None, |random| {
            let era = if random.random() { " BC" } else { "" };
            format!(
                "{:04}-{:02}-{:02}{era}",
                random.random_range(1..4),
                random.random_range(1..13),
                random.random_range(1..28)
            )
        }),
        column_of("timestamptz", "", Collation::None, |random| {
            let (hour, micros) = (random.random_range(0..3), random.random_range(0..4) * 250_000);
            format!("2024-02-29 {hour:02}:00:00.{micros:06}+0{}", random.random_range(0..3))
        }),
        column_of("bytea", "", Collation::None, |random| format!("\\x{:04x}", random.random::<u8>())),
        column_of("text", "collate \"C\"", Collation::Bytewise, text),
        column_of("text", "", Collation::Deterministic, text),
    ];
    for column in columns {
        let mut case = Case::new(&client, &types, &column).await;
        for operand in column.values.iter().take(25) {
            case.compare(operand).await;
            case.pattern(Operator::Like, "like", operand).await;
        }
        let some: Vec<Option<&str>> = column.values.iter().take(5).map(|value| Some(value.as_str())).collect();
        case.contained(&some).await;
        assert!(case.here > 0, "nothing was decided here for {}", column.sql_type);
    }
}

#[tokio::test]
async fn a_nondeterministic_collation_is_left_to_postgres() {
    let database = Postgres::default().database().await;
    let (client, types) = prepared(&database).await;
    let collation = "create collation nd (provider = icu, locale = 'und-u-ks-level2', deterministic = false)";
    if !has_icu(&client).await {
        // This server was built without ICU and so without such collations.
        assert!(client.batch_execute(collation).await.is_err());
        return;
    }
    client.batch_execute(collation).await.unwrap();
    let column = text_column("text", "collate nd", Collation::Nondeterministic);
    let mut case = Case::new(&client, &types, &column).await;
    for operand in &column.values {
        case.compare(operand).await;
    }
    for pattern in PATTERN_TEXTS {
        case.pattern(Operator::Like, "like", pattern).await;
    }
    case.contained(&[Some("a"), Some("é")]).await;
    assert_eq!(case.here, 0);
}

#[tokio::test]
async fn a_value_postgres_refuses_is_refused_in_its_words() {
    let database = Postgres::default().database().await;
    let (client, types) = prepared(&database).await;
    for (sql_type, operator, value, expected) in [
        ("integer", Operator::Eq, "abc", "invalid input syntax for type integer: \"abc\""),
        ("integer", Operator::In, "{1,x}", "invalid input syntax for type integer: \"x\""),
        ("mood", Operator::Neq, "bad", "invalid input value for enum mood: \"bad\""),
        ("json", Operator::Eq, "{}", "operator does not exist: json pg_catalog.= json"),
        (
            "text",
            Operator::Match,
            "(",
            "invalid regular expression for match filter: invalid regular expression: parentheses () not balanced",
        ),
    ] {
        let case = Case::new(&client, &types, &column(sql_type, &[])).await;
        let name = case.table.columns[0].name.clone();
        let conditions = [Condition { column: name, negate: false, operator, value: value.to_owned() }];
        let cast = casts_needed(&conditions, &case.table, &types).remove(0);
        let error = canonical(&client, &cast).await.unwrap_err();
        let message = error.as_db_error().unwrap().message().to_owned();
        assert_eq!(cast.refusal(&message).unwrap_or(message), expected);
    }
}
