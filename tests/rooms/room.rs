//! Rooms themselves: who leaves together, who hears too much before the join is complete, and who does not read.

use super::client::{Message, View, present};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use walcast::{
    doors::phoenix::{V1, V2},
    hub::{
        Entry, Greeting, Member, MemberId, MessageForm, Outbox, OutboxReceiver, Publication, Reads, RoomName, Rooms,
        outbox,
    },
    protocol::{Broadcast, Frame, refusal::Disconnect},
};

pub fn name(topic: &str) -> RoomName {
    RoomName { topic: topic.into(), is_private: false }
}

struct Guest {
    member: Arc<Member>,
    outbox: Outbox,
    receiver: OutboxReceiver,
}

fn enter(rooms: &Rooms, number: u64, greeting: Option<Greeting>) -> Guest {
    let name = name("realtime:r");
    let (outbox, receiver) = outbox(4, 1 << 20);
    let id = MemberId { connection: number, join: 0 };
    let member = Member::new(id, name.topic.clone(), Value::from("1"), &V2, MessageForm::Modern, outbox.clone());
    let key = format!("k{}", number % 3);
    rooms.enter(&name, Entry { member: member.clone(), reads: Reads::ALL, key, greeting });
    Guest { member, outbox, receiver }
}

fn greeted() -> Option<Greeting> {
    Some(Greeting { with_presence: true, ..Greeting::default() })
}

fn publish(rooms: &Rooms, text: &str) -> usize {
    let broadcast = Broadcast::Text(text.into());
    rooms.publish(&name("realtime:r"), &Publication { broadcast: &broadcast, id: None, except: None }).delivered
}

#[test]
fn all_who_leave_together_are_one_difference() {
    let rooms = Rooms::default();
    let guests: Vec<_> = (0..10).map(|number| enter(&rooms, number, greeted())).collect();
    for guest in &guests {
        assert!(rooms.track(&name("realtime:r"), guest.member.id(), Map::new()));
    }
    let mut last = enter(&rooms, 99, greeted());
    let mut view = View::default();
    view.hear(&Message::read(&last.receiver.receive_ready().unwrap()));
    guests.iter().for_each(|guest| guest.outbox.close(Disconnect::Slow));
    assert_eq!(publish(&rooms, "{}"), 1);
    let frames: Vec<_> =
        std::iter::from_fn(|| last.receiver.receive_ready()).map(|frame| Message::read(&frame)).collect();
    assert_eq!(frames.iter().map(|frame| frame.event.as_str()).collect::<Vec<_>>(), ["broadcast", "presence_diff"]);
    assert_eq!(present(&frames[1].payload["leaves"]).values().map(std::collections::BTreeMap::len).sum::<usize>(), 10);
    view.hear(&frames[1]);
    assert_eq!(view.present, Some(present(&json!({}))));
    assert_eq!((rooms.counts().members, rooms.counts().present), (1, 0));
}

#[test]
fn a_member_ended_by_others_is_seen_present_no_longer_than_until_the_next_sweep() {
    let rooms = Rooms::default();
    let (failing, mut other) = (enter(&rooms, 1, greeted()), enter(&rooms, 2, greeted()));
    rooms.track(&name("realtime:r"), failing.member.id(), Map::new());
    let mut view = View::default();
    let mut look = |other: &mut Guest| {
        std::iter::from_fn(|| other.receiver.receive_ready()).for_each(|frame| view.hear(&Message::read(&frame)));
        view.present.as_ref().map(std::collections::BTreeMap::len)
    };
    rooms.sweep();
    assert_eq!((look(&mut other), rooms.counts().members), (Some(1), 2));
    failing.member.fail();
    rooms.sweep();
    assert_eq!((look(&mut other), rooms.counts().members), (Some(0), 1));
}

#[test]
fn whoever_is_sent_away_with_the_server_leaves_without_a_word_to_the_others() {
    let rooms = Rooms::default();
    let (leaving, mut other) = (enter(&rooms, 1, greeted()), enter(&rooms, 2, greeted()));
    rooms.track(&name("realtime:r"), leaving.member.id(), Map::new());
    let heard = |guest: &mut Guest| std::iter::from_fn(|| guest.receiver.receive_ready()).count();
    assert_eq!(heard(&mut other), 2, "the state, and who has come");
    rooms.end();
    rooms.leave(&name("realtime:r"), leaving.member.id());
    assert_eq!(heard(&mut other), 0);
    assert_eq!((rooms.counts().members, rooms.counts().present), (1, 0));
}

#[test]
fn a_member_that_hears_too_much_before_its_join_is_complete_has_to_join_again() {
    let rooms = Rooms::default();
    let (mut held, _other) = (enter(&rooms, 1, None), enter(&rooms, 2, greeted()));
    while rooms.counts().members == 2 && !_other.outbox.is_closed() {
        publish(&rooms, "{}");
    }
    let frames: Vec<_> =
        std::iter::from_fn(|| held.receiver.receive_ready()).map(|frame| Message::read(&frame)).collect();
    assert_eq!(frames.iter().map(|frame| frame.event.as_str()).collect::<Vec<_>>(), ["phx_error"]);
    rooms.complete(&name("realtime:r"), held.member.id(), greeted().unwrap());
    assert_eq!(held.receiver.receive_ready(), None);
}

#[test]
fn what_is_kept_for_a_member_until_its_join_is_complete_is_bounded_in_bytes_too() {
    let rooms = Rooms::default();
    let mut held = enter(&rooms, 1, None);
    let big = format!(r#"{{"x":"{}"}}"#, "x".repeat(1_000_000));
    let kept = (0..30).take_while(|_| publish(&rooms, &big) == 1).count();
    assert!((2..=8).contains(&kept), "{kept}");
    assert_eq!(rooms.counts().members, 0);
    let last = Message::read(&held.receiver.receive_ready().unwrap());
    assert_eq!((last.event.as_str(), held.receiver.receive_ready()), ("phx_error", None));
}

#[test]
fn a_room_takes_as_much_presence_as_who_joins_can_be_told() {
    let rooms = Rooms::default();
    let name = name("realtime:r");
    let large = json!({"x": "x".repeat(1_000_000)});
    let mut guests = Vec::new();
    let mut tracked = 0;
    for number in 0..20 {
        let mut guest = enter(&rooms, number, greeted());
        assert!(!guest.outbox.is_closed(), "{number}");
        let state = Message::read(&guest.receiver.receive_ready().unwrap());
        assert_eq!(present(&state.payload).values().map(std::collections::BTreeMap::len).sum::<usize>(), tracked);
        if rooms.has_room(&name, guest.member.id(), 1_000_000) {
            assert!(rooms.track(&name, guest.member.id(), large.as_object().unwrap().clone()));
            tracked += 1;
        }
        guests.push(guest);
        guests.iter_mut().for_each(|guest| while guest.receiver.receive_ready().is_some() {});
    }
    assert!((4..=8).contains(&tracked), "{tracked}");
    let last = guests.last().unwrap().member.id();
    assert!(!rooms.has_room(&name, last, 1_000_000));
    rooms.leave(&name, guests[0].member.id());
    assert!(rooms.has_room(&name, last, 1_000_000), "room that is given up is there for others");
}

#[test]
fn one_who_does_not_read_is_closed_and_delays_nobody() {
    let rooms = Rooms::default();
    let (slow, mut quick) = (enter(&rooms, 1, Some(Greeting::default())), enter(&rooms, 2, Some(Greeting::default())));
    let big = format!(r#"{{"x":"{}"}}"#, "x".repeat(1_000_000));
    let mut heard = 0;
    for _ in 0..30 {
        publish(&rooms, &big);
        heard += std::iter::from_fn(|| quick.receiver.receive_ready()).count();
    }
    assert_eq!(heard, 30);
    assert!(slow.outbox.is_closed() && !quick.outbox.is_closed());
    assert_eq!(rooms.counts().members, 1);
}

#[test]
fn a_message_is_encoded_once_for_all_of_an_encoding() {
    let rooms = Rooms::default();
    let mut guests: Vec<_> = (0..3).map(|number| enter(&rooms, number, Some(Greeting::default()))).collect();
    let (outbox, mut v1) = outbox(4, 1 << 20);
    let room = name("realtime:r");
    let id = MemberId { connection: 9, join: 0 };
    let member = Member::new(id, room.topic.clone(), Value::Null, &V1, MessageForm::Modern, outbox);
    rooms.enter(&room, Entry { member, reads: Reads::ALL, key: String::new(), greeting: Some(Greeting::default()) });
    publish(&rooms, r#"{"event":"e"}"#);
    let texts: Vec<_> = guests
        .iter_mut()
        .map(|guest| match guest.receiver.receive_ready() {
            Some(Frame::Text(text)) => text,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(texts.iter().all(|text| text.as_str().as_ptr() == texts[0].as_str().as_ptr()), "one text, shared");
    assert_eq!(Message::read(&v1.receive_ready().unwrap()).payload, json!({"event": "e"}));
}
