//! That all a transaction says of other tables is known before the first of its rows is judged, however large it is,
//! and that nobody is left in the dark where that cannot be.

use super::*;
use crate::{
    change::{Change, Operation, cursor::Resume, position::Era},
    hub::MessageForm,
    policy::catalog::RowRule,
    protocol::refusal,
    router::fixture::{Asked, Client, MEMBERS, NONE, compiled, core, insert, is_owner, part, relation_of},
    source::{Beginning, Follows, Kind},
};
use std::path::Path;

/// Notes what it is given.
#[derive(Default)]
struct Follower {
    lookups: Lookups,
    is_idle: bool,
    applied: Vec<(u64, usize)>,
    is_distrusted: bool,
}

impl Follow for Follower {
    fn is_following(&self) -> bool {
        !self.is_idle
    }
    fn is_ready(&self, _: u32) -> bool {
        false
    }
    fn take_changes(&mut self) -> bool {
        false
    }
    fn lookups(&self) -> &Lookups {
        &self.lookups
    }
    fn set_catalog(&mut self, _: &Catalog) {}
    fn apply(&mut self, fragment: &Arc<Fragment>) -> BTreeSet<u32> {
        self.applied.push((fragment.commit_lsn.0, fragment.changes.len()));
        fragment.changes.iter().map(|change| change.relation.oid).filter(|oid| *oid == MEMBERS).collect()
    }
    fn begin_era(&mut self, _kind: Kind) {}
    fn distrust(&mut self) {
        self.is_distrusted = true;
    }
}

fn intake(limit_bytes: usize, directory: &Path) -> Intake<Follower> {
    let core = core(compiled(is_owner()));
    Intake::new(core, Follower::default(), limit_bytes, directory.to_owned())
}

/// Brings a fragment and goes on until another is wanted; the ends that were handed on.
async fn bring(intake: &mut Intake<Follower>, fragment: Arc<Fragment>) -> Vec<Lsn> {
    assert!(intake.wants_fragment());
    intake.hold(fragment);
    let mut ends = Vec::new();
    loop {
        ends.extend(intake.step().await.end.map(|(end, _)| end.lsn));
        if intake.wants_fragment() {
            return ends;
        }
    }
}

fn ids(client: &mut Client) -> Vec<String> {
    client.changes().iter().map(|(_, data)| data["record"]["id"].as_str().unwrap().to_owned()).collect()
}

fn mine(id: u32) -> Change {
    insert(&format!("{id} alice open x"))
}

fn member() -> Change {
    Change { operation: Operation::Insert, relation: relation_of(MEMBERS), ..mine(0) }
}

#[tokio::test]
async fn nothing_of_a_transaction_is_told_before_all_of_it_is_applied() {
    for limit in [1 << 20, 0] {
        let directory = tempfile::tempdir().unwrap();
        let mut intake = intake(limit, directory.path());
        let mut client = Asked::default().join(&mut intake.core);
        assert_eq!(bring(&mut intake, part(5, 0, vec![mine(1), mine(2)], false)).await, []);
        assert_eq!(bring(&mut intake, part(5, 2, vec![mine(3)], false)).await, []);
        assert!(ids(&mut client).is_empty() && intake.follow.applied.is_empty());
        assert_eq!(bring(&mut intake, part(5, 3, vec![member()], true)).await, [Lsn(6)]);
        assert_eq!(ids(&mut client), ["1", "2", "3"], "in order, once, with room for {limit} bytes");
        assert_eq!(intake.follow.applied, [(5, 2), (5, 1), (5, 1)]);
        assert_eq!(bring(&mut intake, part(7, 0, vec![mine(4)], true)).await, [Lsn(8)]);
        assert_eq!(ids(&mut client), ["4"]);
    }
}

#[tokio::test]
async fn one_step_takes_one_fragment_so_that_others_are_served_between() {
    let directory = tempfile::tempdir().unwrap();
    let mut intake = intake(1 << 20, directory.path());
    let mut client = Asked::default().join(&mut intake.core);
    for (ordinal, is_last) in [(0, false), (1, false), (2, true)] {
        intake.hold(part(5, ordinal, vec![mine(1)], is_last));
        intake.step().await;
    }
    let mut told = Vec::new();
    while intake.has_work() {
        intake.step().await;
        told.push(ids(&mut client).len());
    }
    assert_eq!(told, [0, 0, 0, 0, 1, 1, 1]);
}

#[tokio::test]
async fn where_nothing_is_looked_up_fragments_pass_as_they_come() {
    let directory = tempfile::tempdir().unwrap();
    let mut intake = intake(0, directory.path());
    intake.follow.is_idle = true;
    let mut client = Asked::default().join(&mut intake.core);
    bring(&mut intake, part(5, 0, vec![mine(1)], false)).await;
    assert_eq!(ids(&mut client), ["1"]);
    // Following begins amid a transaction: the rest of it passes as its beginning did.
    intake.follow.is_idle = false;
    bring(&mut intake, part(5, 1, vec![mine(2)], false)).await;
    assert_eq!(ids(&mut client), ["2"]);
    assert_eq!(bring(&mut intake, part(5, 2, vec![mine(3)], true)).await, [Lsn(6)]);
    assert_eq!(ids(&mut client), ["3"]);
}

#[tokio::test]
async fn a_subscription_that_comes_while_a_transaction_is_routed_starts_behind_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut intake = intake(1 << 20, directory.path());
    let mut first = Asked::default().join(&mut intake.core);
    bring(&mut intake, part(5, 0, vec![mine(1)], false)).await;
    let mut gathering = Asked::default().join(&mut intake.core);
    intake.hold(part(5, 1, vec![mine(2)], true));
    let mut late = None;
    while intake.has_work() || !intake.wants_fragment() {
        intake.step().await;
        if late.is_none() && !ids(&mut first).is_empty() {
            late = Some(Asked::default().join(&mut intake.core));
        }
    }
    assert_eq!(ids(&mut gathering), ["1", "2"], "all of it");
    assert_eq!(ids(&mut late.unwrap()), [""; 0], "or nothing");
}

#[tokio::test]
async fn what_a_stream_that_ended_left_unfinished_is_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let mut intake = intake(1 << 20, directory.path());
    let mut client = Asked::default().join(&mut intake.core);
    bring(&mut intake, part(5, 0, vec![mine(1)], false)).await;
    bring(&mut intake, part(3, 0, vec![mine(2)], false)).await;
    assert_eq!(bring(&mut intake, part(3, 1, vec![mine(3)], true)).await, [Lsn(4)]);
    assert_eq!(ids(&mut client), ["2", "3"]);
}

/// The rule looks into no table here, so its subscriber keeps all; nothing is lost on the way.
#[tokio::test]
async fn a_transaction_that_cannot_be_put_aside_passes_as_it_comes() {
    let mut intake = intake(0, Path::new("/nowhere/at/all"));
    let mut client = Asked::default().join(&mut intake.core);
    bring(&mut intake, part(5, 0, vec![mine(1)], false)).await;
    assert_eq!(ids(&mut client), ["1"]);
    let mut late = Asked::default().join(&mut intake.core);
    bring(&mut intake, part(5, 1, vec![mine(2)], false)).await;
    assert_eq!(bring(&mut intake, part(5, 2, vec![mine(3)], true)).await, [Lsn(6)]);
    assert_eq!(ids(&mut client), ["2", "3"]);
    assert_eq!(ids(&mut late), [""; 0], "nothing of a transaction it came amid");
    assert!(!intake.follow.is_distrusted);
}

#[tokio::test]
async fn when_what_was_put_aside_is_gone_everybody_hears_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut intake = intake(0, directory.path());
    intake.core = core(RowRule::All);
    let mut client = Asked::default().join(&mut intake.core);
    bring(&mut intake, part(5, 0, vec![mine(1)], false)).await;
    let Stage::Gathering(transaction) = &intake.stage else { panic!("it is gathered") };
    transaction.damage();
    assert_eq!(bring(&mut intake, part(5, 1, vec![mine(2)], true)).await, [Lsn(6)], "it is not asked for again");
    let heard = client.heard();
    assert_eq!(heard[0]["payload"]["message"], refusal::CHANGES_SKIPPED);
    assert_eq!(heard[1]["event"], "phx_error");
    assert!(intake.follow.is_distrusted && client.member.is_ended());
}

#[tokio::test]
async fn nobody_is_served_across_what_was_lost() {
    let directory = tempfile::tempdir().unwrap();
    let mut intake = intake(0, directory.path());
    intake.core = core(RowRule::All);
    let asked = Asked { form: MessageForm::Resumable, ..Asked::default() };
    let begin = Beginning {
        era: Era::default(),
        from: Lsn(1),
        accepts: Vec::new(),
        follows: Follows::First,
        new_from: None,
        kind: Kind::Log,
    };
    intake.begin_era(&Arc::new(begin));
    let mut client = asked.join(&mut intake.core);
    bring(&mut intake, part(3, 0, vec![mine(1)], true)).await;
    let cursor = client.changes()[0].1["cursor"].as_str().unwrap().to_owned();
    bring(&mut intake, part(5, 0, vec![mine(2)], false)).await;
    let Stage::Gathering(transaction) = &intake.stage else { panic!("it is gathered") };
    transaction.damage();
    bring(&mut intake, part(5, 1, vec![mine(3)], true)).await;
    bring(&mut intake, part(7, 0, vec![mine(4)], true)).await;
    let (mut subscription, mut back) = asked.subscription();
    subscription.resume = Some(Resume::From(cursor));
    intake.core.subscribe(subscription, NONE).unwrap();
    let standing = &back.heard()[0]["payload"];
    assert_eq!((&standing["resumed"], &standing["reason"]), (&false.into(), &refusal::CURSOR_TOO_OLD.into()));
    let told = client.heard();
    let gap = told[0]["payload"]["cursor"].as_str().unwrap();
    let (mut subscription, mut back) = asked.subscription();
    subscription.resume = Some(Resume::From(gap.to_owned()));
    intake.core.subscribe(subscription, NONE).unwrap();
    assert_eq!(back.heard()[0]["payload"]["resumed"], true, "who was told of it stands behind it");
}
