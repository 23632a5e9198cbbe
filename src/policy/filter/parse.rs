//! The text of a filter → its conditions: `column=[not.]operator.value`, joined by commas (protocol reference, 4.7).

use super::{Condition, Operator};
use crate::policy::inspect;

/// Reads a filter; an empty or blank one has no conditions. The error is the text for the client.
pub fn parse(text: &str) -> Result<Vec<Condition>, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let parsed: Result<Vec<_>, _> = segments(text).into_iter().map(condition).collect();
    parsed.map_err(|detail| format!("Error parsing `filter` params: {detail}"))
}

/// The parts between commas that stand outside parentheses and quotes.
fn segments(text: &str) -> Vec<&str> {
    let mut segments = Vec::new();
    let (mut start, mut depth, mut quoted, mut escaped) = (0, 0_usize, false, false);
    let mut previous = b',';
    for (at, byte) in text.bytes().enumerate() {
        if quoted {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => quoted = false,
                _ => {}
            }
        } else {
            match byte {
                // Elsewhere a quote is a character of the value.
                b'"' if matches!(previous, b'.' | b'(' | b',') => quoted = true,
                b'(' => depth += 1,
                b')' => depth = depth.saturating_sub(1),
                b',' if depth == 0 => {
                    segments.push(&text[start..at]);
                    start = at + 1;
                }
                _ => {}
            }
        }
        previous = byte;
    }
    segments.push(&text[start..]);
    segments
}

fn condition(segment: &str) -> Result<Condition, String> {
    let segment = segment.trim();
    if segment.is_empty() {
        return Err("filter must not contain empty segments (check for extra commas)".to_owned());
    }
    let (column, test) = segment.split_once('=').ok_or_else(|| inspect::strings([segment]))?;
    let (negate, test) = match test.strip_prefix("not.") {
        Some(rest) => (true, rest),
        None => (false, test),
    };
    let (name, value) = test.split_once('.').ok_or_else(|| inspect::strings([test]))?;
    let operator = Operator::from_name(name).ok_or_else(|| inspect::strings([name, value]))?;
    let value = if operator == Operator::In {
        let inner = value.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
        format!("{{{}}}", inner.ok_or("`in` filter value must be wrapped by parentheses")?)
    } else {
        unquoted(value).unwrap_or_else(|| value.to_owned())
    };
    Ok(Condition { column: column.to_owned(), negate, operator, value })
}

/// What stands in double quotes, if the value is that and nothing else.
fn unquoted(value: &str) -> Option<String> {
    let mut characters = value.strip_prefix('"')?.chars();
    let mut inner = String::with_capacity(value.len());
    loop {
        match characters.next()? {
            '"' => return characters.next().is_none().then_some(inner),
            '\\' => inner.push(characters.next()?),
            other => inner.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let conditions = parse(text).unwrap();
        conditions.iter().map(Condition::describe).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_filter_is_read_into_conditions() {
        for (text, expected) in [
            ("", ""),
            ("  ", ""),
            ("n=gt.1,n=lt.9", r#"{"n", "gt", "1", false} {"n", "lt", "9", false}"#),
            (" n=gt.1, n=lt.9 ", r#"{"n", "gt", "1", false} {"n", "lt", "9", false}"#),
            ("a=eq.b=c.d e", r#"{"a", "eq", "b=c.d e", false}"#),
            ("a=eq.", r#"{"a", "eq", "", false}"#),
            ("a=not.like.x%", r#"{"a", "like", "x%", true}"#),
            ("a=in.(1,2,3),b=is.null", r#"{"a", "in", "{1,2,3}", false} {"b", "is", "null", false}"#),
            (r#"a=in.("x,y",")"),b=eq.1"#, r#"{"a", "in", "{\"x,y\",\")\"}", false} {"b", "eq", "1", false}"#),
            (r#"a=eq."x,y \"z\" \\""#, r#"{"a", "eq", "x,y \"z\" \\", false}"#),
            (r#"a=eq."open"#, r#"{"a", "eq", "\"open", false}"#),
            (r#"a=eq."x"y"#, r#"{"a", "eq", "\"x\"y", false}"#),
            (r#"a=eq.x"y,b=eq.z"#, r#"{"a", "eq", "x\"y", false} {"b", "eq", "z", false}"#),
            ("a=eq.(1,2)", r#"{"a", "eq", "(1,2)", false}"#),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn a_filter_that_cannot_be_read_says_where_it_stopped() {
        let empty = "filter must not contain empty segments (check for extra commas)";
        let parentheses = "`in` filter value must be wrapped by parentheses";
        for (text, detail) in [
            ("wrong", r#"["wrong"]"#),
            ("undefined", r#"["undefined"]"#),
            ("id=foo.hey", r#"["foo", "hey"]"#),
            ("n=foo.5", r#"["foo", "5"]"#),
            ("n=not.foo.5", r#"["foo", "5"]"#),
            ("n=EQ.5.6", r#"["EQ", "5.6"]"#),
            ("n=5", r#"["5"]"#),
            ("id=eq.1,", empty),
            ("id=eq.1,,n=eq.2", empty),
            (",", empty),
            ("n=in.1,2", parentheses),
            ("n=in.1", parentheses),
            ("n=in.(1", parentheses),
        ] {
            assert_eq!(parse(text).unwrap_err(), format!("Error parsing `filter` params: {detail}"), "{text}");
        }
    }
}
