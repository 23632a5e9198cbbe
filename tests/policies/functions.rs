//! Every operator, function, cast and literal of the table, with many values each, and Postgres as the oracle.

mod oracle;
mod random;
mod samples;
mod values;

use crate::support::postgres::{Postgres, majors};
use oracle::{Answer, Oracle, quoted};
use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
};
use walcast::policy::{
    functions::{self, Cast, CollationUse, Context, FUNCTIONS, Function, OPERATORS, Resolved, SET_FUNCTIONS},
    value::{Scalar, Stop, Type, Value, read},
};

/// A call, and what we say it is.
struct Case {
    sql: String,
    resolved: Resolved,
    ours: Result<Value, Stop>,
}

/// The values that functions are tried with, by their expressions in SQL.
struct Bench<'a> {
    oracle: &'a Oracle,
    /// By text and type.
    known: BTreeMap<(String, String), Value>,
}

impl<'a> Bench<'a> {
    fn new(oracle: &'a Oracle) -> Bench<'a> {
        Bench { oracle, known: BTreeMap::new() }
    }

    /// The values of texts, read from what Postgres prints for them.
    async fn learn(&mut self, texts: &[(String, Type)]) {
        let new: Vec<_> = texts
            .iter()
            .filter(|(text, of)| !self.known.contains_key(&(self.oracle.sql_type(*of), text.clone())))
            .collect();
        let expressions: Vec<_> = new.iter().map(|(text, of)| self.literal(text, *of)).collect();
        for ((text, of), answer) in new.iter().zip(self.oracle.ask(&expressions).await) {
            let printed = answer.value.unwrap_or_else(|error| panic!("{text} of {of:?}: {error}")).unwrap();
            let value = read(*of, printed.as_bytes()).unwrap_or_else(|stop| panic!("{printed} of {of:?}: {stop:?}"));
            self.known.insert((self.oracle.sql_type(*of), text.clone()), value);
        }
    }

    fn literal(&self, text: &str, of: Type) -> String {
        format!("{}::{}", quoted(text), self.oracle.sql_type(of))
    }

    /// Every call of a function with the samples for its arguments. `sql` makes one of its arguments' expressions.
    async fn cases(
        &mut self,
        name: &str,
        arguments: &[Type],
        resolved: Resolved,
        sql: impl Fn(&[String]) -> String,
    ) -> Vec<Case> {
        let collation = match resolved.function.collation {
            CollationUse::Order => " collate \"C\"".to_owned(),
            CollationUse::Equality | CollationUse::None => format!(" collate {}", self.oracle.other_collation),
        };
        let mut lists: Vec<(Vec<Value>, Vec<String>)> = vec![(Vec::new(), Vec::new())];
        for (index, of) in arguments.iter().enumerate() {
            let texts: Vec<_> = samples::of(name, index, *of).into_iter().map(|text| (text, *of)).collect();
            self.learn(&texts).await;
            let is_collated = matches!(of.scalar, Scalar::Text | Scalar::Name);
            let collate = if is_collated { collation.as_str() } else { "" };
            let null = (Value::Null, format!("(null::{}{collate})", self.oracle.sql_type(*of)));
            let mut choices = vec![null];
            choices.extend(texts.into_iter().map(|(text, of)| {
                let literal = format!("{}{collate}", self.literal(&text, of));
                (self.known[&(self.oracle.sql_type(of), text)].clone(), format!("({literal})"))
            }));
            lists = lists
                .iter()
                .flat_map(|(values, expressions)| {
                    choices.iter().map(move |(value, expression)| {
                        let (mut values, mut expressions) = (values.clone(), expressions.clone());
                        values.push(value.clone());
                        expressions.push(expression.clone());
                        (values, expressions)
                    })
                })
                .collect();
        }
        lists
            .into_iter()
            .map(|(values, expressions)| {
                let ours = call(resolved.function, &values);
                Case { sql: sql(&expressions), resolved, ours }
            })
            .collect()
    }
}

fn call(function: &Function, arguments: &[Value]) -> Result<Value, Stop> {
    if function.is_strict && arguments.contains(&Value::Null) {
        return Ok(Value::Null);
    }
    let ours = (function.eval)(arguments, &Context { now: 0 });
    assert!(ours.is_ok() || function.may_fail, "{} must not fail: {arguments:?}: {ours:?}", function.name);
    if let [left, right] = arguments {
        let is_equal = left == right;
        assert!(!is_equal || hash(left) == hash(right), "{left:?} and {right:?} are equal and have two hashes");
        let is_key = function.is_hash_equality;
        assert!(!is_key || ours == Ok(Value::Bool(is_equal)), "{} is not equality: {arguments:?}", function.name);
    }
    ours
}

fn hash(value: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Puts the cases to Postgres. What is unsupported is no fault, but not for most arguments.
async fn check(oracle: &Oracle, cases: &[Case]) {
    let expressions: Vec<_> = cases.iter().map(|case| case.sql.clone()).collect();
    let answers = oracle.ask(&expressions).await;
    let mut faults = Vec::new();
    let mut unsupported: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (case, answer) in cases.iter().zip(&answers) {
        let counts = unsupported.entry(case.resolved.function.name).or_default();
        counts.1 += 1;
        if case.ours == Err(Stop::Unsupported) {
            counts.0 += 1;
        } else if let Some(fault) = fault(oracle, case, answer) {
            faults.push(fault);
        }
    }
    let count = faults.len();
    faults.truncate(40);
    assert!(faults.is_empty(), "{count} of {} differ:\n{}", cases.len(), faults.join("\n"));
    for (name, (without, all)) in unsupported {
        assert!(without * 10 <= all * 7, "{name} has no answer for {without} of {all} cases");
    }
    check_independence(oracle, cases, &answers).await;
}

/// What does not say that it needs UTC must not depend on any setting.
async fn check_independence(oracle: &Oracle, cases: &[Case], answers: &[Answer]) {
    let is_free = |case: &Case| case.ours.is_ok() && !case.resolved.function.needs_utc;
    let free: Vec<_> = cases.iter().zip(answers).filter(|(case, _)| is_free(case)).collect();
    let expressions: Vec<_> = free.iter().map(|(case, _)| case.sql.clone()).collect();
    let faults: Vec<_> = oracle
        .ask_oddly(&expressions)
        .await
        .into_iter()
        .zip(&free)
        .filter(|(odd, (_, plain))| odd.bytes != plain.bytes)
        .map(|(_, (case, _))| case.sql.as_str())
        .take(20)
        .collect();
    assert!(faults.is_empty(), "these depend on settings:\n{}", faults.join("\n"));
}

fn fault(oracle: &Oracle, case: &Case, answer: &Answer) -> Option<String> {
    let agrees = match (&case.ours, &answer.value) {
        (Err(Stop::Failed(ours)), Err(theirs)) => ours == theirs,
        (Ok(ours), Ok(text)) => {
            oracle.oid(case.resolved.result) == answer.type_oid && is_same(ours, case.resolved.result, text.as_deref())
        }
        _ => false,
    };
    (!agrees).then(|| format!("{}: {:?}, but Postgres says {:?}", case.sql, case.ours, answer))
}

/// Whether a value is the one that Postgres printed.
fn is_same(ours: &Value, of: Type, printed: Option<&str>) -> bool {
    match (ours, printed) {
        (Value::Null, printed) => printed.is_none(),
        (_, None) => false,
        // Equal numbers can print differently.
        (Value::Numeric(number), Some(printed)) => number.to_string() == printed,
        (Value::Jsonb(jsonb), Some(printed)) => jsonb.to_string() == printed,
        (ours, Some(printed)) => read(of, printed.as_bytes()).as_ref() == Ok(ours),
    }
}

#[tokio::test]
async fn every_operator_computes_as_postgres_does() {
    for major in majors() {
        let database = Postgres::shared(major).database().await;
        let oracle = Oracle::new(&database).await;
        let mut bench = Bench::new(&oracle);
        let types = oracle.types();
        let (mut cases, mut names) = (Vec::new(), BTreeMap::new());
        for name in OPERATORS {
            for right in &types {
                if let Some(resolved) = functions::operator(name, None, *right) {
                    let sql = |arguments: &[String]| format!("{name} {}", arguments[0]);
                    cases.extend(bench.cases(name, &[*right], resolved, sql).await);
                }
                for left in &types {
                    let Some(resolved) = functions::operator(name, Some(*left), *right) else { continue };
                    let sql = |arguments: &[String]| format!("{} {name} {}", arguments[0], arguments[1]);
                    cases.extend(bench.cases(name, &[*left, *right], resolved, sql).await);
                    *names.entry(*name).or_insert(0) += 1;
                }
            }
        }
        assert_eq!(names.len(), OPERATORS.len(), "only these were found: {names:?}");
        check(&oracle, &cases).await;
    }
}

/// Lists of up to three types.
fn argument_lists(types: &[Type]) -> Vec<Vec<Type>> {
    let mut lists = vec![Vec::new()];
    let longer = |lists: &[Vec<Type>]| -> Vec<Vec<Type>> {
        lists.iter().flat_map(|list| types.iter().map(|of| [list.as_slice(), &[*of]].concat())).collect()
    };
    let one = longer(&lists);
    let two = longer(&one);
    // Of three, only what begins with a text or with JSON.
    let few: Vec<_> = two
        .iter()
        .filter(|list| matches!(list[0].scalar, Scalar::Text | Scalar::Json | Scalar::Jsonb))
        .cloned()
        .collect();
    let three = longer(&few);
    lists.extend([one, two, three].concat());
    lists
}

#[tokio::test]
async fn every_function_computes_as_postgres_does() {
    for major in majors() {
        let database = Postgres::shared(major).database().await;
        let oracle = Oracle::new(&database).await;
        let mut bench = Bench::new(&oracle);
        let lists = argument_lists(&oracle.types());
        let (mut cases, mut names) = (Vec::new(), BTreeMap::new());
        for name in FUNCTIONS {
            let is_builder = name.starts_with("jsonb_build");
            for arguments in lists.iter().filter(|list| list.len() < 3 || !is_builder) {
                let Some(resolved) = functions::function(name, arguments) else { continue };
                let sql = |arguments: &[String]| format!("pg_catalog.\"{name}\"({})", arguments.join(", "));
                let mut some = bench.cases(name, arguments, resolved, sql).await;
                if is_builder && arguments.len() == 2 {
                    // Every pair of types, some pairs of values each.
                    some = some.into_iter().step_by(7).collect();
                }
                cases.extend(some);
                *names.entry(*name).or_insert(0) += 1;
            }
        }
        assert_eq!(names.len(), FUNCTIONS.len(), "only these were found: {names:?}");
        check(&oracle, &cases).await;
    }
}

#[tokio::test]
async fn every_set_returning_function_makes_the_rows_that_postgres_does() {
    for major in majors() {
        let database = Postgres::shared(major).database().await;
        let oracle = Oracle::new(&database).await;
        let mut bench = Bench::new(&oracle);
        let mut cases = Vec::new();
        for name in SET_FUNCTIONS {
            let before = cases.len();
            for of in oracle.types() {
                let Some(resolved) = functions::set_function(name, &[of]) else { continue };
                let sql = |arguments: &[String]| format!("array(select pg_catalog.{name}({}))", arguments[0]);
                cases.extend(bench.cases(name, &[of], resolved, sql).await);
            }
            assert!(cases.len() > before, "{name} was not found");
        }
        check(&oracle, &cases).await;
    }
}

#[tokio::test]
async fn every_cast_is_the_one_of_postgres() {
    for major in majors() {
        let database = Postgres::shared(major).database().await;
        let oracle = Oracle::new(&database).await;
        let mut bench = Bench::new(&oracle);
        let (mut cases, mut implicit) = (Vec::new(), Vec::new());
        for from in oracle.types() {
            for to in oracle.types() {
                if let Some(Cast::By(function)) = functions::cast(from, to) {
                    let sql = |arguments: &[String]| format!("{}::{}", arguments[0], oracle.sql_type(to));
                    let resolved = Resolved { function, result: to };
                    // Texts are read by the next test too.
                    cases.extend(bench.cases(function.name, &[from], resolved, sql).await);
                }
                if let Some(Cast::By(_)) = functions::implicit_cast(from, to) {
                    let [from, to] = [from, to].map(|of| oracle.sql_type(of));
                    implicit.push(format!(
                        "(select castcontext = 'i' from pg_cast where castsource = '{from}'::regtype and casttarget = '{to}'::regtype)"
                    ));
                }
            }
        }
        assert!(implicit.len() > 10);
        for (sql, answer) in implicit.iter().zip(oracle.ask(&implicit).await) {
            assert_eq!(answer.value, Ok(Some("t".to_owned())), "{sql}");
        }
        check(&oracle, &cases).await;
    }
}
