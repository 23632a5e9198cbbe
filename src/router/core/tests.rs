//! What only the core can show: that places are used again, and keys are not.

use super::*;
use crate::{
    hub::{MessageForm, OutboxReceiver, outbox},
    protocol::{BadFrame, Codec, Event, Frame, Push, Reply},
};

/// Nothing here is about frames.
struct Mute;

impl Codec for Mute {
    fn name(&self) -> &'static str {
        "mute"
    }
    fn names_joins(&self) -> bool {
        true
    }
    fn decode_text(&self, _: &str) -> Result<Push, BadFrame> {
        Err(BadFrame("nobody speaks"))
    }
    fn decode_binary(&self, _: &[u8]) -> Result<Push, BadFrame> {
        Err(BadFrame("nobody speaks"))
    }
    fn reply(&self, _: &Reply<'_>) -> Frame {
        Frame("reply".into())
    }
    fn event(&self, _: &Event<'_>) -> Frame {
        Frame("event".into())
    }
}

fn subscription(role: &str) -> (Subscription, OutboxReceiver) {
    let (sender, receiver) = outbox(16, 1024);
    let member = Member::new("realtime:t".into(), serde_json::Value::Null, &Mute, MessageForm::Modern, sender);
    let claims = Claims::of_role(role);
    let (bindings, casts) = (Vec::new(), Arc::default());
    let subscription =
        Subscription { member, claims, bindings, casts, start: Lsn::ZERO, visibility: false, held_reply: None };
    (subscription, receiver)
}

#[test]
fn the_key_of_a_subscription_that_is_gone_reaches_nobody_elses() {
    let config = Config { strict_deletes: false, max_record_bytes: 1024, backlog_bytes: 1024, transaction_bytes: 1024 };
    let mut core = RouterCore::new(config, Arc::default(), Arc::default());
    let lookups = Lookups::default();
    let (first, _first_outbox) = subscription("alice");
    let ended = first.member.clone();
    let old = core.subscribe(first, &lookups).unwrap();
    ended.end();
    core.sweep();
    let (second, _second_outbox) = subscription("bob");
    let new = core.subscribe(second, &lookups).unwrap();
    assert_eq!(old.place, new.place, "the place is used again, or this shows nothing");
    core.replace_claims(old, Claims::of_role("alice"), &lookups);
    assert_eq!(&*core.active[new.place].subscription.claims.role, "bob");
    core.unsubscribe(old);
    assert_eq!(core.subscriptions(), 1);
    core.unsubscribe(new);
    assert_eq!(core.subscriptions(), 0);
}
