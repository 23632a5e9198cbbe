//! What a client says in a channel: broadcasts, presence, its next token (protocol reference, sections 6.1 and 7).

use super::{Channel, Counted, Effect, Session, cost, reason, rights::About};
use crate::{
    hub::{MemberId, Publication, RoomName},
    limits::ClientPresence,
    policy::topic::{ChannelAccess, Granted},
    protocol::{Broadcast, Payload, Push, refusal},
};
use serde_json::{Map, Value};

/// Bytes that one connection may track in all of its channels: they are kept for as long as it stays.
const TRACKED_BYTES: usize = 8 * 1024 * 1024;

/// What a presence push wants.
enum Wanted {
    Track(Map<String, Value>),
    Untrack,
    /// Nothing: it does not say.
    Nothing,
    /// Nobody knows: the response.
    Refused(String),
}

impl Wanted {
    fn read(push: &Push) -> Wanted {
        let payload = push.payload.json();
        let Some(event) = payload.get("event") else { return Wanted::Nothing };
        let event = event.as_str().unwrap_or_default();
        if event.eq_ignore_ascii_case("untrack") {
            return Wanted::Untrack;
        }
        if !event.eq_ignore_ascii_case("track") {
            return Wanted::Refused("{}".to_owned());
        }
        match payload.get("payload") {
            None => Wanted::Track(Map::new()),
            Some(Value::Object(tracked)) => Wanted::Track(tracked.clone()),
            Some(_) => Wanted::Refused(reason(refusal::TRACK_NOT_AN_OBJECT)),
        }
    }
}

impl Channel {
    /// What may be said in it; none when that is not known.
    fn may_say(&self) -> Option<Granted> {
        let everything = Granted { broadcast: true, presence: true };
        if self.room.is_private { self.writes } else { Some(everything) }
    }

    /// Counts a presence push; false when there were too many in the window.
    fn counts_presence(&mut self, limit: ClientPresence, now: i64) -> bool {
        // Seconds are what the clock of sessions tells.
        let window = i64::try_from(limit.window_ms.div_ceil(1000)).unwrap_or(i64::MAX);
        while self.presence_times.front().is_some_and(|time| now.saturating_sub(*time) >= window) {
            self.presence_times.pop_front();
        }
        let has_room = self.presence_times.len() < usize::try_from(limit.max_calls).unwrap_or(usize::MAX);
        if has_room {
            self.presence_times.push_back(now);
        }
        has_room
    }
}

impl Session {
    /// A push on a joined topic about which nothing is being asked.
    pub(super) fn channel_push(&mut self, topic: &str, push: Push, now: i64) {
        if self.parts.meters.has_too_many_events(now) {
            return self.close_limited(topic, "max_events_per_second", refusal::TOO_MANY_MESSAGES);
        }
        match push.event.as_str() {
            Some("broadcast") => self.broadcast(topic, push, now),
            Some("presence") => self.presence(topic, push, now),
            Some("access_token") => self.access_token(topic, &push, now),
            // An event nobody knows is nobody's error: newer clients say more than older servers hear.
            _ => self.parts.meters.count_events(1, now),
        }
    }

    /// Has the push wait until it is known what may be said in the channel.
    fn ask_before(&mut self, topic: &str, push: Push) {
        let Some(channel) = self.channels.get_mut(topic) else { return };
        debug_assert!(channel.asked.is_none(), "a push is heard only when nothing is asked");
        let cost = cost(&push);
        self.held_bytes += cost;
        channel.held.push_front((push, cost));
        self.ask(topic, ChannelAccess::Write, About::Speech);
    }

    pub(super) fn count(&mut self, what: Counted, count: usize) {
        if count > 0 {
            self.effects.push(Effect::Count(what, count));
        }
    }

    fn payload_limit(&self) -> usize {
        self.parts.meters.limits().max_payload_bytes()
    }

    fn broadcast(&mut self, topic: &str, push: Push, now: i64) {
        if let Payload::Json(_) = push.payload {
            return self.count(Counted::Malformed, 1);
        }
        let Some(channel) = self.channels.get(topic) else { return };
        let Some(granted) = channel.may_say() else { return self.ask_before(topic, push) };
        // Not a word, even to who wants an acknowledgement: so does the server we replace.
        if !granted.broadcast {
            return self.count(Counted::Dropped, 1);
        }
        let (ack, join_ref) = (channel.ack, &channel.join_ref);
        let broadcast = match &push.payload {
            Payload::Stored(_) if ack => return self.reply(&push, join_ref, false, refusal::NOT_STORED),
            Payload::Broadcast(broadcast) | Payload::Stored(broadcast) => broadcast,
            Payload::Json(_) => return,
        };
        let except = (!channel.echo).then(|| channel.member.id());
        let room = channel.room.clone();
        let join_ref = join_ref.clone();
        let is_said = self.publish(&room, broadcast, except, now);
        if ack {
            self.reply(&push, &join_ref, is_said, if is_said { "{}" } else { refusal::BROADCAST_TOO_LARGE });
        }
    }

    /// False when it is too large.
    pub(super) fn publish(
        &mut self,
        room: &RoomName,
        broadcast: &Broadcast,
        except: Option<MemberId>,
        now: i64,
    ) -> bool {
        if broadcast.size() > self.payload_limit() {
            self.count(Counted::Dropped, 1);
            self.effects.push(Effect::Limited("max_payload_size_in_kb"));
            return false;
        }
        let published = self.parts.rooms.publish(room, &Publication { broadcast, id: None, except });
        self.parts.meters.count_events(1 + published.delivered as u64, now);
        self.count(Counted::Broadcasts, 1);
        self.count(Counted::Deliveries, published.delivered);
        self.count(Counted::WithoutForm, published.without_form);
        true
    }

    fn presence(&mut self, topic: &str, push: Push, now: i64) {
        let wanted = Wanted::read(&push);
        let Some(channel) = self.channels.get_mut(topic) else { return };
        let granted = match wanted {
            Wanted::Track(_) => channel.may_say(),
            // Whoever may not speak may still fall silent.
            _ => Some(Granted::default()),
        };
        let Some(granted) = granted else { return self.ask_before(topic, push) };
        let meters = &self.parts.meters;
        if meters.has_too_many_presences(now) {
            return self.close_limited(topic, "max_presence_events_per_second", refusal::TOO_MANY_PRESENCES);
        }
        meters.count_presence(now);
        let window = meters.limits().client_presence;
        if window.is_some_and(|limit| !channel.counts_presence(limit, now)) {
            return self.close_limited(topic, "max_client_presence_events_per_window", refusal::CLIENT_PRESENCE_RATE);
        }
        let limit = self.payload_limit();
        let size = if matches!(&wanted, Wanted::Track(_)) { push.payload.size() } else { 0 };
        if size > limit {
            return self.close_limited(topic, "max_payload_size_in_kb", refusal::TRACK_TOO_LARGE);
        }
        let others = self.channels.iter().filter(|(other, _)| *other != topic);
        let has_share = others.map(|(_, channel)| channel.tracked).sum::<usize>() + size <= TRACKED_BYTES;
        let Some(channel) = self.channels.get(topic) else { return };
        let (join_ref, member) = (&channel.join_ref, channel.member.id());
        let mut tracked_bytes = channel.tracked;
        match wanted {
            Wanted::Track(_) if !granted.presence => self.reply(&push, join_ref, false, "{}"),
            Wanted::Track(_) if !has_share || !self.parts.rooms.has_room(&channel.room, member, size) => {
                self.reply(&push, join_ref, false, &reason(refusal::PRESENCE_FULL));
            }
            Wanted::Track(tracked) => {
                self.reply(&push, join_ref, true, "{}");
                self.parts.rooms.track(&channel.room, member, tracked);
                tracked_bytes = size;
            }
            Wanted::Untrack => {
                self.reply(&push, join_ref, true, "{}");
                self.parts.rooms.untrack(&channel.room, member);
                tracked_bytes = 0;
            }
            Wanted::Nothing => self.reply(&push, join_ref, true, "{}"),
            Wanted::Refused(response) => self.reply(&push, join_ref, false, &response),
        }
        if let Some(channel) = self.channels.get_mut(topic) {
            channel.tracked = tracked_bytes;
        }
    }
}
