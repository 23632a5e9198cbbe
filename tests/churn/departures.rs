//! How long it takes the others to learn that somebody is gone.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum How {
    Closed,
    Crashed,
    Frozen,
}

#[derive(Default)]
struct Board {
    under_way: HashMap<u64, (How, Instant)>,
    noticed: HashMap<How, Vec<Duration>>,
}

/// Who is gone, by their stays, until the first of the others has noticed.
#[derive(Default)]
pub struct Departures(Mutex<Board>);

impl Departures {
    pub fn departs(&self, stay: u64, how: How) {
        self.board(|board| board.under_way.insert(stay, (how, Instant::now())));
    }

    /// Somebody was told that this is not tracked any more.
    pub fn noticed(&self, tracked: &Value) {
        let Some(stay) = tracked["stay"].as_u64() else { return };
        self.board(|board| {
            if let Some((how, since)) = board.under_way.remove(&stay) {
                board.noticed.entry(how).or_default().push(since.elapsed());
            }
        });
    }

    /// How many were noticed, and the longest that took.
    pub fn longest(&self, how: How) -> (usize, Duration) {
        self.board(|board| {
            let times = board.noticed.entry(how).or_default();
            (times.len(), times.iter().max().copied().unwrap_or_default())
        })
    }

    fn board<T>(&self, act: impl FnOnce(&mut Board) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
