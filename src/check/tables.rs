//! What the published tables' facts mean: keys, replica identities, row level security, rights. Pure.

use super::{
    Finding,
    facts::{ClosedSchema, Publication, Server, Table},
    schemas::names,
};

/// Everything that concerns the published tables, table by table.
pub(super) fn findings(server: &Server, publication: &Publication, tables: &[Table]) -> Vec<Finding> {
    let name = &server.publication_name;
    if tables.is_empty() {
        let meaning = format!(
            "publishes no table: clients get no changes; add one with: alter publication {name} add table <table>;"
        );
        return vec![Finding::warning("publication_tables", name, meaning)];
    }
    let mut findings = vec![Finding::ok("publication_tables", name, format!("published tables: {}", tables.len()))];
    for table in tables {
        findings.push(state(table));
        findings.extend(primary_key(table));
        findings.extend(replica_identity(table, publication, name));
        findings.extend(delete_visibility(table, publication));
        findings.extend(row_security(table));
        findings.extend(select_right(server, table));
        findings.extend(generated(server, table));
        findings.extend(schema_usage(server, table));
    }
    findings
}

fn state(table: &Table) -> Finding {
    let key = if table.has_primary_key { "primary key" } else { "no primary key" };
    let identity = match table.identity.as_str() {
        "f" => "full",
        "i" => "an index",
        "n" => "nothing",
        _ => "default",
    };
    let security = if table.row_security { "on" } else { "off" };
    let policies = table.policies.len();
    let readers = if table.readers.is_empty() {
        "neither anon nor authenticated may read it".to_owned()
    } else {
        format!("{} may read it", table.readers.join(" and "))
    };
    let meaning =
        format!("{key}, replica identity {identity}, row level security {security}, policies: {policies}, {readers}");
    Finding::ok("table", &table.name, meaning)
}

fn primary_key(table: &Table) -> Option<Finding> {
    let meaning = "no primary key: clients cannot tell its rows apart; an UPDATE or DELETE reaches them without a key \
                   in old_record, unless the replica identity is full and they may see the whole old row";
    (!table.has_primary_key).then(|| Finding::warning("primary_key", &table.name, meaning))
}

fn replica_identity(table: &Table, publication: &Publication, name: &str) -> Option<Finding> {
    let id = "replica_identity";
    let writes = match (publication.update, publication.delete) {
        (true, true) => "UPDATE and DELETE",
        (true, false) => "UPDATE",
        (false, true) => "DELETE",
        (false, false) => return None,
    };
    if !table.unidentified.is_empty() {
        let fix = table.unidentified.iter().map(|quoted| format!("alter table {quoted} replica identity full;"));
        let fix = fix.collect::<Vec<_>>().join("\n");
        let meaning = format!(
            "no usable replica identity (no primary key, or none named): Postgres refuses the application's own \
             {writes} on it while it is published"
        );
        return Some(Finding::error(id, &table.name, meaning).with_fix(fix));
    }
    if !table.is_key_listed {
        let meaning = format!(
            "the publication's column list leaves out a column of the replica identity: Postgres refuses the \
             application's own {writes} on it"
        );
        // Setting the whole list of tables anew would touch the others: taking the one out and in does not.
        let fix = format!(
            "alter publication {name} drop table {table};\nalter publication {name} add table {table};",
            table = table.quoted
        );
        return Some(Finding::error(id, &table.name, meaning).with_fix(fix));
    }
    None
}

fn delete_visibility(table: &Table, publication: &Publication) -> Option<Finding> {
    let reads_more = table.policies.iter().any(|policy| policy.for_select && policy.reads_beyond_key);
    if !table.row_security || table.identity == "f" || !publication.delete || !reads_more {
        return None;
    }
    let meaning = "a policy reads columns outside the replica identity, and of a deleted row only the identity is \
                   logged: every subscriber of the table is told the bare key of a deleted row (nobody, with --deletes \
                   strict)";
    let fix = format!("alter table {} replica identity full;", table.quoted);
    Some(Finding::warning("delete_visibility", &table.name, meaning).with_fix(fix))
}

fn row_security(table: &Table) -> Vec<Finding> {
    let enable = format!("alter table {} enable row level security;", table.quoted);
    let mut findings = Vec::new();
    if !table.row_security && !table.readers.is_empty() {
        let meaning = format!(
            "row level security is off: everybody with a key for {} reads all its rows, live too; once on, only what a \
             policy allows is seen",
            table.readers.join(" or ")
        );
        findings.push(Finding::warning("row_security", &table.name, meaning).with_fix(&enable));
    }
    if !table.row_security && !table.policies.is_empty() {
        let meaning = "has policies, but row level security is off: they do nothing";
        findings.push(Finding::warning("unused_policies", &table.name, meaning).with_fix(&enable));
    }
    let decides = |using: &Option<String>, for_select: bool| for_select && using.is_some();
    if table.row_security && !table.policies.iter().any(|policy| decides(&policy.using, policy.for_select)) {
        let meaning = "row level security is on and no policy allows a SELECT: only roles that bypass it are told of \
                       changes";
        findings.push(Finding::warning("no_policy", &table.name, meaning));
    }
    findings
}

fn select_right(server: &Server, table: &Table) -> Option<Finding> {
    if table.may_select {
        return None;
    }
    let meaning = format!("{} may not read it: lookups and catching up on missed rows need that", server.login);
    let fix = format!(
        "grant usage on schema {schema} to {login};\ngrant select on table {table} to {login};",
        schema = table.quoted_schema,
        login = server.login,
        table = table.quoted
    );
    Some(Finding::warning("select_right", &table.name, meaning).with_fix(fix))
}

fn generated(server: &Server, table: &Table) -> Option<Finding> {
    if table.omitted.is_empty() {
        return None;
    }
    let columns = table.omitted.join(", ");
    let meaning =
        format!("the stream leaves out the generated columns {columns}: clients see them listed, without a value");
    let finding = Finding::warning("generated_columns", &table.name, meaning);
    // Only from 18 on, and only stored ones, can be published.
    if server.version_number < 180_000 || !table.has_stored_omitted {
        return Some(finding);
    }
    Some(
        finding.with_fix(format!(
            "alter publication {} set (publish_generated_columns = 'stored');",
            server.publication_name
        )),
    )
}

fn schema_usage(server: &Server, table: &Table) -> Vec<Finding> {
    if !table.row_security {
        return Vec::new();
    }
    let policies = || table.policies.iter().filter(|policy| policy.for_select);
    // A policy that holds for none of the roles a schema is closed to is evaluated without trouble.
    let is_named = |schema: &&ClosedSchema| {
        let concerned = policies().filter(|policy| policy.roles.iter().any(|role| schema.roles.contains(role)));
        concerned.filter_map(|policy| policy.using.as_deref()).any(|using| names(using, &schema.name))
    };
    let finding = |schema: &ClosedSchema| {
        let meaning = format!(
            "a policy names schema {}, which neither {} nor {} may look into: it cannot be evaluated, so it shows them \
             no row",
            schema.name,
            server.login,
            schema.roles.join(" and ")
        );
        let fix = format!("grant usage on schema {} to {};", schema.quoted, server.login);
        Finding::warning("schema_usage", &table.name, meaning).with_fix(fix)
    };
    server.closed_schemas.iter().filter(is_named).map(finding).collect()
}
