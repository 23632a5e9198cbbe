//! What a binding wants of a change, and the messages made of it for one member. Pure.

use super::{
    image::{Image, Images},
    render::{Extent, Rendering},
    sight::{Matching, Seen},
    subscription::TableBinding,
};
use crate::{
    change::{Change, Operation, cursor::Cursor},
    hub::Member,
    protocol::Frame,
};
use std::sync::Arc;

/// A DELETE of which only the key was logged.
pub(super) fn is_bare_key_delete(change: &Change) -> bool {
    change.operation == Operation::Delete && change.old.as_ref().is_some_and(|old| !old.whole)
}

/// A binding that may hear of a change.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// The binding.
    pub(super) binding: Arc<TableBinding>,
    /// What its filter says, as far as the process can tell.
    pub(super) filter: Matching,
}

impl Wanted {
    /// Whether a binding may hear of a change, depending on rights and the database's part of its filter.
    pub(super) fn of(
        binding: &Arc<TableBinding>,
        operation: Operation,
        images: &Images<'_>,
        tells_moves: bool,
    ) -> Option<Wanted> {
        let event = binding.event;
        // An error says nothing of the row, so the filter is not consulted, and nothing enters or leaves.
        if binding.fault.is_some() && operation != Operation::Delete {
            let filter = Matching { is: true, was: None };
            return event.admits(operation).then(|| Wanted { binding: binding.clone(), filter });
        }
        let matches = |image: &Image<'_>| binding.filter.eval(&|column| image.get(column)) == Some(true);
        let Some(was) = images.was.filter(|_| tells_moves) else {
            let is = event.admits(operation) && matches(&images.is);
            return is.then(|| Wanted { binding: binding.clone(), filter: Matching { is, was: None } });
        };
        let (is, was) = (matches(&images.is), matches(&was));
        let may_hear = is && (event.admits(operation) || event.admits(Operation::Insert))
            || was && event.admits(Operation::Delete);
        may_hear.then(|| Wanted { binding: binding.clone(), filter: Matching { is, was: Some(was) } })
    }

    /// What the binding is told of a change whose rights are known, `filter` being what its whole filter says.
    pub(super) fn told(&self, seen: &Seen<'_>, filter: Matching) -> Option<Extent> {
        let operation = seen.change.operation;
        let extent = seen.told(filter).filter(|extent| self.binding.event.admits(extent.told(operation)))?;
        Some(match self.binding.fault {
            Some(fault) if operation != Operation::Delete => Extent::Fault(fault),
            _ => extent,
        })
    }
}

/// One message a column set and extent, with the ids of all bindings that share them. `cursor` says what a client holds
/// once it was given so many of so many.
pub(super) fn messages(
    rendering: &mut Rendering<'_>,
    member: &Member,
    told: &[(&TableBinding, Extent)],
    cursor: impl Fn(u32, u32) -> Cursor,
) -> Vec<Frame> {
    let is_same = |one: &(&TableBinding, Extent), other: &(&TableBinding, Extent)| {
        other.1 == one.1 && other.0.columns == one.0.columns
    };
    let mut kinds: Vec<&(&TableBinding, Extent)> = Vec::new();
    for message in told {
        if !kinds.iter().any(|kind| is_same(kind, message)) {
            kinds.push(message);
        }
    }
    let count = u32::try_from(kinds.len()).unwrap_or(u32::MAX);
    let frame = |(given, kind): (u32, &(&TableBinding, Extent))| {
        let ids = told.iter().filter(|other| is_same(kind, other)).map(|other| other.0.id).collect();
        rendering.message(member, &kind.0.columns, kind.1, (ids, cursor(given, count)))
    };
    (1..).zip(kinds).map(frame).collect()
}
