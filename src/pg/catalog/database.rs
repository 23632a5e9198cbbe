//! What of the database as a whole policies depend on: settings of sessions, casts, collation, schemas.

use super::CatalogError;
use crate::policy::catalog::Collation;
use serde::Deserialize;
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};
use tokio_postgres::{Client, Transaction};

const DATABASE: &str = include_str!("../../../sql/facts_database.sql");
const SETTINGS: &str = include_str!("../../../sql/facts_settings.sql");
const USAGE: &str = include_str!("../../../sql/facts_usage.sql");

/// Time zones that are UTC under another name (the IANA database's links, and Postgres' own default).
const UTC: &[&str] =
    &["utc", "etc/utc", "gmt", "etc/gmt", "zulu", "etc/zulu", "universal", "etc/universal", "uct", "etc/uct"];

/// What `sql/facts_database.sql` says.
#[derive(Deserialize)]
pub(super) struct DatabaseRow {
    pub(super) login: String,
    time_zone: String,
    default_collation: String,
    pub(super) restricted_builtins: HashSet<String>,
    pub(super) builtin_functions: HashSet<String>,
    pub(super) custom_operators: HashSet<String>,
    pub(super) custom_casts: Vec<(u32, u32)>,
    settings: Vec<String>,
}

pub(super) async fn database(transaction: &Transaction<'_>, names: &[&str]) -> Result<DatabaseRow, CatalogError> {
    Ok(serde_json::from_value(transaction.query_one(DATABASE, &[&names]).await?.get(0))?)
}

impl DatabaseRow {
    pub(super) fn is_utc(&self) -> bool {
        UTC.iter().any(|name| name.eq_ignore_ascii_case(&self.time_zone))
    }

    pub(super) fn default_collation(&self) -> Collation {
        if self.default_collation == "bytewise" { Collation::Bytewise } else { Collation::Deterministic }
    }

    /// The settings somebody gave our login or the database, without those that Postgres itself knows.
    pub(super) fn custom_settings(&self) -> impl Iterator<Item = String> {
        self.settings.iter().filter(|name| name.contains('.')).map(|name| name.to_ascii_lowercase())
    }
}

/// Which of these settings have a value in a session like ours, where nothing set them: from a configuration file, or
/// by a library. All of them when the database would not say.
pub(super) async fn settings_in_force(
    client: &Client,
    names: &BTreeSet<String>,
) -> Result<BTreeSet<String>, CatalogError> {
    if names.is_empty() {
        return Ok(BTreeSet::new());
    }
    let asked: Vec<&str> = names.iter().map(String::as_str).collect();
    match client.query(SETTINGS, &[&asked]).await {
        Ok(rows) => Ok(rows.iter().map(|row| row.get(0)).collect()),
        Err(error) if error.as_db_error().is_some() => Ok(names.clone()),
        Err(error) => Err(error.into()),
    }
}

/// The schemas each role has USAGE on, out of these.
pub(super) async fn usage(
    transaction: &Transaction<'_>,
    roles: &[&str],
    schemas: BTreeSet<&str>,
) -> Result<HashMap<Arc<str>, HashSet<String>>, CatalogError> {
    let schemas: Vec<&str> = schemas.into_iter().collect();
    let mut usage: HashMap<Arc<str>, HashSet<String>> =
        roles.iter().map(|&role| (Arc::from(role), HashSet::new())).collect();
    for row in transaction.query(USAGE, &[&roles, &schemas]).await? {
        if let Some(schemas) = usage.get_mut(row.get::<_, &str>(0)) {
            schemas.insert(row.get(1));
        }
    }
    Ok(usage)
}

/// The schemas of a `search_path`, in order, unquoted; `$user` stays what it is. Nothing of a list that cannot be
/// read, so that no name resolves by it.
pub(super) fn split_search_path(text: &str) -> Vec<String> {
    split(text).unwrap_or_default()
}

fn split(text: &str) -> Option<Vec<String>> {
    let mut schemas = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_name(quoted)?,
            None => {
                let end = rest.find(|letter: char| letter == ',' || letter.is_whitespace()).unwrap_or(rest.len());
                let (name, after) = rest.split_at(end);
                (name.to_lowercase(), after)
            }
        };
        if name.is_empty() && !rest.starts_with('"') {
            return None;
        }
        schemas.push(name);
        rest = match after.trim_start().strip_prefix(',') {
            // A comma promises another name.
            Some(more) if more.trim_start().is_empty() => return None,
            Some(more) => more.trim_start(),
            None if after.trim_start().is_empty() => "",
            None => return None,
        };
    }
    Some(schemas)
}

/// A name up to its closing quote, and what follows.
fn quoted_name(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut rest = text;
    loop {
        let (part, after) = rest.split_once('"')?;
        name.push_str(part);
        match after.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return Some((name, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_path_is_split_as_postgres_splits_it() {
        for (text, expected) in [
            (r#""$user", public"#, &["$user", "public"][..]),
            ("", &[]),
            (r#""""#, &[""]),
            (r#"Public , "My ""own"", one",x"#, &["public", "My \"own\", one", "x"]),
            ("public, ", &[]),
            ("a b", &[]),
            (r#""open"#, &[]),
            (", a", &[]),
        ] {
            assert_eq!(split_search_path(text), expected, "{text}");
        }
    }
}
