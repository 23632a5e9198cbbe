//! What `realtime.messages` means for private channels: whether anybody can use one, and who decides its policies. Pure.

use super::{
    Finding,
    policies::{DATABASE, NOBODY, PROCESS, PolicyLine},
};
use crate::policy::{
    analyse::{Clause, Unprovable},
    catalog::Catalog,
    channels::{ChannelPolicies, ChannelRule},
    class::Class,
    follow::quoted_name,
    topic::ChannelAccess,
};
use std::sync::Arc;

const TABLE: &str = "realtime.messages";
const ID: &str = "private_channels";
/// The roles clients have.
const CLIENTS: [&str; 2] = ["anon", "authenticated"];

/// Whether private channels can be used at all.
pub(super) fn findings(catalog: &Catalog) -> Vec<Finding> {
    let Some(channels) = &catalog.channels else {
        let meaning = "does not exist: whoever asks for a private channel is refused";
        return vec![Finding::warning(ID, TABLE, meaning)];
    };
    let roles: Vec<&Arc<str>> = catalog.roles.iter().filter(|role| CLIENTS.contains(&&***role)).collect();
    let obstacles = roles.iter().map(|role| channels.table.obstacle(role, ChannelAccess::Read));
    let obstacles: Option<Vec<&str>> = obstacles.collect();
    let Some(why) = obstacles.as_ref().and_then(|all| all.first()) else {
        let meaning = format!("has {} policies that say who may use private channels", channels.table.policies.len());
        return vec![Finding::ok(ID, TABLE, meaning)];
    };
    let grants: Vec<String> = roles.iter().map(|role| grants(role)).collect();
    let meaning = format!("neither anon nor authenticated can read it ({why}): every private channel is refused");
    vec![Finding::warning(ID, TABLE, meaning).with_fix(grants.join(" "))]
}

fn grants(role: &str) -> String {
    let role = quoted_name(role);
    format!("grant usage on schema realtime to {role}; grant select, insert on {TABLE} to {role};")
}

/// Every policy of the table for every role that may be claimed, and every way of use.
pub(super) fn lines(catalog: &Catalog) -> Vec<PolicyLine> {
    let Some(channels) = &catalog.channels else { return Vec::new() };
    let mut lines = Vec::new();
    for role in &catalog.roles {
        lines.extend(of(channels, role, ChannelAccess::Read));
        lines.extend(of(channels, role, ChannelAccess::Write));
    }
    lines
}

fn of(channels: &ChannelPolicies, role: &Arc<str>, access: ChannelAccess) -> Vec<PolicyLine> {
    let command = match access {
        ChannelAccess::Read => "select",
        ChannelAccess::Write => "insert",
    };
    let plain = |decided_by: &'static str, class: Class, why: &[&str]| PolicyLine {
        table: format!("{TABLE} for {command}"),
        role: role.to_string(),
        policy: None,
        permissive: None,
        class: class.to_string(),
        decided_by,
        reads: Vec::new(),
        looks_into: Vec::new(),
        why: why.iter().map(|&why| why.to_owned()).collect(),
        not_granted: Vec::new(),
    };
    match channels.rule(role, access) {
        None => Vec::new(),
        Some(ChannelRule::None(why)) => vec![plain(NOBODY, Class::CLAIMS, &[why])],
        Some(ChannelRule::All) => vec![plain(NOBODY, Class::CLAIMS, &["row level security does not hold for it"])],
        Some(ChannelRule::Process(decider)) => {
            let program = &decider.program;
            let reads = program.reads.iter().filter_map(|&index| channels.table.columns.get(index));
            let reads: Vec<String> = reads.map(|column| column.name.clone()).collect();
            let line = |clause: &Clause| PolicyLine {
                policy: Some(clause.policy.clone()),
                permissive: Some(clause.permissive),
                reads: reads.clone(),
                ..plain(PROCESS, Class::of(program), &[])
            };
            program.clauses.iter().map(line).collect()
        }
        Some(ChannelRule::Database(clauses)) => {
            let line = |clause: &Result<Clause, Unprovable>| {
                let (policy, why) = match clause {
                    Ok(clause) => (&clause.policy, "together with the others"),
                    Err(unprovable) => (&unprovable.policy, &*unprovable.why),
                };
                let known = channels.table.policies.iter().find(|known| known.name == *policy);
                PolicyLine {
                    policy: Some(policy.clone()),
                    permissive: known.map(|known| known.permissive),
                    ..plain(DATABASE, Class::DATABASE, &[why])
                }
            };
            clauses.iter().map(line).collect()
        }
    }
}
