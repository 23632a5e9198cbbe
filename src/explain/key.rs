//! The key of a row, as people write it: `5`, `a,b`, several values, or JSON.

use serde_json::Value;
use std::collections::BTreeMap;

/// Which row is asked about. Values are texts, which Postgres reads as the key's types.
#[derive(Clone, PartialEq, Eq)]
pub enum Key {
    /// The values in the order of the primary key's columns; a single text may hold several, or JSON.
    Values(Vec<String>),
    /// By the names of the columns.
    Named(BTreeMap<String, String>),
}

impl Key {
    /// The key in a JSON value: one value, a list, or an object by column.
    pub fn of_json(value: &Value) -> Option<Key> {
        match value {
            Value::Array(items) => items.iter().map(scalar).collect::<Option<_>>().map(Key::Values),
            Value::Object(object) => {
                let pair = |(name, value): (&String, &Value)| Some((name.clone(), scalar(value)?));
                object.iter().map(pair).collect::<Option<_>>().map(Key::Named)
            }
            value => Some(Key::Values(vec![scalar(value)?])),
        }
    }

    /// The values for these columns, in their order; none when they do not fit.
    pub(super) fn values(&self, columns: &[&str]) -> Option<Vec<String>> {
        match self {
            Key::Named(values) if values.len() == columns.len() => {
                columns.iter().map(|column| values.get(*column).cloned()).collect()
            }
            Key::Named(_) => None,
            Key::Values(values) if values.len() == columns.len() && columns.len() > 1 => Some(values.clone()),
            Key::Values(values) => {
                let [text] = &values[..] else { return None };
                read(text, columns)
            }
        }
    }
}

/// One text for a key of these columns.
fn read(text: &str, columns: &[&str]) -> Option<Vec<String>> {
    let json: Option<Value> = serde_json::from_str(text).ok();
    match &json {
        // Of one column, whatever is not an object with its name is the value itself.
        Some(Value::Object(object)) if object.len() == columns.len() => {
            if let Some(values) = columns.iter().map(|column| object.get(*column).and_then(scalar)).collect() {
                return Some(values);
            }
        }
        Some(Value::Array(items)) if columns.len() > 1 && items.len() == columns.len() => {
            return items.iter().map(scalar).collect();
        }
        _ => {}
    }
    if columns.len() == 1 {
        return Some(vec![text.to_owned()]);
    }
    let parts: Vec<String> = text.split(',').map(|part| part.trim().to_owned()).collect();
    (parts.len() == columns.len()).then_some(parts)
}

/// A value's text; a key has no NULL, and no list.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn texts(texts: &[&str], columns: &[&str]) -> Option<Vec<String>> {
        Key::Values(texts.iter().map(|&text| text.to_owned()).collect()).values(columns)
    }

    fn are(values: &[&str]) -> Option<Vec<String>> {
        Some(values.iter().map(|&value| value.to_owned()).collect())
    }

    #[test]
    fn a_key_is_read_in_every_form_it_is_written_in() {
        assert_eq!(texts(&["5"], &["id"]), are(&["5"]));
        assert_eq!(texts(&["a,b"], &["id"]), are(&["a,b"]), "of one column, a comma belongs to the value");
        assert_eq!(texts(&["[1]"], &["id"]), are(&["[1]"]));
        assert_eq!(texts(&[r#"{"id": 5}"#], &["id"]), are(&["5"]));
        assert_eq!(texts(&[r#"{"x": 5}"#], &["id"]), are(&[r#"{"x": 5}"#]));
        for form in ["a, 5", r#"["a", 5]"#, r#"{"b": "5", "a": "a"}"#] {
            assert_eq!(texts(&[form], &["a", "b"]), are(&["a", "5"]), "{form}");
        }
        assert_eq!(texts(&["a,b", "c"], &["a", "b"]), are(&["a,b", "c"]));
        for wrong in [&["a"][..], &["a,b,c"], &["a", "b", "c"], &[r#"["a"]"#]] {
            assert_eq!(texts(wrong, &["a", "b"]), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_key_in_json_has_a_value_for_each_column_and_no_null() {
        let of = |value: Value, columns: &[&str]| Key::of_json(&value).and_then(|key| key.values(columns));
        assert_eq!(of(json!(5), &["id"]), are(&["5"]));
        assert_eq!(of(json!(["a", true]), &["a", "b"]), are(&["a", "true"]));
        assert_eq!(of(json!({"b": 1, "a": 2}), &["a", "b"]), are(&["2", "1"]));
        for wrong in [json!(null), json!([null, 1]), json!({"a": 1}), json!({"a": 1, "c": 2}), json!([[1], 2])] {
            assert_eq!(of(wrong.clone(), &["a", "b"]), None, "{wrong}");
        }
    }
}
