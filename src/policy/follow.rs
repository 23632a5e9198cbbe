//! Whether the rows of a table that policies look into can be followed by the stream, and what is in the way.

use super::{
    facts::{Carried, Facts, TableFacts},
    lookup::Need,
};
use std::sync::Arc;

/// Why a table cannot be looked into by the process, and whose doing changes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// What is in the way, in words: "table public.members is not in publication walcast_lookups".
    pub why: String,
    /// The SQL that takes it out of the way.
    pub fix: Option<String>,
}

impl std::fmt::Display for Obstacle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.fix {
            Some(fix) => write!(f, "{}; run: {fix}", self.why),
            None => f.write_str(&self.why),
        }
    }
}

/// What the publications and the roles to read as are called.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// The publication clients subscribe to.
    pub main: &'a str,
    /// That of lookup tables.
    pub own: &'a str,
    /// Our login.
    pub login: &'a str,
    /// The roles it may become.
    pub roles: &'a [Arc<str>],
}

/// What is in the way of following a table; none when it can be followed.
///
/// `is_published` says whether the publication of clients has it in any form. Then it never goes into our own: Postgres
/// joins what two publications say of a table, so that clients would get what theirs leaves out.
pub fn obstacle(table: &TableFacts, need: &Need, is_published: bool, names: Names<'_>) -> Option<Obstacle> {
    let name = quoted(table);
    let obstacle = |why: String, fix: Option<String>| Some(Obstacle { why, fix });
    if !table.is_ordinary {
        return obstacle(format!("{name} is not an ordinary table (a view, a partition, an heir or unlogged)"), None);
    }
    if !table.has_usable_identity {
        return obstacle(
            format!("table {name} has no usable replica identity, so its UPDATEs and DELETEs cannot be followed"),
            Some(format!("alter table {name} replica identity full")),
        );
    }
    let generated = |column: &usize| table.columns.get(*column).is_none_or(|column| column.generated.is_some());
    if need.columns.iter().any(generated) {
        return obstacle(format!("a policy reads a generated column of table {name}, which is not streamed"), None);
    }
    if table.carried == Carried::No {
        let (main, own) = (quoted_name(names.main), quoted_name(names.own));
        return if is_published {
            obstacle(
                format!(
                    "publication {main} has table {name} with a row filter, a column list, another list in {own}, or \
                     without some operations"
                ),
                None,
            )
        } else {
            obstacle(
                format!("table {name} is not in publication {own}"),
                Some(format!("alter publication {own} add table {name}")),
            )
        };
    }
    if table.reader.is_none() {
        let why = format!("no role that {} may be can read all rows of table {name}", quoted_name(names.login));
        return obstacle(why, reader(table, names).map(|role| grants(table, role)));
    }
    None
}

/// The role to grant reading to: our login where row level security is off, else one that bypasses it.
fn reader<'a>(table: &TableFacts, names: Names<'a>) -> Option<&'a str> {
    let sees_all = |role: &&Arc<str>| table.rights.get(*role).is_some_and(|rights| rights.sees_all);
    if names.roles.iter().all(|role| sees_all(&role)) {
        return Some(names.login);
    }
    names.roles.iter().find(sees_all).map(|role| &**role)
}

fn grants(table: &TableFacts, role: &str) -> String {
    let (schema, role) = (quoted_name(&table.schema), quoted_name(role));
    format!("grant usage on schema {schema} to {role}; grant select on table {} to {role}", quoted(table))
}

/// What is in the way of following the tables of these needs.
pub fn obstacles<'a>(
    facts: &Facts,
    needs: impl IntoIterator<Item = (&'a u32, &'a Need)>,
    is_published: impl Fn(u32) -> bool,
    names: Names<'_>,
) -> Vec<Obstacle> {
    let obstacle = |(oid, need): (&u32, &Need)| match facts.tables.get(oid) {
        Some(table) => obstacle(table, need, is_published(*oid), names),
        None => Some(Obstacle { why: "a table that policies look into is not known".to_owned(), fix: None }),
    };
    needs.into_iter().filter_map(obstacle).collect()
}

/// A table's qualified name, as SQL.
pub fn quoted(table: &TableFacts) -> String {
    format!("{}.{}", quoted_name(&table.schema), quoted_name(&table.name))
}

/// A name as SQL: bare where it can be.
pub fn quoted_name(name: &str) -> String {
    let is_bare = name.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
        && name.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_')
        && !RESERVED.split_whitespace().any(|word| word == name);
    if is_bare { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// Words that cannot be names without quotes (PostgreSQL documentation, appendix C: reserved ones).
const RESERVED: &str = "
    all analyse analyze and any array as asc asymmetric authorization binary both case cast check collate collation
    column concurrently constraint create cross current_catalog current_date current_role current_schema current_time
    current_timestamp current_user default deferrable desc distinct do else end except false fetch for foreign freeze
    from full grant group having ilike in initially inner intersect into is isnull join lateral leading left like limit
    localtime localtimestamp natural not notnull null offset on only or order outer overlaps placing primary references
    returning right select session_user similar some symmetric system_user table tablesample then to trailing true
    union unique user using variadic verbose when where window with";
