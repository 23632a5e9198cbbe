//! Reading values: what the stream prints, and what the input functions take.

use super::{
    is_same,
    oracle::{Oracle, quoted},
    samples,
};
use crate::support::postgres::{Postgres, majors};
use std::fmt::Write;
use walcast::policy::{
    functions::literal,
    value::{Scalar, Stop, Type, Value, read},
};

/// Texts that are tried as literals of every type.
const ODD: &[&str] = &[
    "",
    " ",
    "x",
    "0",
    "1",
    " 1 ",
    "\t1\n",
    "+1",
    "-1",
    "- 1",
    "--1",
    "1.",
    ".5",
    ".",
    "1.5",
    "1e3",
    "1E-3",
    "1e",
    "1e+",
    "1e 5",
    "0x1F",
    "1_000",
    "0b1",
    "32768",
    "-32769",
    "2147483648",
    "-2147483649",
    "9223372036854775808",
    "99999999999999999999x",
    "123456789x",
    "1 2",
    "00000000000000000000000000001",
    "1e400",
    "-1e400",
    "1e-400",
    "1e39",
    "1e-50",
    "1e1001",
    "nan",
    "NaN",
    "inf",
    "+inf",
    "-Infinity",
    "Infinity",
    "infinity",
    "-infinity",
    "INFINITYx",
    "t",
    "tr",
    "TRUE",
    " yes ",
    "o",
    "on",
    "of",
    "off",
    "nope",
    "n",
    "2",
    "truex",
    "null",
    "NULL",
    "[1",
    "[1,]",
    "{\"a\":}",
    "{\"a\" 1}",
    "{\"a\":1,}",
    "{a:1}",
    "'a'",
    "[1 2]",
    "\"a",
    "\"\\x\"",
    "\"\\u00\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"\\ud800\\u0041\"",
    "\"\\udc00\"",
    "\"\\ud83d\\ude00\"",
    "\"\t\"",
    "01",
    "-",
    "-0",
    "1.e1",
    "truefalse",
    "true\"a\"",
    "1 \"\\u0000\"",
    "[\"\\u0000\" x]",
    "{\"a\" \"\\u0000\"}",
    "{}",
    "{ }",
    " {} ",
    "{a,b}",
    "{ a , \"b\" ,NULL, \"null\" , nul\\l}",
    "{a,}",
    "{,a}",
    "{a}x",
    "{{a},{b}}",
    "[2:3]={a,b}",
    "{\"a\"b}",
    "{a\"b\"}",
    "{a b}",
    "{a",
    "a}",
    "{\"a\\\"b\\\\\"}",
    "{\"\"}",
    "{1,2}",
    "{1,x}",
    "33333333-3333-4333-8333-333333333333",
    "33333333333343338333333333333333",
    "{33333333-3333-4333-8333-333333333333}",
    "3333-3333-3333-4333-8333-3333-3333-3333",
    "33333333-3333-4333-8333-33333333333",
    "33333333-3333-4333-8333-333333333333-",
    " 33333333-3333-4333-8333-333333333333",
    "33333333-3333-4333-8333-33333333333g",
    "{33333333-3333-4333-8333-333333333333",
    "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
    "\\x",
    "\\xab",
    "\\xABc",
    "\\xzz",
    "\\x a b",
    "a\\b",
    "2024-02-29",
    "2023-02-29",
    "2024-13-01",
    "2024-00-10",
    "2024-01-32",
    "0000-01-01",
    "0001-01-01",
    "9999-12-31",
    "99999-12-31",
    "24-01-01",
    "01/02/2024",
    "2024-1-2",
    "20240101",
    "now",
    "today",
    "epoch",
    "2024-01-01T10:00:00Z",
    "2024-01-01 10:00",
    "2024-01-01 10",
    "2024-01-01T10:00:00.123456+02",
    "2024-01-01 10:00:00.1234567Z",
    "2024-01-01 24:00:00",
    "2024-01-01 25:00:00",
    "2024-01-01 10:60:00",
    "2024-01-01 10:00:60",
    "2024-01-01 10:00:61",
    "2024-01-01 10:00:00+0530",
    "2024-01-01 10:00:00-05:30",
    "2024-01-01 10:00:00+16",
    "2024-01-01 10:00:00 UTC",
    "1 day",
    "7 days",
    "1 day 1 day",
    "2 weeks",
    "1 hour 30 minutes",
    "90 mins",
    "-1 day",
    "-1 day 2 hours",
    "+3 mons",
    "1.5 hours",
    "01:30",
    "1:2:3",
    "100:00:00",
    "-00:00:01",
    "1 day 01:00:00 1 hour",
    "1 fortnight",
    "P1D",
    "1 day ago",
    "3 years 2 mons",
    "999999999999 days",
    "2147483648 days",
    "1",
    "1 mon 00:99",
    "é",
    "sad",
];

/// A name is cut between characters.
const LONG: &str = "ééééééééééééééééééééééééééééééxéxx";

/// For each type: an expression of its values' bytes for row number n, and what we have in the same form.
const RANDOM: &[(Scalar, &str)] = &[
    (Scalar::Bool, "random() < 0.5"),
    (Scalar::Int2, "(random() * 65535 - 32768)::int2"),
    (Scalar::Int4, "(random() * 4294967295 - 2147483648)::int4"),
    (Scalar::Int8, "((random() - 0.5) * 18446744073709551000)::numeric::int8"),
    (Scalar::Float4, "((random() - 0.5) * 10 ^ (random() * 70 - 35))::float4"),
    (Scalar::Float8, "(random() - 0.5) * 10 ^ (random() * 600 - 300)"),
    (Scalar::Uuid, "gen_random_uuid()"),
    (Scalar::Bytea, "substr(uuid_send(gen_random_uuid()), 1, (random() * 16)::int)"),
    (Scalar::Date, "date '4714-11-24 BC' + (random() ^ 4 * 2147483490)::int"),
    (Scalar::Timestamp, "timestamp '4714-11-24 BC' + (random() ^ 3 * 109203526) * interval '1 day'"),
    (Scalar::Timestamptz, "timestamptz '4714-11-24 BC' + (random() ^ 3 * 109203526) * interval '1 day'"),
    (
        Scalar::Interval,
        "make_interval(months => ((random() - 0.5) * 10 ^ (random() * 9))::int, days => ((random() - 0.5) * 10 ^ (random() * 9))::int) \
         + (random() - 0.5) * interval '100 hours'",
    ),
    (Scalar::Numeric, "round(((random() - 0.5) * 10 ^ (random() * 40 - 20))::numeric, (random() * 30)::int)"),
];

/// A value as its type sends it, in hex.
fn sent(scalar: Scalar, value: &Value) -> String {
    let hex = |bytes: &[u8]| bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    match (scalar, value) {
        (Scalar::Bool, Value::Bool(value)) => hex(&[u8::from(*value)]),
        (Scalar::Int2, Value::Int(number)) => hex(&i16::try_from(*number).unwrap().to_be_bytes()),
        (Scalar::Int4, Value::Int(number)) => hex(&i32::try_from(*number).unwrap().to_be_bytes()),
        (Scalar::Int8, Value::Int(number)) => hex(&number.to_be_bytes()),
        #[expect(clippy::cast_possible_truncation, reason = "it was one of 32 bits")]
        (Scalar::Float4, Value::Float(bits)) => hex(&(f64::from_bits(*bits) as f32).to_be_bytes()),
        (Scalar::Float8, Value::Float(bits)) => hex(&bits.to_be_bytes()),
        (Scalar::Uuid, Value::Uuid(bytes)) => hex(bytes),
        (Scalar::Bytea, Value::Bytes(bytes)) => hex(bytes),
        (Scalar::Date, Value::Date(days)) => hex(&days.to_be_bytes()),
        (Scalar::Timestamp | Scalar::Timestamptz, Value::Moment(moment)) => hex(&moment.to_be_bytes()),
        (Scalar::Interval, Value::Interval(interval)) => {
            let mut sent = hex(&interval.microseconds.to_be_bytes());
            write!(sent, "{}{}", hex(&interval.days.to_be_bytes()), hex(&interval.months.to_be_bytes())).unwrap();
            sent
        }
        (Scalar::Numeric, Value::Numeric(number)) => hex(number.to_string().as_bytes()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_the_stream_prints_is_read_as_the_value_it_is() {
    for major in majors() {
        let database = Postgres::shared(major).database().await;
        let oracle = Oracle::new(&database).await;
        for (scalar, random) in RANDOM {
            let name = oracle.sql_type(Type::of(*scalar));
            let send = match scalar {
                Scalar::Numeric => "convert_to(x::text, 'UTF8')".to_owned(),
                _ => format!(
                    "{}send(x)",
                    if name.contains('_') || name == "date" {
                        format!("{name}_")
                    } else {
                        match scalar {
                            Scalar::Timestamp | Scalar::Timestamptz | Scalar::Uuid | Scalar::Interval => {
                                format!("{name}_")
                            }
                            _ => name.clone(),
                        }
                    }
                ),
            };
            let pairs = format!(
                "(select array_agg(format('%s', x) || ' ' || encode({send}, 'hex')) from (select {random} as x from generate_series(1, 2000)) as q)"
            );
            let answer = oracle.ask(&[pairs]).await.remove(0);
            let Ok(Value::Array(pairs)) = read(Type::array(Scalar::Text), answer.value.unwrap().unwrap().as_bytes())
            else {
                panic!("no array of texts")
            };
            assert_eq!(pairs.len(), 2000);
            for pair in pairs.iter() {
                let Value::Text(pair) = pair else { panic!("{pair:?}") };
                let (printed, expected) = pair.rsplit_once(' ').unwrap();
                let value = read(Type::of(*scalar), printed.as_bytes());
                let value = value.unwrap_or_else(|stop| panic!("{printed} of {scalar:?}: {stop:?}"));
                assert_eq!(sent(*scalar, &value), expected, "{printed} of {scalar:?}");
            }
        }
    }
}

#[tokio::test]
async fn literals_are_read_as_input_functions_do_or_not_at_all() {
    for major in majors() {
        let database = Postgres::shared(major).database().await;
        let oracle = Oracle::new(&database).await;
        let mut cases = Vec::new();
        for of in oracle.types() {
            let own = samples::of("literal", 0, of);
            cases.extend(own.iter().map(|text| (of, text.clone(), true)));
            // Whether an enum has a label is not known.
            if !matches!(of.scalar, Scalar::Enum(_)) {
                cases.extend(ODD.iter().chain(&[LONG]).map(|text| (of, (*text).to_owned(), false)));
            }
        }
        let expressions: Vec<_> =
            cases.iter().map(|(of, text, _)| format!("{}::{}", quoted(text), oracle.sql_type(*of))).collect();
        let plain = oracle.ask(&expressions).await;
        let odd = oracle.ask_oddly(&expressions).await;
        let (mut faults, mut unsupported) = (Vec::new(), Vec::new());
        for (((of, text, is_own), plain), odd) in cases.iter().zip(&plain).zip(&odd) {
            let agrees = match (literal(*of, text), &plain.value) {
                (Err(Stop::Unsupported), _) => {
                    unsupported.push(format!("{text:?} of {}", oracle.sql_type(*of)));
                    // Years before 1 or of more than four digits are fine in the stream only.
                    let is_time =
                        matches!(of.scalar, Scalar::Date | Scalar::Timestamp | Scalar::Timestamptz | Scalar::Interval);
                    !is_own || is_time
                }
                (Err(Stop::Failed(ours)), Err(theirs)) => ours == theirs && odd.value.as_ref() == Err(theirs),
                (Ok(ours), Ok(printed)) => is_same(&ours, *of, printed.as_deref()) && plain.bytes == odd.bytes,
                _ => false,
            };
            if !agrees {
                faults.push(format!(
                    "{text:?} of {of:?}: {:?}, but Postgres says {plain:?} or {odd:?}",
                    literal(*of, text)
                ));
            }
        }
        assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
        assert!(unsupported.len() * 4 < cases.len(), "{} of {}: {unsupported:#?}", unsupported.len(), cases.len());
    }
}

#[test]
fn what_is_not_computed_with_is_not_read() {
    for (of, text) in [
        (Type::array(Scalar::Int4), "{{1},{2}}"),
        (Type::array(Scalar::Int4), "[0:1]={1,2}"),
        (Type::of(Scalar::Interval), "infinity"),
        (Type::of(Scalar::Timestamptz), "2024-01-01 00:00:00"),
        (Type::of(Scalar::Timestamp), "01/02/2024 00:00:00"),
        (Type::of(Scalar::Int4), ""),
        (Type::of(Scalar::Bytea), "abc"),
        (Type::BOOL, "true"),
    ] {
        assert_eq!(read(of, text.as_bytes()), Err(Stop::Unsupported), "{text} of {of:?}");
    }
    assert_eq!(read(Type::TEXT, b"\xff"), Err(Stop::Unsupported), "a text of unknown encoding");
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    assert_eq!(read(Type::of(Scalar::Jsonb), deep.as_bytes()), Err(Stop::Unsupported), "deeply nested");
    let digits = "1".repeat(1001);
    assert_eq!(read(Type::of(Scalar::Numeric), digits.as_bytes()), Err(Stop::Unsupported), "too many digits");
}
