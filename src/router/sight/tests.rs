//! Every combination of rights, images and filters, written out.

use super::*;
use crate::router::{
    fixture::{blind_update, compiled, delete, delete_key, insert, is_owner, update},
    render::Extent::{Entered, KeyOnly, Left, NewKey, WholeOld},
};
use Sight::{Absent, Failed, Hidden, Seen as Sees};

const PLAIN: Matching = Matching { is: true, was: None };

fn told(change: &Change, rows: &RowRule, strict: bool, is: Sight, was: Sight, filter: Matching) -> Option<Extent> {
    Seen { change, rows, strict_deletes: strict, sights: Sights { is, was } }.told(filter)
}

#[test]
fn what_is_not_seen_is_not_told_and_what_is_seen_is() {
    let policy = compiled(is_owner());
    for change in [insert("1 a b c"), blind_update("1 a b c"), update("1 a b c", "1 a b d"), delete("1 a b c")] {
        for strict in [false, true] {
            for sight in [Hidden, Absent, Failed] {
                assert_eq!(told(&change, &policy, strict, sight, Sees, PLAIN), None, "{change:?} {sight:?}");
            }
            assert!(told(&change, &policy, strict, Sees, Sees, PLAIN).is_some());
            assert_eq!(told(&change, &policy, strict, Sees, Sees, Matching { is: false, was: None }), None);
        }
    }
}

#[test]
fn an_old_image_is_shown_only_to_those_who_saw_it() {
    let policy = compiled(is_owner());
    let (whole, blind) = (update("1 a b c", "1 a b d"), blind_update("1 a b d"));
    for (change, rows, strict, was, expected) in [
        (&whole, &policy, false, Sees, WholeOld),
        (&whole, &policy, false, Hidden, NewKey),
        (&whole, &policy, false, Failed, NewKey),
        (&whole, &policy, true, Absent, NewKey),
        (&whole, &RowRule::All, true, Sees, WholeOld),
        (&blind, &policy, false, Absent, KeyOnly),
        (&blind, &policy, true, Absent, NewKey),
        (&blind, &RowRule::All, true, Absent, WholeOld),
    ] {
        assert_eq!(told(change, rows, strict, Sees, was, PLAIN), Some(expected), "{was:?} strict {strict}");
    }
}

#[test]
fn a_bare_key_is_public_unless_it_decides_or_that_is_switched_off() {
    let policy = compiled(is_owner());
    let change = delete_key("1");
    assert_eq!(told(&change, &policy, false, Absent, Absent, PLAIN), Some(KeyOnly));
    assert_eq!(told(&change, &policy, true, Absent, Absent, PLAIN), None);
    assert_eq!(told(&change, &policy, false, Sees, Absent, PLAIN), Some(WholeOld), "the key alone decides");
    assert_eq!(told(&change, &policy, false, Hidden, Absent, PLAIN), None, "the key alone decides");
    assert_eq!(told(&change, &policy, false, Failed, Absent, PLAIN), None);
    assert_eq!(told(&change, &RowRule::None, false, Hidden, Absent, PLAIN), Some(KeyOnly));
    assert_eq!(told(&change, &RowRule::None, true, Hidden, Absent, PLAIN), None);
    let whole = delete("1 a b c");
    assert_eq!(told(&whole, &RowRule::None, false, Hidden, Absent, PLAIN), None);
    let absent = |strict| Seen {
        change: &change,
        rows: &policy,
        strict_deletes: strict,
        sights: Sights { is: Absent, was: Absent },
    };
    assert!(!absent(false).is_hidden_by_absence() && absent(true).is_hidden_by_absence());
}

#[test]
fn who_opted_in_is_told_what_enters_and_leaves_and_never_by_a_guess() {
    let policy = compiled(is_owner());
    let change = update("1 a b c", "1 a b d");
    for (was, is, old_matches, new_matches, expected) in [
        (Sees, Sees, true, true, Some(WholeOld)),
        (Sees, Hidden, true, true, Some(Left)),
        (Sees, Sees, true, false, Some(Left)),
        (Sees, Absent, true, true, Some(Left)),
        (Sees, Failed, true, true, Some(Left)),
        (Hidden, Sees, true, true, Some(Entered)),
        (Sees, Sees, false, true, Some(Entered)),
        (Hidden, Sees, false, true, Some(Entered)),
        (Hidden, Hidden, true, true, None),
        (Sees, Sees, false, false, None),
        (Hidden, Sees, true, false, None),
        (Sees, Hidden, false, true, None),
        // Nobody knows what he saw.
        (Absent, Sees, true, true, Some(NewKey)),
        (Failed, Sees, true, true, Some(NewKey)),
        (Absent, Hidden, true, true, None),
        (Failed, Sees, true, false, None),
    ] {
        let filter = Matching { is: new_matches, was: Some(old_matches) };
        assert_eq!(told(&change, &policy, false, is, was, filter), expected, "{was:?} {is:?} {filter:?}");
    }
}
