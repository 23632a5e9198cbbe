//! What a client is to hear of a change: the rules of bindings, filters and `visibility`, written once more, by hand.

use super::world::{Changed, Database, Rights, Row, TABLES};
use crate::change::Operation;
use serde_json::{Value, json};

/// A binding of a join.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// The table; none for all.
    pub(super) table: Option<usize>,
    /// The operation; none for all.
    pub(super) operation: Option<Operation>,
    pub(super) filter: Option<Filter>,
    /// What the join's reply called it.
    pub(super) id: u32,
}

/// `column=eq.value`.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    pub(super) column: &'static str,
    pub(super) value: String,
}

/// A message about a change.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Message {
    pub(super) operation: &'static str,
    pub(super) ids: Vec<u32>,
    pub(super) record: Value,
    pub(super) old_record: Value,
    pub(super) reason: Value,
}

/// What of a change a binding hears of.
#[derive(Clone, Copy, PartialEq)]
enum Heard {
    /// The operation as it was, with the whole old row or its key.
    Plain {
        old_is_whole: bool,
    },
    Left,
    Entered,
}

impl Asked {
    pub(super) fn json(&self) -> Value {
        let operation = self.operation.map_or("*", Operation::name);
        let table = self.table.map_or("*", |table| TABLES[table]);
        let mut json = json!({"event": operation, "schema": "public", "table": table});
        if let Some(Filter { column, value }) = &self.filter {
            json["filter"] = format!("{column}=eq.{value}").into();
        }
        json
    }

    fn admits(&self, operation: Operation) -> bool {
        self.operation.is_none_or(|asked| asked == operation) && operation != Operation::Truncate
    }

    /// Whether the filter holds of a row; of a bare key it does only if it asks for nothing else.
    fn matches(&self, row: &Row, is_whole: bool) -> bool {
        self.filter.as_ref().is_none_or(|filter| {
            let is_known = is_whole || filter.column == "id";
            is_known && row.json()[filter.column] == filter.value.as_str()
        })
    }

    /// Whether a change might concern it, whoever may see the row.
    pub(super) fn may_concern(&self, changed: &Changed) -> bool {
        self.table.is_none_or(|table| table == changed.table)
    }

    fn hears(&self, database: &Database, changed: &Changed, visibility: bool, rights: Rights) -> Option<Heard> {
        if !self.may_concern(changed) {
            return None;
        }
        let sees = |row: &Row| database.sees(changed.table, row, rights);
        let has_old_row = changed.has_old_row();
        match (changed.operation, &changed.old, &changed.new) {
            (Operation::Insert, _, Some(new)) => {
                let hears = self.admits(Operation::Insert) && self.matches(new, true) && sees(new);
                hears.then_some(Heard::Plain { old_is_whole: true })
            }
            // A bare key is told to everybody.
            (Operation::Delete, Some(old), _) => {
                let hears = self.admits(Operation::Delete) && self.matches(old, has_old_row);
                (hears && (!has_old_row || sees(old))).then_some(Heard::Plain { old_is_whole: has_old_row })
            }
            (Operation::Update, Some(old), Some(new)) if visibility && has_old_row => {
                let was = sees(old) && self.matches(old, true);
                let is = sees(new) && self.matches(new, true);
                let (heard, told) = match (was, is) {
                    (true, true) => (Heard::Plain { old_is_whole: true }, Operation::Update),
                    (true, false) => (Heard::Left, Operation::Delete),
                    (false, true) => (Heard::Entered, Operation::Insert),
                    (false, false) => return None,
                };
                self.admits(told).then_some(heard)
            }
            (Operation::Update, Some(old), Some(new)) => {
                let hears = self.admits(Operation::Update) && self.matches(new, true) && sees(new);
                hears.then(|| Heard::Plain { old_is_whole: has_old_row && sees(old) })
            }
            _ => None,
        }
    }
}

/// What a subscription is to hear of a change, if these are its rights.
pub(super) fn told(
    database: &Database,
    changed: &Changed,
    asked: &[Asked],
    visibility: bool,
    rights: Rights,
) -> Vec<Message> {
    let mut groups: Vec<(Heard, Vec<u32>)> = Vec::new();
    for binding in asked {
        let Some(heard) = binding.hears(database, changed, visibility, rights) else { continue };
        match groups.iter_mut().find(|(known, _)| *known == heard) {
            Some((_, ids)) => ids.push(binding.id),
            None => groups.push((heard, vec![binding.id])),
        }
    }
    groups.into_iter().map(|(heard, ids)| message(changed, heard, ids)).collect()
}

fn message(changed: &Changed, heard: Heard, ids: Vec<u32>) -> Message {
    let key = json!({"id": changed.id().to_string()});
    let new = || changed.new.as_ref().map_or(Value::Null, Row::json);
    let old = |is_whole| match &changed.old {
        Some(old) if is_whole => old.json(),
        Some(_) => key.clone(),
        None => Value::Null,
    };
    let (operation, record, old_record, reason) = match heard {
        Heard::Left => (Operation::Delete, Value::Null, key.clone(), "left".into()),
        Heard::Entered => (Operation::Insert, new(), Value::Null, "entered".into()),
        Heard::Plain { old_is_whole } => (changed.operation, new(), old(old_is_whole), Value::Null),
    };
    Message { operation: operation.name(), ids, record, old_record, reason }
}
