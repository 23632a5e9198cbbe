//! Changing inputs: as bytes, as text with brackets, as JSON, and as a list of records (`SEPARATOR`).

use rand::{Rng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Map, Value, json};

/// What stands between the records of an input that is a list.
pub const SEPARATOR: &[u8] = b"\n~~\n";

/// The records of an input.
pub fn records(input: &[u8]) -> Vec<&[u8]> {
    let mut records = Vec::new();
    let mut rest = input;
    while let Some(at) = memchr::memmem::find(rest, SEPARATOR) {
        records.push(&rest[..at]);
        rest = &rest[at + SEPARATOR.len()..];
    }
    records.push(rest);
    records
}

/// An input of these records.
pub fn joined<R: AsRef<[u8]>>(records: impl IntoIterator<Item = R>) -> Vec<u8> {
    let records: Vec<R> = records.into_iter().collect();
    records.iter().map(AsRef::as_ref).collect::<Vec<&[u8]>>().join(SEPARATOR)
}

/// An input gets no longer by itself.
const MAX_BYTES: usize = 64 * 1024;
/// One that is made large on purpose.
const LARGE_BYTES: usize = 512 * 1024;

/// Pieces that mean something to some reader.
const PIECES: &[&[u8]] = &[
    b"\0",
    b"\"",
    b"\\",
    b"'",
    b"{",
    b"}",
    b"[",
    b"]",
    b"(",
    b")",
    b",",
    b":",
    b"=",
    b".",
    b"%",
    b"&",
    b" ",
    b"\n",
    b"\t",
    b"-",
    b"\xff",
    b"\xc3\xa9",
    b"\xf0\x9f\x98\x80",
    b"\xed\xa0\x80",
    b"\xe2\x80\xa8",
    b"\xef\xbb\xbf",
    b"\\u0000",
    b"\\ud800",
    b"null",
    b"true",
    b"false",
    b"\"\"",
    b"{}",
    b"[]",
    b"1e999",
    b"-0",
    b"1e-400",
    b"0.1",
    b"NaN",
    b"%00",
    b"%ff",
    b"$$",
    b"--",
    b"/*",
    b"*/",
    b"9223372036854775808",
    b"-9223372036854775808",
    b"18446744073709551616",
    b"170141183460469231731687303715884105728",
];
/// Numbers at edges, as lengths and counts have them.
const EDGES: &[i64] = &[
    0,
    1,
    -1,
    2,
    7,
    8,
    127,
    128,
    255,
    256,
    1600,
    32_767,
    -32_768,
    65_535,
    65_536,
    0x3FFF_FFFF,
    i32::MAX as i64,
    i32::MIN as i64,
    u32::MAX as i64,
    i64::MAX,
    i64::MIN,
];
/// What opens something that may be opened inside itself.
const OPENERS: &[&str] = &[
    "[",
    "{\"a\":",
    "(",
    "((",
    "{",
    "\"",
    "not ",
    "-",
    "/*",
    "case when ",
    "exists (select ",
    "array[",
    "+ ",
    "a and ",
    "1,",
    "[{},",
    "\\",
    "%",
    "not.",
    "'",
    "{\"\":[",
];

/// Makes one input of others.
pub struct Mutator<'a> {
    pub random: &'a mut StdRng,
    pub pool: &'a [Vec<u8>],
    pub words: &'a [&'a str],
}

impl Mutator<'_> {
    /// Another input.
    pub fn make(&mut self, input: &mut Vec<u8>) {
        self.pick().clone_into(input);
        if self.one_in(500) {
            return self.enlarge(input);
        }
        let changes = 1 << self.random.random_range(0..4_u32);
        for _ in 0..self.random.random_range(1..=changes) {
            if memchr::memmem::find(input, SEPARATOR).is_some() {
                self.change_records(input);
            } else {
                self.change(input);
            }
        }
        input.truncate(MAX_BYTES);
    }

    fn one_in(&mut self, count: u32) -> bool {
        self.random.random_range(0..count) == 0
    }

    fn pick(&mut self) -> Vec<u8> {
        // The newest lead further more often than the others.
        let newest = self.pool.len().saturating_sub(64);
        let from = if self.random.random() { 0 } else { newest };
        self.pool[from..].choose(self.random).cloned().unwrap_or_default()
    }

    /// A record of the list, or the list itself.
    fn change_records(&mut self, input: &mut Vec<u8>) {
        let mut records: Vec<Vec<u8>> = records(input).into_iter().map(<[u8]>::to_vec).collect();
        let at = self.random.random_range(0..records.len());
        match self.random.random_range(0..8) {
            0 => drop(records.remove(at)),
            1 => records.insert(at, records[at].clone()),
            2 => {
                let other = self.random.random_range(0..records.len());
                records.swap(at, other);
            }
            3 => {
                let other = self.pick();
                let theirs = super::mutate::records(&other);
                let theirs = theirs.choose(self.random).map(|record| record.to_vec()).unwrap_or_default();
                records.insert(at, theirs);
            }
            _ => self.change(&mut records[at]),
        }
        *input = joined(records);
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        match self.random.random_range(0..12) {
            0..=4 => self.change_bytes(input),
            5 | 6 => self.change_words(input),
            7 | 8 => self.exchange_brackets(input),
            _ => match serde_json::from_slice::<Value>(input) {
                Ok(mut value) => {
                    self.change_json(&mut value);
                    *input = value.to_string().into_bytes();
                }
                Err(_) => self.change_bytes(input),
            },
        }
    }

    fn span(&mut self, length: usize) -> (usize, usize) {
        let from = self.random.random_range(0..=length);
        let most = (length - from).min(1 << self.random.random_range(0..8_u32));
        (from, from + self.random.random_range(0..=most))
    }

    fn change_bytes(&mut self, input: &mut Vec<u8>) {
        let (from, to) = self.span(input.len());
        match self.random.random_range(0..9) {
            0 if !input.is_empty() => {
                let at = self.random.random_range(0..input.len());
                input[at] ^= 1 << self.random.random_range(0..8);
            }
            1 if !input.is_empty() => {
                let at = self.random.random_range(0..input.len());
                input[at] = self.random.random();
            }
            2 => drop(input.drain(from..to)),
            3 => {
                let piece = input[from..to].to_vec();
                let times = self.random.random_range(1..4);
                input.splice(from..from, piece.repeat(times));
            }
            4 => {
                let other = self.pick();
                let (start, end) = self.span(other.len());
                input.splice(from..to, other[start..end].iter().copied());
            }
            5 => self.write_edge(input, from),
            6 => input.truncate(from),
            7 => {
                let other = self.pick();
                let (_, end) = self.span(other.len());
                input.truncate(from);
                input.extend_from_slice(&other[end..]);
            }
            _ => {
                let piece = PIECES.choose(self.random).copied().unwrap_or_default();
                input.splice(from..from, piece.iter().copied());
            }
        }
    }

    /// A number at an edge, in the place of bytes or of digits.
    fn write_edge(&mut self, input: &mut Vec<u8>, at: usize) {
        let edge = EDGES.choose(self.random).copied().unwrap_or_default();
        if let Some(digit) = input.iter().skip(at).position(u8::is_ascii_digit).filter(|_| self.random.random()) {
            let start = at + digit;
            let end =
                input[start..].iter().position(|byte| !byte.is_ascii_digit()).map_or(input.len(), |end| start + end);
            input.splice(start..end, edge.to_string().into_bytes());
            return;
        }
        let width = [1, 2, 4, 8].choose(self.random).copied().unwrap_or(4);
        let bytes = &edge.to_be_bytes()[8 - width..];
        for (byte, new) in input.iter_mut().skip(at).zip(bytes) {
            *byte = *new;
        }
    }

    fn change_words(&mut self, input: &mut Vec<u8>) {
        let Some(word) = self.words.choose(self.random) else { return self.change_bytes(input) };
        let (from, mut to) = self.span(input.len());
        if self.random.random() {
            to = from;
        }
        input.splice(from..to, word.bytes());
    }

    /// What stands in brackets here is what stands in brackets elsewhere.
    fn exchange_brackets(&mut self, input: &mut Vec<u8>) {
        let other = self.pick();
        let (Some((from, to)), Some((start, end))) = (self.brackets(input), self.brackets(&other)) else {
            return self.change_bytes(input);
        };
        input.splice(from..to, other[start..end].iter().copied());
    }

    fn brackets(&mut self, text: &[u8]) -> Option<(usize, usize)> {
        let opens: Vec<usize> =
            text.iter().enumerate().filter(|(_, byte)| b"([{".contains(byte)).map(|(at, _)| at).collect();
        let from = *opens.choose(self.random)?;
        let mut depth = 0_usize;
        for (at, byte) in text.iter().enumerate().skip(from) {
            match byte {
                b'(' | b'[' | b'{' => depth += 1,
                b')' | b']' | b'}' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return Some((from, at + 1));
            }
        }
        None
    }

    fn change_json(&mut self, value: &mut Value) {
        // Down to some part of it.
        let goes_down = !self.one_in(4);
        match value {
            Value::Array(items) if goes_down && !items.is_empty() => {
                let at = self.random.random_range(0..items.len());
                match self.random.random_range(0..6) {
                    0 => drop(items.remove(at)),
                    1 => items.insert(at, items[at].clone()),
                    _ => self.change_json(&mut items[at]),
                }
            }
            Value::Object(fields) if goes_down && !fields.is_empty() => self.change_field(fields),
            other => *other = self.value(),
        }
    }

    fn change_field(&mut self, fields: &mut Map<String, Value>) {
        let names: Vec<String> = fields.keys().cloned().collect();
        let Some(name) = names.choose(self.random).cloned() else { return };
        match self.random.random_range(0..8) {
            0 => drop(fields.remove(&name)),
            1 => {
                let value = fields.remove(&name).unwrap_or_default();
                fields.insert(self.name(), value);
            }
            2 => {
                let value = self.value();
                fields.insert(self.name(), value);
            }
            _ => {
                if let Some(value) = fields.get_mut(&name) {
                    self.change_json(value);
                }
            }
        }
    }

    fn name(&mut self) -> String {
        self.words.choose(self.random).map_or_else(|| "a".to_owned(), |word| (*word).trim_matches('"').to_owned())
    }

    fn value(&mut self) -> Value {
        match self.random.random_range(0..12) {
            0 => Value::Null,
            1 => Value::Bool(self.random.random()),
            2 | 3 => EDGES.choose(self.random).copied().unwrap_or_default().into(),
            4 => json!(self.random.random_range(-1e300..1e300)),
            5 => json!([]),
            6 => json!({}),
            7 => {
                let other = self.pick();
                serde_json::from_slice(&other).unwrap_or(Value::Null)
            }
            8 => {
                let depth = self.random.random_range(1..200);
                (0..depth)
                    .fold(Value::Null, |inner, _| if self.one_in(2) { json!([inner]) } else { json!({ "a": inner }) })
            }
            9 => "x".repeat(self.random.random_range(0..5000)).into(),
            10 => {
                let piece = PIECES.choose(self.random).copied().unwrap_or_default();
                String::from_utf8_lossy(piece).into_owned().into()
            }
            _ => self.name().into(),
        }
    }

    /// Much of the same, one inside the other or one behind the other.
    fn enlarge(&mut self, input: &mut Vec<u8>) {
        let word = OPENERS.iter().chain(self.words).copied().collect::<Vec<_>>();
        let word = word.choose(self.random).copied().unwrap_or("[");
        let bytes = if cfg!(debug_assertions) { LARGE_BYTES / 16 } else { LARGE_BYTES };
        let bytes = self.random.random_range(0..bytes);
        let times = bytes / word.len().max(1);
        let (at, _) = self.span(input.len());
        let mut piece = word.repeat(times).into_bytes();
        if self.random.random() {
            let closers: Vec<u8> = word.bytes().rev().filter_map(closer).collect();
            piece.extend(closers.repeat(times));
        }
        input.splice(at..at, piece);
    }
}

fn closer(byte: u8) -> Option<u8> {
    Some(match byte {
        b'(' => b')',
        b'[' => b']',
        b'{' => b'}',
        _ => return None,
    })
}
