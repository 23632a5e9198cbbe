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
    let losses: Vec<_> = heard.iter().filter(|item| matches!(item, Item::Gap { .. } | Item::Refused(_))).collect();
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

/// A gap was said exactly once. Before it came everything up to some line, at least to `before`; behind it everything
/// from some line on, at least from `behind`. What was said.
pub fn assert_one_gap(who: &Who, heard: &[Item], expected: &[Line], (before, behind): (i64, i64)) -> Item {
    // That a table was not published meanwhile is said as well.
    let is_loss = |item: &Item| match item {
        Item::Gap { .. } => true,
        Item::Refused(reason) => !reason.contains("inactive"),
        _ => false,
    };
    let at: Vec<usize> = (0..heard.len()).filter(|&at| is_loss(&heard[at])).collect();
    let said: Vec<&Item> = at.iter().map(|&at| &heard[at]).collect();
    let [at] = at[..] else { panic!("{}: one gap had to be said: {said:?}", who.name) };
    let (first, last) = (events(&heard[..at]), events(&heard[at..]));
    let common_first = common(&first, expected);
    assert!(common_first == first.len(), "{}: came before the gap: {:?}", who.name, first.get(common_first));
    let skipped = expected.len().checked_sub(last.len());
    let skipped = skipped.unwrap_or_else(|| panic!("{}: {} events behind the gap", who.name, last.len()));
    let common_last = common(&last, &expected[skipped..]);
    assert!(
        common_last == last.len(),
        "{}: behind the gap had to come {:?}, came {:?}",
        who.name,
        expected.get(skipped + common_last),
        last.get(common_last)
    );
    assert!(first.len() <= skipped, "{}: {} events came twice", who.name, first.len() - skipped.min(first.len()));
    let lost = &expected[first.len()..skipped];
    let wrongly = lost.iter().find(|line| line.number <= before || line.number >= behind);
    assert!(wrongly.is_none(), "{}: {wrongly:?} was lost, and only what is in {before}..{behind} may be", who.name);
    heard[at].clone()
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
            assert_one_gap(&who(), &came(right), &expected, (2, 5));
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
            assert!(fails(move || drop(assert_one_gap(&who(), &heard, &expected, (2, 5)))), "{wrong:?}");
        }
    }
}
