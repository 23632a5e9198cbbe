//! `Rooms`: every room by its name, for whoever has something to say in one.
//!
//! Rooms are shared, each behind a lock of its own, and not owned by tasks: what is said is in the outboxes when
//! the call returns. So a row of the message table takes its place among the row changes of its transaction, an
//! acknowledgement its place behind the message, and nobody waits for anybody longer than one fan-out takes. Nothing
//! below waits: outboxes take or close.

use super::{
    member::{Member, MemberId, OnItsWay},
    room::{Entry, Greeting, Publication, Published, Reads, Room},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};
use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// Maps the rooms are spread over, so that joining one seldom waits for joining another.
const SHARDS: usize = 64;

/// A room's name. The public and the private room of a topic are two.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RoomName {
    /// The whole topic, `realtime:` included.
    pub topic: Arc<str>,
    /// Whether its members need a policy's permission.
    pub is_private: bool,
}

/// How many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoomCounts {
    /// Rooms.
    pub rooms: usize,
    /// Members of rooms: joined channels.
    pub members: usize,
    /// Tracked presences.
    pub present: usize,
}

type Shard = Mutex<HashMap<RoomName, Arc<Mutex<Room>>>>;

struct Shared {
    shards: Vec<Shard>,
    hasher: RandomState,
    /// Makes references of this server differ from those of the one before it.
    start: [u8; 4],
    references: AtomicU64,
    /// Whether everybody is being sent away.
    is_ending: AtomicBool,
}

/// All rooms of this server. Cheap to clone.
#[derive(Clone)]
pub struct Rooms {
    shared: Arc<Shared>,
}

impl Default for Rooms {
    fn default() -> Rooms {
        Rooms::new(rand::random())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Rooms {
    /// None yet. References to presences begin with `start`.
    pub fn new(start: [u8; 4]) -> Rooms {
        let shards = (0..SHARDS).map(|_| Shard::default()).collect();
        let references = AtomicU64::new(0);
        Rooms {
            shared: Arc::new(Shared {
                shards,
                hasher: RandomState::new(),
                start,
                references,
                is_ending: AtomicBool::new(false),
            }),
        }
    }

    fn shard(&self, name: &RoomName) -> &Shard {
        let hash = usize::try_from(self.shared.hasher.hash_one(name) % SHARDS as u64).unwrap_or_default();
        &self.shared.shards[hash]
    }

    /// A member enters a room, which is made if need be.
    pub fn enter(&self, name: &RoomName, entry: Entry) {
        let mut entry = Some(entry);
        while let Some(member) = entry.take() {
            let room = lock(self.shard(name)).entry(name.clone()).or_default().clone();
            let mut held = lock(&room);
            if held.is_closed {
                // Given up this very moment. Whoever does so may not have forgotten it yet, and is not waited for.
                drop(held);
                self.forget(name, &room);
                entry = Some(member);
            } else {
                held.enter(member);
                self.give_up(name, &room, held);
            }
        }
    }

    /// A member leaves; so does its presence.
    pub fn leave(&self, name: &RoomName, member: MemberId) {
        let is_ending = self.shared.is_ending.load(Ordering::Relaxed);
        self.with(name, |room| if is_ending { room.leave_unsaid(member) } else { room.leave(member) });
    }

    /// A member's join is complete.
    pub fn complete(&self, name: &RoomName, member: MemberId, greeting: Greeting) {
        self.with(name, |room| room.complete(member, greeting));
    }

    /// A member may hear of other things than before.
    pub fn set_reads(&self, name: &RoomName, member: MemberId, reads: Reads) {
        self.with(name, |room| room.set_reads(member, reads));
    }

    /// Whether a member can track an object of so many bytes: a room has room for as much presence as those who join can
    /// be told. To be asked before `track`, which does not look.
    pub fn has_room(&self, name: &RoomName, member: MemberId, bytes: usize) -> bool {
        self.with(name, |room| room.has_room(member, bytes)).unwrap_or(true)
    }

    /// A member tracks an object. False when it is no member.
    pub fn track(&self, name: &RoomName, member: MemberId, tracked: Map<String, Value>) -> bool {
        let reference = self.reference();
        self.with(name, |room| room.track(member, tracked, reference)).unwrap_or(false)
    }

    /// A member tracks nothing any more.
    pub fn untrack(&self, name: &RoomName, member: MemberId) {
        self.with(name, |room| room.untrack(member));
    }

    /// Says something to a room; everybody in it has it, or is gone, when this returns.
    pub fn publish(&self, name: &RoomName, publication: &Publication<'_>) -> Published {
        self.with(name, |room| room.publish(publication, |_| true)).unwrap_or_default()
    }

    /// The same for what has its place behind row changes: members that some of these are still on their way to do not
    /// get it yet, and are returned; for them somebody has to publish it behind those (`publish_to`). Members that lag
    /// get it at once: it is in no log that they could be served from later, and their row changes come when they can.
    pub fn publish_behind_changes(&self, name: &RoomName, publication: &Publication<'_>) -> (Published, Vec<OnItsWay>) {
        let mut waiting = Vec::new();
        let is_ready = |member: &Arc<Member>| {
            let waits = member.has_on_their_way() && member.lag().is_none();
            if waits {
                waiting.push(OnItsWay::new(member));
            }
            !waits
        };
        let published = self.with(name, |room| room.publish(publication, is_ready)).unwrap_or_default();
        (published, waiting)
    }

    /// Says something to these of its members, as far as they still are.
    pub fn publish_to(&self, name: &RoomName, publication: &Publication<'_>, members: &[OnItsWay]) -> Published {
        let is_addressed = |member: &Arc<Member>| members.iter().any(|one| Arc::ptr_eq(one.member(), member));
        self.with(name, |room| room.publish(publication, is_addressed)).unwrap_or_default()
    }

    /// The server ends and everybody is sent away: who leaves from now on does so without a word to the others, which in a
    /// room of thousands would be millions of words to nobody.
    pub fn end(&self) {
        self.shared.is_ending.store(true, Ordering::Relaxed);
    }

    /// Takes out members who have ended without a word. Looks at every room: to be done now and then.
    pub fn sweep(&self) {
        for shard in &self.shared.shards {
            let names: Vec<RoomName> = lock(shard).keys().cloned().collect();
            for name in names {
                // One that is gone meanwhile needs no sweeping.
                let _ = self.with(&name, Room::sweep);
            }
        }
    }

    /// How many there are. Looks at every room: for reports.
    pub fn counts(&self) -> RoomCounts {
        let mut counts = RoomCounts::default();
        for shard in &self.shared.shards {
            let rooms: Vec<Arc<Mutex<Room>>> = lock(shard).values().cloned().collect();
            for room in rooms {
                let room = lock(&room);
                counts.rooms += 1;
                counts.members += room.members();
                counts.present += room.present();
            }
        }
        counts
    }

    fn with<T>(&self, name: &RoomName, act: impl FnOnce(&mut Room) -> T) -> Option<T> {
        let room = lock(self.shard(name)).get(name).cloned()?;
        let mut held = lock(&room);
        let result = act(&mut held);
        self.give_up(name, &room, held);
        Some(result)
    }

    /// Forgets the room if it is empty.
    fn give_up(&self, name: &RoomName, room: &Arc<Mutex<Room>>, mut held: MutexGuard<'_, Room>) {
        if !held.is_empty() || held.is_closed {
            return;
        }
        held.is_closed = true;
        // Never a shard's lock inside of a room's: nobody holds both, so nobody can wait for somebody who waits for him.
        drop(held);
        self.forget(name, room);
    }

    fn forget(&self, name: &RoomName, room: &Arc<Mutex<Room>>) {
        let mut rooms = lock(self.shard(name));
        if rooms.get(name).is_some_and(|known| Arc::ptr_eq(known, room)) {
            rooms.remove(name);
        }
    }

    /// A name for a tracked object: 16 characters, never given twice.
    fn reference(&self) -> String {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&self.shared.start);
        bytes[4..].copy_from_slice(&self.shared.references.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }
}
