//! A change as one line: an object for programs, or words and colours for people. Pure but for the look at `NO_COLOR`.

use crate::{
    change::{Change, Datum, Fragment, Operation, Row, relation::Relation, value},
    policy::catalog::Catalog,
    router::commit_timestamp,
};
use serde_json::{Value, json};

/// Values are cut here when people read them.
const SHOWN_CHARACTERS: usize = 200;

/// How changes are written.
#[derive(Clone, Copy)]
pub(super) enum Form {
    /// One object a line.
    Json,
    /// For people.
    Text {
        /// Whether the terminal is told colours.
        colour: bool,
    },
}

/// Whether the person at the terminal has nothing against colours (no-color.org).
pub(crate) fn wants_colour() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The text with its control characters written out, so that nothing in the data commands the terminal.
pub(crate) fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            control if control.is_control() => printable.extend(control.escape_unicode()),
            other => printable.push(other),
        }
    }
    printable
}

/// Appends the line of a change.
pub(super) fn push(out: &mut Vec<u8>, form: Form, fragment: &Fragment, change: &Change, catalog: &Catalog) {
    let shown = Shown { change, catalog };
    let line = match form {
        Form::Json => shown.json(fragment),
        Form::Text { colour } => shown.text(fragment, colour),
    };
    out.extend_from_slice(line.as_bytes());
    out.push(b'\n');
}

struct Shown<'a> {
    change: &'a Change,
    catalog: &'a Catalog,
}

impl Shown<'_> {
    fn relation(&self) -> &Relation {
        &self.change.relation
    }

    fn old(&self) -> Option<&Row> {
        self.change.old.as_ref().map(|old| &old.row)
    }

    fn json(&self, fragment: &Fragment) -> String {
        let relation = self.relation();
        let mut line = format!(
            r#"{{"schema":{},"table":{},"type":"{}","commit_timestamp":"{}","lsn":"{}","xid":{}"#,
            Value::from(relation.schema.as_str()),
            Value::from(relation.name.as_str()),
            self.change.operation.name(),
            commit_timestamp(fragment.commit_time),
            fragment.commit_lsn,
            fragment.xid
        );
        if self.change.operation != Operation::Truncate {
            let columns = relation.columns.iter().map(|column| {
                let type_name = self.catalog.types.get(column.type_oid).map(|info| &info.name);
                json!({"name": column.name, "type": type_name})
            });
            line.push_str(&format!(r#","columns":{}"#, Value::from_iter(columns)));
        }
        if let Some(new) = &self.change.new {
            line.push_str(&format!(r#","record":{}"#, self.record(new)));
        }
        if matches!(self.change.operation, Operation::Update | Operation::Delete) {
            // Null: none was logged, because nothing of the replica identity changed.
            let old = self.old().map_or_else(|| "null".to_owned(), |old| self.record(old));
            line.push_str(&format!(r#","old_record":{old}"#));
        }
        let absent = self.absent();
        if !absent.is_empty() {
            line.push_str(&format!(r#","absent":{}"#, Value::from(absent)));
        }
        line.push('}');
        line
    }

    /// The columns the stream gave no value for, in the image that tells what the row is or was.
    fn absent(&self) -> Vec<String> {
        let Some(image) = self.change.new.as_ref().or_else(|| self.old()) else { return Vec::new() };
        let relation = self.relation();
        let in_stream = relation.columns.iter().zip(&image.0);
        let without_value = in_stream.filter(|(_, datum)| **datum == Datum::Absent).map(|(column, _)| &column.name);
        let table = self.catalog.tables.get(&relation.oid);
        let listed = table.iter().flat_map(|table| table.listed.iter().filter_map(|&index| table.columns.get(index)));
        let left_out = listed
            .map(|column| &column.name)
            .filter(|name| !relation.columns.iter().any(|column| column.name == **name));
        without_value.chain(left_out).cloned().collect()
    }

    /// Name and JSON of each value an image has.
    fn values<'b>(&'b self, image: &'b Row) -> impl Iterator<Item = (&'b str, String)> {
        self.relation().columns.iter().zip(&image.0).filter_map(|(column, datum)| {
            let json = match datum {
                Datum::Absent => return None,
                Datum::Null => "null".to_owned(),
                Datum::Text(text) => {
                    let mut json = Vec::new();
                    value::render(&self.catalog.types, column.type_oid, text, &mut json);
                    String::from_utf8(json).ok()?
                }
            };
            Some((column.name.as_str(), json))
        })
    }

    fn record(&self, image: &Row) -> String {
        let members: Vec<String> =
            self.values(image).map(|(name, json)| format!("{}:{json}", Value::from(name))).collect();
        format!("{{{}}}", members.join(","))
    }

    fn text(&self, fragment: &Fragment, colour: bool) -> String {
        let paint = |code: &str, text: &str| match colour {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        };
        let code = match self.change.operation {
            Operation::Insert => "32",
            Operation::Update => "33",
            Operation::Delete => "31",
            Operation::Truncate => "35",
        };
        let relation = self.relation();
        let mut line = format!(
            "{}  {}  {}",
            paint("2", &commit_timestamp(fragment.commit_time)),
            paint(code, &format!("{:8}", self.change.operation.name())),
            paint("1", &printable(&format!("{}.{}", relation.schema, relation.name)))
        );
        let push = |line: &mut String, name: &str, json: &str| {
            let json: String = match json.char_indices().nth(SHOWN_CHARACTERS) {
                Some((at, _)) => format!("{}…", &json[..at]),
                None => json.to_owned(),
            };
            line.push_str(&format!("  {}{}", paint("36", &printable(&format!("{name}="))), printable(&json)));
        };
        let new: Vec<_> = self.change.new.iter().flat_map(|new| self.values(new)).collect();
        for (name, json) in &new {
            push(&mut line, name, json);
        }
        let old = self.old().into_iter().flat_map(|old| self.values(old));
        let changed: Vec<_> = old.filter(|value| !new.contains(value)).collect();
        if !new.is_empty() && !changed.is_empty() {
            line.push_str(&format!("  {}", paint("2", "was")));
        }
        for (name, json) in &changed {
            push(&mut line, name, json);
        }
        let absent = self.absent();
        if !absent.is_empty() {
            line.push_str(&format!("  {}", paint("2", &printable(&format!("absent: {}", absent.join(", "))))));
        }
        line
    }
}
