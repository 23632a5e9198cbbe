//! What a member is told beside changes: that some are lost to it, that a policy fails, that rights have changed.

use crate::{hub::Member, metrics::Metrics, policy::catalog::Table, protocol::refusal};

/// How `system` messages about row changes name their origin.
const EXTENSION: &str = "postgres_changes";

/// Changes are lost to a client: he hears it, and joins again.
pub(super) fn announce_gap(member: &Member, metrics: &Metrics) {
    if member.deliver_system(EXTENSION, false, refusal::CHANGES_SKIPPED) {
        member.fail();
        metrics.gaps.add(1);
    }
}

/// Changes are lost to a client from here on, because more are told than the operator allows.
pub(super) fn tell_skipping(member: &Member) {
    member.deliver_system(EXTENSION, false, refusal::CHANGES_OVER_RATE);
}

/// Changes were lost to a client until here.
pub(super) fn tell_skipped(member: &Member) {
    member.deliver_system(EXTENSION, false, refusal::CHANGES_WERE_OVER_RATE);
}

/// A policy failed on a row: said once a join, without the message, which may quote the row.
pub(super) fn tell_failed(member: &Member, table: &Table, role: &str, sqlstate: &str) {
    if member.is_first_failure() {
        let text = refusal::policy_failed(&table.schema, &table.name, sqlstate);
        member.deliver_system(EXTENSION, false, &text);
        tracing::warn!(schema = table.schema, table = table.name, role, sqlstate, "policy failed");
    }
}

/// Rows have become visible or invisible that did not change themselves.
pub(super) fn tell_rights_changed(member: &Member, table: &Table) {
    member.deliver_system(EXTENSION, true, &refusal::rights_changed(&table.schema, &table.name));
}
