//! Rooms under many threads: made and given up all the time, they lose nobody and keep nothing.

use super::room::name;
use serde_json::{Map, Value};
use std::sync::atomic::{AtomicUsize, Ordering};
use walcast::{
    doors::phoenix::V2,
    hub::{Entry, Greeting, Member, MemberId, MessageForm, Publication, Reads, Rooms, outbox},
    protocol::Broadcast,
};

#[test]
fn rooms_that_are_made_and_given_up_at_once_lose_nobody() {
    let rooms = Rooms::default();
    let lost = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for connection in 0..8 {
            let (rooms, lost) = (&rooms, &lost);
            scope.spawn(move || {
                for join in 0..3000 {
                    let name = name(["realtime:a", "realtime:b"][usize::from(join % 2 == 0)]);
                    let (outbox, mut receiver) = outbox(4096, 1 << 20);
                    let id = MemberId { connection, join };
                    let member = Member::new(id, name.topic.clone(), Value::Null, &V2, MessageForm::Modern, outbox);
                    let greeting = Some(Greeting::default());
                    rooms.enter(&name, Entry { member, reads: Reads::ALL, key: "k".to_owned(), greeting });
                    let is_member = rooms.track(&name, id, Map::new());
                    let broadcast = Broadcast::Text(format!(r#"{{"from":{connection},"n":{join}}}"#).into());
                    rooms.publish(&name, &Publication { broadcast: &broadcast, id: None, except: None });
                    rooms.leave(&name, id);
                    let own = format!(r#"{{"from":{connection},"n":{join}}}"#);
                    let mut frames = std::iter::from_fn(|| receiver.receive_ready());
                    let heard = frames.any(|frame| format!("{frame:?}").replace('\\', "").contains(&own));
                    lost.fetch_add(usize::from(!is_member || !heard), Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(lost.into_inner(), 0);
    let counts = rooms.counts();
    assert_eq!((counts.rooms, counts.members, counts.present), (0, 0, 0));
}
