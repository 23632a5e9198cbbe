//! Whether the rows of a table that policies look into can be followed by the stream, and what is in the way.

use super::{
    analyse::{self, Ruling},
    catalog::Catalog,
    facts::{Carried, Facts, TableFacts},
    lookup::Need,
    program::Program,
};
use std::{collections::BTreeMap, sync::Arc};

/// Why a table cannot be looked into by the process, and whose doing changes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// What is in the way, in words: "table public.members is not in publication walcast_lookups".
    pub why: String,
    /// The SQL that takes it out of the way, without a semicolon at its end.
    pub fix: Option<String>,
    /// Whether no more is missing than that our publication has the table.
    pub is_only_unlisted: bool,
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
    let obstacle = |why: String, fix: Option<String>| Some(Obstacle { why, fix, is_only_unlisted: false });
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
        if is_published {
            let why = format!(
                "publication {main} has table {name} with a row filter, a column list, another list than {own}, or \
                 without some operations"
            );
            return obstacle(why, None);
        }
        return Some(Obstacle {
            why: format!("table {name} is not in publication {own}"),
            fix: Some(format!("alter publication {own} add table {name}")),
            is_only_unlisted: true,
        });
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
        None => {
            let why = "a table that policies look into is not known".to_owned();
            Some(Obstacle { why, fix: None, is_only_unlisted: false })
        }
    };
    needs.into_iter().filter_map(obstacle).collect()
}

/// What the policies of the published tables look up, whether or not that can be followed.
pub fn wanted(catalog: &Catalog) -> BTreeMap<u32, Need> {
    let mut wanted = BTreeMap::new();
    for table in catalog.tables.keys().filter_map(|oid| catalog.facts.tables.get(oid)) {
        for role in &catalog.roles {
            if let Ruling::Clauses(clauses) = analyse::ruling(&catalog.facts, table, role) {
                add(&mut wanted, &Program::new(&catalog.facts, table, clauses).lookups);
            }
        }
    }
    wanted
}

/// Joins needs.
pub fn add(all: &mut BTreeMap<u32, Need>, more: &BTreeMap<u32, Need>) {
    for (table, need) in more {
        let known = all.entry(*table).or_default();
        known.columns.extend(&need.columns);
        known.keys.extend(need.keys.iter().cloned());
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        change::relation::ReplicaIdentity,
        policy::{
            catalog::{Collation, Generated, TableColumn},
            facts::TableRights,
        },
    };
    use std::collections::BTreeSet;

    fn members() -> TableFacts {
        let column = |name: &str, number| TableColumn {
            number,
            name: name.to_owned(),
            type_oid: 2950,
            type_name: "uuid".to_owned(),
            collation: Collation::None,
            collation_oid: 0,
            generated: None,
        };
        let rights = |sees_all| TableRights { select: vec![true; 2], sees_all, policies: Vec::new() };
        TableFacts {
            oid: 1,
            schema: "App".to_owned(),
            name: "members".to_owned(),
            is_ordinary: true,
            columns: vec![column("room", 1), column("person", 2)],
            unique_keys: Vec::new(),
            replica_identity: ReplicaIdentity::Default,
            identity: vec![0, 1],
            carried: Carried::Own,
            has_usable_identity: true,
            reader: Some(None),
            estimated_rows: 0,
            policies: Vec::new(),
            rights: [("anon".into(), rights(false)), ("service_role".into(), rights(true))].into(),
        }
    }

    fn found(table: &TableFacts, is_published: bool) -> Option<Obstacle> {
        let need = Need { columns: BTreeSet::from([0, 1]), keys: BTreeSet::new() };
        let roles = [Arc::from("anon"), Arc::from("service_role")];
        let names = Names { main: "supabase_realtime", own: "walcast_lookups", login: "walcast", roles: &roles };
        obstacle(table, &need, is_published, names)
    }

    #[test]
    fn a_table_is_followed_or_the_sql_that_is_missing_is_named() {
        assert_eq!(found(&members(), false), None);
        assert_eq!(found(&TableFacts { carried: Carried::Main, ..members() }, true), None);
        let unlisted = found(&TableFacts { carried: Carried::No, ..members() }, false).unwrap();
        assert!(unlisted.is_only_unlisted);
        assert_eq!(
            unlisted.to_string(),
            "table \"App\".members is not in publication walcast_lookups; run: alter publication walcast_lookups add \
             table \"App\".members"
        );
        let unread = found(&TableFacts { reader: None, ..members() }, false).unwrap();
        let grant =
            "grant usage on schema \"App\" to service_role; grant select on table \"App\".members to service_role";
        assert_eq!(unread.fix.as_deref(), Some(grant));
    }

    #[test]
    fn nothing_is_offered_that_would_harm_writers_or_show_clients_more() {
        // Postgres refuses UPDATEs of a published table without an identity.
        let bare = TableFacts { carried: Carried::No, has_usable_identity: false, identity: Vec::new(), ..members() };
        let bare = found(&bare, false).unwrap();
        assert!(!bare.is_only_unlisted && bare.fix.unwrap().ends_with("replica identity full"));
        // Two publications of one table show all that either has.
        let filtered = found(&TableFacts { carried: Carried::No, ..members() }, true).unwrap();
        assert_eq!((filtered.fix, filtered.is_only_unlisted), (None, false));
        let view = found(&TableFacts { carried: Carried::No, is_ordinary: false, ..members() }, false).unwrap();
        assert_eq!((view.fix, view.is_only_unlisted), (None, false));
        let mut generated = members();
        let expression = Generated { expression: "room".to_owned(), sql_type: "uuid".to_owned(), reads: vec![0] };
        generated.columns[1].generated = Some(expression);
        assert!(found(&generated, false).unwrap().why.contains("generated"));
    }

    #[test]
    fn whom_to_grant_reading_to_depends_on_row_security() {
        let mut open = TableFacts { reader: None, ..members() };
        open.rights.get_mut("anon").unwrap().sees_all = true;
        assert!(found(&open, false).unwrap().fix.unwrap().ends_with("to walcast"));
        open.rights.values_mut().for_each(|rights| rights.sees_all = false);
        assert_eq!(found(&open, false).unwrap().fix, None);
    }

    #[test]
    fn a_name_is_quoted_where_sql_needs_it() {
        for (name, sql) in
            [("a_1", "a_1"), ("user", "\"user\""), ("A", "\"A\""), ("a\"b", "\"a\"\"b\""), ("1a", "\"1a\"")]
        {
            assert_eq!(quoted_name(name), sql);
        }
    }
}
