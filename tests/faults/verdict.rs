//! Whether a subscriber got what it had to get: its sequence, computed from the ledger.

use super::subscriber::{Event, Item, Who};
use tokio_postgres::Client;

/// What one line of the ledger means to a subscriber.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The number.
    pub number: i64,
    pub table: String,
    pub op: String,
    pub id: i64,
}

impl Line {
    fn is(&self, event: &Event) -> bool {
        let n = if self.op == "DELETE" { None } else { Some(self.number) };
        (self.table.as_str(), self.op.as_str(), self.id, n)
            == (event.table.as_str(), event.op.as_str(), event.id, event.n)
    }
}

/// What somebody has to get, from the first line on to the last that is written.
pub async fn expected(client: &Client, who: &Who) -> Vec<Line> {
    let sql = format!("select n, tbl, op, id from ledger where {} order by n", who.sees);
    let rows = client.query(&sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    rows.iter()
        .map(|row| Line { number: row.get(0), table: row.get(1), op: row.get(2), id: i64::from(row.get::<_, i32>(3)) })
        .collect()
}

/// Everything, once, in order, and no word of a loss.
pub fn assert_exact(who: &Who, heard: &[Item], expected: &[Line]) {
    let losses: Vec<_> =
        heard.iter().filter(|item| matches!(item, Item::Gap { .. } | Item::Refused(_) | Item::Inactive)).collect();
    assert!(losses.is_empty(), "{}: nothing is lost, and it was said: {losses:?}", who.name);
    let events = events(heard);
    let common = common(&events, expected);
    assert!(
        common == expected.len() && common == events.len(),
        "{}: of {} events came {}; after {common} that are right: had to come {:?}, came {:?}",
        who.name,
        expected.len(),
        events.len(),
        expected.get(common.saturating_sub(1)..(common + 4).min(expected.len())),
        events.get(common.saturating_sub(1)..(common + 4).min(events.len()))
    );
}

/// Everything, once, in order, but for what is lost between the marks of these windows; and what was lost was said where
/// it is missing. The losses as they were said.
pub fn assert_lost_within(who: &Who, heard: &[Item], expected: &[Line], windows: &[(i64, i64)]) -> Vec<Item> {
    let mut at = 0;
    let is_said = |item: &Item| matches!(item, Item::Gap { .. } | Item::Refused(_) | Item::Inactive);
    for (number, part) in heard.split(is_said).enumerate() {
        let events = events(part);
        let Some(first) = events.first() else { continue };
        let skipped = if number == 0 { Some(0) } else { expected[at..].iter().position(|line| line.is(first)) };
        let skipped = skipped.unwrap_or_else(|| panic!("{}: {first:?} came twice, or was never to come", who.name));
        let rest = &expected[at + skipped..];
        let common = common(&events, rest);
        assert!(
            common == events.len(),
            "{}: in part {number} had to come {:?}, came {:?}",
            who.name,
            rest.get(common),
            events.get(common)
        );
        let mut lost = expected[at..at + skipped].iter();
        let may_be = |line: &Line| windows.iter().any(|&(before, behind)| (before + 1..behind).contains(&line.number));
        let wrongly = lost.find(|line| !may_be(line));
        assert!(wrongly.is_none(), "{}: {wrongly:?} was lost, and only what is in {windows:?} may be", who.name);
        at += skipped + common;
    }
    assert!(at == expected.len(), "{}: the end did not come: {:?}", who.name, expected.get(at));
    heard.iter().filter(|item| matches!(item, Item::Gap { .. } | Item::Refused(_))).cloned().collect()
}

/// The same, when each of the losses was said once, and not as that of a binding.
pub fn assert_gaps(who: &Who, heard: &[Item], expected: &[Line], windows: &[(i64, i64)]) -> Vec<Item> {
    let said = assert_lost_within(who, heard, expected, windows);
    assert!(said.len() == windows.len(), "{}: {} gaps had to be said: {said:?}", who.name, windows.len());
    said
}

fn events(heard: &[Item]) -> Vec<&Event> {
    heard
        .iter()
        .filter_map(|item| match item {
            Item::Event(event) => Some(event),
            _ => None,
        })
        .collect()
}

/// How many events are as they had to be, from the first on.
fn common(events: &[&Event], expected: &[Line]) -> usize {
    events.iter().zip(expected).take_while(|(event, line)| line.is(event)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(numbers: &[i64]) -> Vec<Line> {
        let line = |&number: &i64| Line { number, table: "t".into(), op: "INSERT".into(), id: number };
        numbers.iter().map(line).collect()
    }

    fn came(numbers: &[i64]) -> Vec<Item> {
        let gap = Item::Gap { reason: "why".into(), from: None, to: None };
        let event = |n| Event { table: "t".into(), op: "INSERT".into(), id: n, n: Some(n), columns: vec![] };
        numbers.iter().map(|&n| if n == 0 { gap.clone() } else { Item::Event(event(n)) }).collect()
    }

    fn who() -> Who {
        Who { name: "somebody", token: String::new(), tables: &[], sees: String::new() }
    }

    fn fails(check: impl FnOnce() + std::panic::UnwindSafe) -> bool {
        std::panic::catch_unwind(check).is_err()
    }

    #[test]
    fn what_is_lost_doubled_or_out_of_order_is_seen() {
        let expected = lines(&[1, 2, 3, 4]);
        assert_exact(&who(), &came(&[1, 2, 3, 4]), &expected);
        for wrong in [
            &[1, 2, 3][..],
            &[2, 3, 4],
            &[1, 3, 4],
            &[1, 2, 2, 3, 4],
            &[1, 3, 2, 4],
            &[1, 2, 3, 4, 5],
            &[1, 0, 2, 3, 4],
        ] {
            let (heard, expected) = (came(wrong), expected.clone());
            assert!(fails(move || assert_exact(&who(), &heard, &expected)), "{wrong:?}");
        }
    }

    #[test]
    fn a_gap_is_said_once_and_nothing_else_is_missing() {
        let expected = lines(&[1, 2, 3, 4, 5, 6]);
        for right in [&[1, 2, 0, 5, 6][..], &[1, 2, 3, 4, 0, 5, 6], &[1, 2, 3, 0, 5, 6]] {
            assert_gaps(&who(), &came(right), &expected, &[(2, 5)]);
        }
        for wrong in [
            &[1, 2, 5, 6][..],
            &[1, 0, 5, 6],
            &[1, 2, 0, 6],
            &[1, 2, 0, 3, 0, 5, 6],
            &[1, 2, 3, 0, 3, 4, 5, 6],
            &[1, 2, 0, 5],
        ] {
            let (heard, expected) = (came(wrong), expected.clone());
            assert!(fails(move || drop(assert_gaps(&who(), &heard, &expected, &[(2, 5)]))), "{wrong:?}");
        }
    }
}
