//! Texts of policies and of the functions they call, what becomes of them, and what that says of rows; values as policies
//! compute with them, and every function of the table.

use super::{
    harness::{MEMORY, Seen, Target, fuzz, seen, shape},
    mutate::{joined, records},
    world::{self, DOCS, ROLE},
};
use bytes::Bytes;
use std::{
    fs,
    path::Path,
    sync::{Arc, LazyLock},
};
use walcast::{
    change::Datum,
    claims::Claims,
    policy::{
        analyse::{Ruling, mentioned, ruling},
        explain::Case,
        facts::{Facts, Language},
        functions::{self, Cast, Context},
        lookup::Lookups,
        program::{Entry, Probe, Program, Verdict},
        value::{Scalar, Type, Value, read},
    },
};

const WORDS: &[&str] = &[
    " and ",
    " or ",
    "not ",
    " is null",
    " is not null",
    " = ",
    " <> ",
    " <= ",
    " in (",
    " not in (",
    " between ",
    " like ",
    " ilike ",
    " any (",
    " all (",
    "exists (select 1 from ",
    "(select ",
    " where ",
    " join ",
    " on ",
    " union ",
    " limit 1",
    " order by ",
    "case when ",
    " then ",
    " else ",
    " end",
    "coalesce(",
    "nullif(",
    "array[",
    "::uuid",
    "::int",
    "::text",
    "::text[]",
    "::jsonb",
    "::timestamptz",
    "::numeric",
    "::date",
    "::interval",
    "auth.uid()",
    "auth.jwt()",
    "auth.role()",
    "auth.email()",
    " -> ",
    " ->> ",
    " #> ",
    " #>> ",
    " @> ",
    " <@ ",
    " ? ",
    " && ",
    " || ",
    "now()",
    "current_user",
    "current_setting('request.jwt.claims', true)",
    "owner_id",
    "org_id",
    "editors",
    "is_public",
    "status",
    "meta",
    "tags",
    "level",
    "title",
    "publish_at",
    "mood",
    "price",
    "ratio",
    "size",
    "day",
    "span",
    "raw",
    "plain",
    "spot",
    "docs.",
    "memberships",
    "profiles",
    "projects",
    "is_member(org_id)",
    "fuzzed(owner_id)",
    "lower(",
    "length(",
    "split_part(",
    "jsonb_build_object(",
    "'",
    "''",
    "e'\\n'",
    "$$",
    "--",
    "/*",
    "*/",
    "1",
    "0",
    "9223372036854775807",
    "2147483648",
    "1e400",
    "null",
    "true",
    "false",
    "with x as (select ",
    "lateral ",
    "collate \"C\"",
    " at time zone 'utc'",
    "interval '1 day'",
    "extract(",
    "position('a' in ",
    "substring(",
    " is distinct from ",
    "row(",
    "begin return ",
    "; end",
    "return ",
    "begin atomic ",
    "select ",
];

/// What stands behind `using` and between dollars in the files of shapes, cases and random policies that were found.
fn texts() -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/policies");
    let mut policies = Vec::new();
    for file in ["shapes/catalogue.rs", "cases.rs", "findings.rs", "accidents.rs"] {
        let text = fs::read_to_string(directory.join(file)).expect("a text");
        for rest in text.split("using (").skip(1) {
            policies.extend(balanced(rest).map(|policy| policy.as_bytes().to_vec()));
        }
    }
    assert!(policies.len() > 100, "policies are where they were");
    policies
}

fn balanced(text: &str) -> Option<&str> {
    let mut depth = 1;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(&text[..at]);
        }
    }
    None
}

#[test]
fn any_text_of_a_policy_is_understood_or_refused_and_judges_any_row() {
    let mut seeds = texts();
    for body in [
        "select exists (select 1 from memberships where user_id = u)",
        "begin return exists (select 1 from public.memberships where user_id = u); end",
        "select u = $1 and (select auth.uid()) is not null;",
    ] {
        seeds.push(joined(["fuzzed(owner_id) or is_public", body]));
    }
    // It is parsed in a thread of its own, whose memory is not counted here.
    fuzz(Target { name: "policy", seeds, words: WORDS, memory: (8 << 20, 4000), run: policy });
}

static FACTS: LazyLock<Facts> = LazyLock::new(world::facts);
static ROWS: LazyLock<Vec<Vec<Datum>>> = LazyLock::new(rows);
static CLAIMS: LazyLock<Vec<Claims>> = LazyLock::new(|| {
    let claims = |json: &str| Claims { role: ROLE.into(), expires_at: None, json: json.into() };
    vec![
        claims(
            r#"{"sub": "11111111-1111-1111-1111-111111111111", "role": "authenticated", "email": "a@b.c", "app_metadata": {"org_id": "44444444-4444-4444-4444-444444444444", "orgs": ["a"], "level": "3", "tags": [1, null]}}"#,
        ),
        claims(r#"{"sub": "not a uuid", "role": 5, "email": null, "app_metadata": []}"#),
        claims("{}"),
    ]
});

/// A row of plausible values, one of NULLs, one that is not there, one of what no type prints, one of edges.
fn rows() -> Vec<Vec<Datum>> {
    let text = |text: &str| Datum::Text(Bytes::copy_from_slice(text.as_bytes()));
    let columns = world::docs().columns;
    let fitting = |name: &str, is_edge: bool| match (name, is_edge) {
        ("uuid", _) => "11111111-1111-1111-1111-111111111111",
        ("_uuid", false) => "{11111111-1111-1111-1111-111111111111,NULL}",
        ("_int4", false) => "{1,2,NULL}",
        ("_text", false) => "{red,\"a \\\"b\",NULL}",
        ("_uuid" | "_text" | "_int4", true) => "{}",
        ("bool", _) => "t",
        ("int4", true) => "-2147483648",
        ("int8", true) => "9223372036854775807",
        ("numeric", true) => "-0.000000000000000000000000000000000000000000000000000000000000001",
        ("float8", true) => "NaN",
        ("int4" | "int8" | "numeric" | "float8", false) => "42",
        ("jsonb" | "json", false) => r#"{"readers": ["a", null], "visibility": "public", "n": 1.50}"#,
        ("jsonb" | "json", true) => "[1e3, [[]], \"\u{fc}\"]",
        ("date", false) => "2026-03-05",
        ("date", true) => "4713-01-01 BC",
        ("timestamptz", false) => "2026-03-05 09:14:27.3+00",
        ("timestamp", false) => "2026-03-05 09:14:27.3",
        ("timestamptz" | "timestamp", true) => "infinity",
        ("interval", false) => "1 mon -2 days 03:04:05.6",
        ("interval", true) => "-178000000 years",
        ("bytea", _) => "\\x00ff",
        ("mood", _) => "happy",
        (_, true) => "",
        _ => "published",
    };
    let row = |value: &dyn Fn(&str) -> Datum| columns.iter().map(|column| value(&column.type_name)).collect();
    vec![
        row(&|name| text(fitting(name, false))),
        row(&|name| text(fitting(name, true))),
        row(&|_| Datum::Null),
        row(&|_| Datum::Absent),
        row(&|_| Datum::Text(Bytes::from_static(b"\xff{\"("))),
    ]
}

/// The first record is the policy, the second the body of a function.
fn policy(input: &[u8]) -> Seen {
    let records = records(input);
    let Ok(using) = std::str::from_utf8(records[0]) else { return 0 };
    let mut facts = FACTS.clone();
    let body = records.get(1).and_then(|body| std::str::from_utf8(body).ok());
    let language = |body: &str| if body.trim_start().starts_with("begin") { Language::Plpgsql } else { Language::Sql };
    let table = world::with_policy(&mut facts, using, body.map(|body| (body, language(body))));
    if using.len() < 2000 {
        mentioned(using);
    }
    match ruling(&facts, &table, &ROLE.into()) {
        Ruling::Clauses(clauses) => {
            let program = Program::new(&facts, &table, clauses);
            let said = judged(&facts, &program);
            seen((
                said,
                program.paths(),
                program.lookups.len(),
                program.reads.len().min(8),
                program.parameters.len().min(4),
            ))
        }
        Ruling::Database(clauses) => {
            let why = clauses.into_iter().find_map(Result::err).expect("a reason");
            shape(&why.why)
        }
        settled @ (Ruling::All | Ruling::None) => panic!("{settled:?} of a policy that was not read"),
    }
}

fn judged(facts: &Facts, program: &Program) -> Seen {
    let lookups = Lookups::default();
    let mut said = Vec::new();
    for claims in CLAIMS.iter() {
        let Some(arguments) = program.bind(claims) else {
            said.push(100);
            continue;
        };
        let entered = program.enter(&arguments);
        for row in ROWS.iter() {
            let column = |index: usize| &row[index];
            let row = program.row(&column);
            let verdict = program.judge(&arguments, &row, &lookups, 0);
            let probed = program.probe(&row, &lookups, 0, 64);
            assert_eq!((entered.len(), probed.len()), (program.paths(), program.paths()));
            let is_found = entered.iter().zip(&probed).any(meet);
            assert!(verdict != Verdict::Yes || is_found, "who sees a row is among its candidates");
            said.push(match verdict {
                Verdict::Failed(sqlstate) => shape(sqlstate),
                verdict => seen(std::mem::discriminant(&verdict)),
            });
            let case = Case { program, arguments: &arguments, row: &row, lookups: &lookups, now: 0 };
            if said.len() == 1 {
                assert_eq!(case.policies(facts, DOCS).len(), program.clauses.len());
            }
        }
    }
    said.dedup();
    said.truncate(6);
    seen(said)
}

fn meet((entry, probe): (&Entry, &Probe)) -> bool {
    match (entry, probe) {
        (Entry::Nowhere, _) | (_, Probe::Nobody) => false,
        (Entry::Everywhere, _) | (_, Probe::Everybody) => true,
        (Entry::Keys(entered), Probe::Keys(probed)) => entered.iter().any(|key| probed.contains(key)),
    }
}

const SCALARS: &[Scalar] = &[
    Scalar::Bool,
    Scalar::Int2,
    Scalar::Int4,
    Scalar::Int8,
    Scalar::Numeric,
    Scalar::Float4,
    Scalar::Float8,
    Scalar::Text,
    Scalar::Name,
    Scalar::Uuid,
    Scalar::Bytea,
    Scalar::Date,
    Scalar::Timestamp,
    Scalar::Timestamptz,
    Scalar::Interval,
    Scalar::Json,
    Scalar::Jsonb,
    Scalar::Enum(50_001),
];

const VALUES: &[&str] = &[
    "t",
    "-42",
    "9223372036854775807",
    "-2147483648",
    "1.5e-300",
    "0.00012000",
    "NaN",
    "-Infinity",
    "infinity",
    "a text",
    "11111111-1111-1111-1111-111111111111",
    "\\x00ff",
    "2026-03-05",
    "0044-03-15 BC",
    "2026-03-05 09:14:27.300001",
    "2026-03-05 09:14:27.3+05:30",
    "294276-12-31 23:59:59.999999+00",
    "4714-11-24 00:00:00 BC",
    "1 year 2 mons -3 days 04:05:06.7",
    "-178000000 years",
    "P1Y2M3DT4H5M6S",
    r#"{"a": [1, null, {"b": "\u00fc"}], "a": 1e5}"#,
    "[]",
    "{1,2,NULL}",
    r#"{"a \" b",c,NULL}"#,
    "{{1},{2}}",
    "[2:3]={1,2}",
    "{t,f}",
    "{2026-03-05,infinity}",
    "utc",
    "month",
];
const VALUE_WORDS: &[&str] = &[
    "infinity",
    "NULL",
    " BC",
    "+00",
    "-15:59:59",
    "00:00:00.000001",
    " days",
    " mons",
    " years",
    "e308",
    "e-400",
    "\\u0000",
    "\\x",
    "{",
    "}",
    "\"",
    "999999999",
    "99999999999999999999",
    "0x",
    "_",
    ".",
    "%",
    "\\",
    "now",
    "epoch",
    "today",
    "24:00:00",
    "60",
];

fn type_of(choice: u8) -> Type {
    let scalar = SCALARS[usize::from(choice >> 1) % SCALARS.len()];
    if choice & 1 == 1 { Type::array(scalar) } else { Type::of(scalar) }
}

#[test]
fn any_text_of_a_value_is_read_by_policies_or_is_none() {
    let kinds = 0..u8::try_from(SCALARS.len() * 2).expect("few");
    let seeds = kinds.flat_map(|kind| VALUES.iter().map(move |text| joined([&[kind][..], text.as_bytes()]))).collect();
    fuzz(Target { name: "datum", seeds, words: VALUE_WORDS, memory: MEMORY, run: datum });
}

/// The first record says which type, the second is the text.
fn datum(input: &[u8]) -> Seen {
    let records = records(input);
    let (Some(kind), Some(text)) = (records[0].first(), records.get(1)) else { return 0 };
    let kind = type_of(*kind);
    let of_stream = read(kind, text);
    let of_literal = std::str::from_utf8(text).ok().map(|text| functions::literal(kind, text));
    // A literal may be written in more ways than the stream has; where both read it, they read the same. A name in the
    // stream is short enough already.
    if let (Ok(one), Some(Ok(other))) = (&of_stream, &of_literal)
        && kind.scalar != Scalar::Name
    {
        assert_eq!(one, other);
    }
    let sign = |value: &Value| match value {
        Value::Array(items) => seen((items.len().min(4), items.contains(&Value::Null))),
        value => seen(std::mem::discriminant(value)),
    };
    seen((
        of_stream.as_ref().map(sign).map_err(|stop| format!("{stop:?}")),
        of_literal.map(|value| value.map(|value| sign(&value)).map_err(|stop| format!("{stop:?}"))),
        kind,
    ))
}

#[test]
fn every_function_of_policies_takes_any_values() {
    let mut random = 12345_u32;
    let mut next = |below: usize| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        usize::try_from(random >> 8).unwrap_or(0) % below
    };
    // Names times types is too much for a list; those that fit are found here once.
    let mut seeds = Vec::new();
    for name in 0..functions::OPERATORS.len() + functions::FUNCTIONS.len() + functions::SET_FUNCTIONS.len() + 1 {
        for _ in 0..60 {
            let kinds: Vec<u8> = (0..next(4)).map(|_| u8::try_from(next(SCALARS.len() * 2)).unwrap_or(0)).collect();
            let head = [&[u8::try_from(name).unwrap_or(0)][..], &kinds].concat();
            if resolved(&head).is_some() {
                let texts = kinds.iter().map(|_| VALUES[next(VALUES.len())].as_bytes().to_vec());
                seeds.push(joined([head.clone()].into_iter().chain(texts)));
            }
        }
    }
    fuzz(Target { name: "function", seeds, words: VALUE_WORDS, memory: (4 << 20, 2000), run: function });
}

/// The function that the first record names, with the types of its arguments.
fn resolved(head: &[u8]) -> Option<(&'static functions::Function, Vec<Type>)> {
    let (&name, kinds) = head.split_first()?;
    let types: Vec<Type> = kinds.iter().take(5).map(|kind| type_of(*kind)).collect();
    let name = usize::from(name);
    let operators = functions::OPERATORS.len();
    let found = match (name.checked_sub(operators), &types[..]) {
        (None, [right]) => functions::operator(functions::OPERATORS[name], None, *right),
        (None, [left, right]) => functions::operator(functions::OPERATORS[name], Some(*left), *right),
        (None, _) => None,
        (Some(place), types) => match place.checked_sub(functions::FUNCTIONS.len()) {
            None => functions::function(functions::FUNCTIONS[place], types),
            Some(place) if place < functions::SET_FUNCTIONS.len() => {
                functions::set_function(functions::SET_FUNCTIONS[place], types)
            }
            Some(_) => {
                let [from, to] = types[..] else { return None };
                let Some(Cast::By(function)) = functions::cast(from, to) else { return None };
                return Some((function, vec![from]));
            }
        },
    };
    Some((found?.function, types))
}

/// The first record names a function and types, the others are values.
fn function(input: &[u8]) -> Seen {
    let records = records(input);
    let Some((function, types)) = resolved(records[0]) else { return 1 };
    let mut values = Vec::new();
    for (number, kind) in types.iter().enumerate() {
        let text = records.get(number + 1).copied().unwrap_or_default();
        let value = read(*kind, text).ok();
        let value =
            value.or_else(|| std::str::from_utf8(text).ok().and_then(|text| functions::literal(*kind, text).ok()));
        match value {
            Some(value) => values.push(value),
            None if function.is_strict => return seen((function.name, number)),
            None => values.push(Value::Null),
        }
    }
    let outcome = (function.eval)(&values, &Context { now: 0 });
    assert!(function.may_fail || outcome.is_ok(), "{} says it never fails, and does: {outcome:?}", function.name);
    let sign = |value: &Value| match value {
        Value::Bool(value) => seen(value),
        Value::Array(items) => seen(items.len().min(3)),
        value => seen(std::mem::discriminant(value)),
    };
    seen((function.name, types, outcome.as_ref().map(sign).map_err(|stop| format!("{stop:?}"))))
}

/// A policy that is shared between threads.
#[test]
fn the_world_has_a_policy_that_shows_a_row() {
    let mut facts = FACTS.clone();
    let table: Arc<_> = world::with_policy(&mut facts, "owner_id = auth.uid() and level = 42", None);
    let Ruling::Clauses(clauses) = ruling(&facts, &table, &ROLE.into()) else { panic!("it is understood") };
    let program = Program::new(&facts, &table, clauses);
    let arguments = program.bind(&CLAIMS[0]).expect("claims that can be bound");
    let column = |index: usize| &ROWS[0][index];
    assert_eq!(program.judge(&arguments, &program.row(&column), &Lookups::default(), 0), Verdict::Yes);
}
