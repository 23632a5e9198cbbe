//! `walcast check --policies`: for each published table and role what every policy is, what it reads, and who decides
//! it. Pure.

use super::{channels, lookups::carrier};
use crate::{
    pg::catalog::LOOKUP_PUBLICATION,
    policy::{
        analyse::{self, Clause, Ruling, Unprovable},
        catalog::{Catalog, RowRule, Table},
        class::{self, Class},
        facts::TableFacts,
        follow::{self, Names},
        lookup::Need,
    },
    tap::printable,
};
use serde::Serialize;
use std::{fmt::Write, sync::Arc};

/// What one policy is for one role; or, without a policy, what holds for the role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct PolicyLine {
    pub(super) table: String,
    pub(super) role: String,
    pub(super) policy: Option<String>,
    /// Whether it grants, or restricts what others grant.
    pub(super) permissive: Option<bool>,
    /// `C`, `P`, `P-eq`, `L1`, `L2`, with `+T` where time counts, or `Q` for the database.
    pub(super) class: String,
    /// `process`, `database` or `nobody has to`.
    pub(super) decided_by: &'static str,
    /// Columns of the row.
    pub(super) reads: Vec<String>,
    pub(super) looks_into: Vec<LookupLine>,
    /// Why the database decides, or why nobody has to.
    pub(super) why: Vec<String>,
    /// Columns the role may not read.
    pub(super) not_granted: Vec<String>,
}

/// A table that a policy looks into.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct LookupLine {
    table: String,
    columns: Vec<String>,
    /// What brings its changes along.
    carried_by: String,
    obstacle: Option<String>,
    fix: Option<String>,
}

pub(super) const PROCESS: &str = "process";
pub(super) const DATABASE: &str = "database";
pub(super) const NOBODY: &str = "nobody has to";

/// Every policy of every published table for every role that may be claimed, and those of private channels.
pub(super) fn lines(catalog: &Catalog, main: &str, login: &str) -> Vec<PolicyLine> {
    let names = Names { main, own: LOOKUP_PUBLICATION, login, roles: &catalog.roles };
    let mut tables: Vec<&Arc<Table>> = catalog.tables.values().collect();
    tables.sort_by_key(|table| (&table.schema, &table.name));
    let mut lines = Vec::new();
    for table in tables {
        let Some(facts) = catalog.facts.tables.get(&table.oid) else { continue };
        for role in &catalog.roles {
            lines.extend(Asked { catalog, names, table, facts, role }.lines());
        }
    }
    lines.extend(channels::lines(catalog));
    lines
}

/// One table and one role.
struct Asked<'a> {
    catalog: &'a Catalog,
    names: Names<'a>,
    table: &'a Table,
    facts: &'a TableFacts,
    role: &'a Arc<str>,
}

impl Asked<'_> {
    fn lines(&self) -> Vec<PolicyLine> {
        let access = self.catalog.access(self.table, self.role);
        let rule = access.map(|access| &access.rows);
        let clauses = match rule {
            None | Some(RowRule::None) => return vec![self.settled("no policy applies: it sees no row")],
            Some(RowRule::All) => return vec![self.settled(self.why_all())],
            Some(RowRule::Compiled(_) | RowRule::Database(_)) => {
                match analyse::ruling(&self.catalog.facts, self.facts, self.role) {
                    Ruling::Clauses(clauses) => clauses.into_iter().map(Ok).collect(),
                    Ruling::Database(clauses) => clauses,
                    Ruling::All | Ruling::None => Vec::new(),
                }
            }
        };
        let is_compiled = matches!(rule, Some(RowRule::Compiled(_)));
        let mut lines: Vec<PolicyLine> = clauses.iter().map(|clause| self.line(clause, is_compiled)).collect();
        // What one cannot answer, all are asked of the database for: they are one question.
        let mut causes = lines.iter().filter(|line| !line.why.is_empty()).filter_map(|line| line.policy.clone());
        let together = causes.next().map(|first| match causes.count() {
            0 => format!("together with {first}"),
            more => format!("together with {first} and {more} more"),
        });
        for line in lines.iter_mut().filter(|line| line.decided_by == DATABASE && line.why.is_empty()) {
            line.why.extend(together.clone());
        }
        lines
    }

    fn why_all(&self) -> &'static str {
        match self.facts.rights.get(self.role) {
            Some(rights) if rights.sees_all && !self.table.row_security => {
                "row level security is off: it sees every row"
            }
            Some(rights) if rights.sees_all => "row level security does not hold for it: it sees every row",
            _ => "a policy is true for every row",
        }
    }

    fn settled(&self, why: &str) -> PolicyLine {
        PolicyLine {
            table: format!("{}.{}", self.table.schema, self.table.name),
            role: self.role.to_string(),
            policy: None,
            permissive: None,
            class: "C".to_owned(),
            decided_by: NOBODY,
            reads: Vec::new(),
            looks_into: Vec::new(),
            why: vec![why.to_owned()],
            not_granted: self.not_granted(),
        }
    }

    fn line(&self, clause: &Result<Clause, Unprovable>, is_compiled: bool) -> PolicyLine {
        let policy = match clause {
            Ok(clause) => &clause.policy,
            Err(unprovable) => &unprovable.policy,
        };
        let mut line = PolicyLine {
            policy: Some(policy.clone()),
            permissive: self.facts.policies.iter().find(|known| known.name == *policy).map(|known| known.permissive),
            decided_by: if is_compiled { PROCESS } else { DATABASE },
            ..self.settled("")
        };
        match clause {
            Err(unprovable) => {
                line.class = Class::DATABASE.to_string();
                line.why = vec![unprovable.why.clone()];
            }
            Ok(clause) => {
                let program = class::alone(&self.catalog.facts, self.facts, clause);
                line.class = Class::of(&program).to_string();
                line.reads = names_of(self.facts, program.reads.iter());
                line.looks_into = program.lookups.iter().map(|(oid, need)| self.lookup(*oid, need)).collect();
                line.looks_into.sort_by(|one, other| one.table.cmp(&other.table));
                line.why = line.looks_into.iter().filter_map(|lookup| lookup.obstacle.clone()).collect();
            }
        }
        line
    }

    fn lookup(&self, oid: u32, need: &Need) -> LookupLine {
        let Some(table) = self.catalog.facts.tables.get(&oid) else {
            let obstacle = Some("it is not known".to_owned());
            let (table, carried_by) = (oid.to_string(), "nothing".to_owned());
            return LookupLine { table, columns: Vec::new(), carried_by, obstacle, fix: None };
        };
        let obstacle = follow::obstacle(table, need, self.catalog.tables.contains_key(&oid), self.names);
        LookupLine {
            table: format!("{}.{}", table.schema, table.name),
            columns: names_of(table, need.columns.iter()),
            carried_by: carrier(table, self.names),
            fix: obstacle.as_ref().and_then(|obstacle| obstacle.fix.as_ref()).map(|fix| format!("{fix};")),
            obstacle: obstacle.map(|obstacle| obstacle.why),
        }
    }

    fn not_granted(&self) -> Vec<String> {
        let select = self.catalog.access(self.table, self.role).map(|access| access.select.as_slice());
        let may = |index: usize| select.and_then(|select| select.get(index)).copied().unwrap_or(false);
        let columns = self.table.columns.iter().enumerate().filter(|(index, _)| !may(*index));
        columns.map(|(_, column)| column.name.clone()).collect()
    }
}

fn names_of<'a>(table: &TableFacts, columns: impl Iterator<Item = &'a usize>) -> Vec<String> {
    columns.filter_map(|&column| table.columns.get(column)).map(|column| column.name.clone()).collect()
}

/// The lines for people: table, role, policy, class, and what there is to say.
pub(super) fn text(lines: &[PolicyLine]) -> String {
    let mut text = String::new();
    for group in lines.chunk_by(|one, other| (&one.table, &one.role) == (&other.table, &other.role)) {
        for line in group {
            let policy = line.policy.as_deref().unwrap_or("-");
            let fields = [&line.table, &line.role, policy, &line.class].map(printable);
            let _ = writeln!(text, "{}  {}", fields.join("  "), printable(&remarks(line).join("; ")));
            for fix in line.looks_into.iter().filter_map(|lookup| lookup.fix.as_ref()) {
                let _ = writeln!(text, "         {}", printable(fix));
            }
        }
        if let Some(PolicyLine { table, role, not_granted, .. }) =
            group.first().filter(|line| !line.not_granted.is_empty())
        {
            let columns = printable(&not_granted.join(", "));
            let _ = writeln!(text, "{}  {}  columns not granted: {columns}", printable(table), printable(role));
        }
    }
    text
}

fn remarks(line: &PolicyLine) -> Vec<String> {
    let mut remarks = Vec::new();
    if line.permissive == Some(false) {
        remarks.push("restrictive".to_owned());
    }
    if !line.reads.is_empty() {
        remarks.push(format!("reads {}", line.reads.join(", ")));
    }
    for LookupLine { table, columns, carried_by, .. } in &line.looks_into {
        remarks.push(format!("looks into {table} ({}), carried by {carried_by}", columns.join(", ")));
    }
    if line.decided_by == DATABASE {
        remarks.push(format!("the database decides: {}", line.why.join("; ")));
    } else {
        remarks.extend(line.why.iter().cloned());
    }
    remarks
}
