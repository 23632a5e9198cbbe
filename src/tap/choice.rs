//! Which changes the person at the tap wants.

use crate::{
    change::{Change, Operation},
    policy::catalog::Catalog,
};
use clap::ValueEnum;

/// A kind of change, or all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Event {
    Insert,
    Update,
    Delete,
    Truncate,
    #[value(name = "*")]
    All,
}

impl Event {
    fn includes(self, operation: Operation) -> bool {
        match self {
            Event::All => true,
            Event::Insert => operation == Operation::Insert,
            Event::Update => operation == Operation::Update,
            Event::Delete => operation == Operation::Delete,
            Event::Truncate => operation == Operation::Truncate,
        }
    }
}

/// Tables and kinds. An empty list means all.
pub(super) struct Choice {
    tables: Vec<(String, String)>,
    events: Vec<Event>,
}

impl Choice {
    /// A choice by what the flags say.
    pub(super) fn new(tables: &[String], events: &[Event]) -> Choice {
        let pattern = |text: &String| match text.split_once('.') {
            Some((schema, table)) => (schema.to_owned(), table.to_owned()),
            None if text == "*" => ("*".to_owned(), "*".to_owned()),
            None => ("public".to_owned(), text.clone()),
        };
        Choice { tables: tables.iter().map(pattern).collect(), events: events.to_vec() }
    }

    /// Whether a change is wanted.
    pub(super) fn wants(&self, change: &Change) -> bool {
        let relation = &change.relation;
        let table_is_wanted = self.tables.is_empty()
            || self.tables.iter().any(|pattern| matches(pattern, &relation.schema, &relation.name));
        let event_is_wanted =
            self.events.is_empty() || self.events.iter().any(|event| event.includes(change.operation));
        table_is_wanted && event_is_wanted
    }

    /// What was asked for and is in no published table's name.
    pub(super) fn unknown(&self, catalog: &Catalog) -> Vec<String> {
        let is_unknown = |pattern: &&(String, String)| {
            *pattern != &("*".to_owned(), "*".to_owned())
                && !catalog.tables.values().any(|table| matches(pattern, &table.schema, &table.name))
        };
        self.tables.iter().filter(is_unknown).map(|(schema, table)| format!("{schema}.{table}")).collect()
    }
}

fn matches((schema, table): &(String, String), in_schema: &str, name: &str) -> bool {
    (schema == "*" || schema == in_schema) && (table == "*" || table == name)
}
