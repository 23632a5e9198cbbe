//! Whether the benchmark of memory would see a row that comes twice, too early or not at all.

#[path = "../bench/sequence.rs"]
mod sequence;

use sequence::{
    Arrival::{self, InOrder, OutOfOrder, Skipping},
    Sequence,
};

/// What rows mean one after another, and how many are left.
fn judged(ids: &[u64]) -> (Vec<Arrival>, u64) {
    let mut sequence = Sequence { before: 98, rows: (7, 10, 39), behind: 99, due: 0 };
    let arrivals = ids.iter().map(|id| sequence.arrive(*id)).collect();
    (arrivals, sequence.left())
}

#[test]
fn rows_in_their_order_are_no_fault_of_the_order_and_all_others_are() {
    let all = [98, 7, 17, 27, 37, 99];
    assert_eq!(judged(&all), (all.map(|_| InOrder).into(), 0));
    assert_eq!(judged(&[98, 7, 27, 99]), (vec![InOrder, InOrder, Skipping(1), Skipping(1)], 0));
    assert_eq!(judged(&[7, 98]), (vec![Skipping(1), OutOfOrder], 4));
    assert_eq!(judged(&[98, 7, 7]), (vec![InOrder, InOrder, OutOfOrder], 4));
    assert_eq!(judged(&[98, 99, 7]), (vec![InOrder, Skipping(4), OutOfOrder], 0));
    assert_eq!(judged(&[98, 8, 47]), (vec![InOrder, OutOfOrder, OutOfOrder], 5));
}
