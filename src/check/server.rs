//! What the server's facts mean: settings, rights, room for slots and senders, publication, roles, functions. Pure.

use super::{Finding, facts::Server, preflight::OLDEST};

/// The newest major version that is tested.
const NEWEST: i32 = 18;
const ROLES: [(&str, &str); 3] = [
    ("anon", include_str!("../../migrations/core/001_role_anon.sql")),
    ("authenticated", include_str!("../../migrations/core/002_role_authenticated.sql")),
    ("service_role", include_str!("../../migrations/core/003_role_service_role.sql")),
];
const AUTH_SCHEMA: &str = include_str!("../../migrations/core/004_schema_auth.sql");
const AUTH_FUNCTIONS: [(&str, &str); 4] = [
    ("jwt", include_str!("../../migrations/core/005_function_auth_jwt.sql")),
    ("uid", include_str!("../../migrations/core/006_function_auth_uid.sql")),
    ("role", include_str!("../../migrations/core/007_function_auth_role.sql")),
    ("email", include_str!("../../migrations/core/008_function_auth_email.sql")),
];

/// Everything that concerns the server as a whole.
pub(super) fn findings(server: &Server) -> Vec<Finding> {
    let mut findings = vec![version(server), wal_level(server)];
    findings.extend(recovery(server));
    findings.extend([replication(server), slots(server), senders(server)]);
    findings.push(keep_size(server));
    findings.extend(publication(server));
    // In the order in which their SQL runs: what grants roles comes after what makes them.
    findings.extend(roles(server));
    findings.extend([auth_functions(server), login(server)]);
    findings
}

fn version(server: &Server) -> Finding {
    let (id, subject) = ("server_version", format!("PostgreSQL {}", server.version));
    if server.version_number < OLDEST {
        return Finding::error(id, subject, "too old: 14 or newer is needed");
    }
    if server.version_number / 10_000 > NEWEST {
        return Finding::warning(id, subject, format!("newer than {NEWEST}, the newest that was tested"));
    }
    Finding::ok(id, subject, "supported")
}

fn wal_level(server: &Server) -> Finding {
    let id = "wal_level";
    if server.wal_level == "logical" {
        return Finding::ok(id, id, "logical");
    }
    let meaning = format!("{}: changes cannot be decoded; it takes a restart of Postgres", server.wal_level);
    Finding::error(id, id, meaning).with_fix("alter system set wal_level = 'logical';")
}

fn recovery(server: &Server) -> Option<Finding> {
    let meaning = "a standby: `serve` reads changes from a primary, and waits until this one is promoted; point DATABASE_URL at \
                   the primary";
    server.in_recovery.then(|| Finding::error("standby", "recovery", meaning))
}

fn replication(server: &Server) -> Finding {
    let (id, login) = ("replication_right", &server.login);
    if server.may_replicate {
        return Finding::ok(id, login, "may replicate");
    }
    Finding::error(id, login, "may not replicate: the stream cannot start")
        .with_fix(format!("alter role {login} replication;"))
}

fn login(server: &Server) -> Finding {
    let id = "least_privilege";
    if !server.is_superuser {
        return Finding::ok(id, &server.login, "not a superuser");
    }
    let meaning =
        "a superuser: whoever gets hold of the connection string owns the server; a role of its own is enough";
    Finding::warning(id, &server.login, meaning).with_fix(
        "create role walcast login replication noinherit;\ngrant anon, authenticated, service_role to walcast;",
    )
}

fn slots(server: &Server) -> Finding {
    let (id, subject) = ("replication_slots", "max_replication_slots");
    let free = server.max_replication_slots - server.used_slots;
    let usage = format!("{} of {} in use", server.used_slots, server.max_replication_slots);
    let more = format!("alter system set max_replication_slots = {};", server.max_replication_slots + 5);
    if free > 0 {
        return Finding::ok(id, subject, usage);
    }
    if server.slot.is_some() {
        let meaning = format!("{usage}: `serve` has its slot, but `tap` finds none; raising it takes a restart");
        return Finding::warning(id, subject, meaning).with_fix(more);
    }
    let meaning =
        format!("{usage}: there is none for us; drop one that nobody reads, or raise it, which takes a restart");
    Finding::error(id, subject, meaning).with_fix(more)
}

fn senders(server: &Server) -> Finding {
    let (id, subject) = ("wal_senders", "max_wal_senders");
    let usage = format!("{} of {} in use", server.used_senders, server.max_wal_senders);
    if server.used_senders < server.max_wal_senders {
        return Finding::ok(id, subject, usage);
    }
    let more = format!("alter system set max_wal_senders = {};", server.max_wal_senders + 5);
    if server.slot.as_ref().is_some_and(|slot| slot.active) {
        let meaning = format!("{usage}: `serve` has its sender, but `tap` finds none; raising it takes a restart");
        return Finding::warning(id, subject, meaning).with_fix(more);
    }
    Finding::error(id, subject, format!("{usage}: there is none for us; raising it takes a restart")).with_fix(more)
}

fn keep_size(server: &Server) -> Finding {
    let id = "max_slot_wal_keep_size";
    if server.max_slot_wal_keep_size != "-1" {
        return Finding::ok(id, id, &server.max_slot_wal_keep_size);
    }
    Finding::warning(id, id, "no limit: a slot that nobody reads keeps WAL until the disk is full")
        .with_fix("alter system set max_slot_wal_keep_size = '10GB';\nselect pg_catalog.pg_reload_conf();")
}

fn publication(server: &Server) -> Vec<Finding> {
    let name = &server.publication_name;
    let Some(publication) = &server.publication else {
        let meaning = "does not exist: nothing can be streamed; `walcast migrate` makes it";
        return vec![Finding::error("publication", name, meaning).with_fix(format!("create publication {name};"))];
    };
    let operations = [("INSERT", publication.insert), ("UPDATE", publication.update), ("DELETE", publication.delete)];
    let missing: Vec<&str> = operations.iter().filter(|(_, published)| !published).map(|(name, _)| *name).collect();
    let operations = if missing.is_empty() {
        Finding::ok("publication_operations", name, "INSERT, UPDATE and DELETE are published")
    } else {
        let meaning = format!("clients never hear of {}", missing.join(" and "));
        Finding::warning("publication_operations", name, meaning)
            .with_fix(format!("alter publication {name} set (publish = 'insert, update, delete, truncate');"))
    };
    vec![Finding::ok("publication", name, "exists"), operations]
}

fn roles(server: &Server) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (role, create) in ROLES {
        let grant = format!("grant {role} to {};", server.login);
        findings.push(if server.claimable.iter().any(|name| name == role) {
            Finding::ok("role", role, format!("granted to {}", server.login))
        } else if server.existing_roles.iter().any(|name| name == role) {
            let meaning = format!("not granted to {}: its tokens are refused", server.login);
            Finding::warning("role", role, meaning).with_fix(grant)
        } else {
            let meaning = "does not exist: its tokens are refused; `walcast migrate` makes it";
            Finding::warning("role", role, meaning).with_fix(format!("{}\n{grant}", statements(create)))
        });
    }
    if server.claimable.is_empty() {
        let meaning = "no role is granted to it that a token could name: every client is refused";
        let grant = format!("grant anon, authenticated, service_role to {};", server.login);
        findings.push(Finding::error("claimable_roles", &server.login, meaning).with_fix(grant));
    }
    findings
}

fn auth_functions(server: &Server) -> Finding {
    let id = "auth_functions";
    let is_missing = |name: &str| !server.auth_functions.iter().any(|found| found == name);
    let missing: Vec<_> = AUTH_FUNCTIONS.iter().filter(|(name, _)| is_missing(name)).collect();
    if missing.is_empty() {
        return Finding::ok(id, "auth", "auth.uid(), auth.jwt(), auth.role() and auth.email() exist");
    }
    let names: Vec<String> = missing.iter().map(|(name, _)| format!("auth.{name}()")).collect();
    let meaning = "missing: policies written for Supabase ask them who is calling; `walcast migrate` makes them";
    let schema = (!server.has_auth_schema).then_some(AUTH_SCHEMA);
    let sql: Vec<String> = schema.into_iter().chain(missing.iter().map(|(_, sql)| *sql)).map(statements).collect();
    Finding::warning(id, names.join(", "), meaning).with_fix(sql.join("\n"))
}

/// A migration without its comments.
fn statements(sql: &str) -> String {
    sql.lines().filter(|line| !line.starts_with("--")).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::{super::Status, Server, findings};
    use serde_json::json;

    fn server(version_number: i32, in_recovery: bool) -> Server {
        serde_json::from_value(json!({
            "version": "x", "version_number": version_number, "wal_level": "logical", "in_recovery": in_recovery,
            "max_replication_slots": 10, "max_wal_senders": 10, "max_slot_wal_keep_size": "1GB", "used_slots": 0,
            "used_senders": 0, "login": "walcast", "login_name": "walcast", "may_replicate": true, "is_superuser": false,
            "publication_name": "p", "publication": null, "slot_literal": "'walcast'", "slot": null,
            "existing_roles": [], "has_auth_schema": false, "auth_functions": [], "closed_schemas": []
        }))
        .unwrap()
    }

    fn status(server: &Server, id: &str) -> Option<Status> {
        findings(server).into_iter().find(|finding| finding.id == id).map(|finding| finding.status)
    }

    #[test]
    fn a_server_too_old_is_an_error_and_one_too_new_a_warning() {
        for (number, expected) in
            [(130_022, Status::Error), (140_000, Status::Ok), (180_004, Status::Ok), (190_000, Status::Warning)]
        {
            assert_eq!(status(&server(number, false), "server_version"), Some(expected), "{number}");
        }
    }

    #[test]
    fn a_standby_is_an_error() {
        assert_eq!(status(&server(180_000, true), "standby"), Some(Status::Error));
        assert_eq!(status(&server(180_000, false), "standby"), None);
    }
}
