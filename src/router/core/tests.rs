//! Who is told what: rights, images and bindings together, and that places are used again, and keys are not.

use super::*;
use crate::router::reading::FAST_WITHIN;
use crate::{
    change::Change,
    policy::{catalog::RowRule, expr::Expr, lookup::Lookups},
    router::{
        fixture::{
            Asked, Client, MEMBERS, NONE, blind_update, compiled, config, core, database_policy, delete, delete_key,
            id_is, insert, is_member, is_owner, part, state_is, state_is_not_bad, transaction, update,
        },
        judgement::Basis,
        lane_job::LaneJob,
    },
    source::StreamState,
};

fn route(core: &mut RouterCore, lsn: u64, change: Change) -> Option<LaneJob> {
    core.route(&transaction(lsn, vec![change]), Basis::at(0, &Lookups::default()))
}

fn catch_up(core: &mut RouterCore) -> Vec<LaneJob> {
    core.catch_up(true, Basis::at(0, &Lookups::default()))
}

/// What a client of alice's hears of a change.
fn heard(rows: RowRule, asked: &Asked<'_>, change: Change) -> Vec<(String, serde_json::Value)> {
    let mut core = core(rows);
    let mut client = asked.join(&mut core);
    assert!(route(&mut core, 1, change).is_none(), "the process decides");
    client.changes()
}

fn kinds(rows: RowRule, asked: &Asked<'_>, change: Change) -> Vec<String> {
    let mut core = core(rows);
    let mut client = asked.join(&mut core);
    assert!(route(&mut core, 1, change).is_none(), "the process decides");
    client.kinds()
}

const NOTHING: [&str; 0] = [];

#[test]
fn the_key_of_a_subscription_that_is_gone_reaches_nobody_elses() {
    let mut core = core(RowRule::All);
    let (first, first_client) = Asked::default().subscription();
    let old = core.subscribe(first, NONE).unwrap();
    first_client.member.end();
    core.sweep();
    let (second, _second_client) = Asked::default().subscription();
    let new = core.subscribe(second, NONE).unwrap();
    assert_eq!(old.place, new.place, "the place is used again, or this shows nothing");
    core.replace_claims(old, Claims::of_role("mallory"), NONE);
    assert_eq!(&*core.active[new.place].subscription.claims.role, "authenticated");
    core.unsubscribe(old);
    assert_eq!(core.subscriptions(), 1);
    core.unsubscribe(new);
    assert_eq!(core.subscriptions(), 0);
}

#[test]
fn a_compiled_policy_is_decided_here_and_its_old_images_too() {
    let rule = || compiled(is_owner());
    let plain = Asked::default();
    assert_eq!(kinds(rule(), &plain, insert("1 alice a x")), ["INSERT"]);
    assert_eq!(kinds(rule(), &plain, insert("1 bob a x")), NOTHING);
    assert_eq!(kinds(rule(), &plain, insert("1 ~ a x")), NOTHING);
    assert_eq!(kinds(rule(), &plain, insert("1 - a x")), NOTHING);
    assert_eq!(kinds(rule(), &plain, update("1 alice a x", "1 bob a x")), NOTHING);
    assert_eq!(kinds(rule(), &plain, delete("1 alice a x")), ["DELETE"]);
    assert_eq!(kinds(rule(), &plain, delete("1 bob a x")), NOTHING);
    let [(_, data)] = &heard(rule(), &plain, update("1 bob secret x", "1 alice a x"))[..] else { panic!("one change") };
    assert_eq!(data["old_record"], serde_json::json!({"id": "1"}), "he may not see what it was");
    let [(_, data)] = &heard(rule(), &plain, update("1 alice a x", "1 alice b x"))[..] else { panic!("one change") };
    assert_eq!(data["old_record"]["state"], "a");
    assert!(data.get("reason").is_none(), "nothing new without the option");
}

#[test]
fn a_bare_key_reaches_everybody_unless_the_key_decides_or_that_is_switched_off() {
    let plain = Asked::default();
    assert_eq!(kinds(compiled(is_owner()), &plain, delete_key("1")), ["DELETE"]);
    assert_eq!(kinds(compiled(id_is("1")), &plain, delete_key("1")), ["DELETE"]);
    assert_eq!(kinds(compiled(id_is("1")), &plain, delete_key("2")), NOTHING);
    let mut strict = core(compiled(is_owner()));
    strict.config = Config { strict_deletes: true, ..config() };
    let mut client = Asked::default().join(&mut strict);
    route(&mut strict, 1, delete_key("1"));
    assert_eq!(client.kinds(), NOTHING);
}

#[test]
fn rows_enter_and_leave_by_policy_and_by_filter_for_those_who_opted_in() {
    let mine = "1 alice open x";
    let (theirs, closed) = ("1 bob open x", "1 alice closed x");
    let filter = Some("state=eq.open");
    let opted = |filter| Asked { visibility: true, filter, ..Asked::default() };
    for rule in [|| compiled(is_owner()), || RowRule::All] {
        let by_policy = |kind: &'static str| if matches!(rule(), RowRule::All) { "UPDATE" } else { kind };
        for (asked, old, new, expected) in [
            (opted(None), mine, theirs, Some(by_policy("left"))),
            (opted(None), theirs, mine, Some(by_policy("entered"))),
            (opted(None), mine, closed, Some("UPDATE")),
            (opted(filter), mine, closed, Some("left")),
            (opted(filter), closed, mine, Some("entered")),
            (opted(filter), mine, mine, Some("UPDATE")),
            (opted(filter), closed, closed, None),
            (Asked { event: "DELETE", ..opted(filter) }, mine, closed, Some("left")),
            (Asked { event: "INSERT", ..opted(filter) }, mine, closed, None),
            (Asked { event: "UPDATE", ..opted(filter) }, mine, closed, None),
            (Asked { event: "INSERT", ..opted(filter) }, closed, mine, Some("entered")),
            (Asked { event: "UPDATE", ..opted(filter) }, closed, mine, None),
            (Asked { event: "INSERT", ..opted(filter) }, mine, mine, None),
            // Without the option all is as it was.
            (Asked { filter, ..Asked::default() }, mine, closed, None),
            (Asked { filter, ..Asked::default() }, closed, mine, Some("UPDATE")),
        ] {
            let got = kinds(rule(), &asked, update(old, new));
            assert_eq!(
                got,
                expected.into_iter().collect::<Vec<_>>(),
                "{old} to {new}, {:?} {:?}",
                asked.filter,
                asked.event
            );
        }
    }
}

#[test]
fn what_left_is_told_by_its_key_and_what_entered_as_a_whole() {
    let opted = Asked { visibility: true, ..Asked::default() };
    let rule = || compiled(is_owner());
    let [(kind, data)] = &heard(rule(), &opted, update("1 alice a x", "2 bob secret y"))[..] else { panic!("one") };
    assert_eq!((kind.as_str(), &data["reason"]), ("DELETE", &"left".into()));
    assert_eq!(data["old_record"], serde_json::json!({"id": "1"}));
    assert!(data.get("record").is_none() && !data.to_string().contains("secret"), "{data}");
    let [(kind, data)] = &heard(rule(), &opted, update("1 bob secret x", "1 alice a y"))[..] else { panic!("one") };
    assert_eq!((kind.as_str(), &data["reason"]), ("INSERT", &"entered".into()));
    assert_eq!(data["record"], serde_json::json!({"id": "1", "owner": "alice", "state": "a", "body": "y"}));
    assert!(data.get("old_record").is_none() && !data.to_string().contains("secret"), "{data}");
}

#[test]
fn of_an_unknown_old_row_neither_is_told() {
    let opted = Asked { visibility: true, filter: Some("state=eq.open"), ..Asked::default() };
    assert_eq!(kinds(compiled(is_owner()), &opted, blind_update("1 alice open x")), ["UPDATE"]);
    assert_eq!(kinds(compiled(is_owner()), &opted, blind_update("1 bob open x")), NOTHING);
    assert_eq!(kinds(compiled(is_owner()), &opted, blind_update("1 alice closed x")), NOTHING);
    assert_eq!(kinds(compiled(is_owner()), &opted, update("1 - open x", "1 alice open x")), ["UPDATE"]);
}

#[test]
fn a_policy_that_fails_hides_and_is_said_once() {
    let mut core = core(compiled(Expr::And(vec![state_is_not_bad(), is_owner()])));
    let mut client = Asked::default().join(&mut core);
    route(&mut core, 1, insert("1 alice bad x"));
    route(&mut core, 2, insert("2 alice bad x"));
    route(&mut core, 3, insert("3 alice good x"));
    let heard = client.heard();
    assert_eq!(heard.len(), 2, "{heard:?}");
    assert_eq!(heard[0]["payload"]["message"], refusal::policy_failed("public", "t", "22012"));
    assert_eq!(heard[1]["payload"]["data"]["record"]["id"], "3");
    assert_eq!(core.metrics.hidden_error.get(), 2);
}

#[test]
fn what_the_image_lacks_hides_and_is_counted() {
    let mut core = core(compiled(Expr::And(vec![state_is("open"), is_owner()])));
    let mut client = Asked::default().join(&mut core);
    route(&mut core, 1, insert("1 alice - x"));
    assert_eq!(client.kinds(), NOTHING);
    assert_eq!(core.metrics.hidden_absent.get(), 1);
}

/// The catalogue changes from what only the database decides to what the process does: nothing that is still on its way
/// is overtaken, and the lane is left when it has delivered.
#[test]
fn a_subscription_leaves_the_lane_when_nothing_of_it_is_on_its_way() {
    let mut core = core(RowRule::Database(database_policy()));
    let mut client = Asked::default().join(&mut core);
    let job = route(&mut core, 1, insert("1 alice a x"));
    assert!(job.is_some());
    let next = fixture_catalog_2(compiled(is_owner()));
    core.set_catalog(next, NONE);
    let behind = route(&mut core, 2, insert("2 alice a x")).expect("it would overtake the first");
    assert!(behind.work[0].candidates[0].sights.is_some(), "though its rights are known");
    drop((job, behind));
    assert!(route(&mut core, 3, insert("3 alice a x")).is_none());
    assert_eq!(client.kinds(), ["INSERT"]);
}

fn fixture_catalog_2(rows: RowRule) -> Arc<Catalog> {
    let catalog = crate::router::fixture::catalog(rows);
    Arc::new(Catalog { version: "2".to_owned(), ..Catalog::clone(&catalog) })
}

fn owned(client: &mut Client) -> usize {
    client.kinds().len()
}

#[test]
fn who_lags_is_served_by_the_rights_of_now() {
    let mut core = core(compiled(is_owner()));
    let (subscription, mut client) = Asked { room: 4, ..Asked::default() }.subscription();
    let key = core.subscribe(subscription, NONE).unwrap();
    client.heard();
    for lsn in 1..=6 {
        let owner = if lsn == 6 { "bob" } else { "alice" };
        route(&mut core, lsn, insert(&format!("{lsn} {owner} a x")));
    }
    assert!(core.has_behind());
    assert_eq!(owned(&mut client), 4);
    let mut claims = core.active[key.place].subscription.claims.clone();
    claims.json = r#"{"role":"authenticated","sub":"bob"}"#.into();
    core.replace_claims(key, claims, NONE);
    assert!(catch_up(&mut core).is_empty());
    let ids: Vec<_> = client.changes().into_iter().map(|(_, data)| data["record"]["id"].to_string()).collect();
    assert_eq!(ids, ["\"6\""], "alice's fifth row is not bob's");
    assert!(!core.has_behind());
}

#[test]
fn a_place_that_is_used_again_does_not_inherit_a_lag() {
    let mut core = core(RowRule::All);
    let (subscription, mut client) = Asked { room: 1, ..Asked::default() }.subscription();
    let key = core.subscribe(subscription, NONE).unwrap();
    client.heard();
    for lsn in 1..=3 {
        route(&mut core, lsn, insert(&format!("{lsn} alice a x")));
    }
    assert!(core.has_behind());
    core.unsubscribe(key);
    let mut next = Asked::default().join(&mut core);
    catch_up(&mut core);
    assert!(!core.has_behind() && next.kinds().is_empty());
}

#[test]
fn a_large_transaction_waits_for_whoever_reads_fast_and_for_nobody_else() {
    let mut core = core(RowRule::All);
    let (subscription, mut client) = Asked { room: 4, ..Asked::default() }.subscription();
    core.subscribe(subscription, NONE).unwrap();
    client.heard();
    let body = "x".repeat(50_000);
    let serve = |core: &mut RouterCore, now| core.catch_up(true, Basis::at(now, &Lookups::default()));
    let mut ordinal = 0;
    // One transaction of a megabyte, a row a fragment; so far as the backlog holds it.
    let mut route_part = |core: &mut RouterCore| {
        let fragment = part(9, ordinal, vec![insert(&format!("{ordinal} alice a {body}"))], false);
        ordinal += 1;
        core.route(&fragment, Basis::at(0, &Lookups::default()));
    };
    for _ in 0..24 {
        route_part(&mut core);
    }
    assert!(core.has_behind() && core.pressed(1_000_000).is_none(), "it has taken nothing in");
    client.heard();
    serve(&mut core, 1_000_000);
    assert_eq!(core.pressed(1_000_000 + FAST_WITHIN), Some(Lsn(9)));
    assert_eq!(core.pressed(1_000_001 + FAST_WITHIN), None, "it does not read fast");
    assert_eq!(
        core.pressed(1_000_000 - 3_600_000_000),
        None,
        "the clock was set back, and nobody knows how fast it reads"
    );
    client.heard();
    serve(&mut core, 1_100_000);
    client.heard();
    serve(&mut core, 1_100_000);
    assert_eq!(core.pressed(1_100_000), None, "what it still needs is not gone soon");
}

const RIGHTS_CHANGED: &str = "Rights to rows of public.t have changed. Fetch it again";

fn texts(client: &mut Client) -> Vec<String> {
    client.heard().into_iter().map(|message| message["payload"]["message"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn who_opted_in_hears_that_rights_changed_once_a_transaction_and_others_never() {
    let mut core = core(compiled(Expr::Or(vec![is_member(), is_owner()])));
    let opted = Asked { visibility: true, ..Asked::default() };
    let mut onlooker = opted.join_with(&mut core, &|table| table == MEMBERS);
    let mut plain = Asked::default().join_with(&mut core, &|table| table == MEMBERS);
    core.rights_changed([MEMBERS, 99]);
    let heard = onlooker.heard();
    assert_eq!(heard.len(), 1);
    assert_eq!(heard[0]["event"], "system");
    assert_eq!(heard[0]["payload"]["status"], "ok");
    assert_eq!(heard[0]["payload"]["message"], RIGHTS_CHANGED);
    core.rights_changed([99]);
    assert!(onlooker.heard().is_empty() && plain.heard().is_empty());
    onlooker.member.end();
    core.sweep();
    core.rights_changed([MEMBERS]);
    assert!(!core.has_behind(), "nobody is left to be told");
}

#[test]
fn a_slow_client_hears_once_of_many_changes_of_rights() {
    let mut core = core(compiled(is_member()));
    let opted = Asked { visibility: true, room: 4, ..Asked::default() };
    let mut client = opted.join_with(&mut core, &|_| true);
    for _ in 0..50 {
        core.rights_changed([MEMBERS]);
    }
    assert_eq!(texts(&mut client), [RIGHTS_CHANGED; 2], "as long as there is room");
    assert!(core.has_behind(), "he is still to be told of the last");
    catch_up(&mut core);
    assert_eq!(texts(&mut client), [RIGHTS_CHANGED]);
    assert!(!core.has_behind());
}

#[test]
fn until_its_tables_are_ready_a_policy_is_the_databases_and_then_it_is_not() {
    let mut core = core(compiled(is_member()));
    let _client = Asked::default().join(&mut core);
    assert!(route(&mut core, 1, insert("1 alice a x")).is_some());
    core.compile_again(&|_| true);
    assert!(route(&mut core, 2, insert("2 alice a x")).is_none());
    core.compile_again(NONE);
    assert!(route(&mut core, 3, insert("3 alice a x")).is_some());
}

#[test]
fn when_a_transaction_cannot_be_kept_those_whose_rights_it_may_change_hear_of_a_gap_and_no_others() {
    let mut core = core(compiled(Expr::Or(vec![is_member(), is_owner()])));
    let mut looking = Asked::default().join_with(&mut core, &|_| true);
    core.lose_lookups(Lsn(5));
    assert_eq!(looking.heard()[0]["payload"]["message"], refusal::CHANGES_SKIPPED);
    assert!(looking.member.is_ended() && core.is_amid(Lsn(5)));
    let mut core = fixture_core();
    let mut plain = Asked::default().join(&mut core);
    core.lose_lookups(Lsn(5));
    assert!(plain.heard().is_empty());
}

fn fixture_core() -> RouterCore {
    crate::router::fixture::core(compiled(is_owner()))
}

#[test]
fn what_could_not_be_asked_is_served_again_though_what_came_behind_it_was_turned_down_before() {
    let mut core = core(RowRule::Database(database_policy()));
    let (subscription, client) = Asked::default().subscription();
    let key = core.subscribe(subscription, NONE).unwrap();
    let jobs: Vec<_> = (1..=3).filter_map(|lsn| route(&mut core, lsn, insert("1 alice a x"))).collect();
    let generation = core.active[key.place].generation;
    let at = |job: &LaneJob| job.fragment.position(&job.fragment.changes[0]);
    let (first, second) = (at(&jobs[0]), at(&jobs[1]));
    client.member.lag_from(generation, second);
    core.notice_lagging();
    client.member.lag_from(generation, first);
    client.member.lag_from(generation, second);
    assert_eq!(client.member.lag(), Some(first));
    drop(jobs);
    let again: Vec<_> = catch_up(&mut core).iter().map(at).collect();
    assert_eq!(again.first(), Some(&first));
    assert_eq!(again.len(), 3);
}

#[test]
fn of_a_change_that_has_fewer_messages_by_the_rights_of_now_none_counts_as_given() {
    let (_, mut client) = Asked::default().subscription();
    let at = Position::before(0, Lsn(5));
    let frames = |texts: &[&str]| texts.iter().map(|text| crate::protocol::Frame::text(format!("{text:?}"))).collect();
    client.member.skip_given(at, 1);
    client.member.deliver_change(Generation::default(), at, frames(&["given", "left"]));
    assert_eq!(client.heard(), ["left"]);
    client.member.deliver_change(Generation::default(), at, frames(&["another"]));
    assert_eq!(client.heard(), ["another"]);
}

#[test]
fn who_was_subscribed_behind_what_a_crash_left_of_the_log_gets_what_comes_in_its_place() {
    let mut core = core(RowRule::All);
    let (mut subscription, mut client) = Asked::default().subscription();
    subscription.start = Position::before(0, Lsn(50));
    core.subscribe(subscription, NONE).unwrap();
    let stream = |number, end| {
        let stream = StreamState {
            number,
            publication: 0,
            kind: Kind::Log,
            from: Lsn(5),
            log_end: Some(Lsn(end)),
            catalog_xmin: None,
            lookups_since: None,
            lookups_problem: None,
            messages_since: None,
            messages_problem: None,
        };
        SourceState { streaming: true, stream: Some(stream), ..SourceState::default() }
    };
    core.set_source(&stream(1, 60));
    route(&mut core, 10, insert("1 alice a x"));
    assert!(client.changes().is_empty(), "it is from before");
    core.set_source(&stream(2, 20));
    route(&mut core, 15, insert("2 alice a x"));
    assert!(client.changes().is_empty(), "and so is all that is left of that");
    route(&mut core, 30, insert("3 alice a x"));
    assert_eq!(client.changes().len(), 1);
}
