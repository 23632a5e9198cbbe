//! What broadcasts from the database need beside the table: its publication, and the right to keep its partitions. Pure.

use super::{Finding, Server};
use crate::pg::messages::PUBLICATION;
use serde::Deserialize;

const TABLE: &str = "messages_table";
const PUBLISHED: &str = "messages_publication";
const UPKEEP: &str = "messages_upkeep";
const NAME: &str = "realtime.messages";

/// What `sql/check_messages.sql` says.
#[derive(Debug, Deserialize)]
pub(super) struct Messages {
    is_partitioned: bool,
    has_tomorrow: bool,
    is_published: bool,
    /// Why it cannot be streamed, when it is published.
    #[serde(skip)]
    pub(super) obstacle: Option<String>,
    has_upkeep: bool,
    may_keep: bool,
}

/// Everything that concerns them.
pub(super) fn findings(server: &Server, messages: Option<&Messages>) -> Vec<Finding> {
    let Some(messages) = messages else {
        let meaning = "does not exist, so broadcasts from the database are off; `walcast migrate` makes it";
        return vec![Finding::ok(TABLE, NAME, meaning)];
    };
    vec![published(messages), upkeep(server, messages)]
}

fn published(messages: &Messages) -> Finding {
    match &messages.obstacle {
        Some(obstacle) => Finding::warning(PUBLISHED, PUBLICATION, format!("messages are not streamed: {obstacle}")),
        None if messages.is_published => {
            Finding::ok(PUBLISHED, PUBLICATION, "exists: what the table gets is broadcast")
        }
        None => Finding::warning(PUBLISHED, PUBLICATION, "does not exist: messages of the database are not broadcast")
            .with_fix(format!("create publication {PUBLICATION} for table {NAME};")),
    }
}

fn upkeep(server: &Server, messages: &Messages) -> Finding {
    if !messages.is_partitioned {
        let meaning = "is not partitioned: nothing old is dropped from it; only versions of long ago made it so";
        return Finding::warning(UPKEEP, NAME, meaning);
    }
    if !messages.has_upkeep {
        let meaning = "nobody makes its partitions ahead and drops old ones: run `walcast migrate`";
        return Finding::warning(UPKEEP, NAME, meaning);
    }
    if !messages.may_keep {
        let fix = format!(
            "grant usage on schema walcast to {0};\ngrant execute on function walcast.maintain_messages(interval, \
             timestamptz) to {0};",
            server.login
        );
        let meaning = format!("{} may not make its partitions, and without one sending fails", server.login);
        return Finding::warning(UPKEEP, NAME, meaning).with_fix(fix);
    }
    if !messages.has_tomorrow {
        let meaning = "has no partition for tomorrow: `serve` makes it";
        return Finding::ok(UPKEEP, NAME, meaning);
    }
    Finding::ok(UPKEEP, NAME, "has a partition for tomorrow, and `serve` may make those of later days")
}
