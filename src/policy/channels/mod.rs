//! Who may use private channels, by the policies of `realtime.messages` (protocol reference, section 8): hearing is
//! SELECT, speaking is INSERT, of the row that a message of the channel would be. No row is written to find out.
//!
//! `table` is what the catalogue says of that table, `image` the row. Policies that need claims, topic, headers and the
//! image become programs. Policies that look into other tables are left to the database: a join asks once, so rows of
//! these tables would be held in memory and followed in the stream for next to nothing, and they would be those of the
//! stream's position, which may lag, where a join wants those of now.

mod image;
mod table;

pub use image::Image;
pub use table::{ChannelColumn, ChannelPolicy, ChannelTable, Command, Condition, RoleRights};

use super::{
    analyse::{self, Clause, Ruling, Unprovable},
    facts::{Facts, Policy, TableFacts, TableRights},
    lookup::Lookups,
    program::{Program, Verdict},
    topic::{ChannelAccess, ChannelUser, Extension, Granted},
};
use std::{collections::HashMap, sync::Arc};

/// Who may use private channels.
#[derive(Debug)]
pub struct ChannelPolicies {
    /// The table.
    pub table: ChannelTable,
    /// By role that may be claimed.
    rules: HashMap<Arc<str>, Rules>,
}

/// Who decides for one role.
#[derive(Debug)]
struct Rules {
    read: ChannelRule,
    write: ChannelRule,
}

/// Who decides whether a role may use a channel in one way.
#[derive(Debug)]
pub enum ChannelRule {
    /// Everything is granted: row level security does not hold.
    All,
    /// Nothing is granted, for this reason.
    None(&'static str),
    /// The process decides.
    Process(Box<ChannelProgram>),
    /// Postgres decides: what could not be understood, policy by policy, and what could.
    Database(Vec<Result<Clause, Unprovable>>),
}

/// The policies for one role and one way of use, as a program over the image.
#[derive(Debug)]
pub struct ChannelProgram {
    /// The program.
    pub program: Program,
    image: Image,
}

/// What the process decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What is granted.
    pub granted: Granted,
    /// The SQLSTATE of a policy that would raise an error, and grants nothing.
    pub failed: Option<&'static str>,
}

impl Decision {
    /// Without an error.
    pub const fn of(granted: Granted) -> Decision {
        Decision { granted, failed: None }
    }
}

impl ChannelPolicies {
    /// Decides who decides, for these roles.
    pub fn new(facts: &Facts, table: ChannelTable, roles: &[Arc<str>]) -> ChannelPolicies {
        let rule = |role: &Arc<str>, access| rule(facts, &table, role, access);
        let rules =
            |role: &Arc<str>| Rules { read: rule(role, ChannelAccess::Read), write: rule(role, ChannelAccess::Write) };
        ChannelPolicies { rules: roles.iter().map(|role| (role.clone(), rules(role))).collect(), table }
    }

    /// Who decides for a role; none when it is not known.
    pub fn rule(&self, role: &str, access: ChannelAccess) -> Option<&ChannelRule> {
        let rules = self.rules.get(role)?;
        Some(match access {
            ChannelAccess::Read => &rules.read,
            ChannelAccess::Write => &rules.write,
        })
    }

    /// What is granted; none when Postgres has to be asked.
    pub fn decide(&self, user: &ChannelUser, access: ChannelAccess) -> Option<Decision> {
        match self.rule(&user.claims.role, access) {
            None | Some(ChannelRule::None(_)) => Some(Decision::of(Granted::default())),
            Some(ChannelRule::All) => Some(Decision::of(Granted::ALL)),
            Some(ChannelRule::Process(program)) => program.decide(user),
            Some(ChannelRule::Database(_)) => None,
        }
    }
}

impl ChannelProgram {
    fn decide(&self, user: &ChannelUser) -> Option<Decision> {
        let arguments = self.program.bind_channel(user)?;
        let mut decision = Decision::of(Granted::default());
        for extension in Extension::ALL {
            let image = self.image.values(&user.topic, extension);
            let column = |index: usize| image.get(index);
            // No clock: a program to which time counts is the database's.
            let verdict = self.program.judge(&arguments, &self.program.row(&column), &Lookups::default(), 0);
            match (verdict, extension) {
                (Verdict::Yes, Extension::Broadcast) => decision.granted.broadcast = true,
                (Verdict::Yes, Extension::Presence) => decision.granted.presence = true,
                (Verdict::No, _) => {}
                (Verdict::Failed(sqlstate), _) => decision.failed = Some(sqlstate),
                (Verdict::Absent | Verdict::Unsupported, _) => return None,
            }
        }
        Some(decision)
    }
}

fn rule(facts: &Facts, table: &ChannelTable, role: &Arc<str>, access: ChannelAccess) -> ChannelRule {
    if let Some(why) = table.obstacle(role, access) {
        return ChannelRule::None(why);
    }
    let Some(own) = facts_of(facts, table, access) else { return ChannelRule::Database(Vec::new()) };
    let clauses = match analyse::channel_ruling(facts, &own, role) {
        Ruling::All => return ChannelRule::All,
        Ruling::None => return ChannelRule::None("no policy applies"),
        Ruling::Clauses(clauses) => clauses,
        Ruling::Database(clauses) => return ChannelRule::Database(clauses),
    };
    let refused: Vec<_> = clauses.iter().map(|clause| in_process(facts, &own, clause)).collect();
    if refused.iter().any(Result::is_err) {
        return ChannelRule::Database(refused);
    }
    let program = Program::new(facts, &own, clauses);
    ChannelRule::Process(Box::new(ChannelProgram { program, image: Image::of(table) }))
}

/// A policy that was understood, unless the database is to decide it all the same.
fn in_process(facts: &Facts, table: &TableFacts, clause: &Clause) -> Result<Clause, Unprovable> {
    let program = Program::new(facts, table, vec![clause.clone()]);
    let why = if !program.lookups.is_empty() {
        "it looks into other tables"
    } else if program.is_timed() {
        "the time counts, which is the database's"
    } else {
        return Ok(clause.clone());
    };
    Err(Unprovable { policy: clause.policy.clone(), why: why.to_owned() })
}

/// The table with its policies for one way of use in the place of those for SELECT.
fn facts_of(facts: &Facts, table: &ChannelTable, access: ChannelAccess) -> Option<TableFacts> {
    let known = facts.tables.get(&table.oid)?;
    let policies: Vec<&ChannelPolicy> = table.policies_for(access).collect();
    let rights = |rights: &RoleRights, select: Vec<bool>| TableRights {
        select,
        sees_all: rights.is_unfiltered,
        policies: (0..policies.len()).filter(|&index| rights.policies.contains(&policies[index].name)).collect(),
    };
    let select = |role: &str| known.rights.get(role).map(|rights| rights.select.clone()).unwrap_or_default();
    let rights = table.rights.iter().map(|(role, own)| (Arc::from(role.as_str()), rights(own, select(role)))).collect();
    let policy = |policy: &&ChannelPolicy| Policy {
        name: policy.name.clone(),
        permissive: policy.permissive,
        using: policy.expression(access).map(str::to_owned),
    };
    Some(TableFacts { policies: policies.iter().map(policy).collect(), rights, ..TableFacts::clone(known) })
}
