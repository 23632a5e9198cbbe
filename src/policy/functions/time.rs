//! Dates, timestamps and intervals. Months are counted in the calendar, and the day is the month's last one where the
//! month is too short. Days of a `timestamptz` are those of the session's zone: right in UTC only.

use super::{
    Context, cast,
    table::{DATE, FLOAT8, INT4, INTERVAL, Row, TEXT, TIMESTAMP, TIMESTAMPTZ, partial, row, total},
};
use crate::policy::value::{
    Interval, Stop, Value,
    calendar::{DAY, Day, OUT_OF_RANGE, date, is_finite, moment},
};

/// Seconds from 1970 to 2000.
const EPOCH: f64 = 946_684_800.0;

pub(super) static OPERATORS: &[Row] = &[
    row(partial("+", date_plus_days), &[DATE, INT4], DATE),
    row(partial("+", days_plus_date), &[INT4, DATE], DATE),
    row(partial("-", date_minus_days), &[DATE, INT4], DATE),
    row(partial("-", days_between), &[DATE, DATE], INT4),
    row(partial("+", plus), &[DATE, INTERVAL], TIMESTAMP),
    row(partial("-", minus), &[DATE, INTERVAL], TIMESTAMP),
    row(partial("+", plus), &[INTERVAL, DATE], TIMESTAMP),
    row(partial("+", plus), &[TIMESTAMP, INTERVAL], TIMESTAMP),
    row(partial("-", minus), &[TIMESTAMP, INTERVAL], TIMESTAMP),
    row(partial("+", plus), &[INTERVAL, TIMESTAMP], TIMESTAMP),
    row(partial("+", plus).in_utc(), &[TIMESTAMPTZ, INTERVAL], TIMESTAMPTZ),
    row(partial("-", minus).in_utc(), &[TIMESTAMPTZ, INTERVAL], TIMESTAMPTZ),
    row(partial("+", plus).in_utc(), &[INTERVAL, TIMESTAMPTZ], TIMESTAMPTZ),
    row(partial("-", time_between), &[TIMESTAMP, TIMESTAMP], INTERVAL),
    row(partial("-", time_between), &[TIMESTAMPTZ, TIMESTAMPTZ], INTERVAL),
    row(partial("+", sum), &[INTERVAL, INTERVAL], INTERVAL),
    row(partial("-", difference), &[INTERVAL, INTERVAL], INTERVAL),
    row(partial("-", negate), &[INTERVAL], INTERVAL),
];

pub(super) static FUNCTIONS: &[Row] = &[
    row(partial("to_timestamp", to_timestamp), &[FLOAT8], TIMESTAMPTZ),
    row(partial("date_trunc", truncate), &[TEXT, TIMESTAMP], TIMESTAMP),
    row(partial("date_trunc", truncate).in_utc(), &[TEXT, TIMESTAMPTZ], TIMESTAMPTZ),
    row(partial("timezone", in_zone), &[TEXT, TIMESTAMPTZ], TIMESTAMP),
    row(partial("timezone", in_zone), &[TEXT, TIMESTAMP], TIMESTAMPTZ),
    row(total("date", cast::date_of_moment), &[TIMESTAMP], DATE),
    row(total("date", cast::date_of_moment).in_utc(), &[TIMESTAMPTZ], DATE),
];

fn shifted(days: i32, by: i64) -> Result<Value, Stop> {
    match days {
        i32::MIN | i32::MAX => Ok(Value::Date(days)),
        days => date(i64::from(days) + by).map(Value::Date),
    }
}

fn date_plus_days(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    match arguments {
        [Value::Date(date), Value::Int(days)] => shifted(*date, *days),
        _ => Err(Stop::Unsupported),
    }
}

fn days_plus_date(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    match arguments {
        [Value::Int(days), Value::Date(date)] => shifted(*date, *days),
        _ => Err(Stop::Unsupported),
    }
}

fn date_minus_days(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    match arguments {
        [Value::Date(date), Value::Int(days)] => shifted(*date, days.checked_neg().ok_or(OUT_OF_RANGE)?),
        _ => Err(Stop::Unsupported),
    }
}

fn days_between(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    match arguments {
        [Value::Date(i32::MIN | i32::MAX), _] | [_, Value::Date(i32::MIN | i32::MAX)] => Err(OUT_OF_RANGE),
        [Value::Date(left), Value::Date(right)] => Ok(Value::Int(i64::from(*left) - i64::from(*right))),
        _ => Err(Stop::Unsupported),
    }
}

/// A moment, or the first one of a date.
fn start(value: &Value) -> Result<i64, Stop> {
    match value {
        Value::Moment(moment) => Ok(*moment),
        Value::Date(date) => cast::midnight(*date),
        _ => Err(Stop::Unsupported),
    }
}

fn plus(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    match arguments {
        [Value::Interval(interval), time] | [time, Value::Interval(interval)] => {
            moved(start(time)?, *interval).map(Value::Moment)
        }
        _ => Err(Stop::Unsupported),
    }
}

fn minus(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    match arguments {
        [time, Value::Interval(interval)] => moved(start(time)?, negated(*interval)?).map(Value::Moment),
        _ => Err(Stop::Unsupported),
    }
}

/// First the months, then the days, then the time, each within the range.
fn moved(from: i64, interval: Interval) -> Result<i64, Stop> {
    if !interval.is_finite() {
        return Err(Stop::Unsupported);
    }
    if !is_finite(from) {
        return Ok(from);
    }
    let (mut days, time) = (from.div_euclid(DAY), from.rem_euclid(DAY));
    if interval.months != 0 {
        let day = Day::of(days);
        let months = day.year * 12 + day.month - 1 + i64::from(interval.months);
        let mut day = Day { year: months.div_euclid(12), month: months.rem_euclid(12) + 1, day: day.day };
        day.day = day.day.min(day.days_of_month());
        days = day.number();
        moment(days, time)?;
    }
    if interval.days != 0 {
        days += i64::from(interval.days);
        moment(days, time)?;
    }
    // Not looked at by every version.
    let moved = moment(days, time)?.checked_add(interval.microseconds).ok_or(Stop::Unsupported)?;
    moment(0, moved)
}

fn time_between(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    match arguments {
        [Value::Moment(left), Value::Moment(right)] if is_finite(*left) && is_finite(*right) => {
            let microseconds = left.checked_sub(*right).ok_or(Stop::Unsupported)?;
            let days = i32::try_from(microseconds / DAY).map_err(|_| Stop::Unsupported)?;
            Ok(Value::Interval(Interval { months: 0, days, microseconds: microseconds % DAY }))
        }
        // An error up to 16, an infinite interval from 17 on.
        _ => Err(Stop::Unsupported),
    }
}

/// An interval of these parts, if it has room for them.
fn interval(months: Option<i32>, days: Option<i32>, microseconds: Option<i64>) -> Result<Interval, Stop> {
    let interval = match (months, days, microseconds) {
        (Some(months), Some(days), Some(microseconds)) => Interval { months, days, microseconds },
        _ => return Err(OUT_OF_RANGE),
    };
    if interval.is_finite() { Ok(interval) } else { Err(Stop::Unsupported) }
}

fn negated(of: Interval) -> Result<Interval, Stop> {
    interval(of.months.checked_neg(), of.days.checked_neg(), of.microseconds.checked_neg())
        // Not looked at by every version.
        .map_err(|_| Stop::Unsupported)
}

fn sum(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    match arguments {
        [Value::Interval(left), Value::Interval(right)] => Ok(Value::Interval(interval(
            left.months.checked_add(right.months),
            left.days.checked_add(right.days),
            left.microseconds.checked_add(right.microseconds),
        )?)),
        _ => Err(Stop::Unsupported),
    }
}

fn difference(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    match arguments {
        [Value::Interval(left), Value::Interval(right)] => Ok(Value::Interval(interval(
            left.months.checked_sub(right.months),
            left.days.checked_sub(right.days),
            left.microseconds.checked_sub(right.microseconds),
        )?)),
        _ => Err(Stop::Unsupported),
    }
}

fn negate(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    match arguments {
        [Value::Interval(interval)] => negated(*interval).map(Value::Interval),
        _ => Err(Stop::Unsupported),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "within the range of timestamps, which is checked before")]
fn to_timestamp(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    let [Value::Float(bits)] = arguments else { return Err(Stop::Unsupported) };
    let seconds = f64::from_bits(*bits);
    if seconds.is_nan() {
        return Err(OUT_OF_RANGE);
    }
    if seconds.is_infinite() {
        return Ok(Value::Moment(if seconds > 0.0 { i64::MAX } else { i64::MIN }));
    }
    // The first and last day, counted from 1970.
    if !(-210_866_803_200.0..9_224_318_016_000.0).contains(&seconds) {
        return Err(OUT_OF_RANGE);
    }
    let microseconds = ((seconds - EPOCH) * 1_000_000.0).round_ties_even();
    moment(0, microseconds as i64).map(Value::Moment)
}

fn truncate(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    let [Value::Text(unit), Value::Moment(from)] = arguments else { return Err(Stop::Unsupported) };
    let (days, time) = (from.div_euclid(DAY), from.rem_euclid(DAY));
    let day = Day::of(days);
    let step = |microseconds: i64| Some((days, time - time % microseconds));
    let first_of = |month: i64| Some((Day { year: day.year, month, day: 1 }.number(), 0));
    let truncated = match unit.as_ref() {
        "microseconds" => step(1),
        "milliseconds" => step(1_000),
        "second" => step(1_000_000),
        "minute" => step(60_000_000),
        "hour" => step(3_600_000_000),
        "day" => step(DAY),
        // 2000-01-01 was a Saturday.
        "week" => Some((days - (days + 5).rem_euclid(7), 0)),
        "month" => first_of(day.month),
        "quarter" => first_of((day.month - 1) / 3 * 3 + 1),
        "year" => first_of(1),
        _ => None,
    };
    let (days, time) = truncated.ok_or(Stop::Unsupported)?;
    if is_finite(*from) { moment(days, time).map(Value::Moment) } else { Ok(Value::Moment(*from)) }
}

/// `at time zone 'utc'`, either way: other zones are the database's.
fn in_zone(arguments: &[Value], _: &Context) -> Result<Value, Stop> {
    match arguments {
        [Value::Text(zone), Value::Moment(moment)] if zone.eq_ignore_ascii_case("utc") => Ok(Value::Moment(*moment)),
        _ => Err(Stop::Unsupported),
    }
}
