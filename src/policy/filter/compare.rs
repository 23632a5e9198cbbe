//! Comparing two values of one type by their texts, where that provably gives what Postgres would say.

use crate::{
    change::value::{TypeKind, TypeRegistry, oid},
    policy::catalog::{Collation, TableColumn},
};
use std::cmp::Ordering;

/// How values of a column compare by their texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Equal if their texts are equal; which is greater only the database knows.
    Unordered,
    /// Equal and ordered as the bytes of their texts are.
    Bytewise,
    /// Whole numbers of at most 64 bits.
    Integer,
    /// Numbers of any size; equal ones may differ in their trailing zeros.
    Decimal,
    /// Dates and timestamps without a zone.
    Moment,
    /// Timestamps with the zone UTC.
    ZonedMoment,
}

impl Class {
    /// The class of a column, if its type has one.
    pub(super) fn of(column: &TableColumn, types: &TypeRegistry) -> Option<Class> {
        let base = types.base(column.type_oid);
        match base {
            oid::INT2 | oid::INT4 | oid::INT8 | oid::OID => Some(Class::Integer),
            // `f` sorts before `t`; uuids and bytea are printed with a fixed number of lower-case digits a byte.
            oid::BOOL | oid::UUID | oid::BYTEA => Some(Class::Bytewise),
            oid::TEXT | oid::VARCHAR | oid::NAME => match column.collation {
                Collation::Bytewise => Some(Class::Bytewise),
                Collation::Deterministic => Some(Class::Unordered),
                Collation::None | Collation::Nondeterministic => None,
            },
            oid::NUMERIC => Some(Class::Decimal),
            oid::DATE | oid::TIMESTAMP => Some(Class::Moment),
            oid::TIMESTAMPTZ => Some(Class::ZonedMoment),
            _ => matches!(types.get(base)?.kind, TypeKind::Enum).then_some(Class::Unordered),
        }
    }

    /// Whether equal values have equal texts.
    pub(super) fn is_canonical(self) -> bool {
        self != Class::Decimal
    }

    /// Whether the order of two values can be told.
    pub(super) fn is_ordered(self) -> bool {
        self != Class::Unordered
    }

    /// Whether two values are equal; none if a text is not what the type prints.
    pub(super) fn equal(self, left: &[u8], right: &[u8]) -> Option<bool> {
        match self {
            Class::Decimal => self.compare(left, right).map(Ordering::is_eq),
            _ => Some(left == right),
        }
    }

    /// The order of two values; none if it cannot be told.
    pub(super) fn compare(self, left: &[u8], right: &[u8]) -> Option<Ordering> {
        match self {
            Class::Unordered => None,
            Class::Bytewise => Some(left.cmp(right)),
            Class::Integer => Some(integer(left)?.cmp(&integer(right)?)),
            Class::Decimal => Some(Decimal::read(left)?.order(Decimal::read(right)?)),
            Class::Moment => Some(moment(left)?.cmp(&moment(right)?)),
            Class::ZonedMoment => Some(zoned(left)?.cmp(&zoned(right)?)),
        }
    }
}

fn integer(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A number as Postgres orders them: the infinities at the ends, and NaN above everything and equal to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decimal<'a> {
    NegativeInfinity,
    Finite {
        negative: bool,
        /// Without leading zeros.
        whole: &'a [u8],
        /// Without trailing zeros.
        fraction: &'a [u8],
    },
    Infinity,
    Nan,
}

impl<'a> Decimal<'a> {
    fn read(text: &'a [u8]) -> Option<Decimal<'a>> {
        match text {
            b"NaN" => return Some(Decimal::Nan),
            b"Infinity" => return Some(Decimal::Infinity),
            b"-Infinity" => return Some(Decimal::NegativeInfinity),
            _ => {}
        }
        let unsigned = text.strip_prefix(b"-").unwrap_or(text);
        let (whole, fraction) = match memchr::memchr(b'.', unsigned) {
            Some(at) => (&unsigned[..at], &unsigned[at + 1..]),
            None => (unsigned, &b""[..]),
        };
        if whole.is_empty() || !whole.iter().chain(fraction).all(u8::is_ascii_digit) {
            return None;
        }
        let leading = whole.iter().take_while(|digit| **digit == b'0').count();
        let trailing = fraction.iter().rev().take_while(|digit| **digit == b'0').count();
        let (whole, fraction) = (&whole[leading..], &fraction[..fraction.len() - trailing]);
        let zero = whole.is_empty() && fraction.is_empty();
        Some(Decimal::Finite { negative: unsigned.len() < text.len() && !zero, whole, fraction })
    }

    fn rank(self) -> u8 {
        match self {
            Decimal::NegativeInfinity => 0,
            Decimal::Finite { negative: true, .. } => 1,
            Decimal::Finite { negative: false, .. } => 2,
            Decimal::Infinity => 3,
            Decimal::Nan => 4,
        }
    }

    fn order(self, other: Decimal<'a>) -> Ordering {
        match (self, other) {
            (
                Decimal::Finite { negative, whole, fraction },
                Decimal::Finite { negative: other_negative, whole: other_whole, fraction: other_fraction },
            ) if negative == other_negative => {
                let magnitude = whole
                    .len()
                    .cmp(&other_whole.len())
                    .then_with(|| whole.cmp(other_whole))
                    .then_with(|| fraction.cmp(other_fraction));
                if negative { magnitude.reverse() } else { magnitude }
            }
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

/// A key that orders moments: the year counted through year 0, then the rest, which is of fixed width up to the
/// fraction of a second, and that sorts as it stands.
fn moment(text: &[u8]) -> Option<(i64, &[u8])> {
    match text {
        b"infinity" => return Some((i64::MAX, b"")),
        b"-infinity" => return Some((i64::MIN, b"")),
        _ => {}
    }
    let (ad, text) = match text.strip_suffix(b" BC") {
        Some(rest) => (false, rest),
        None => (true, text),
    };
    let dash = memchr::memchr(b'-', text)?;
    let (year, rest) = text.split_at(dash);
    let year = integer(year).filter(|year| (1..=9_999_999).contains(year))?;
    let fixed = |rest: &[u8]| rest.iter().zip(b"-00-00 00:00:00.").all(|(byte, form)| same_kind(*byte, *form));
    let tail = rest.get(b"-00-00 00:00:00.".len()..).unwrap_or_default();
    let plain = fixed(rest) && matches!(rest.len(), 6 | 15 | 17..) && tail.iter().all(u8::is_ascii_digit);
    plain.then_some((if ad { year } else { 1 - year }, rest))
}

fn same_kind(byte: u8, form: u8) -> bool {
    if form == b'0' { byte.is_ascii_digit() } else { byte == form }
}

/// `moment` for a timestamp with time zone, whose zone must be UTC.
fn zoned(text: &[u8]) -> Option<(i64, Vec<u8>)> {
    let (body, era) = match text.strip_suffix(b" BC") {
        Some(body) => (body, &b" BC"[..]),
        None => (text, &b""[..]),
    };
    let local = match body.strip_suffix(b"+00") {
        Some(local) => local,
        None if body.ends_with(b"infinity") => body,
        None => return None,
    };
    let local = [local, era].concat();
    moment(&local).map(|(year, rest)| (year, rest.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ascending(class: Class, texts: &[&str]) {
        for (i, left) in texts.iter().enumerate() {
            for (j, right) in texts.iter().enumerate() {
                assert_eq!(class.compare(left.as_bytes(), right.as_bytes()), Some(i.cmp(&j)), "{left} {right}");
            }
        }
    }

    #[test]
    fn numbers_are_ordered_by_value() {
        ascending(Class::Integer, &["-9223372036854775808", "-2", "0", "5", "10", "9223372036854775807"]);
        ascending(
            Class::Decimal,
            &["-Infinity", "-10.5", "-9", "-0.001", "0.00", "0.0009", "1.5", "1.50001", "9", "10", "Infinity", "NaN"],
        );
        assert_eq!(Class::Decimal.equal(b"1.5", b"1.500"), Some(true));
        assert_eq!(Class::Decimal.equal(b"0", b"-0.0"), Some(true));
        assert_eq!(Class::Decimal.equal(b"1", b"x"), None);
    }

    #[test]
    fn moments_are_ordered_across_eras_and_lengths() {
        ascending(
            Class::Moment,
            &[
                "-infinity",
                "4713-01-01 BC",
                "0044-03-15 BC",
                "0001-12-31 BC",
                "0001-01-01",
                "2024-02-29",
                "10000-01-01",
                "infinity",
            ],
        );
        ascending(
            Class::ZonedMoment,
            &[
                "-infinity",
                "0044-03-15 12:00:00+00 BC",
                "2024-02-29 12:34:56+00",
                "2024-02-29 12:34:56.25+00",
                "2024-02-29 12:34:56.5+00",
                "10000-01-01 00:00:00+00",
                "infinity",
            ],
        );
    }

    #[test]
    fn a_moment_of_another_form_has_no_order() {
        for text in [
            "",
            "2024",
            "2024-2-9",
            "2024-02-29 12:34",
            "Thu Feb 29 2024",
            "2024-02-29T12:34:56",
            "2024-02-29 12:34:56.",
        ] {
            assert_eq!(Class::Moment.compare(text.as_bytes(), b"2024-02-29"), None, "{text}");
        }
        assert_eq!(Class::ZonedMoment.compare(b"2024-02-29 12:34:56+01", b"2024-02-29 12:34:56+00"), None);
        assert_eq!(Class::Moment.compare(b"2024-02-29 12:34:56+00", b"2024-02-29 12:34:56"), None);
    }
}
