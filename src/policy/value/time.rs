//! The texts of dates, timestamps and intervals: ISO 8601 as Postgres prints it whatever `DateStyle`'s order says, and
//! intervals in the style `postgres`. The two kinds of readers, of output and of input, decide what they take of it.

use super::{
    Interval, Stop,
    calendar::{DAY, Day, OUT_OF_RANGE, moment},
};

/// A date and perhaps a time, as written.
#[derive(Clone, Copy, Debug)]
pub(in crate::policy) struct Written {
    pub(in crate::policy) day: Day,
    /// How many digits the year has.
    pub(in crate::policy) year_digits: usize,
    time: Option<Clock>,
    /// Seconds east of UTC.
    pub(in crate::policy) offset: Option<i64>,
}

#[derive(Clone, Copy, Debug)]
struct Clock {
    hour: i64,
    minute: i64,
    second: i64,
    microsecond: i64,
}

impl Written {
    /// Reads `2024-02-29`, `2024-02-29 12:34`, `2024-02-29T12:34:56.789Z`, `0044-03-15 12:00:00.5+00:53:28 BC`.
    pub(in crate::policy) fn read(text: &str) -> Option<Written> {
        let (text, is_before) = match text.strip_suffix(" BC") {
            Some(text) => (text, true),
            None => (text, false),
        };
        let mut rest = Rest(text);
        let year_digits = rest.count_digits();
        if !(4..=7).contains(&year_digits) {
            return None;
        }
        let year = rest.number(year_digits)?;
        rest.skip("-")?;
        let month = rest.number(2)?;
        rest.skip("-")?;
        let day = rest.number(2)?;
        let day = Day { year: if is_before { 1 - year } else { year }, month, day };
        let mut written = Written { day, year_digits, time: None, offset: None };
        if !rest.0.is_empty() {
            rest.skip(" ").or_else(|| rest.skip("T"))?;
            written.time = Some(rest.clock()?);
            written.offset = rest.offset()?;
        }
        rest.0.is_empty().then_some(written)
    }

    /// The number of the day.
    pub(in crate::policy) fn days(&self) -> Result<i64, Stop> {
        if !self.day.exists() {
            return Err(OUT_OF_RANGE);
        }
        self.time.map_or(Ok(0), Clock::microseconds)?;
        Ok(self.day.number())
    }

    /// The moment, in UTC if an offset is written and `zoned` says that it counts.
    pub(in crate::policy) fn moment(&self, zoned: bool) -> Result<i64, Stop> {
        let time = self.time.map_or(Ok(0), Clock::microseconds)?;
        let offset = if zoned { self.offset.unwrap_or(0) * 1_000_000 } else { 0 };
        moment(self.days()?, time - offset)
    }
}

impl Clock {
    fn microseconds(self) -> Result<i64, Stop> {
        let Clock { hour, minute, second, microsecond } = self;
        if hour > 24 || minute > 59 || second > 60 {
            return Err(OUT_OF_RANGE);
        }
        // The end of a day and the leap second, which Postgres reads as the next moment.
        if hour == 24 || second == 60 {
            return Err(Stop::Unsupported);
        }
        Ok(((hour * 60 + minute) * 60 + second) * 1_000_000 + microsecond)
    }
}

/// Reads `infinity` and `-infinity`, as which of the two ends.
pub(in crate::policy) fn infinity(text: &str) -> Option<bool> {
    match text {
        "infinity" => Some(true),
        "-infinity" => Some(false),
        _ => None,
    }
}

/// An interval, as written.
#[derive(Clone, Copy, Debug)]
pub(in crate::policy) struct WrittenInterval {
    pub(in crate::policy) interval: Interval,
    /// More than one number, and the first one negative without a sign of the others: its meaning depends on
    /// `IntervalStyle`.
    pub(in crate::policy) is_ambiguous: bool,
}

impl WrittenInterval {
    /// Reads `1 year -2 mons +3 days -04:05:06.789` and numbers with a unit, each unit once.
    pub(in crate::policy) fn read(text: &str) -> Option<WrittenInterval> {
        let (mut months, mut days, mut microseconds) = (0i64, 0i64, 0i64);
        let (mut seen, mut has_clock) = (Vec::new(), false);
        let mut words = text.split(' ');
        while let Some(word) = words.next() {
            if has_clock {
                return None;
            }
            if word.contains(':') {
                has_clock = true;
                microseconds = microseconds.checked_add(clock_of_interval(word)?)?;
                continue;
            }
            let unit = words.next()?;
            let unit = unit.strip_suffix('s').unwrap_or(unit);
            let number = signed(word)?;
            let (unit, sum, factor) = match unit {
                "year" => ("year", &mut months, 12),
                "mon" | "month" => ("month", &mut months, 1),
                "week" => ("week", &mut days, 7),
                "day" => ("day", &mut days, 1),
                "hour" => ("hour", &mut microseconds, 3_600_000_000),
                "min" | "minute" => ("minute", &mut microseconds, 60_000_000),
                "sec" | "second" => ("second", &mut microseconds, 1_000_000),
                _ => return None,
            };
            *sum = sum.checked_add(number.checked_mul(factor)?)?;
            if seen.contains(&unit) {
                return None;
            }
            seen.push(unit);
        }
        // The two ways to write a time do not go together.
        if has_clock && seen.iter().any(|unit| matches!(*unit, "hour" | "minute" | "second")) {
            return None;
        }
        let interval = Interval { months: i32::try_from(months).ok()?, days: i32::try_from(days).ok()?, microseconds };
        let is_ambiguous = text.starts_with('-') && seen.len() + usize::from(has_clock) > 1;
        interval.is_finite().then_some(WrittenInterval { interval, is_ambiguous })
    }
}

impl Interval {
    /// Whether it is none of what PostgreSQL 17 made the infinities; before, these were long times.
    pub(in crate::policy) fn is_finite(self) -> bool {
        let Interval { months, days, microseconds } = self;
        let ends = [(i32::MAX, i32::MAX, i64::MAX), (i32::MIN, i32::MIN, i64::MIN)];
        !ends.contains(&(months, days, microseconds))
    }

    /// Its length in microseconds for comparisons, a month being 30 days.
    pub(in crate::policy) fn length(self) -> i128 {
        let days = i128::from(self.months) * 30 + i128::from(self.days);
        days * i128::from(DAY) + i128::from(self.microseconds)
    }
}

/// A number with or without a sign, small enough for every unit.
fn signed(word: &str) -> Option<i64> {
    let digits = word.strip_prefix(['-', '+']).unwrap_or(word);
    let plain = !digits.is_empty() && digits.len() <= 10 && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { word.parse().ok() } else { None }
}

/// `-100:05:06.789`.
fn clock_of_interval(word: &str) -> Option<i64> {
    let unsigned = word.strip_prefix(['-', '+']).unwrap_or(word);
    let mut rest = Rest(unsigned);
    let hour_digits = rest.count_digits();
    if !(1..=10).contains(&hour_digits) {
        return None;
    }
    let hours = rest.number(hour_digits)?;
    rest.skip(":")?;
    let (minute, second, microsecond) = rest.minutes()?;
    if !rest.0.is_empty() || minute > 59 || second > 59 {
        return None;
    }
    let microseconds = i128::from(hours) * 3_600_000_000 + i128::from((minute * 60 + second) * 1_000_000 + microsecond);
    i64::try_from(if word.starts_with('-') { -microseconds } else { microseconds }).ok()
}

/// What is still to be read.
struct Rest<'a>(&'a str);

impl Rest<'_> {
    fn skip(&mut self, prefix: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(prefix)?;
        Some(())
    }

    fn count_digits(&self) -> usize {
        self.0.bytes().take_while(u8::is_ascii_digit).count()
    }

    /// A number of exactly so many digits.
    fn number(&mut self, digits: usize) -> Option<i64> {
        if self.count_digits() != digits || digits == 0 {
            return None;
        }
        let (number, rest) = self.0.split_at_checked(digits)?;
        self.0 = rest;
        number.parse().ok()
    }

    /// `12:34`, `12:34:56`, `12:34:56.789`.
    fn clock(&mut self) -> Option<Clock> {
        let hour = self.number(2)?;
        self.skip(":")?;
        let (minute, second, microsecond) = self.minutes()?;
        Some(Clock { hour, minute, second, microsecond })
    }

    fn minutes(&mut self) -> Option<(i64, i64, i64)> {
        let minute = self.number(2)?;
        if self.skip(":").is_none() {
            return Some((minute, 0, 0));
        }
        let second = self.number(2)?;
        if self.skip(".").is_none() {
            return Some((minute, second, 0));
        }
        let digits = self.count_digits();
        // More digits would be rounded.
        let scale = u32::try_from(digits).ok().and_then(|digits| 6u32.checked_sub(digits))?;
        Some((minute, second, self.number(digits)? * 10i64.pow(scale)))
    }

    /// `Z`, `+00`, `-0530`, `+05:30`, `+00:53:28`, or nothing.
    fn offset(&mut self) -> Option<Option<i64>> {
        if self.0.is_empty() {
            return Some(None);
        }
        if self.skip("Z").or_else(|| self.skip("z")).is_some() {
            return Some(Some(0));
        }
        let sign = match self.skip("+") {
            Some(()) => 1,
            None => self.skip("-").map(|()| -1)?,
        };
        let (hour, minute, second) = if self.count_digits() == 4 {
            let both = self.number(4)?;
            (both / 100, both % 100, 0)
        } else {
            let hour = self.number(2)?;
            let minute = if self.skip(":").is_some() { self.number(2)? } else { 0 };
            (hour, minute, if self.skip(":").is_some() { self.number(2)? } else { 0 })
        };
        // What is further from UTC is an error of its own.
        (hour <= 15 && minute <= 59 && second <= 59).then(|| Some(sign * ((hour * 60 + minute) * 60 + second)))
    }
}
