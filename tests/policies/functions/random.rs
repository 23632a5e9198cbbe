//! Where few values prove little: random ones, from a seed that a failure names.

use super::{
    Case, call, check,
    oracle::{Oracle, quoted},
};
use crate::support::postgres::{Postgres, majors};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use std::{env, sync::Arc};
use walcast::policy::{
    functions::{self, Resolved},
    value::{Decimal, Jsonb, Scalar, Type, Value},
};

const JSONB: Type = Type::of(Scalar::Jsonb);
const JSON: Type = Type::of(Scalar::Json);
const NUMERIC: Type = Type::of(Scalar::Numeric);
const INT4: Type = Type::of(Scalar::Int4);
const TEXTS: Type = Type::array(Scalar::Text);

/// How many random calls of each kind: `WALCAST_TEST_CALLS`.
fn calls() -> usize {
    env::var("WALCAST_TEST_CALLS").map_or(1_000, |calls| calls.parse().expect("a number"))
}

/// A source of values with their expressions.
struct Source(StdRng);

impl Source {
    fn new() -> Source {
        let seed =
            env::var("WALCAST_TEST_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().expect("a number"));
        eprintln!("WALCAST_TEST_SEED={seed}");
        Source(StdRng::seed_from_u64(seed))
    }

    fn word(&mut self, alphabet: &[&str], longest: usize) -> String {
        let length = self.0.random_range(0..=longest);
        (0..length).map(|_| *alphabet.choose(&mut self.0).unwrap()).collect()
    }

    fn text(&mut self, alphabet: &[&str], longest: usize) -> (Value, String) {
        let text = self.word(alphabet, longest);
        (Value::text(&text), format!("{}::text", quoted(&text)))
    }

    fn integer(&mut self, most: i64) -> (Value, String) {
        let number = self.0.random_range(-most..=most);
        (Value::Int(number), format!("({number})::int4"))
    }

    fn numeric(&mut self) -> (Value, String) {
        let digits = |source: &mut Source, most| source.word(&["0", "0", "1", "4", "5", "9", "9"], most);
        let longest = if self.0.random_bool(0.1) { 60 } else { 6 };
        let whole = digits(self, longest);
        let fraction = digits(self, 8);
        let sign = if self.0.random_bool(0.5) { "-" } else { "" };
        let text = if fraction.is_empty() { format!("{sign}0{whole}") } else { format!("{sign}0{whole}.{fraction}") };
        (Value::Numeric(Decimal::parse(&text).unwrap()), format!("({})::numeric", quoted(&text)))
    }

    /// A JSON text.
    fn json_text(&mut self, depth: usize) -> String {
        let space = |source: &mut Source| source.word(&["", "", "", " ", "\n"], 1);
        let kinds = if depth == 0 { 5 } else { 9 };
        match self.0.random_range(0..kinds) {
            0 => "null".to_owned(),
            1 => "true".to_owned(),
            2 => (*["0", "1", "1.0", "-1e1", "10", "2.50", "1E-2"].choose(&mut self.0).unwrap()).to_owned(),
            3 | 4 => format!("\"{}\"", self.word(&["a", "b", "\\u0061", "\\n", "\\\"", "é", "\\ud83d\\ude00"], 2)),
            5 | 6 => {
                let count = self.0.random_range(0..4);
                let elements: Vec<_> = (0..count)
                    .map(|_| format!("{}{}{}", space(self), self.json_text(depth - 1), space(self)))
                    .collect();
                format!("[{}]", elements.join(","))
            }
            _ => {
                let count = self.0.random_range(0..4);
                let field = |source: &mut Source| {
                    let key = source.word(&["a", "b", "\\u0061"], 2);
                    format!("{}\"{key}\"{}: {}", space(source), space(source), source.json_text(depth - 1))
                };
                let fields: Vec<_> = (0..count).map(|_| field(self)).collect();
                format!("{{{}}}", fields.join(","))
            }
        }
    }

    fn jsonb(&mut self) -> (Value, String) {
        let text = self.json_text(3);
        (Value::Jsonb(Arc::new(Jsonb::parse(&text).unwrap())), format!("({})::jsonb", quoted(&text)))
    }

    fn json(&mut self) -> (Value, String) {
        let text = self.json_text(3);
        (Value::text(&text), format!("({})::json", quoted(&text)))
    }

    fn texts(&mut self, alphabet: &[&str]) -> (Value, String) {
        let count = if self.0.random_bool(0.2) { self.0.random_range(17..40) } else { self.0.random_range(0..4) };
        let elements: Vec<_> = (0..count)
            .map(|_| if self.0.random_bool(0.1) { (Value::Null, "null".to_owned()) } else { self.text(alphabet, 2) })
            .collect();
        let (values, expressions): (Vec<_>, Vec<_>) = elements.into_iter().unzip();
        (Value::Array(values.into()), format!("array[{}]::text[]", expressions.join(",")))
    }
}

fn operator(name: &str, left: (Value, String), right: (Value, String), types: (Type, Type)) -> Case {
    let resolved = functions::operator(name, Some(types.0), types.1).unwrap_or_else(|| panic!("{name} of {types:?}"));
    let ours = call(resolved.function, &[left.0, right.0]);
    Case { sql: format!("{} {name} {}", left.1, right.1), resolved, ours }
}

fn function(name: &str, arguments: Vec<(Value, String)>, types: &[Type]) -> Case {
    let resolved: Resolved = functions::function(name, types).unwrap_or_else(|| panic!("{name} of {types:?}"));
    let (values, expressions): (Vec<_>, Vec<_>) = arguments.into_iter().unzip();
    let ours = call(resolved.function, &values);
    Case { sql: format!("pg_catalog.{name}({})", expressions.join(", ")), resolved, ours }
}

/// Random calls, in every version.
async fn agree(mut cases: impl FnMut(&mut Source) -> Vec<Case>) {
    let mut source = Source::new();
    let cases: Vec<_> = (0..calls()).flat_map(|_| cases(&mut source)).collect();
    for major in majors() {
        let database = Postgres::shared(major).database().await;
        check(&Oracle::new(&database).await, &cases).await;
    }
}

#[tokio::test]
async fn random_patterns_match_as_in_postgres() {
    const TEXT: &[&str] = &["a", "a", "b", "é", "\\", "%", "_", "😀"];
    const PATTERN: &[&str] = &["a", "a", "b", "é", "\\", "%", "%", "_", "_", "\\%", "\\_", "\\\\"];
    let types = (Type::TEXT, Type::TEXT);
    agree(|source| {
        vec![
            operator("~~", source.text(TEXT, 8), source.text(PATTERN, 6), types),
            operator("!~~", source.text(&["a", "b"], 9), source.text(&["a", "b", "%", "_"], 7), types),
        ]
    })
    .await;
}

#[tokio::test]
async fn random_numbers_add_multiply_and_compare_as_in_postgres() {
    let types = (NUMERIC, NUMERIC);
    agree(|source| {
        let names = ["+", "-", "*", "=", "<", ">="];
        names.map(|name| operator(name, source.numeric(), source.numeric(), types)).into_iter().collect()
    })
    .await;
}

#[tokio::test]
async fn random_json_is_kept_compared_and_looked_into_as_in_postgres() {
    const KEYS: &[&str] = &["a", "b", "0", "1", "-1"];
    agree(|source| {
        let mut cases = Vec::new();
        for name in ["=", "<>", "@>", "<@"] {
            cases.push(operator(name, source.jsonb(), source.jsonb(), (JSONB, JSONB)));
        }
        cases.push(operator("?", source.jsonb(), source.text(KEYS, 2), (JSONB, Type::TEXT)));
        for name in ["?|", "?&"] {
            cases.push(operator(name, source.jsonb(), source.texts(KEYS), (JSONB, TEXTS)));
        }
        for name in ["->", "->>"] {
            cases.push(operator(name, source.jsonb(), source.text(KEYS, 1), (JSONB, Type::TEXT)));
            cases.push(operator(name, source.jsonb(), source.integer(3), (JSONB, INT4)));
            cases.push(operator(name, source.json(), source.text(KEYS, 1), (JSON, Type::TEXT)));
            cases.push(operator(name, source.json(), source.integer(3), (JSON, INT4)));
        }
        for name in ["#>", "#>>"] {
            cases.push(operator(name, source.jsonb(), source.texts(KEYS), (JSONB, TEXTS)));
            cases.push(operator(name, source.json(), source.texts(KEYS), (JSON, TEXTS)));
        }
        cases.push(function("jsonb_build_array", vec![source.jsonb(), source.numeric()], &[JSONB, NUMERIC]));
        cases
    })
    .await;
}

#[tokio::test]
async fn random_texts_are_cut_and_found_as_in_postgres() {
    const LETTERS: &[&str] = &["a", "a", "b", "/", "é"];
    let (text, int) = (Type::TEXT, INT4);
    agree(|source| {
        let mut long = || source.text(LETTERS, 9);
        let texts = [long(), long(), long(), long(), long(), long(), long(), long()];
        let [a, b, c, d, e, f, g, h] = texts;
        let mut short = || source.text(LETTERS, 2);
        let (t, u, v, w, x, y) = (short(), short(), short(), short(), short(), short());
        vec![
            function("split_part", vec![a, t, source.integer(4)], &[text, text, int]),
            function("replace", vec![b, u, source.text(LETTERS, 2)], &[text, text, text]),
            function("strpos", vec![c, v], &[text, text]),
            function("btrim", vec![d, w], &[text, text]),
            function("rtrim", vec![e, x], &[text, text]),
            function("substring", vec![f, source.integer(5), source.integer(5)], &[text, int, int]),
            function("left", vec![g, source.integer(9)], &[text, int]),
            function("right", vec![h, source.integer(9)], &[text, int]),
            function("string_to_array", vec![source.text(LETTERS, 9), y], &[text, text]),
        ]
    })
    .await;
}

#[tokio::test]
async fn random_arrays_compare_as_in_postgres() {
    agree(|source| {
        ["=", "<>", "@>", "<@", "&&"]
            .map(|name| operator(name, source.texts(&["a", "b", "c"]), source.texts(&["a", "b", "c"]), (TEXTS, TEXTS)))
            .into_iter()
            .collect()
    })
    .await;
}
