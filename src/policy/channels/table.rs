//! What the catalogue says of `realtime.messages`, and what follows of it without looking at a topic.

use crate::policy::{catalog::joined, topic::ChannelAccess};
use serde::Deserialize;
use std::collections::HashMap;

/// `realtime.messages`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ChannelTable {
    /// `pg_class.oid`.
    pub oid: u32,
    /// Its columns in attribute order, dropped ones left out.
    pub columns: Vec<ChannelColumn>,
    /// Its policies that concern SELECT or INSERT, by name.
    pub policies: Vec<ChannelPolicy>,
    /// What roles may do, by name.
    pub rights: HashMap<String, RoleRights>,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ChannelColumn {
    /// `pg_attribute.attnum`.
    pub number: i16,
    /// Its name.
    pub name: String,
    /// The oid of its type.
    pub type_oid: u32,
    /// The type as SQL, with its length or scale.
    pub sql_type: String,
    /// Whether it is NOT NULL.
    pub is_required: bool,
    /// Whether it is computed of others.
    pub is_generated: bool,
    /// Whether a sequence gives its value.
    pub is_identity: bool,
    /// Its default as SQL.
    pub default: Option<String>,
}

/// Which statements a policy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Command {
    /// SELECT.
    #[serde(rename = "r")]
    Select,
    /// INSERT.
    #[serde(rename = "a")]
    Insert,
    /// All.
    #[serde(rename = "*")]
    All,
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ChannelPolicy {
    /// Its name.
    pub name: String,
    /// Whether it grants, or restricts what others grant.
    pub permissive: bool,
    /// What it is for.
    pub command: Command,
    /// `USING`, as SQL.
    pub using: Option<String>,
    /// `WITH CHECK`, as SQL.
    pub check: Option<String>,
    /// The numbers of the columns it reads.
    pub reads: Vec<i16>,
}

/// What a role may do with the table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct RoleRights {
    /// USAGE on the schema.
    pub usage: bool,
    /// The numbers of the columns it may SELECT, by table or column grant.
    pub select: Vec<i16>,
    /// The same for INSERT.
    pub insert: Vec<i16>,
    /// Whether row level security does not hold: off, bypassed, or the role owns the table without FORCE.
    pub is_unfiltered: bool,
    /// The policies that apply to it, by name.
    pub policies: Vec<String>,
}

/// The columns a message is written with. Whoever may not INSERT one of them may not speak.
const WRITTEN: &[&str] = &["topic", "extension", "private", "id", "inserted_at", "updated_at"];

impl ChannelPolicy {
    /// What it says for a way of use: for INSERT, USING stands in for a WITH CHECK that is not there.
    pub fn expression(&self, access: ChannelAccess) -> Option<&str> {
        match access {
            ChannelAccess::Read => self.using.as_deref(),
            ChannelAccess::Write => self.check.as_deref().or(self.using.as_deref()),
        }
    }

    fn is_for(&self, access: ChannelAccess) -> bool {
        match (self.command, access) {
            (Command::All, _) | (Command::Select, ChannelAccess::Read) | (Command::Insert, ChannelAccess::Write) => {
                true
            }
            (Command::Select, ChannelAccess::Write) | (Command::Insert, ChannelAccess::Read) => false,
        }
    }
}

impl ChannelColumn {
    /// Whether nobody could write a message because of it: it must have a value, and nothing gives it one.
    fn is_unfillable(&self) -> bool {
        let is_filled =
            self.default.is_some() || self.is_identity || self.is_generated || WRITTEN.contains(&self.name.as_str());
        self.is_required && !is_filled
    }
}

impl ChannelTable {
    /// The policies for a way of use, by name.
    pub fn policies_for(&self, access: ChannelAccess) -> impl Iterator<Item = &ChannelPolicy> {
        self.policies.iter().filter(move |policy| policy.is_for(access))
    }

    /// Why a role can have nothing of any channel; none when its policies say.
    pub fn obstacle(&self, role: &str, access: ChannelAccess) -> Option<&'static str> {
        let has = |name: &str| self.columns.iter().any(|column| column.name == name);
        if !has("topic") || !has("extension") {
            return Some("the table has no column topic or extension");
        }
        if self.columns.iter().any(ChannelColumn::is_unfillable) {
            return Some("the table has a column that must have a value and gets none");
        }
        let Some(rights) = self.rights.get(role) else { return Some("the role is not known") };
        if !rights.usage {
            return Some("no USAGE on schema realtime");
        }
        let mut columns = self.columns.iter();
        match access {
            // As one that selects whole rows.
            ChannelAccess::Read if !columns.all(|column| rights.select.contains(&column.number)) => {
                Some("no SELECT on the table")
            }
            ChannelAccess::Write
                if columns.any(|column| {
                    WRITTEN.contains(&column.name.as_str()) && !rights.insert.contains(&column.number)
                }) =>
            {
                Some("no INSERT on the table")
            }
            ChannelAccess::Read | ChannelAccess::Write => None,
        }
    }

    /// The condition a role's rows are under, as SQL, and the columns it reads; none when nothing is granted.
    pub fn condition(&self, role: &str, access: ChannelAccess) -> Option<Condition<'_>> {
        if self.obstacle(role, access).is_some() {
            return None;
        }
        let rights = self.rights.get(role)?;
        if rights.is_unfiltered {
            return Some(Condition { sql: "true".to_owned(), reads: Vec::new() });
        }
        let (mut permissive, mut restrictive, mut reads) = (Vec::new(), Vec::new(), Vec::new());
        for policy in self.policies_for(access).filter(|policy| rights.policies.contains(&policy.name)) {
            let Some(expression) = policy.expression(access) else { continue };
            (if policy.permissive { &mut permissive } else { &mut restrictive }).push(expression);
            // A whole row leaves no trace among the columns, but prints as `messages.*`.
            let is_whole = expression.contains(".*");
            reads.extend(self.columns.iter().filter(|column| is_whole || policy.reads.contains(&column.number)));
        }
        Some(Condition { sql: joined(&permissive, &restrictive)?, reads })
    }
}

/// A condition over the row of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition<'a> {
    /// Over a row called `messages`.
    pub sql: String,
    /// The columns it reads; some may be named twice.
    pub reads: Vec<&'a ChannelColumn>,
}
