//! What the tables that policies look into mean: which of them are followed, and by which SQL the others would be.
//! Pure.

use super::{Finding, Server, facts::LookupPublication};
use crate::{
    pg::catalog::LOOKUP_PUBLICATION,
    policy::{
        catalog::Catalog,
        facts::{Carried, TableFacts},
        follow::{self, Names},
        lookup::Need,
    },
};
use std::{collections::BTreeMap, sync::Arc};

const PUBLICATION: &str = "lookup_publication";
const TABLE: &str = "lookup_table";

/// Everything that concerns lookup tables.
pub(super) fn findings(
    server: &Server,
    catalog: &Catalog,
    main: &str,
    own: Option<&LookupPublication>,
) -> Vec<Finding> {
    let names = Names { main, own: LOOKUP_PUBLICATION, login: &server.login_name, roles: &catalog.roles };
    let wanted = follow::wanted(catalog);
    let mut findings = vec![publication(own, !wanted.is_empty())];
    findings.extend(own.into_iter().flat_map(|own| own.tables.iter()).filter_map(|table| member(table, main)));
    findings.extend(tables(catalog, &wanted, names));
    findings
}

fn publication(own: Option<&LookupPublication>, is_wanted: bool) -> Finding {
    let name = LOOKUP_PUBLICATION;
    match own {
        Some(own) if own.has_all_operations => Finding::ok(PUBLICATION, name, "exists, with all operations"),
        Some(_) => {
            let meaning = "leaves out operations: its tables cannot be followed, and the database decides policies that \
                           look into them";
            let fix = format!("alter publication {name} set (publish = 'insert, update, delete, truncate');");
            Finding::warning(PUBLICATION, name, meaning).with_fix(fix)
        }
        None if is_wanted => {
            let meaning = "does not exist: tables that policies look into and clients do not subscribe to cannot be \
                           followed; `walcast migrate` makes it";
            Finding::warning(PUBLICATION, name, meaning).with_fix(format!("create publication {name};"))
        }
        None => Finding::ok(PUBLICATION, name, "does not exist, and is not needed: no policy looks into a table"),
    }
}

/// What is wrong with a table being in our publication.
fn member(table: &super::facts::LookupMember, main: &str) -> Option<Finding> {
    let meaning = if table.is_restricted {
        format!(
            "publication {main} leaves out rows, columns or operations of it, and {LOOKUP_PUBLICATION} has it too: \
             together they would show clients all of it, so {LOOKUP_PUBLICATION} is not streamed"
        )
    } else if !table.has_identity {
        format!(
            "has no usable replica identity: Postgres refuses the application's own UPDATE and DELETE on it while it \
             is in publication {LOOKUP_PUBLICATION}"
        )
    } else {
        return None;
    };
    let finding = Finding::error("lookup_member", &table.name, meaning);
    let fix = format!("alter publication {LOOKUP_PUBLICATION} drop table {};", table.quoted);
    Some(if table.is_listed { finding.with_fix(fix) } else { finding })
}

fn tables(catalog: &Catalog, wanted: &BTreeMap<u32, Need>, names: Names<'_>) -> Vec<Finding> {
    let known = wanted.iter().filter_map(|(oid, need)| Some((catalog.facts.tables.get(oid)?, need)));
    let mut tables: Vec<_> = known.collect();
    tables.sort_by_key(|(table, _)| (&table.schema, &table.name));
    let finding = |(table, need): (&Arc<TableFacts>, &Need)| {
        let subject = format!("{}.{}", table.schema, table.name);
        let Some(obstacle) = follow::obstacle(table, need, catalog.tables.contains_key(&table.oid), names) else {
            let meaning = format!("policies look into it; followed by {}", carrier(table, names));
            return Finding::ok(TABLE, subject, meaning);
        };
        let meaning = format!("policies look into it, and the database decides them: {}", obstacle.why);
        let finding = Finding::warning(TABLE, subject, meaning);
        // One statement a line.
        let fix = obstacle.fix.map(|fix| format!("{};", fix.replace("; ", ";\n")));
        Finding { fix, ..finding }
    };
    tables.into_iter().map(finding).collect()
}

/// What brings a table's changes along.
pub(super) fn carrier(table: &TableFacts, names: Names<'_>) -> String {
    match table.carried {
        Carried::Main => format!("publication {}", names.main),
        Carried::Own => format!("publication {}", names.own),
        Carried::No => "nothing".to_owned(),
    }
}
