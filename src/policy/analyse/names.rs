//! Names as Postgres reads them: folding, key words, the search path. A text that was stored (a policy, a SQL-standard
//! body) was resolved when it was stored and is printed with every schema but `pg_catalog`; a text that is read at run
//! time (any other body) is resolved by the search path and the rights of whoever runs it.

use super::refusal::{Read, refuse};
use crate::policy::facts::{Facts, FunctionFacts, TableFacts};
use sqlparser::ast::{Ident, ObjectName, ObjectNamePart};
use std::{collections::HashSet, sync::Arc};

/// Longer names are cut by Postgres.
const MAX_LENGTH: usize = 63;

/// The reserved words of Postgres 15 to 18 (documentation, appendix C): without quotes none is the name of a column,
/// table or function.
const RESERVED: &str = "all analyse analyze and any array as asc asymmetric authorization binary both case cast check collate collation \
    column concurrently constraint create cross current_catalog current_date current_role current_schema \
    current_time current_timestamp current_user default deferrable desc distinct do else end except false fetch for \
    foreign freeze from full grant group having ilike in initially inner intersect into is isnull join lateral \
    leading limit localtime localtimestamp natural not notnull null offset on only or order outer overlaps placing \
    primary references returning select session_user similar some symmetric system_user table tablesample then to \
    trailing true union unique user using variadic verbose when where window with";

/// Words that are calls with a grammar of their own: without quotes none is the name of a function.
const CALL_SYNTAX: &str = "between coalesce exists extract greatest grouping json json_array json_arrayagg json_exists json_object \
    json_objectagg json_query json_scalar json_serialize json_table json_value least merge_action normalize nullif \
    overlay position row setof substring treat trim values xmlattributes xmlconcat xmlelement xmlexists xmlforest \
    xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable";

fn is_among(words: &str, word: &str) -> bool {
    words.split(' ').any(|known| known == word)
}

/// The name of a column, table, alias or function.
pub(super) fn identifier(ident: &Ident) -> Read<String> {
    let Ident { value, quote_style, span: _ } = ident;
    let name = match quote_style {
        None => value.to_ascii_lowercase(),
        Some('"') => return if value.len() > MAX_LENGTH { refuse("a name is too long") } else { Ok(value.clone()) },
        Some(_) => return refuse("a name is quoted in another way than Postgres'"),
    };
    if name.len() > MAX_LENGTH {
        return refuse("a name is too long");
    }
    if is_among(RESERVED, &name) {
        return refuse(format!("{} is not read", name.to_ascii_uppercase()));
    }
    Ok(name)
}

/// The parts of a qualified name.
pub(super) fn parts(name: &ObjectName) -> Read<Vec<String>> {
    let ObjectName(parts) = name;
    let read = parts.iter().map(|part| match part {
        ObjectNamePart::Identifier(ident) => identifier(ident),
        ObjectNamePart::Function(_) => refuse("a name is computed"),
    });
    read.collect()
}

/// The bare, unquoted word a call begins with, if it is one: what key words are told by.
pub(super) fn bare_word(name: &ObjectName) -> Option<String> {
    match name.0.as_slice() {
        [ObjectNamePart::Identifier(Ident { value, quote_style: None, span: _ })] => Some(value.to_ascii_lowercase()),
        _ => None,
    }
}

/// Whether the word begins a call with a grammar of its own.
pub(super) fn has_call_syntax(word: &str) -> bool {
    is_among(CALL_SYNTAX, word) || is_among(RESERVED, word)
}

/// How names of a text are resolved.
#[derive(Clone, Debug)]
pub(super) struct Naming {
    /// Whether that happened when the text was stored.
    pub(super) is_stored: bool,
    /// Whose search path and rights hold.
    pub(super) role: Arc<str>,
    /// The search path in force, unexpanded.
    pub(super) search_path: Vec<String>,
}

/// What a name of a function may mean.
#[derive(Debug)]
pub(super) struct Candidates<'f> {
    /// Its bare name.
    pub(super) name: String,
    /// Whether it may be one of `pg_catalog`.
    pub(super) is_builtin: bool,
    /// The ones outside of `pg_catalog`.
    pub(super) functions: Vec<&'f Arc<FunctionFacts>>,
}

impl Naming {
    /// The table a name means.
    pub(super) fn table<'f>(&self, facts: &'f Facts, name: &[String]) -> Read<&'f Arc<TableFacts>> {
        let find = |schema: &str, table: &str| {
            facts.tables.values().find(|known| known.schema == schema && known.name == table)
        };
        let found = match name {
            [table] if self.is_stored || table.starts_with("pg_") => None,
            [table] => self.schemas(facts).find_map(|schema| find(schema, table)),
            [schema, table] => {
                self.check_usage(facts, schema)?;
                find(schema, table)
            }
            _ => None,
        };
        match found {
            Some(table) => Ok(table),
            None => refuse(format!("table {} is not known", name.join("."))),
        }
    }

    /// The functions a name may mean.
    pub(super) fn functions<'f>(&self, facts: &'f Facts, name: &[String]) -> Read<Candidates<'f>> {
        let named = |schemas: &[&str], wanted: &str| -> Vec<&'f Arc<FunctionFacts>> {
            let is_meant =
                |known: &&Arc<FunctionFacts>| known.name == wanted && schemas.contains(&known.schema.as_str());
            facts.functions.iter().filter(is_meant).collect()
        };
        match name {
            [name] if self.is_stored => Ok(Candidates { name: name.clone(), is_builtin: true, functions: Vec::new() }),
            [name] => {
                let schemas: Vec<&str> = self.schemas(facts).collect();
                let functions = named(&schemas, name);
                let is_builtin = functions.is_empty();
                let is_shadowed = facts.builtin_functions.as_ref().is_none_or(|names| names.contains(name));
                if !is_builtin && is_shadowed {
                    return refuse(format!("function {name} may be one of pg_catalog"));
                }
                Ok(Candidates { name: name.clone(), is_builtin, functions })
            }
            [schema, name] if schema == "pg_catalog" => {
                Ok(Candidates { name: name.clone(), is_builtin: true, functions: Vec::new() })
            }
            [schema, name] => {
                self.check_usage(facts, schema)?;
                let functions = named(&[schema.as_str()], name);
                Ok(Candidates { name: name.clone(), is_builtin: false, functions })
            }
            _ => refuse("a function's name has too many parts"),
        }
    }

    /// The schemas a bare name is looked for in, beside `pg_catalog`. Those the role may not use are passed over, as
    /// Postgres does. There are no temporary tables in the sessions this stands for.
    fn schemas<'n>(&'n self, facts: &'n Facts) -> impl Iterator<Item = &'n str> {
        let usable: Option<&HashSet<String>> = facts.usage.get(&self.role);
        let expanded = self.search_path.iter().map(|schema| match schema.as_str() {
            "$user" => &*self.role,
            other => other,
        });
        expanded.filter(move |schema| {
            !matches!(*schema, "pg_catalog" | "pg_temp") && usable.is_some_and(|usable| usable.contains(*schema))
        })
    }

    /// Whether `pg_catalog` comes first, as it does unless the path names it elsewhere.
    pub(super) fn has_catalog_first(&self) -> bool {
        self.is_stored || self.search_path.iter().position(|schema| schema == "pg_catalog").is_none_or(|at| at == 0)
    }

    fn check_usage(&self, facts: &Facts, schema: &str) -> Read<()> {
        let may = self.is_stored || facts.usage.get(&self.role).is_some_and(|usable| usable.contains(schema));
        if may { Ok(()) } else { refuse(format!("role {} has no USAGE on schema {schema}", self.role)) }
    }
}

/// The value of `SET search_path` as `pg_proc.proconfig` keeps it: names, quoted where they need it, between commas.
pub(super) fn search_path(value: &str) -> Option<Vec<String>> {
    let mut schemas = Vec::new();
    let mut rest = value.trim_start();
    if rest.is_empty() {
        return Some(schemas);
    }
    loop {
        let (name, behind) = part(rest, ',')?;
        schemas.push(name);
        rest = behind.trim_start();
        if rest.is_empty() {
            return Some(schemas);
        }
        rest = rest.strip_prefix(',')?.trim_start();
    }
}

/// The name at the beginning of a list, quoted or not, and what follows it.
pub(super) fn part(text: &str, separator: char) -> Option<(String, &str)> {
    if let Some(quoted) = text.strip_prefix('"') {
        return quoted_name(quoted);
    }
    let end = text.find(|c: char| c == separator || c.is_whitespace()).unwrap_or(text.len());
    let (name, behind) = text.split_at(end);
    if name.is_empty() || name.contains('"') { None } else { Some((name.to_ascii_lowercase(), behind)) }
}

fn quoted_name(mut rest: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    loop {
        let (before, behind) = rest.split_once('"')?;
        name.push_str(before);
        match behind.strip_prefix('"') {
            Some(behind) => {
                name.push('"');
                rest = behind;
            }
            None => return Some((name, behind)),
        }
    }
}
