//! What the database lane has to ask, gathered over a batch: each question once, however many subscribers share it.
//! Pure: it writes SQL and reads verdicts; `database_lane` asks.
//!
//! A question is an expression over a row image, in the name of a role and claims. The form was tried on Postgres:
//! the image becomes a row by `json_populate_record`, under the table's bare name, because policies name it so.

use super::{
    image::Image,
    lane_job::{Candidate, LaneWork},
};
use crate::{
    change::{
        Datum,
        value::{TypeRegistry, oid, push_string},
    },
    policy::catalog::{ColumnIndex, Generated, RowPolicy, Table},
};
use postgres_protocol::escape::escape_identifier;
use serde_json::value::RawValue;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// Which rows are asked about in one statement: same table, same rights, same expression.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct GroupKey {
    /// Whose rights.
    pub(super) role: Arc<str>,
    /// The claims policies see; none for a filter, which does not depend on them.
    pub(super) claims: Option<Arc<str>>,
    /// The statement: `$1` is the list of images, further parameters are `parameters`.
    pub(super) statement: Arc<str>,
    /// Values of a filter.
    pub(super) parameters: Vec<String>,
}

/// A row of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Question {
    pub(super) group: usize,
    pub(super) row: usize,
}

/// What became of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Yes,
    No,
    /// The expression failed on this row, with this SQLSTATE.
    Failed(Arc<str>),
    /// Nobody could be asked.
    Unasked,
}

/// One statement's worth of questions.
pub(super) struct Group {
    pub(super) key: GroupKey,
    /// Schema and name of the table, for messages.
    pub(super) table: (String, String),
    pub(super) images: Vec<Arc<str>>,
    /// By the image's place in `Questions::images`.
    rows: HashMap<usize, usize>,
}

/// The questions of a batch. Lives no longer than the jobs it is gathered from: statements are known by the addresses
/// of their table and policy.
#[derive(Default)]
pub(super) struct Questions {
    pub(super) groups: Vec<Group>,
    by_key: HashMap<GroupKey, usize>,
    images: HashMap<Arc<str>, usize>,
    statements: HashMap<(usize, usize), Arc<str>>,
}

impl Questions {
    /// Makes a row image ready to be asked about, by any number of subscribers.
    pub(super) fn row(
        &mut self,
        work: &LaneWork,
        types: &TypeRegistry,
        image: &Image<'_>,
        needed: &Needed,
    ) -> AskedRow {
        let RowImage { json, present } = RowImage::of(&work.table, types, image, needed);
        let next = self.images.len();
        let number = *self.images.entry(json.clone()).or_insert(next);
        AskedRow { number, json, present }
    }

    /// Asks whether the policy lets the subscriber see the row; none when the image lacks what the policy reads.
    pub(super) fn may_see(
        &mut self,
        work: &LaneWork,
        candidate: &Candidate,
        policy: &Arc<RowPolicy>,
        row: &AskedRow,
    ) -> Option<Question> {
        if !row.has(&work.table, policy.reads.as_deref()) {
            return None;
        }
        let statement = self
            .statements
            .entry((Arc::as_ptr(&work.table).addr(), Arc::as_ptr(policy).addr()))
            .or_insert_with(|| statement(&work.table, &policy.expression).into());
        let key = GroupKey {
            role: candidate.claims.role.clone(),
            claims: Some(candidate.claims.json.clone()),
            statement: statement.clone(),
            parameters: Vec::new(),
        };
        Some(self.ask(key, &work.table, row))
    }

    /// Asks whether the database's part of a filter holds; none when the image lacks what it reads.
    pub(super) fn matches(
        &mut self,
        work: &LaneWork,
        role: &Arc<str>,
        filter: (String, Vec<String>),
        reads: &[ColumnIndex],
        row: &AskedRow,
    ) -> Option<Question> {
        if !row.has(&work.table, Some(reads)) {
            return None;
        }
        let (expression, parameters) = filter;
        let statement = statement(&work.table, &expression).into();
        let key = GroupKey { role: role.clone(), claims: None, statement, parameters };
        Some(self.ask(key, &work.table, row))
    }

    fn ask(&mut self, key: GroupKey, table: &Table, asked: &AskedRow) -> Question {
        let group = match self.by_key.get(&key) {
            Some(&group) => group,
            None => {
                let table = (table.schema.clone(), table.name.clone());
                self.by_key.insert(key.clone(), self.groups.len());
                self.groups.push(Group { key, table, images: Vec::new(), rows: HashMap::new() });
                self.groups.len() - 1
            }
        };
        let Group { images, rows, .. } = &mut self.groups[group];
        let row = *rows.entry(asked.number).or_insert_with(|| {
            images.push(asked.json.clone());
            images.len() - 1
        });
        Question { group, row }
    }
}

/// The columns of a row that its questions read; the others are left out of the image when they are large, as a row may
/// be a thousand times larger than what is asked about it.
pub(super) enum Needed {
    /// Any may be read.
    All,
    /// These.
    Columns(HashSet<ColumnIndex>),
}

/// Values up to this size are part of every image: equal images are asked about once.
const SMALL_BYTES: usize = 1024;

impl Needed {
    /// What is read for any candidate.
    pub(super) fn of(work: &LaneWork) -> Needed {
        let mut columns = HashSet::new();
        for candidate in &work.candidates {
            match candidate.subscription.rows.asked().map(|policy| policy.reads.as_deref()) {
                None => {}
                Some(Some(reads)) => columns.extend(reads),
                Some(None) => return Needed::All,
            }
            columns.extend(candidate.bindings.iter().flat_map(|wanted| wanted.binding.filter.database_columns()));
        }
        // What a generated column is computed from is read, too.
        let generated = |index: &ColumnIndex| work.table.columns.get(*index)?.generated.as_ref();
        let sources: Vec<_> = columns.iter().filter_map(generated).flat_map(|generated| &generated.reads).collect();
        columns.extend(sources);
        Needed::Columns(columns)
    }

    fn has(&self, index: ColumnIndex, text: &[u8]) -> bool {
        match self {
            Needed::All => true,
            Needed::Columns(columns) => text.len() <= SMALL_BYTES || columns.contains(&index),
        }
    }
}

/// A row image that is asked about.
pub(super) struct AskedRow {
    /// Its place among the images of the batch: equal images have the same.
    number: usize,
    json: Arc<str>,
    present: HashSet<ColumnIndex>,
}

impl AskedRow {
    /// Whether the image has every column that is read; none means that any may be.
    fn has(&self, table: &Table, reads: Option<&[ColumnIndex]>) -> bool {
        match reads {
            Some(reads) => reads.iter().all(|index| self.present.contains(index)),
            None => (0..table.columns.len()).all(|index| self.present.contains(&index)),
        }
    }
}

/// A row image as the object `json_populate_record` takes, and which columns have a value there.
struct RowImage {
    json: Arc<str>,
    present: HashSet<ColumnIndex>,
}

impl RowImage {
    fn of(table: &Table, types: &TypeRegistry, image: &Image<'_>, needed: &Needed) -> RowImage {
        let mut present = HashSet::new();
        let mut json = vec![b'{'];
        for (index, column) in table.columns.iter().enumerate() {
            let value = match image.get(index) {
                Datum::Absent => continue,
                Datum::Null => JsonValue::Raw("null"),
                Datum::Text(text) if !needed.has(index, text) => continue,
                Datum::Text(text) => match std::str::from_utf8(text) {
                    Err(_) => continue,
                    Ok(text) if !is_json(types, column.type_oid) => JsonValue::Text(text),
                    // A JSON null would become SQL's NULL, which is another value.
                    Ok(text) if text.trim() == "null" => continue,
                    Ok(text) => match serde_json::from_str::<&RawValue>(text) {
                        Ok(value) => JsonValue::Raw(value.get()),
                        Err(_) => continue,
                    },
                },
            };
            present.insert(index);
            if json.len() > 1 {
                json.push(b',');
            }
            push_string(column.name.as_bytes(), &mut json);
            json.push(b':');
            match value {
                JsonValue::Raw(value) => json.extend_from_slice(value.as_bytes()),
                JsonValue::Text(text) => push_string(text.as_bytes(), &mut json),
            }
        }
        json.push(b'}');
        // Generated columns that the stream leaves out are computed by the statement from their definition.
        for (index, column) in table.columns.iter().enumerate() {
            let computable = |generated: &Generated| generated.reads.iter().all(|read| present.contains(read));
            if column.generated.as_ref().is_some_and(computable) {
                present.insert(index);
            }
        }
        match String::from_utf8(json) {
            Ok(json) => RowImage { json: json.into(), present },
            // It was made of texts; what is not is asked about as if nothing were known.
            Err(_) => RowImage { json: "{}".into(), present: HashSet::new() },
        }
    }
}

/// A value of an image.
enum JsonValue<'a> {
    /// As it is.
    Raw(&'a str),
    /// As a string.
    Text(&'a str),
}

fn is_json(types: &TypeRegistry, type_oid: u32) -> bool {
    matches!(types.base(type_oid), oid::JSON | oid::JSONB)
}

/// One row a verdict: the image's number, from 1, and what the expression says of it.
fn statement(table: &Table, expression: &str) -> String {
    let alias = escape_identifier(&table.name);
    let qualified = format!("{}.{alias}", escape_identifier(&table.schema));
    let populated = format!("pg_catalog.json_populate_record(null::{qualified}, _walcast._image::json) as {alias}");
    let is_computed = |index: ColumnIndex| {
        table.columns[index].generated.is_some()
            && table.published.as_ref().is_none_or(|published| !published.contains(&index))
    };
    let source = if (0..table.columns.len()).any(is_computed) {
        let columns = table.columns.iter().enumerate().map(|(index, column)| {
            let name = escape_identifier(&column.name);
            match &column.generated {
                Some(generated) if is_computed(index) => {
                    format!("({})::{} as {name}", generated.expression, generated.sql_type)
                }
                _ => format!("{alias}.{name}"),
            }
        });
        format!("(select {} from {populated}) as {alias}", columns.collect::<Vec<_>>().join(", "))
    } else {
        populated
    };
    format!(
        "select _walcast._number, (select {expression} from {source}) \
         from pg_catalog.unnest($1::pg_catalog.text[]) with ordinality as _walcast(_image, _number)"
    )
}
