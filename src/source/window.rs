//! `Window`: how far the slot is confirmed behind what has been handed on. Pure.
//!
//! What is not confirmed Postgres sends again to whoever reads the slot next: after a crash of ours the backlog fills again,
//! and cursors of before hold. So a position is confirmed only once it is older than the window, or so many bytes of the
//! log behind.

use crate::lsn::Lsn;
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Positions that are remembered within the window.
const MARKS: u32 = 64;

/// The window. Nothing is kept back when either part is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Bytes of the log.
    pub bytes: u64,
    /// Time.
    pub time: Duration,
}

impl Config {
    /// Whether nothing is kept back.
    pub fn is_none(self) -> bool {
        self.bytes == 0 || self.time.is_zero()
    }
}

/// Positions that were reached, until they may be confirmed.
pub(super) struct Window {
    config: Config,
    /// What was reached, and when.
    marks: VecDeque<(Lsn, Instant)>,
    confirmable: Lsn,
}

impl Window {
    /// One behind which `confirmed` is.
    pub(super) fn new(config: Config, confirmed: Lsn) -> Window {
        Window { config, marks: VecDeque::new(), confirmable: confirmed }
    }

    /// What may be confirmed now that everything before `reached` has been handed on.
    pub(super) fn confirm(&mut self, reached: Lsn, now: Instant) -> Lsn {
        let Config { bytes, time } = self.config;
        if self.config.is_none() {
            self.confirmable = self.confirmable.max(reached);
            return self.confirmable;
        }
        let is_new = self.marks.back().is_none_or(|&(lsn, at)| {
            reached > lsn && (reached.0 - lsn.0 >= bytes / u64::from(MARKS) || now.duration_since(at) >= time / MARKS)
        });
        if is_new && reached > self.confirmable {
            self.marks.push_back((reached, now));
        }
        while let Some(&(lsn, at)) = self.marks.front() {
            if now.duration_since(at) < time && reached.0.saturating_sub(lsn.0) < bytes {
                break;
            }
            self.confirmable = self.confirmable.max(lsn);
            self.marks.pop_front();
        }
        self.confirmable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window() -> Window {
        Window::new(Config { bytes: 6400, time: Duration::from_secs(64) }, Lsn(100))
    }

    #[test]
    fn a_position_is_confirmed_once_it_is_older_than_the_window() {
        let (mut window, start) = (window(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(window.confirm(Lsn(200), at(0)), Lsn(100));
        assert_eq!(window.confirm(Lsn(300), at(30)), Lsn(100));
        assert_eq!(window.confirm(Lsn(300), at(63)), Lsn(100));
        assert_eq!(window.confirm(Lsn(300), at(64)), Lsn(200));
        assert_eq!(window.confirm(Lsn(300), at(94)), Lsn(300));
        assert_eq!(window.confirm(Lsn(300), at(1000)), Lsn(300));
    }

    #[test]
    fn a_position_is_confirmed_once_enough_of_the_log_is_behind_it() {
        let (mut window, now) = (window(), Instant::now());
        for reached in (100..=20_000).step_by(10) {
            let confirmed = window.confirm(Lsn(reached), now);
            assert!(reached - confirmed.0 <= 6400 + 100, "{reached}: {confirmed}");
            assert!(confirmed == Lsn(100) || reached - confirmed.0 >= 6400, "{reached}: {confirmed}");
        }
        assert!(window.marks.len() <= 65, "{}", window.marks.len());
    }

    #[test]
    fn few_positions_are_remembered_however_long_it_takes() {
        let (mut window, start) = (window(), Instant::now());
        for tick in 0..10_000 {
            window.confirm(Lsn(101 + tick / 100), start + Duration::from_millis(100 * tick));
            assert!(window.marks.len() <= 66, "{}", window.marks.len());
        }
    }

    #[test]
    fn without_a_window_everything_is_confirmed_at_once() {
        for config in [Config::default(), Config { bytes: 1, ..Config::default() }] {
            assert_eq!(Window::new(config, Lsn(1)).confirm(Lsn(7), Instant::now()), Lsn(7));
        }
    }

    #[test]
    fn nothing_less_than_before_is_ever_confirmed() {
        let mut window = window();
        assert_eq!(window.confirm(Lsn(50), Instant::now()), Lsn(100));
    }
}
