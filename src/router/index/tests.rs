//! Every binding a change matches is found, none that is gone is, and one change costs one probe however many subscribe.

use super::*;
use crate::policy::expr::Expr;
use crate::{
    change::Change,
    policy::{catalog::RowRule, lookup::Lookups, program::Verdict},
    router::{
        fixture::{
            Asked, NONE, TABLE, blind_update, catalog, compiled, delete, delete_key, insert, is_owner, state_is, update,
        },
        judgement::Basis,
        matching::{Wanted, is_bare_key_delete},
        shared::Shared,
        subscription::compile,
    },
};
use proptest::prelude::*;

struct World {
    catalog: Arc<crate::policy::catalog::Catalog>,
    shared: Shared,
    index: SubscriptionIndex,
    tables: Vec<Arc<TableSubscription>>,
}

impl World {
    fn new(rows: RowRule) -> World {
        let (shared, index) = (Shared::default(), SubscriptionIndex::default());
        World { catalog: catalog(rows), shared, index, tables: Vec::new() }
    }

    fn enter(&mut self, asked: &Asked<'_>) {
        let (subscription, _client) = asked.subscription();
        let compiled = compile(&subscription, &self.catalog, NONE, &mut self.shared);
        let table = compiled.tables[&TABLE].clone();
        self.index.insert(self.tables.len(), &table);
        self.tables.push(table);
    }

    /// The subscriptions found, how many bindings must be, and how many answers that took.
    fn find(&self, change: &Change, strict: bool) -> (Vec<usize>, Vec<usize>, usize) {
        let map: Vec<Option<usize>> = (0..4).map(Some).collect();
        let images = Images::of(change, &map).unwrap();
        let is = |column| images.is.get(column);
        let old = images.was;
        let was = old.as_ref().map(|old| move |column| old.get(column));
        let lookups = Lookups::default();
        let basis = Basis::at(0, &lookups);
        let mut judgement = Judgement::new(&is, was.as_ref().map(|was| was as _), basis);
        let is_public_key = is_bare_key_delete(change) && !strict;
        let found = self.index.candidates(TABLE, &images, &mut judgement, is_public_key);
        assert_eq!(judgement.computed(), 0, "nobody is judged before he is found");
        let mut must = Vec::new();
        for (number, table) in self.tables.iter().enumerate() {
            let wants = Wanted::of(&table.bindings[0], change.operation, &images, table.tells_moves).is_some();
            let sees = table.bound.as_ref().is_none_or(|bound| {
                let is = judgement.verdict(bound, Side::Is);
                let saw = table.tells_moves && judgement.verdict(bound, Side::Was) == Verdict::Yes;
                is == Verdict::Yes || saw || is_public_key && is == Verdict::Absent
            });
            if wants && sees {
                must.push(number);
            }
        }
        (found.iter().map(|entry| entry.subscription).collect(), must, judgement.computed())
    }
}

fn change() -> impl Strategy<Value = Change> {
    let value = || prop::sample::select(vec!["a", "b", "c", "~", "-"]);
    let row = move || (value(), value()).prop_map(|(owner, state)| format!("1 {owner} {state} x"));
    prop_oneof![
        row().prop_map(|new| insert(&new)),
        row().prop_map(|new| blind_update(&new)),
        (row(), row()).prop_map(|(old, new)| update(&old, &new)),
        row().prop_map(|old| delete(&old)),
        Just(delete_key("1")),
    ]
}

fn rule(kind: usize) -> RowRule {
    match kind {
        0 => RowRule::All,
        1 => compiled(is_owner()),
        2 => compiled(Expr::Or(vec![is_owner(), state_is("a")])),
        3 => compiled(Expr::And(vec![is_owner(), state_is("a")])),
        _ => compiled(Expr::Or(vec![Expr::And(vec![state_is("b"), is_owner()]), is_owner()])),
    }
}

proptest! {
    #[test]
    fn what_a_change_matches_is_among_what_it_finds(
        kind in 0..5_usize,
        asked in prop::collection::vec(
            (prop::sample::select(vec!["a", "b", "c"]),
             prop::sample::select(vec![None, Some("state=eq.a"), Some("owner=in.(a,b)"), Some("state=neq.a")]),
             prop::sample::select(vec!["*", "INSERT", "UPDATE", "DELETE"]),
             any::<bool>()),
            1..12,
        ),
        gone in prop::collection::vec(any::<bool>(), 12),
        changes in prop::collection::vec(change(), 1..6),
        strict in any::<bool>(),
    ) {
        let mut world = World::new(rule(kind));
        for &(sub, filter, event, visibility) in &asked {
            world.enter(&Asked { sub, filter, event, visibility, ..Asked::default() });
        }
        for change in &changes {
            let (found, must, _) = world.find(change, strict);
            prop_assert!(must.iter().all(|number| found.contains(number)), "{change:?}: {must:?} not in {found:?}");
            prop_assert!(found.is_sorted() && found.windows(2).all(|pair| pair[0] != pair[1]));
        }
        for (number, table) in world.tables.iter().enumerate().filter(|(number, _)| gone[*number]) {
            world.index.remove(number, table);
        }
        for change in &changes {
            let (found, must, _) = world.find(change, strict);
            prop_assert!(found.iter().all(|number| !gone[*number]));
            prop_assert!(must.iter().all(|number| gone[*number] || found.contains(number)));
        }
        for (number, table) in world.tables.iter().enumerate().filter(|(number, _)| !gone[*number]) {
            world.index.remove(number, table);
        }
        prop_assert!(!world.index.has(TABLE), "nothing is left behind");
    }
}

#[test]
fn one_of_many_owners_is_found_alone() {
    let mut world = World::new(compiled(is_owner()));
    let owners: Vec<String> = (0..500).map(|number| format!("owner{number}")).collect();
    for sub in &owners {
        world.enter(&Asked { sub, ..Asked::default() });
    }
    assert_eq!(world.find(&insert("1 owner7 a x"), false).0, [7]);
    assert_eq!(world.find(&insert("1 nobody a x"), false).0, [0; 0]);
    assert_eq!(
        world.find(&update("1 owner7 a x", "1 owner8 a x"), false).0,
        [8],
        "what leaves is nobody's who did not ask"
    );
    world.enter(&Asked { sub: "owner7", visibility: true, ..Asked::default() });
    assert_eq!(world.find(&update("1 owner7 a x", "1 owner8 a x"), false).0, [7, 8, 500]);
    assert_eq!(world.find(&delete("1 owner7 a x"), false).0, [7, 500]);
    assert_eq!(world.find(&delete_key("1"), false).0.len(), 501, "a bare key is everybody's");
}

#[test]
fn an_equality_of_the_filter_narrows_where_the_policy_does_not() {
    let mut world = World::new(compiled(Expr::Or(vec![is_owner(), state_is("open")])));
    for filter in ["body=eq.x", "body=eq.y", "body=eq.z"] {
        world.enter(&Asked { filter: Some(filter), ..Asked::default() });
    }
    assert_eq!(world.find(&insert("1 bob open y"), false).0, [1]);
}

#[test]
fn equal_claims_are_answered_once() {
    let mut world = World::new(compiled(Expr::Or(vec![is_owner(), state_is("open")])));
    for sub in ["alice", "bob", "alice", "alice", "bob"] {
        world.enter(&Asked { sub, ..Asked::default() });
    }
    let (_, must, computed) = world.find(&insert("1 bob open y"), false);
    assert_eq!((must.len(), computed), (5, 2));
}

#[test]
fn a_subscriber_on_whose_claims_the_policy_fails_is_found_to_hear_of_it() {
    let mut world = World::new(compiled(is_owner()));
    for sub in ["boom", "alice", "bob"] {
        world.enter(&Asked { sub, ..Asked::default() });
    }
    assert_eq!(world.find(&insert("1 bob a x"), false).0, [0, 2]);
}
