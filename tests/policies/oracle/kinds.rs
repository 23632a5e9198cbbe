//! Kinds of columns, and the few values of each: so few that equality often hits.

use super::random::Random;

/// A kind of column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    /// Text with collation "C".
    Bytes,
    Varchar,
    /// A domain over text.
    Label,
    Uuid,
    Int2,
    Int4,
    Int8,
    /// A domain over integer.
    Count,
    Numeric,
    Float8,
    Bool,
    Timestamptz,
    Timestamp,
    Date,
    Jsonb,
    Json,
    /// An enum.
    State,
    Uuids,
    Texts,
    Ints,
}

/// Users, organisations and keys alike.
pub const UUIDS: [&str; 5] = [
    "11111111-1111-1111-1111-111111111111",
    "22222222-2222-2222-2222-222222222222",
    "abcdefab-cdef-abcd-efab-cdefabcdefab",
    "00000000-0000-0000-0000-000000000000",
    "ffffffff-ffff-ffff-ffff-fffffffffff0",
];

pub const TEXTS: [&str; 16] = [
    "",
    "a",
    "A",
    "b",
    "open",
    "draft",
    "admin",
    "aal2",
    "x/y/z",
    "11111111-1111-1111-1111-111111111111/file",
    "alice@example.com",
    "Élan",
    "5",
    " a",
    "a%",
    "true",
];

pub const STATES: [&str; 3] = ["draft", "open", "closed"];

const INTS: [&str; 8] = ["-1", "0", "1", "2", "3", "4", "1", "2147483647"];
const MOMENTS: [&str; 8] = [
    "now() - interval '1 hour'",
    "now() + interval '1 hour'",
    "now() - interval '8 days'",
    "'2000-01-01 00:00:00+00'",
    "'2024-02-29 12:34:56.789012+00'",
    "'infinity'",
    "'-infinity'",
    "'1999-12-31 23:59:59.999999+00'",
];
const JSONS: [&str; 16] = [
    "null",
    "{}",
    "[]",
    "5",
    "\"a\"",
    "true",
    "{\"a\": 1}",
    "{\"a\": 1.0, \"b\": null}",
    "{\"a\": {\"b\": \"open\"}}",
    "{\"readers\": [\"11111111-1111-1111-1111-111111111111\"]}",
    "{\"readers\": [\"22222222-2222-2222-2222-222222222222\", null]}",
    "{\"visibility\": \"public\", \"a\": \"a\"}",
    "[\"a\", \"b\", \"open\"]",
    "[1, [2, 3], {\"a\": []}]",
    "{\"readers\": {\"11111111-1111-1111-1111-111111111111\": true}}",
    "{\"a\": true, \"level\": \"3\"}",
];

/// Kinds of columns, likelier ones repeated.
const COLUMNS: [Kind; 30] = [
    Kind::Uuid,
    Kind::Uuid,
    Kind::Uuid,
    Kind::Uuid,
    Kind::Text,
    Kind::Text,
    Kind::Text,
    Kind::Bytes,
    Kind::Varchar,
    Kind::Label,
    Kind::Int4,
    Kind::Int4,
    Kind::Int2,
    Kind::Int8,
    Kind::Count,
    Kind::Numeric,
    Kind::Float8,
    Kind::Bool,
    Kind::Bool,
    Kind::Timestamptz,
    Kind::Timestamptz,
    Kind::Timestamp,
    Kind::Date,
    Kind::Jsonb,
    Kind::Jsonb,
    Kind::Json,
    Kind::State,
    Kind::Uuids,
    Kind::Texts,
    Kind::Ints,
];

impl Kind {
    /// One for a column.
    pub fn random(random: &mut Random) -> Kind {
        *random.pick(&COLUMNS)
    }

    /// Its type in SQL, where `schema` has the domains and the enum.
    pub fn sql(self, schema: &str) -> String {
        match self {
            Kind::Text => "text".to_owned(),
            Kind::Bytes => "text collate \"C\"".to_owned(),
            Kind::Varchar => "varchar(60)".to_owned(),
            Kind::Label => format!("{schema}.label"),
            Kind::Uuid => "uuid".to_owned(),
            Kind::Int2 => "smallint".to_owned(),
            Kind::Int4 => "integer".to_owned(),
            Kind::Int8 => "bigint".to_owned(),
            Kind::Count => format!("{schema}.count"),
            Kind::Numeric => "numeric".to_owned(),
            Kind::Float8 => "double precision".to_owned(),
            Kind::Bool => "boolean".to_owned(),
            Kind::Timestamptz => "timestamptz".to_owned(),
            Kind::Timestamp => "timestamp".to_owned(),
            Kind::Date => "date".to_owned(),
            Kind::Jsonb => "jsonb".to_owned(),
            Kind::Json => "json".to_owned(),
            Kind::State => format!("{schema}.state"),
            Kind::Uuids => "uuid[]".to_owned(),
            Kind::Texts => "text[]".to_owned(),
            Kind::Ints => "integer[]".to_owned(),
        }
    }

    /// Its type where a cast is written.
    pub fn cast(self, schema: &str) -> String {
        match self {
            Kind::Bytes => "text".to_owned(),
            Kind::Varchar => "varchar".to_owned(),
            other => other.sql(schema),
        }
    }

    pub fn is_text(self) -> bool {
        matches!(self, Kind::Text | Kind::Bytes | Kind::Varchar | Kind::Label)
    }

    pub fn is_number(self) -> bool {
        matches!(self, Kind::Int2 | Kind::Int4 | Kind::Int8 | Kind::Count | Kind::Numeric | Kind::Float8)
    }

    /// Whether values of both can be compared without a cast being written.
    pub fn is_comparable(self, other: Kind) -> bool {
        // Texts of two collations can be compared for equality, but the process leaves that to the database.
        let is_bytes = |kind| kind == Kind::Bytes;
        self == other
            || (self.is_text() && other.is_text() && is_bytes(self) == is_bytes(other))
            || (self.is_number() && other.is_number())
    }

    /// Whether the type has `=`.
    pub fn has_equality(self) -> bool {
        self != Kind::Json
    }

    /// A value of the pool as an SQL expression of this type.
    pub fn value(self, random: &mut Random, schema: &str) -> String {
        let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
        match self {
            Kind::Text | Kind::Bytes | Kind::Varchar | Kind::Label => quoted(pick_text(random, &TEXTS)),
            Kind::Uuid => quoted(pick_text(random, &UUIDS)) + "::uuid",
            Kind::Int2 => random.pick(&INTS[..7]).to_string() + "::smallint",
            Kind::Int4 | Kind::Count => (*random.pick(&INTS)).to_owned(),
            Kind::Int8 => {
                random.pick(&["0", "1", "-1", "3", "2147483648", "9223372036854775807"]).to_string() + "::bigint"
            }
            Kind::Numeric => {
                random.pick(&["0", "1", "1.0", "1.50", "-2", "5", "1e10", "'NaN'", "2.999999999999999999"]).to_string()
                    + "::numeric"
            }
            Kind::Float8 => {
                random.pick(&["0", "'-0'", "1", "1.5", "5", "'NaN'", "'Infinity'", "0.1", "1e-300"]).to_string()
                    + "::double precision"
            }
            Kind::Bool => (*random.pick(&["true", "false"])).to_owned(),
            Kind::Timestamptz => format!("({})::timestamptz", random.pick(&MOMENTS)),
            Kind::Timestamp => format!("({})::timestamp", random.pick(&MOMENTS[3..]).replace("+00", "")),
            Kind::Date => {
                random.pick(&["'2000-01-01'", "'2024-02-29'", "'infinity'", "'1999-12-31'"]).to_string() + "::date"
            }
            Kind::Jsonb => quoted(pick_text(random, &JSONS)) + "::jsonb",
            Kind::Json => quoted(pick_text(random, &JSONS)) + "::json",
            Kind::State => format!("'{}'::{schema}.state", random.pick(&STATES)),
            Kind::Uuids => format!("'{{{}}}'::uuid[]", elements(random, &UUIDS)),
            Kind::Texts => format!("'{{{}}}'::text[]", elements(random, &["a", "b", "A", "open", "\"\"", "admin"])),
            Kind::Ints => format!("'{{{}}}'::integer[]", elements(random, &INTS)),
        }
    }

    /// A value of a row: NULL now and then, and the rare forms of arrays.
    pub fn stored(self, random: &mut Random, schema: &str) -> String {
        if random.percent(22) {
            return "null".to_owned();
        }
        match self {
            Kind::Texts if random.percent(2) => "'{{a,b},{c,d}}'".to_owned(),
            Kind::Texts if random.percent(2) => "'[0:1]={a,b}'".to_owned(),
            Kind::Timestamptz if random.percent(1) => "'0044-03-15 12:00:00+00 BC'".to_owned(),
            Kind::Jsonb if random.percent(2) => "'{\"a\": 1e400, \"b\": 12345678901234567890.5}'".to_owned(),
            _ => self.value(random, schema),
        }
    }
}

fn elements(random: &mut Random, of: &[&str]) -> String {
    let count = random.below(4);
    let element = |random: &mut Random| if random.percent(12) { "NULL" } else { *random.pick(of) };
    (0..count).map(|_| element(random)).collect::<Vec<_>>().join(",")
}

fn pick_text(random: &mut Random, of: &[&'static str]) -> &'static str {
    of[random.below(of.len())]
}
