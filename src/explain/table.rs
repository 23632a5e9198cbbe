//! What hides rows of a table from a role whatever is in them: role, publication, grants, key; and what of a change the
//! stream carries.

use super::{
    Subject, World,
    ask::{Asked, Asker},
    report::{Columns, Report},
    session::{Named, Session},
};
use crate::{
    change::relation::ReplicaIdentity,
    policy::{
        catalog::{Catalog, Table},
        explain::YES,
        follow::quoted_name,
    },
};

/// May tokens claim the role?
pub(super) fn role(report: &mut Report, catalog: &Catalog, role: &str) {
    if catalog.is_claimable(role) {
        return report.passes("role", format!("tokens may claim role \"{role}\""));
    }
    if catalog.other_roles.iter().any(|other| other == role) {
        let meaning = format!("tokens may not claim role \"{role}\": it is not granted to this server's login");
        return report.hides("role", meaning, None);
    }
    report.hides("role", format!("there is no role \"{role}\", which the claims name"), None);
}

/// Is the table streamed?
pub(super) fn publication(report: &mut Report, world: &World<'_>, named: &Named, is_known: bool) {
    let (table, publication) = (&report.table, world.publication);
    let (schema, name) = table.split_once('.').unwrap_or_default();
    let quoted = format!("{}.{}", quoted_name(schema), quoted_name(name));
    if !named.is_table {
        let meaning = format!("{table} is not a table, so its rows are not in the stream");
        return report.hides("publication", meaning, None);
    }
    if table == "realtime.messages" && !named.is_published {
        let meaning = "rows of realtime.messages are broadcast, not streamed to subscribers of the table; \
                       `walcast check --policies` says who may use private channels";
        return report.hides("publication", meaning.to_owned(), None);
    }
    if !named.has_publication {
        let fix = format!("create publication {} for table {quoted}", quoted_name(publication));
        let meaning = format!("there is no publication {publication}, so nothing is streamed");
        return report.hides("publication", meaning, Some(fix));
    }
    if !named.is_published {
        let fix = format!("alter publication {} add table {quoted}", quoted_name(publication));
        let meaning = format!("table {table} is not in publication {publication}, so no change of it is streamed");
        return report.hides("publication", meaning, Some(fix));
    }
    if !is_known {
        let meaning = format!("the server's catalogue does not have table {table} yet; ask again in a second");
        return report.hides("publication", meaning, None);
    }
    let operations = named.operations.clone().unwrap_or_default();
    report.passes("publication", format!("publication {publication} has table {table}"));
    let missing: Vec<&str> = ["INSERT", "UPDATE", "DELETE"]
        .into_iter()
        .filter(|operation| !operations.iter().any(|is| is == operation))
        .collect();
    if !missing.is_empty() {
        let meaning =
            format!("publication {publication} leaves out {}: nobody hears of such changes", missing.join(", "));
        report.note("operations", meaning);
    }
}

/// May the role read the table?
pub(super) fn grants(report: &mut Report, catalog: &Catalog, table: &Table) {
    let (schema, role) = (quoted_name(&table.schema), quoted_name(&report.role));
    let quoted = format!("{schema}.{}", quoted_name(&table.name));
    let select = select(report, catalog, table);
    let named = |wanted: bool| {
        let columns = table.columns.iter().zip(&select).filter(|(_, granted)| **granted == wanted);
        columns.map(|(column, _)| column.name.clone()).collect::<Vec<_>>()
    };
    let (granted, not_granted) = (named(true), named(false));
    let has_usage = catalog.facts.usage.get(&*report.role).is_some_and(|schemas| schemas.contains(&table.schema));
    if !has_usage {
        let meaning = format!("role \"{}\" has no USAGE on schema {}", report.role, table.schema);
        report.hides("grant", meaning, Some(format!("grant usage on schema {schema} to {role}")));
    } else if granted.is_empty() {
        let meaning = format!("role \"{}\" may SELECT no column of {}", report.role, report.table);
        report.hides("grant", meaning, Some(format!("grant select on table {quoted} to {role}")));
    } else if not_granted.is_empty() {
        report.passes("grant", format!("role \"{}\" may SELECT every column", report.role));
    } else {
        let meaning =
            format!("role \"{}\" may not SELECT {}: clients do not get these", report.role, not_granted.join(", "));
        report.note("grant", meaning);
    }
    report.columns = Some(Columns { granted, not_granted });
}

/// Can a row be named to clients?
pub(super) fn key(report: &mut Report, catalog: &Catalog, table: &Table) {
    if table.primary_key.is_empty() {
        let meaning = format!(
            "{} has no primary key: of INSERT and UPDATE clients hear `Error 400: Bad Request, no primary key` only",
            report.table
        );
        return report.hides("key", meaning, None);
    }
    let select = select(report, catalog, table);
    let is_hidden = |index: &&usize| !select.get(**index).copied().unwrap_or(false);
    let hidden = table.primary_key.iter().filter(is_hidden).filter_map(|&index| table.columns.get(index));
    let hidden: Vec<&str> = hidden.map(|column| column.name.as_str()).collect();
    if !hidden.is_empty() && !report.is_hidden_by("grant") {
        let quoted: Vec<String> = hidden.iter().map(|name| quoted_name(name)).collect();
        let meaning = format!(
            "role \"{}\" may not SELECT {} of the primary key: of INSERT and UPDATE clients hear `Error 401: Unauthorized` \
             only",
            report.role,
            hidden.join(", ")
        );
        let table = format!("{}.{}", quoted_name(&table.schema), quoted_name(&table.name));
        let role = quoted_name(&report.role);
        report.hides("key", meaning, Some(format!("grant select ({}) on table {table} to {role}", quoted.join(", "))));
    }
}

/// What of old rows is streamed, and who is told.
pub(super) fn images(report: &mut Report, table: &Table, named: &Named) {
    let name = report.table.clone();
    if !table.row_security {
        let meaning = format!("row level security of {name} is off: every role with a grant sees every row");
        report.note("row_security", meaning);
    } else {
        let forced = if named.forces_row_security { ", for its owner too" } else { "" };
        report.passes("row_security", format!("row level security of {name} is on{forced}"));
    }
    let meaning = match table.replica_identity {
        ReplicaIdentity::Full => {
            return report.passes("replica_identity", "old rows are logged whole, so DELETE is judged as any change");
        }
        _ if !table.row_security => return,
        ReplicaIdentity::Nothing => {
            "no old rows are logged: nobody hears of a DELETE, or of a row that leaves his sight"
        }
        ReplicaIdentity::Default | ReplicaIdentity::Index => {
            "of old rows only the key is logged: a DELETE cannot be judged (every subscriber of the table is told the \
             key, or nobody with deletes = strict), and of a row that leaves his sight nobody is told"
        }
    };
    let quoted = format!("{}.{}", quoted_name(&table.schema), quoted_name(&table.name));
    report.note("replica_identity", format!("{meaning}; to change that: alter table {quoted} replica identity full"));
}

/// Does the publication let the row through?
pub(super) async fn row_filter(
    report: &mut Report,
    session: &mut Session<'_>,
    subject: &Subject<'_>,
    expression: &str,
) -> Result<(), super::ExplainError> {
    let expression = format!("({expression})");
    let Subject { table, row, .. } = *subject;
    let asked = Asked { table, row, expression: &expression, parameters: &[], asker: Asker::Login };
    let answer = session.ask(&asked).await?;
    if answer == YES {
        report.passes("row_filter", format!("the publication's row filter lets the row through: {expression}"));
    } else {
        let meaning =
            format!("the publication's row filter leaves this row of {} out: {expression} is {answer}", report.table);
        report.hides("row_filter", meaning, None);
    }
    Ok(())
}

/// Which columns the role may read, by grant alone.
fn select(report: &Report, catalog: &Catalog, table: &Table) -> Vec<bool> {
    let rights = catalog.facts.tables.get(&table.oid).and_then(|facts| facts.rights.get(&*report.role));
    let granted = |index: usize| rights.and_then(|rights| rights.select.get(index)).copied().unwrap_or(false);
    (0..table.columns.len()).map(granted).collect()
}
