//! A slot that nobody reads because changes are read from the outbox: it holds WAL back for nobody, and that is said. Pure.

use crate::{
    pg::slot::{Slot, size},
    source::{Kind, SourceState},
};

/// It is said again each time there is twice as much, but not before this.
const MUCH: i64 = 1 << 30;

/// What is remembered from look to look.
#[derive(Default)]
pub(super) struct Unread {
    /// What is to be said now.
    sentence: Option<String>,
    /// How much was held back when it was said last.
    said_at: Option<i64>,
}

impl Unread {
    /// Takes in what was seen, and says it to the log when that is due.
    pub(super) fn take(&mut self, source: &SourceState, slot: Option<&Slot>) {
        let is_outbox = source.streaming && source.kind == Kind::Outbox;
        let Some(slot) = slot.filter(|slot| is_outbox && slot.is_idle()) else {
            *self = Unread::default();
            return;
        };
        let kept = slot.retained_bytes.unwrap_or_default();
        self.sentence = Some(sentence(slot));
        if self.is_due(kept) {
            self.said_at = Some(kept);
            tracing::warn!(slot = slot.name, kept = size(kept), "{}", sentence(slot));
        }
    }

    /// What is to be said.
    pub(super) fn sentence(&self) -> Option<String> {
        self.sentence.clone()
    }

    fn is_due(&self, kept: i64) -> bool {
        self.said_at.is_none_or(|said_at| kept >= MUCH && kept / 2 >= said_at)
    }
}

fn sentence(slot: &Slot) -> String {
    format!(
        "changes are read from the outbox, and nobody reads replication slot \"{}\", which holds back {} of WAL, and more \
         with every write: drop it with `walcast slot drop`; whoever reads the log again makes a new one",
        slot.name,
        size(slot.retained_bytes.unwrap_or_default())
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn slot(kept: i64, active: bool) -> Slot {
        serde_json::from_value(json!({
            "name": "walcast", "plugin": "pgoutput", "database": "app", "is_here": true, "temporary": false,
            "active": active, "restart_lsn": "0/1", "confirmed_lsn": "0/2", "retained_bytes": kept,
            "wal_status": "reserved"
        }))
        .unwrap()
    }

    #[test]
    fn a_slot_is_unread_only_while_changes_are_read_elsewhere_and_nobody_has_it() {
        let source = |kind, streaming| SourceState { kind, streaming, ..SourceState::default() };
        let mut unread = Unread::default();
        unread.take(&source(Kind::Outbox, true), Some(&slot(3 << 20, false)));
        let said = unread.sentence().unwrap();
        assert!(said.contains("\"walcast\", which holds back 3.0 MiB") && said.contains("walcast slot drop"), "{said}");
        for (kind, streaming, slot) in [
            (Kind::Outbox, true, None),
            (Kind::Outbox, true, Some(slot(5, true))),
            (Kind::Outbox, false, Some(slot(5, false))),
            (Kind::Log, true, Some(slot(5, false))),
        ] {
            unread.take(&source(kind, streaming), slot.as_ref());
            assert_eq!(unread.sentence(), None, "{kind:?} {streaming}");
        }
    }

    #[test]
    fn it_is_said_once_and_then_each_time_it_holds_twice_as_much() {
        let mut unread = Unread::default();
        let due = [10, 20, MUCH - 1, MUCH, MUCH * 3 / 2, MUCH * 2].map(|kept| {
            let is_due = unread.is_due(kept);
            unread.said_at = if is_due { Some(kept) } else { unread.said_at };
            is_due
        });
        assert_eq!(due, [true, false, false, true, false, true]);
    }
}
