//! The look before `serve` and `tap`: only what is certain not to work, as one sentence with its fix. Everything else
//! is `walcast check`'s.

use super::{
    CheckError,
    facts::{self, Server},
};
use crate::{pg::Target, source::choice::Choice};

/// The oldest server that is supported.
pub(super) const OLDEST: i32 = 140_000;

/// Why a database cannot be served from. Each sentence ends with what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsuitable {
    /// A server older than we support.
    #[error("the server is PostgreSQL {0}; use 14 or newer")]
    TooOld(String),
    /// Logical decoding is off.
    #[error("wal_level is {0}; run: alter system set wal_level = 'logical'; and restart Postgres")]
    WalLevel(String),
    /// The login may not stream.
    #[error("role {0} may not replicate; run as an administrator: alter role {0} replication;")]
    NoReplication(String),
    /// There is no such publication.
    #[error("publication {0} does not exist; run `walcast migrate`, or run: create publication {0};")]
    NoPublication(String),
    /// Nobody's token would be accepted.
    #[error(
        "no role is granted to {0} that a token could name; run `walcast migrate`, or run as an administrator: grant \
         anon, authenticated, service_role to {0};"
    )]
    NoRole(String),
    /// The slot's name belongs to another kind of slot.
    #[error("replication slot {slot} is not ours: {why}; choose another name with --slot (WALCAST_SLOT)")]
    ForeignSlot {
        /// The slot.
        slot: String,
        /// What it is instead.
        why: String,
    },
    /// The log cannot be read, and there is no outbox.
    #[error("{}; or, to serve without logical replication, run: walcast migrate --notify", .0.to_string().trim_end_matches(';'))]
    NoLog(Box<Unsuitable>),
    /// The outbox is to be read, and cannot be.
    #[error(
        "source is notify, and there is no outbox that {0} may read; run: walcast migrate --notify; `walcast check` prints \
         the grants"
    )]
    NoOutbox(String),
}

/// Whether this database can be served from, as far as that is certain.
pub async fn preflight(target: &Target, publication: &str, slot: &str, source: Choice) -> Result<(), CheckError> {
    let client = facts::connect(target, "walcast check").await?;
    let server = facts::server(&client, publication, slot).await?;
    if let Err(unsuitable) = can_stream(&server) {
        let is_of_log = matches!(unsuitable, Unsuitable::WalLevel(_) | Unsuitable::NoReplication(_));
        if source == Choice::Log || !is_of_log {
            return Err(unsuitable.into());
        }
        if !facts::outbox(&client, publication).await?.is_usable() {
            return Err(Unsuitable::NoLog(Box::new(unsuitable)).into());
        }
    } else if source == Choice::Outbox && !facts::outbox(&client, publication).await?.is_usable() {
        return Err(Unsuitable::NoOutbox(server.login).into());
    }
    if server.claimable.is_empty() {
        return Err(Unsuitable::NoRole(server.login).into());
    }
    match slot_fault(&server).filter(|_| source != Choice::Outbox) {
        None => Ok(()),
        Some(fault) => Err(fault.into()),
    }
}

/// Whether a temporary slot of this publication can be read, as far as that is certain.
pub async fn preflight_stream(target: &Target, publication: &str) -> Result<(), CheckError> {
    let server = facts::server(&facts::connect(target, "walcast check").await?, publication, "").await?;
    Ok(can_stream(&server)?)
}

/// Whether there is a publication whose policies can be read.
pub(super) fn can_read_policies(server: &Server) -> Result<(), Unsuitable> {
    if server.version_number < OLDEST {
        return Err(Unsuitable::TooOld(server.version.clone()));
    }
    if server.publication.is_none() {
        return Err(Unsuitable::NoPublication(server.publication_name.clone()));
    }
    if server.claimable.is_empty() {
        return Err(Unsuitable::NoRole(server.login.clone()));
    }
    Ok(())
}

fn can_stream(server: &Server) -> Result<(), Unsuitable> {
    if server.version_number < OLDEST {
        return Err(Unsuitable::TooOld(server.version.clone()));
    }
    if server.wal_level != "logical" {
        return Err(Unsuitable::WalLevel(server.wal_level.clone()));
    }
    if !server.may_replicate {
        return Err(Unsuitable::NoReplication(server.login.clone()));
    }
    if server.publication.is_none() {
        return Err(Unsuitable::NoPublication(server.publication_name.clone()));
    }
    Ok(())
}

/// What stands in the way of using the slot, if it exists.
pub(super) fn slot_fault(server: &Server) -> Option<Unsuitable> {
    let slot = server.slot.as_ref()?;
    let foreign = |why: String| Some(Unsuitable::ForeignSlot { slot: server.slot_literal.clone(), why });
    match slot.plugin.as_deref() {
        Some("pgoutput") => {}
        None => return foreign("it is a physical slot".to_owned()),
        Some(plugin) => return foreign(format!("its output plugin is {plugin}")),
    }
    if !slot.is_here {
        return foreign(format!("it belongs to database {}", slot.database.as_deref().unwrap_or("(none)")));
    }
    // One that has lost its WAL is made anew by whoever reads it.
    None
}
