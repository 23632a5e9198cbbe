//! What a binding wants of a change, and the messages made of it for one member. Pure.

use super::{
    image::Image,
    render::{Extent, Rendering},
    subscription::TableBinding,
};
use crate::{
    change::{Change, Operation},
    hub::Member,
    protocol::Frame,
};
use std::sync::Arc;

/// A DELETE of which only the key was logged.
pub(super) fn is_bare_key_delete(change: &Change) -> bool {
    change.operation == Operation::Delete && change.old.as_ref().is_some_and(|old| !old.whole)
}

/// Whether a binding wants the change, as far as the process can tell.
pub(super) fn matches(binding: &TableBinding, operation: Operation, image: &Image<'_>) -> bool {
    let becomes_error = binding.fault.is_some() && operation != Operation::Delete;
    binding.event.admits(operation) && (becomes_error || binding.filter.eval(&|column| image.get(column)) == Some(true))
}

/// One message a column set, with the ids of all bindings that share it.
pub(super) fn messages(
    rendering: &mut Rendering<'_>,
    member: &Member,
    operation: Operation,
    bindings: &[Arc<TableBinding>],
    extent: Extent,
) -> Vec<Frame> {
    let extent_of = |binding: &TableBinding| match binding.fault {
        Some(fault) if operation != Operation::Delete => Extent::Fault(fault),
        _ => extent,
    };
    let mut done: Vec<&Arc<TableBinding>> = Vec::new();
    let mut frames = Vec::new();
    for binding in bindings {
        if done.iter().any(|other| other.columns == binding.columns) {
            continue;
        }
        let same = bindings.iter().filter(|other| other.columns == binding.columns);
        let ids = same.map(|other| other.id).collect();
        done.push(binding);
        frames.push(rendering.message(member, &binding.columns, extent_of(binding), ids));
    }
    frames
}
