//! Row types in the text form of `record_out` (PostgreSQL documentation, "Composite Type Input and Output Syntax").

use super::{Malformed, TypeRegistry, render_nested, string::push_string};
use crate::change::Datum;
use bytes::Bytes;

/// The values of a row of so many columns, each in the text form of its own type. What was not quoted is cut out of the
/// text.
pub fn split(text: &Bytes, columns: usize) -> Result<Vec<Datum>, Malformed> {
    let inner = text.strip_prefix(b"(").and_then(|rest| rest.strip_suffix(b")")).ok_or(Malformed)?;
    let mut rest = inner;
    let mut scratch = Vec::new();
    let mut values = Vec::with_capacity(columns);
    for index in 0..columns {
        if index > 0 {
            rest = rest.strip_prefix(b",").ok_or(Malformed)?;
        }
        let (field, after) = take_field(rest, &mut scratch)?;
        values.push(match field {
            Field::Null => Datum::Null,
            Field::Plain(value) => Datum::Text(text.slice_ref(value)),
            Field::Quoted => Datum::Text(std::mem::take(&mut scratch).into()),
        });
        rest = after;
    }
    if rest.is_empty() { Ok(values) } else { Err(Malformed) }
}

/// Appends a JSON object with the attributes' names as keys.
pub(super) fn render(
    types: &TypeRegistry,
    fields: &[(String, u32)],
    text: &[u8],
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<(), Malformed> {
    let inner = text.strip_prefix(b"(").and_then(|rest| rest.strip_suffix(b")")).ok_or(Malformed)?;
    let mut rest = inner;
    let mut scratch = Vec::new();
    out.push(b'{');
    for (index, (name, type_oid)) in fields.iter().enumerate() {
        if index > 0 {
            out.push(b',');
            rest = rest.strip_prefix(b",").ok_or(Malformed)?;
        }
        push_string(name.as_bytes(), out);
        out.push(b':');
        scratch.clear();
        let (field, after) = take_field(rest, &mut scratch)?;
        match field {
            Field::Null => out.extend_from_slice(b"null"),
            Field::Plain(value) => render_nested(types, *type_oid, value, depth + 1, out),
            Field::Quoted => render_nested(types, *type_oid, &scratch, depth + 1, out),
        }
        rest = after;
    }
    out.push(b'}');
    if rest.is_empty() { Ok(()) } else { Err(Malformed) }
}

enum Field<'a> {
    Null,
    Plain(&'a [u8]),
    /// The value is in the scratch space.
    Quoted,
}

fn take_field<'a>(rest: &'a [u8], scratch: &mut Vec<u8>) -> Result<(Field<'a>, &'a [u8]), Malformed> {
    if rest.first() != Some(&b'"') {
        let end = memchr::memchr(b',', rest).unwrap_or(rest.len());
        let (value, after) = rest.split_at(end);
        if value.iter().any(|byte| b"\"\\()".contains(byte)) {
            return Err(Malformed);
        }
        let field = if value.is_empty() { Field::Null } else { Field::Plain(value) };
        return Ok((field, after));
    }
    let mut rest = &rest[1..];
    loop {
        let at = memchr::memchr2(b'"', b'\\', rest).ok_or(Malformed)?;
        scratch.extend_from_slice(&rest[..at]);
        match (rest[at], rest.get(at + 1)) {
            // A quote is doubled, a backslash too; a lone quote ends the field.
            (b'"', Some(b'"')) => scratch.push(b'"'),
            (b'"', _) => return Ok((Field::Quoted, &rest[at + 1..])),
            (_, Some(escaped)) => scratch.push(*escaped),
            (_, None) => return Err(Malformed),
        }
        rest = &rest[at + 2..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &'static str, columns: usize) -> Result<Vec<Option<String>>, Malformed> {
        let values = split(&Bytes::from_static(text.as_bytes()), columns)?;
        let text = |datum: Datum| match datum {
            Datum::Text(text) => Some(String::from_utf8(text.to_vec()).unwrap()),
            Datum::Null | Datum::Absent => None,
        };
        Ok(values.into_iter().map(text).collect())
    }

    #[test]
    fn a_row_is_split_into_values_with_null_and_the_empty_text_apart() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(values("(1,,\"\",two)", 4).unwrap(), [some("1"), None, some(""), some("two")]);
        assert_eq!(values("()", 1).unwrap(), [None]);
        assert_eq!(values("()", 0).unwrap(), []);
        assert_eq!(values("(,)", 2).unwrap(), [None, None]);
        assert_eq!(
            values(r#"("a,b","say ""hi""","back\\slash","(x)",ü)"#, 5).unwrap(),
            [some("a,b"), some("say \"hi\""), some("back\\slash"), some("(x)"), some("ü")]
        );
        assert_eq!(values("(\"a\nb\",\" \")", 2).unwrap(), [some("a\nb"), some(" ")]);
    }

    #[test]
    fn a_text_that_is_no_such_row_is_refused_whole() {
        let cases = [
            ("", 1),
            ("(", 1),
            (")", 1),
            ("1", 1),
            ("(1", 1),
            ("(1)", 2),
            ("(1,2)", 1),
            ("(\"1)", 1),
            ("(\"1\"2)", 1),
            ("(1(2)", 1),
            ("(1\\)", 1),
            ("(\"1\\\")", 1),
            ("(1)x", 1),
            ("(1)", 0),
        ];
        for (text, columns) in cases {
            assert!(values(text, columns).is_err(), "{text} as {columns}");
        }
    }
}
