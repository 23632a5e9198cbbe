//! One room: its members, what they may read, and who is present. Pure: whoever holds it decides when.
//!
//! What is said in a room reaches its members in the order in which it was said, and a member's view begins with its
//! join reply and, when it asks for it, the state of the presence at that moment. So every view follows from what was sent.

use super::{
    member::{Member, MemberId},
    outbox::RESERVE_BYTES,
    presence::Presence,
};
use crate::protocol::{Broadcast, Codec, Event, Frame};
use serde_json::{Map, Value};
use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};
use uuid::Uuid;

/// Broadcasts kept for a member whose join is not complete yet. One that hears more meanwhile has to join again.
const HELD_FRAMES: usize = 1024;
/// Bytes of them: what an outbox has room for beside the rest of a greeting. Nobody else may need these frames any more,
/// so they are memory of this member alone.
const HELD_BYTES: usize = RESERVE_BYTES / 2;

/// What a member may hear of (protocol reference, section 8). In a public room that is everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reads {
    /// Broadcasts.
    pub broadcast: bool,
    /// The presence of others.
    pub presence: bool,
}

impl Reads {
    /// Everything.
    pub const ALL: Reads = Reads { broadcast: true, presence: true };
}

/// What goes to a member whose join is complete.
#[derive(Default)]
pub struct Greeting {
    /// The join reply, and what has to follow it at once.
    pub frames: Vec<Frame>,
    /// Whether the state of the presence follows.
    pub with_presence: bool,
    /// What follows that: messages from the time before it was here.
    pub replayed: Vec<Frame>,
    /// Messages it has been sent already, by their ids.
    pub heard: Vec<Uuid>,
}

/// A member that enters.
pub struct Entry {
    /// The member.
    pub member: Arc<Member>,
    /// What it may hear of.
    pub reads: Reads,
    /// The key it is present under.
    pub key: String,
    /// What it is sent first; none while its join is not complete: broadcasts are kept for it until then.
    pub greeting: Option<Greeting>,
}

/// Something said to a room.
pub struct Publication<'a> {
    /// What.
    pub broadcast: &'a Broadcast,
    /// Its id, where it comes from the database.
    pub id: Option<Uuid>,
    /// Who does not hear it: the sender, unless it wants to.
    pub except: Option<MemberId>,
}

/// What became of a publication.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// Members that got it.
    pub delivered: usize,
    /// Members whose encoding has no form for it.
    pub without_form: usize,
}

/// Broadcasts with their ids, where they come from the database.
#[derive(Default)]
struct Held {
    frames: Vec<(Option<Uuid>, Frame)>,
    bytes: usize,
}

impl Held {
    /// False when it is too much. One frame always has room, whatever its size.
    fn keep(&mut self, id: Option<Uuid>, frame: Frame) -> bool {
        let bytes = self.bytes + frame.len();
        if self.frames.len() >= HELD_FRAMES || (!self.frames.is_empty() && bytes > HELD_BYTES) {
            return false;
        }
        self.bytes = bytes;
        self.frames.push((id, frame));
        true
    }
}

struct Seat {
    member: Arc<Member>,
    reads: Reads,
    key: String,
    /// Broadcasts of the time before the join is complete.
    held: Option<Held>,
    heard: HashSet<Uuid>,
    /// Whether it is to know the state of the presence, and not only the differences.
    with_presence: bool,
}

impl Seat {
    /// False when the member is gone.
    fn hear(&mut self, id: Option<Uuid>, frame: Frame) -> bool {
        if id.is_some_and(|id| self.heard.remove(&id)) {
            return true;
        }
        match &mut self.held {
            None => self.member.deliver(frame),
            Some(held) => {
                let is_kept = held.keep(id, frame);
                if !is_kept {
                    self.member.fail();
                }
                is_kept
            }
        }
    }

    /// False when the member is gone.
    fn complete(&mut self, greeting: Greeting, presence: &Presence) -> bool {
        self.with_presence = greeting.with_presence;
        self.heard.extend(greeting.heard);
        let held = self.held.take().unwrap_or_default();
        greeting.frames.into_iter().all(|frame| self.member.deliver(frame))
            && self.tell_state(presence)
            && greeting.replayed.into_iter().all(|frame| self.member.deliver(frame))
            && held.frames.into_iter().all(|(id, frame)| self.hear(id, frame))
    }

    /// Says who is present, where that is wanted and allowed. False when the member is gone.
    fn tell_state(&self, presence: &Presence) -> bool {
        if !self.with_presence || !self.reads.presence {
            return !self.member.is_ended();
        }
        self.member.deliver_event("presence_state", &presence.state())
    }

    /// False when the member is gone.
    fn set_reads(&mut self, reads: Reads, presence: &Presence) -> bool {
        let before = std::mem::replace(&mut self.reads, reads);
        if let Some(held) = self.held.as_mut().filter(|_| !reads.broadcast) {
            *held = Held::default();
        }
        // Differences mean nothing to one who was told no state.
        before.presence || self.held.is_some() || self.tell_state(presence)
    }
}

/// The members of a room and their presence.
#[derive(Default)]
pub(super) struct Room {
    // In order, so that a run with the same input has the same output.
    seats: BTreeMap<MemberId, Seat>,
    presence: Presence,
    /// Set when it was empty and has been given up: who comes now needs another one.
    pub(super) is_closed: bool,
}

impl Room {
    pub(super) fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    pub(super) fn members(&self) -> usize {
        self.seats.len()
    }

    pub(super) fn present(&self) -> usize {
        self.presence.len()
    }

    pub(super) fn enter(&mut self, entry: Entry) {
        let Entry { member, reads, key, greeting } = entry;
        let id = member.id();
        let mut seat =
            Seat { member, reads, key, held: Some(Held::default()), heard: HashSet::new(), with_presence: false };
        let is_there = greeting.is_none_or(|greeting| seat.complete(greeting, &self.presence));
        if is_there {
            self.seats.insert(id, seat);
        }
    }

    /// A member's join is complete.
    pub(super) fn complete(&mut self, member: MemberId, greeting: Greeting) {
        if let Some(seat) = self.seats.get_mut(&member)
            && !seat.complete(greeting, &self.presence)
        {
            self.leave(member);
        }
    }

    /// A member may hear of other things than before.
    pub(super) fn set_reads(&mut self, member: MemberId, reads: Reads) {
        if let Some(seat) = self.seats.get_mut(&member)
            && !seat.set_reads(reads, &self.presence)
        {
            self.leave(member);
        }
    }

    pub(super) fn leave(&mut self, member: MemberId) {
        self.remove(vec![member]);
    }

    /// Whether an object of so many bytes can be tracked by a member, beside what others do.
    pub(super) fn has_room(&self, member: MemberId, bytes: usize) -> bool {
        let key = self.seats.get(&member).map_or(0, |seat| seat.key.len());
        self.presence.has_room(key + bytes)
    }

    /// Takes out members who have ended without a word, as the router ends those it could not serve.
    pub(super) fn sweep(&mut self) {
        let gone = self.seats.iter().filter(|(_, seat)| seat.member.is_ended()).map(|(&id, _)| id);
        let gone = gone.collect();
        self.remove(gone);
    }

    /// A member leaves, and nobody is told.
    pub(super) fn leave_unsaid(&mut self, member: MemberId) {
        if let Some(seat) = self.seats.remove(&member) {
            self.presence.untrack(std::iter::once((member, seat.key.as_str())));
        }
    }

    /// A member tracks an object. False when it is no member.
    pub(super) fn track(&mut self, member: MemberId, tracked: Map<String, Value>, reference: String) -> bool {
        let Some(seat) = self.seats.get(&member) else { return false };
        let key = seat.key.clone();
        if let Some(diff) = self.presence.track(member, &key, tracked, reference) {
            let gone = self.tell_presence(&diff);
            self.remove(gone);
        }
        true
    }

    pub(super) fn untrack(&mut self, member: MemberId) {
        let Some(seat) = self.seats.get(&member) else { return };
        let diff = self.presence.untrack(std::iter::once((member, seat.key.as_str())));
        if let Some(diff) = diff {
            let gone = self.tell_presence(&diff);
            self.remove(gone);
        }
    }

    /// Says something to those of its members that `is_addressed` is true of.
    pub(super) fn publish(
        &mut self,
        publication: &Publication<'_>,
        mut is_addressed: impl FnMut(&Arc<Member>) -> bool,
    ) -> Published {
        let mut frames = Encodings::default();
        let mut published = Published::default();
        let mut gone = Vec::new();
        for (&id, seat) in &mut self.seats {
            if !seat.reads.broadcast || publication.except == Some(id) || !is_addressed(&seat.member) {
                continue;
            }
            let topic = seat.member.topic().clone();
            match frames.of(seat.member.codec(), |codec| codec.broadcast(&topic, publication.broadcast)) {
                None => published.without_form += 1,
                Some(frame) if seat.hear(publication.id, frame.clone()) => published.delivered += 1,
                Some(_) => gone.push(id),
            }
        }
        self.remove(gone);
        published
    }

    /// Says a difference to everybody who may hear of presence; those who turn out to be gone.
    fn tell_presence(&mut self, diff: &str) -> Vec<MemberId> {
        let mut frames = Encodings::default();
        let mut gone = Vec::new();
        for (&id, seat) in &mut self.seats {
            // Before its join is complete, a member knows no state the difference could belong to.
            if !seat.reads.presence || seat.held.is_some() {
                continue;
            }
            let topic = seat.member.topic().clone();
            let frame = frames.of(seat.member.codec(), |codec| {
                let event = Event {
                    join_ref: &Value::Null,
                    reference: &Value::Null,
                    topic: &topic,
                    event: "presence_diff",
                    payload: diff,
                };
                Some(codec.event(&event))
            });
            if frame.is_some_and(|frame| !seat.member.deliver(frame.clone())) {
                gone.push(id);
            }
        }
        gone
    }

    /// Takes members out, and those who turn out to be gone when the others are told: one difference for all that
    /// leave together, so that many leaving at once are not that many messages for everybody.
    fn remove(&mut self, mut gone: Vec<MemberId>) {
        while !gone.is_empty() {
            let left: Vec<_> = gone.drain(..).filter_map(|id| Some((id, self.seats.remove(&id)?))).collect();
            let diff = self.presence.untrack(left.iter().map(|(id, seat)| (*id, seat.key.as_str())));
            if let Some(diff) = diff {
                gone = self.tell_presence(&diff);
            }
        }
    }
}

/// A message in every encoding that is asked for, each made once.
#[derive(Default)]
struct Encodings(Vec<(&'static str, Option<Frame>)>);

impl Encodings {
    fn of(&mut self, codec: &dyn Codec, make: impl FnOnce(&dyn Codec) -> Option<Frame>) -> Option<&Frame> {
        let name = codec.name();
        let place = match self.0.iter().position(|(known, _)| *known == name) {
            Some(place) => place,
            None => {
                self.0.push((name, make(codec)));
                self.0.len() - 1
            }
        };
        self.0.get(place).and_then(|(_, frame)| frame.as_ref())
    }
}
