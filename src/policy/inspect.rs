//! JSON in the notation of the server we replace, which shows a refused binding to its sender as an Elixir term.
//! Texts only: what is refused, and when, is `binding`'s and `filter`'s. Protocol reference, section 4.6.

use serde_json::{Map, Value};
use std::fmt::Write;

/// That server shows so many members of a list or map, then an ellipsis.
const LIMIT: usize = 50;

/// A map: `%{"a" => 1, "b" => nil}`, keys in order.
pub(super) fn map(object: &Map<String, Value>) -> String {
    let mut out = String::new();
    push_map(object, &mut out);
    out
}

/// A list of strings: `["a", "b"]`.
pub(super) fn strings<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    let mut out = String::from("[");
    push_joined(items.into_iter(), &mut out, push_string);
    out.push(']');
    out
}

/// A string: `"a"`.
pub(super) fn string(text: &str) -> String {
    let mut out = String::new();
    push_string(text, &mut out);
    out
}

fn push_value(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("nil"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) if number.is_f64() => push_float(number.as_f64().unwrap_or_default(), out),
        Value::Number(number) => out.push_str(&number.to_string()),
        Value::String(text) => push_string(text, out),
        Value::Array(items) => match character_list(items) {
            Some(text) => {
                out.push_str("~c");
                push_quoted(&text, out);
            }
            None => {
                out.push('[');
                push_joined(items.iter(), out, push_value);
                out.push(']');
            }
        },
        Value::Object(object) => push_map(object, out),
    }
}

fn push_map(object: &Map<String, Value>, out: &mut String) {
    let mut members: Vec<_> = object.iter().collect();
    members.sort_by_key(|(key, _)| *key);
    out.push_str("%{");
    push_joined(members.into_iter(), out, |(key, value), out| {
        push_string(key, out);
        out.push_str(" => ");
        push_value(value, out);
    });
    out.push('}');
}

fn push_joined<T>(items: impl Iterator<Item = T>, out: &mut String, mut push: impl FnMut(T, &mut String)) {
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        if index == LIMIT {
            out.push_str("...");
            return;
        }
        push(item, out);
    }
}

/// A list of nothing but printable ASCII codes counts as text there.
fn character_list(items: &[Value]) -> Option<String> {
    let code = |item: &Value| u8::try_from(item.as_u64()?).ok().filter(|code| matches!(code, 7..=13 | 27 | 32..=126));
    let text: Option<String> = items.iter().map(|item| code(item).map(char::from)).collect();
    text.filter(|text| !text.is_empty())
}

fn push_string(text: &str, out: &mut String) {
    let printable = |character: char| matches!(character, '\u{7}'..='\u{d}' | '\u{1b}' | ' '..='\u{7f}' | '\u{a0}'..='\u{fffd}' | '\u{10000}'..);
    if text.chars().all(printable) {
        push_quoted(text, out);
    } else {
        out.push_str("<<");
        push_joined(text.bytes(), out, |byte, out| out.push_str(&byte.to_string()));
        out.push_str(">>");
    }
}

fn push_quoted(text: &str, out: &mut String) {
    out.push('"');
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            '\u{1b}' => out.push_str("\\e"),
            '\u{7f}' => out.push_str("\\d"),
            '#' if characters.peek() == Some(&'{') => out.push_str("\\#"),
            other => out.push(other),
        }
    }
    out.push('"');
}

/// The shortest digits that read back, plain or with an exponent, whichever takes less room.
fn push_float(value: f64, out: &mut String) {
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let mut plain = value.to_string();
    if !plain.contains('.') {
        plain.push_str(".0");
    }
    let dot = if mantissa.contains('.') { "" } else { ".0" };
    let long = mantissa.len() + dot.len() + 1 + exponent.len();
    if plain.len() <= long {
        out.push_str(&plain);
    } else {
        // Writing to a string cannot fail.
        let _ = write!(out, "{mantissa}{dot}e{exponent}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn inspect(value: Value) -> String {
        let mut out = String::new();
        push_value(&value, &mut out);
        out
    }

    #[test]
    fn maps_lists_and_scalars_read_as_terms() {
        let value = json!({"b": null, "a": [1, -2, true], "c": {"x": {}, "y": []}, "d": "t"});
        assert_eq!(
            inspect(value),
            r#"%{"a" => [1, -2, true], "b" => nil, "c" => %{"x" => %{}, "y" => []}, "d" => "t"}"#
        );
    }

    #[test]
    fn strings_are_escaped_and_unprintable_ones_are_bytes() {
        assert_eq!(inspect(json!("q\" \\ \n\t é #{x} # 😀")), r##""q\" \\ \n\t é \#{x} # 😀""##);
        assert_eq!(inspect(json!("a\u{1}")), "<<97, 1>>");
        assert_eq!(inspect(json!("a\u{0}b")), "<<97, 0, 98>>");
    }

    #[test]
    fn a_list_of_printable_codes_reads_as_characters() {
        assert_eq!(inspect(json!([104, 105, 34])), r#"~c"hi\"""#);
        assert_eq!(inspect(json!([104, 5])), "[104, 5]");
    }

    #[test]
    fn floats_take_the_shorter_form() {
        for (value, expected) in [
            (0.1, "0.1"),
            (1.5, "1.5"),
            (100.0, "100.0"),
            (1000.0, "1.0e3"),
            (123_456.0, "123456.0"),
            (1e20, "1.0e20"),
            (0.001, "0.001"),
            (1e-9, "1.0e-9"),
            (-2.5e-7, "-2.5e-7"),
        ] {
            assert_eq!(inspect(json!(value)), expected);
        }
    }

    #[test]
    fn long_lists_end_in_an_ellipsis() {
        let items: Vec<u32> = (1000..1100).collect();
        let text = inspect(json!(items));
        assert!(text.ends_with("1048, 1049, ...]"), "{text}");
    }
}
