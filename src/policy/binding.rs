//! What a client asks for in one entry of `postgres_changes`, and the texts it reads when that cannot be had.
//!
//! Owns the reading of the entry (protocol reference, sections 4.6 and 5.1; semantics reference, 2.1). What the
//! conditions of its filter mean is `filter`'s, whether they fit the table `filter::check_columns`'s.

use super::{
    filter::{self, Condition},
    inspect,
};
use crate::change::Operation;
use serde_json::{Map, Value};

/// Which operations a binding asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventFilter {
    /// All of them.
    Any,
    /// One of them.
    Only(Operation),
}

impl EventFilter {
    /// Whether a change of this kind was asked for; nobody can ask for TRUNCATE.
    pub fn admits(self, operation: Operation) -> bool {
        match self {
            EventFilter::Any => operation != Operation::Truncate,
            EventFilter::Only(only) => only == operation,
        }
    }

    /// The name in messages: `*` or the operation's.
    pub fn name(self) -> &'static str {
        match self {
            EventFilter::Any => "*",
            EventFilter::Only(operation) => operation.name(),
        }
    }
}

/// The name that stands for every schema or every table.
pub const WILDCARD: &str = "*";

/// One entry of `postgres_changes`, understood.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BindingRequest {
    /// The operations asked for.
    pub event: EventFilter,
    /// The schema, or `*`.
    pub schema: String,
    /// The table, or `*`.
    pub table: String,
    /// The filter's conditions, all of which must hold.
    pub conditions: Vec<Condition>,
    /// The columns asked for besides the primary key; none for all.
    pub select: Option<Vec<String>>,
}

impl BindingRequest {
    /// Reads an entry as the client sent it. The error is the text for the client.
    pub fn parse(object: &Map<String, Value>) -> Result<BindingRequest, String> {
        let (schema, table, filter) = place(object).ok_or_else(|| no_place(object))?;
        let conditions = filter.map_or(Ok(Vec::new()), filter::parse)?;
        let select = selection(object.get("select"))?;
        if select.is_some() && (schema == WILDCARD || table == WILDCARD) {
            return Err("Column selection is not supported for wildcard subscriptions. \
                        Provide an explicit schema and table name."
                .to_owned());
        }
        let event = event(object.get("event"));
        Ok(BindingRequest { event, schema: schema.to_owned(), table: table.to_owned(), conditions, select })
    }

    /// Whether the table with this name is meant.
    pub fn names(&self, schema: &str, table: &str) -> bool {
        let is = |wanted: &str, name: &str| wanted == WILDCARD || wanted == name;
        is(&self.schema, schema) && is(&self.table, table)
    }

    /// The request in brackets, as the messages about it end.
    pub fn describe(&self) -> String {
        let filters: Vec<String> = self.conditions.iter().map(Condition::describe).collect();
        let select = match &self.select {
            Some(columns) => inspect::strings(columns.iter().map(String::as_str)),
            None => "nil".to_owned(),
        };
        format!(
            "[event: {}, schema: {}, table: {}, filters: [{}], select: {select}]",
            self.event.name(),
            self.schema,
            self.table,
            filters.join(", ")
        )
    }

    /// The message when no published table is meant by it.
    pub fn not_published(&self) -> String {
        format!(
            "Unable to subscribe to changes with given parameters. \
             Please check Realtime is enabled for the given connect parameters: {}",
            self.describe()
        )
    }

    /// The message when the request does not fit the table: `error` is `raised(..)` or what Postgres said.
    pub fn refused(&self, error: &str) -> String {
        format!(
            "Unable to subscribe to changes with given parameters. \
             An exception happened so please check your connect parameters: {}. Exception: {error}",
            self.describe()
        )
    }
}

/// A refusal of `filter::check_columns` or `Filter::compile`, as the database of the server we replace would raise it.
pub fn raised(message: &str) -> String {
    format!("ERROR P0001 (raise_exception) {message}")
}

/// The binding a join without `config` stands for: the topic after `realtime:` is `schema[:table[:filter]]`.
pub fn legacy_binding(sub_topic: &str) -> Map<String, Value> {
    let parts = sub_topic.splitn(3, ':');
    ["schema", "table", "filter"]
        .into_iter()
        .zip(parts)
        .map(|(key, part)| (key.to_owned(), Value::from(part)))
        .collect()
}

/// Schema, table and filter, if the entry has one of the four accepted forms.
fn place(object: &Map<String, Value>) -> Option<(&str, &str, Option<&str>)> {
    // A key that is there with another type than string spoils the entry, so absent and ill-typed must be told apart.
    let text = |key: &str| object.get(key).map(Value::as_str);
    match (text("schema"), text("table"), text("filter")) {
        (Some(Some(schema)), Some(Some(table)), Some(Some(filter))) => Some((schema, table, Some(filter))),
        (Some(Some(schema)), Some(Some(table)), None) => Some((schema, table, None)),
        (Some(Some(schema)), None, None) => Some((schema, WILDCARD, None)),
        (None, Some(Some(table)), None) => Some(("public", table, None)),
        _ => None,
    }
}

fn no_place(object: &Map<String, Value>) -> String {
    let secret = ["user_token", "auth_token"].iter().any(|key| object.contains_key(*key));
    let shown = if secret { "<redacted>".to_owned() } else { inspect::map(object) };
    format!("No subscription params provided. Please provide at least a `schema` or `table` to subscribe to: {shown}")
}

fn event(value: Option<&Value>) -> EventFilter {
    let name = value.and_then(Value::as_str).unwrap_or(WILDCARD);
    let operations = [Operation::Insert, Operation::Update, Operation::Delete];
    let asked = operations.into_iter().find(|operation| operation.name().eq_ignore_ascii_case(name));
    asked.map_or(EventFilter::Any, EventFilter::Only)
}

fn selection(value: Option<&Value>) -> Result<Option<Vec<String>>, String> {
    let items = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Array(items)) => items,
        Some(_) => {
            return Err("Error parsing `select` params: expected a list of column name strings, \
                        e.g. select: [\"col1\", \"col2\"]"
                .to_owned());
        }
    };
    let columns: Vec<String> = items.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    Ok(Some(columns).filter(|columns| !columns.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(value: Value) -> Result<BindingRequest, String> {
        BindingRequest::parse(value.as_object().unwrap())
    }

    #[test]
    fn the_four_forms_name_a_place() {
        for (entry, schema, table) in [
            (json!({"schema": "s", "table": "t", "filter": "a=eq.1"}), "s", "t"),
            (json!({"schema": "s", "table": "t"}), "s", "t"),
            (json!({"schema": "s"}), "s", "*"),
            (json!({"table": "t"}), "public", "t"),
        ] {
            let request = parse(entry).unwrap();
            assert_eq!((request.schema.as_str(), request.table.as_str()), (schema, table));
        }
        let all = parse(json!({"schema": "*", "table": "*"})).unwrap();
        assert!(all.names("any", "thing"));
        let one = parse(json!({"schema": "s", "table": "my_table"})).unwrap();
        assert!(one.names("s", "my_table") && !one.names("s", "myxtable") && !one.names("t", "my_table"));
    }

    #[test]
    fn any_other_form_is_shown_to_its_sender() {
        let opening =
            "No subscription params provided. Please provide at least a `schema` or `table` to subscribe to: ";
        for (entry, shown) in [
            (json!({"event": "*"}), r#"%{"event" => "*"}"#),
            (
                json!({"event": "*", "schema": "public", "table": "open_notes", "filter": 5}),
                r#"%{"event" => "*", "filter" => 5, "schema" => "public", "table" => "open_notes"}"#,
            ),
            (
                json!({"schema": "s", "table": "t", "filter": null}),
                r#"%{"filter" => nil, "schema" => "s", "table" => "t"}"#,
            ),
            (json!({"table": null, "schema": "s"}), r#"%{"schema" => "s", "table" => nil}"#),
            (json!({"schema": "s", "filter": "a=eq.1"}), r#"%{"filter" => "a=eq.1", "schema" => "s"}"#),
            (json!({"user_token": "secret"}), "<redacted>"),
            (json!({"auth_token": "secret", "table": 1}), "<redacted>"),
        ] {
            assert_eq!(parse(entry).unwrap_err(), format!("{opening}{shown}"));
        }
    }

    #[test]
    fn an_unknown_event_is_every_event() {
        for (value, expected) in [
            (json!("insert"), EventFilter::Only(Operation::Insert)),
            (json!("UPDATE"), EventFilter::Only(Operation::Update)),
            (json!("Delete"), EventFilter::Only(Operation::Delete)),
            (json!("truncate"), EventFilter::Any),
            (json!("NOPE"), EventFilter::Any),
            (json!(5), EventFilter::Any),
        ] {
            assert_eq!(parse(json!({"table": "t", "event": value})).unwrap().event, expected);
        }
        assert!(EventFilter::Any.admits(Operation::Delete) && !EventFilter::Any.admits(Operation::Truncate));
        assert!(!EventFilter::Only(Operation::Insert).admits(Operation::Delete));
    }

    #[test]
    fn a_selection_is_a_list_of_names_on_one_table() {
        let select = |value: Value| parse(json!({"table": "t", "select": value})).map(|request| request.select);
        assert_eq!(select(json!(["a", 1, "b"])).unwrap(), Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(select(json!([])).unwrap(), None);
        assert_eq!(select(json!([1])).unwrap(), None);
        assert_eq!(select(json!(null)).unwrap(), None);
        assert_eq!(
            select(json!("id")).unwrap_err(),
            r#"Error parsing `select` params: expected a list of column name strings, e.g. select: ["col1", "col2"]"#
        );
        let wildcard =
            "Column selection is not supported for wildcard subscriptions. Provide an explicit schema and table name.";
        for entry in [
            json!({"schema": "public", "table": "*", "select": ["id"]}),
            json!({"schema": "*", "table": "t", "select": ["id"]}),
            json!({"schema": "public", "select": ["id"]}),
        ] {
            assert_eq!(parse(entry).unwrap_err(), wildcard);
        }
        assert!(parse(json!({"schema": "public", "table": "*", "select": []})).is_ok());
    }

    #[test]
    fn refusals_end_in_the_request() {
        let request =
            parse(json!({"schema": "public", "table": "open_notes", "filter": "n=eq.abc", "select": ["a\"b"]}))
                .unwrap();
        let shown =
            r#"[event: *, schema: public, table: open_notes, filters: [{"n", "eq", "abc", false}], select: ["a\"b"]]"#;
        assert_eq!(request.describe(), shown);
        assert_eq!(
            request.not_published(),
            format!(
                "Unable to subscribe to changes with given parameters. Please check Realtime is enabled for the given connect parameters: {shown}"
            )
        );
        assert_eq!(
            request.refused(&raised("invalid column for filter n")),
            format!(
                "Unable to subscribe to changes with given parameters. An exception happened so please check your connect parameters: {shown}. Exception: ERROR P0001 (raise_exception) invalid column for filter n"
            )
        );
        let request =
            parse(json!({"schema": "public", "table": "t", "event": "insert", "filter": "a=not.in.(1,2),b=is.null"}))
                .unwrap();
        assert_eq!(
            request.describe(),
            r#"[event: INSERT, schema: public, table: t, filters: [{"a", "in", "{1,2}", true}, {"b", "is", "null", false}], select: nil]"#
        );
    }

    #[test]
    fn a_legacy_topic_is_split_in_three_at_most() {
        for (topic, expected) in [
            ("*", json!({"schema": "*"})),
            ("public", json!({"schema": "public"})),
            ("public:notes", json!({"schema": "public", "table": "notes"})),
            ("public:notes:id=eq.1", json!({"schema": "public", "table": "notes", "filter": "id=eq.1"})),
            ("public:notes:at=gt.12:30", json!({"schema": "public", "table": "notes", "filter": "at=gt.12:30"})),
        ] {
            assert_eq!(Value::Object(legacy_binding(topic)), expected);
        }
    }
}
