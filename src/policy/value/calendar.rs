//! Days and moments as Postgres counts them: from 2000-01-01, in the Gregorian calendar without a beginning, within the
//! ranges of `date` and `timestamp`.

use super::Stop;

/// Microseconds of a day.
pub(in crate::policy) const DAY: i64 = 86_400_000_000;

/// 4714-11-24 BC, the first day of both ranges.
const FIRST_DAY: i64 = -2_451_545;
/// The day after the last `date`, 5874897-12-31.
const END_OF_DATES: i64 = 2_145_031_949;
/// The day after the last `timestamp`, 294276-12-31.
const END_OF_MOMENTS: i64 = 106_751_983;

/// Out of range, as Postgres says it.
pub(in crate::policy) const OUT_OF_RANGE: Stop = Stop::Failed("22008");

/// A day of the calendar. The year before 1 is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::policy) struct Day {
    pub(in crate::policy) year: i64,
    /// 1 to 12.
    pub(in crate::policy) month: i64,
    /// From 1.
    pub(in crate::policy) day: i64,
}

impl Day {
    /// The day with this number.
    pub(in crate::policy) fn of(days: i64) -> Day {
        // Years are taken to begin in March, so that the leap day is the last one; 400 years have 146,097 days.
        let shifted = days + 730_425;
        let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        Day {
            year: era * 400 + year_of_era + i64::from(month <= 2),
            month,
            day: day_of_year - (153 * shifted_month + 2) / 5 + 1,
        }
    }

    /// Its number.
    pub(in crate::policy) fn number(self) -> i64 {
        let year = self.year - i64::from(self.month <= 2);
        let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let day_of_year = (153 * ((self.month + 9) % 12) + 2) / 5 + self.day - 1;
        era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 730_425
    }

    /// How many days its month has.
    pub(in crate::policy) fn days_of_month(self) -> i64 {
        match self.month {
            2 if self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0) => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        }
    }

    /// Whether there is such a day.
    pub(in crate::policy) fn exists(self) -> bool {
        (1..=12).contains(&self.month) && (1..=self.days_of_month()).contains(&self.day)
    }
}

/// A `date`, if the range has it.
pub(in crate::policy) fn date(days: i64) -> Result<i32, Stop> {
    let days = (FIRST_DAY..END_OF_DATES).contains(&days).then_some(days).ok_or(OUT_OF_RANGE)?;
    i32::try_from(days).map_err(|_| OUT_OF_RANGE)
}

/// A `timestamp`, if the range has it.
pub(in crate::policy) fn moment(days: i64, microseconds: i64) -> Result<i64, Stop> {
    let moment = i128::from(days) * i128::from(DAY) + i128::from(microseconds);
    let range = i128::from(FIRST_DAY) * i128::from(DAY)..i128::from(END_OF_MOMENTS) * i128::from(DAY);
    let moment = range.contains(&moment).then_some(moment).ok_or(OUT_OF_RANGE)?;
    i64::try_from(moment).map_err(|_| OUT_OF_RANGE)
}

/// Whether a `timestamp` is none of the infinities.
pub(in crate::policy) fn is_finite(moment: i64) -> bool {
    moment != i64::MIN && moment != i64::MAX
}
