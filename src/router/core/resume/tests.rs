//! Cursors within a transaction: what they say holds only for a transaction whose changes are counted as they were then.

use super::*;
use crate::{
    policy::{catalog::RowRule, lookup::Lookups},
    router::{
        fixture::{Asked, Client, NONE, core, insert, part},
        judgement::Basis,
    },
    source::WindowConfig,
};
use serde_json::Value;
use std::time::Duration;

#[test]
fn a_transaction_whose_commit_record_would_begin_where_a_timeline_was_left_is_no_more() {
    let beside = Beside::default();
    let cursor = |lsn, ordinal, part| Cursor { epoch: Epoch::default(), commit_lsn: Lsn(lsn), ordinal, part, beside };
    let held = [cursor(9, 4, 1), cursor(10, 0, 0), cursor(10, 1, 0), cursor(10, 0, 1), cursor(11, 0, 0)];
    assert_eq!(held.map(|cursor| is_left(&cursor, Lsn(10))), [true, true, false, false, false]);
}

const LOOKUPS: Beside = Beside(5 << 32);
const NOTHING: Beside = Beside(0);

/// The transaction that commits at 10, with changes from this one on.
fn route(core: &mut RouterCore, beside: Beside, first: u64, texts: &[&str]) {
    let changes = texts.iter().map(|text| insert(text)).collect();
    let fragment = Fragment { beside, ..Fragment::clone(&part(10, first, changes, true)) };
    core.route(&Arc::new(fragment), Basis::at(0, &Lookups::default()));
}

fn at(ordinal: u64, part: u32, beside: Beside) -> Cursor {
    Position { era: 0, commit_lsn: Lsn(10), ordinal }.cursor(Epoch::default(), part, beside)
}

/// A router that has known its era from the first position on.
fn begun() -> RouterCore {
    let mut core = core(RowRule::All);
    let beginning = Beginning {
        era: Era::default(),
        from: Lsn(1),
        accepts: Vec::new(),
        follows: Follows::First,
        new_from: None,
        kind: crate::source::Kind::Log,
    };
    core.begin(&Arc::new(beginning));
    core
}

/// Comes back with a cursor while the log ends at 50; what it is told of that.
fn come_back(core: &mut RouterCore, cursor: Cursor) -> (Client, Value) {
    let asked = Asked { form: MessageForm::Resumable, ..Asked::default() };
    let (mut subscription, mut client) = asked.subscription();
    subscription.start = Position::before(0, Lsn(50));
    subscription.resume = Some(Resume::From(cursor.to_string()));
    core.subscribe(subscription, NONE).unwrap();
    let told = client.heard().swap_remove(0)["payload"].take();
    (client, told)
}

fn ids(client: &mut Client) -> Vec<Value> {
    client.changes().iter_mut().map(|(_, data)| data["record"]["id"].take()).collect()
}

#[test]
fn within_a_transaction_that_is_streamed_otherwise_nobody_comes_back() {
    let mut core = begun();
    route(&mut core, NOTHING, 0, &["1 alice a x", "2 alice a x"]);
    for cursor in [at(2, 0, LOOKUPS), at(1, 0, LOOKUPS), at(0, 1, LOOKUPS), at(1, 0, Beside::UNKNOWN)] {
        let (_, told) = come_back(&mut core, cursor);
        assert_eq!(told["reason"], refusal::CURSOR_TOO_OLD, "{cursor:?}: {told}");
        assert_eq!(told["resumed"], false);
    }
    for (cursor, rest) in [(at(1, 0, NOTHING), vec!["2"]), (at(0, 0, LOOKUPS), vec!["1", "2"])] {
        let (mut client, told) = come_back(&mut core, cursor);
        assert_eq!((&told["resumed"], &told["cursor"]), (&true.into(), &cursor.to_string().into()));
        core.catch_up(true, Basis::at(0, &Lookups::default()));
        assert_eq!(ids(&mut client), rest, "{cursor:?}");
    }
}

#[test]
fn whoever_comes_back_within_a_transaction_before_it_has_come_hears_then_that_it_is_streamed_otherwise() {
    let mut core = begun();
    let (mut same, told) = come_back(&mut core, at(1, 1, NOTHING));
    assert_eq!(told["resumed"], true, "{told}");
    let (mut other, told) = come_back(&mut core, at(2, 0, LOOKUPS));
    assert_eq!(told["resumed"], true, "nobody can say yet: {told}");
    core.refresh_cursors(i64::MAX);
    for (client, cursor) in [(&mut same, at(1, 1, NOTHING)), (&mut other, at(2, 0, LOOKUPS))] {
        assert_eq!(client.heard()[0]["payload"]["cursor"], cursor.to_string(), "it stands where it stood");
    }
    route(&mut core, NOTHING, 0, &["1 alice a x", "2 alice a x", "3 alice a x"]);
    assert_eq!(ids(&mut same), ["2", "3"]);
    let heard = other.heard();
    assert_eq!(heard.len(), 1, "nothing of it in part: {heard:?}");
    let (told, behind) = (&heard[0]["payload"], Position::before(0, Lsn(11)).cursor(Epoch::default(), 0, NOTHING));
    assert_eq!((&told["resumed"], &told["reason"]), (&false.into(), &refusal::CURSOR_TOO_OLD.into()));
    assert_eq!(told["cursor"], behind.to_string());
    assert!(core.awaiting.is_empty());
}

#[test]
fn a_clock_that_is_set_back_lets_nobodys_cursor_age() {
    let mut core = core(RowRule::All);
    let (subscription, mut client) = Asked { form: MessageForm::Resumable, ..Asked::default() }.subscription();
    core.subscribe(subscription, NONE).unwrap();
    client.heard();
    let (now, hour) = (8 * 3_600_000_000, 3_600_000_000);
    let mut told = |core: &mut RouterCore, now| {
        assert!(core.refresh_cursors(now).is_none());
        client.heard().len()
    };
    told(&mut core, now - 1);
    assert_eq!(told(&mut core, now), 0, "his is new");
    assert_eq!(told(&mut core, now - hour), 1);
    assert_eq!(told(&mut core, now - hour), 0);
}

#[test]
fn without_a_window_cursors_are_seldom_looked_at() {
    let mut core = core(RowRule::All);
    for (bytes, milliseconds, least) in
        [(1, 300_000, 18_750_000), (1, 2000, 125_000), (1, 1, 125_000), (1, 0, 5_000_000), (0, 2000, 5_000_000)]
    {
        core.config.resume_window = WindowConfig { bytes, time: Duration::from_millis(milliseconds) };
        assert!(core.fresh_interval() >= least, "{bytes} {milliseconds}");
        core.head = Position::before(core.head.era, Lsn(1 << 30));
        assert_eq!(core.wants_fresh_cursors(), bytes > 0 && milliseconds > 0, "{bytes} {milliseconds}");
    }
}
