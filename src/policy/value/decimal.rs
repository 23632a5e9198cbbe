//! `numeric`: exact decimal numbers with a scale that is kept for printing and does not count in comparisons.
//!
//! Numbers are digit by digit, as many as they have: policies add and compare, they do no long sums. Numbers with more
//! than `MAX_DIGITS` digits are left to the database. Division is not here, because its scale follows from how Postgres
//! stores numbers.

use super::Stop;
use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
};

/// The most digits before and behind the point together: multiplying two such numbers is still quick.
const MAX_DIGITS: usize = 1000;

/// A decimal number. Equal numbers may print differently: `1.0` and `1.00`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decimal(Number);

/// In the order Postgres gives them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Number {
    NegativeInfinity,
    Finite(Finite),
    Infinity,
    Nan,
}

/// The whole number `digits`, divided by ten `scale` times.
#[derive(Clone, Debug)]
struct Finite {
    /// Never of zero.
    negative: bool,
    /// 0 to 9, the most significant first, without leading zeros.
    digits: Box<[u8]>,
    scale: usize,
}

impl Decimal {
    /// Not a number: equal to itself and above everything.
    pub const NAN: Decimal = Decimal(Number::Nan);
    /// Above all numbers.
    pub const INFINITY: Decimal = Decimal(Number::Infinity);
    /// Below all numbers.
    pub const NEGATIVE_INFINITY: Decimal = Decimal(Number::NegativeInfinity);

    /// Reads what `numeric`'s input function reads, but for the notations that came with PostgreSQL 16.
    pub fn parse(text: &str) -> Result<Decimal, Stop> {
        let text = super::trim(text);
        match text.to_ascii_lowercase().as_str() {
            "nan" => return Ok(Decimal::NAN),
            "infinity" | "+infinity" | "inf" | "+inf" => return Ok(Decimal::INFINITY),
            "-infinity" | "-inf" => return Ok(Decimal::NEGATIVE_INFINITY),
            _ => {}
        }
        let (negative, unsigned) = match text.as_bytes() {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            rest => (false, rest),
        };
        // Other bases and digits grouped by `_`: an error up to 15, a number from 16 on.
        if unsigned.contains(&b'_') || matches!(unsigned, [b'0', b'x' | b'X' | b'o' | b'O' | b'b' | b'B', ..]) {
            return Err(Stop::Unsupported);
        }
        let (whole, rest) = digits(unsigned);
        let (fraction, rest) = match rest {
            [b'.', rest @ ..] => digits(rest),
            rest => (&[][..], rest),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(Stop::Failed("22P02"));
        }
        let exponent = match rest {
            [] => 0,
            [b'e' | b'E', rest @ ..] => exponent(rest)?,
            _ => return Err(Stop::Failed("22P02")),
        };
        let all = whole.iter().chain(fraction).map(|digit| digit - b'0').skip_while(|digit| *digit == 0).collect();
        Decimal::shifted(negative, all, fraction.len(), exponent)
    }

    /// A finite number times ten `exponent` times.
    fn shifted(negative: bool, mut digits: Vec<u8>, scale: usize, exponent: i64) -> Result<Decimal, Stop> {
        let scale = i64::try_from(scale).map_err(|_| Stop::Unsupported)? - exponent;
        // Before anything is filled with zeros.
        if scale.unsigned_abs() > MAX_DIGITS as u64 {
            return Err(Stop::Unsupported);
        }
        let zeros = usize::try_from(-scale).unwrap_or(0);
        if !digits.is_empty() {
            digits.extend(std::iter::repeat_n(0, zeros));
        }
        Decimal::finite(negative, digits, usize::try_from(scale).unwrap_or(0))
    }

    fn finite(negative: bool, digits: Vec<u8>, scale: usize) -> Result<Decimal, Stop> {
        let start = digits.iter().take_while(|digit| **digit == 0).count();
        let digits: Box<[u8]> = digits.get(start..).unwrap_or_default().into();
        if digits.len().max(scale) > MAX_DIGITS {
            return Err(Stop::Unsupported);
        }
        Ok(Decimal(Number::Finite(Finite { negative: negative && !digits.is_empty(), digits, scale })))
    }

    /// The sum, with the longer scale.
    pub fn add(&self, other: &Decimal) -> Result<Decimal, Stop> {
        let (left, right) = match (&self.0, &other.0) {
            (Number::Finite(left), Number::Finite(right)) => (left, right),
            (Number::Nan, _) | (_, Number::Nan) => return Ok(Decimal::NAN),
            (Number::Infinity, Number::NegativeInfinity) | (Number::NegativeInfinity, Number::Infinity) => {
                return Ok(Decimal::NAN);
            }
            (Number::Finite(_), infinite) | (infinite, _) => return Ok(Decimal(infinite.clone())),
        };
        let scale = left.scale.max(right.scale);
        let (a, b) = (left.with_scale(scale), right.with_scale(scale));
        if left.negative == right.negative {
            return Decimal::finite(left.negative, sum(&a, &b), scale);
        }
        match magnitude(&a, &b) {
            Ordering::Less => Decimal::finite(right.negative, difference(&b, &a), scale),
            _ => Decimal::finite(left.negative, difference(&a, &b), scale),
        }
    }

    /// The difference, with the longer scale.
    pub fn subtract(&self, other: &Decimal) -> Result<Decimal, Stop> {
        self.add(&other.negated())
    }

    /// The product, with both scales added.
    pub fn multiply(&self, other: &Decimal) -> Result<Decimal, Stop> {
        let (left, right) = match (&self.0, &other.0) {
            (Number::Finite(left), Number::Finite(right)) => (left, right),
            _ => {
                return Ok(match self.signum().zip(other.signum()) {
                    None | Some((0, _) | (_, 0)) => Decimal::NAN,
                    Some((a, b)) if a == b => Decimal::INFINITY,
                    Some(_) => Decimal::NEGATIVE_INFINITY,
                });
            }
        };
        Decimal::finite(left.negative != right.negative, product(&left.digits, &right.digits), left.scale + right.scale)
    }

    /// The number with the other sign.
    pub fn negated(&self) -> Decimal {
        Decimal(match &self.0 {
            Number::NegativeInfinity => Number::Infinity,
            Number::Infinity => Number::NegativeInfinity,
            Number::Nan => Number::Nan,
            Number::Finite(finite) => {
                Number::Finite(Finite { negative: !finite.negative && !finite.digits.is_empty(), ..finite.clone() })
            }
        })
    }

    /// The number without its sign.
    pub fn absolute(&self) -> Decimal {
        if self.signum() == Some(-1) { self.negated() } else { self.clone() }
    }

    /// The nearest whole number, halves away from zero; none if it has more than 64 bits.
    pub fn rounded(&self) -> Result<Option<i64>, Stop> {
        let Number::Finite(finite) = &self.0 else { return Err(Stop::Failed("0A000")) };
        let whole = finite.digits.len().saturating_sub(finite.scale);
        let mut value: i128 = 0;
        if whole > 20 {
            return Ok(None);
        }
        for digit in finite.digits.iter().take(whole) {
            value = value * 10 + i128::from(*digit);
        }
        let tenths = if finite.digits.len() >= finite.scale { finite.digits.get(whole) } else { None };
        if tenths.is_some_and(|digit| *digit >= 5) {
            value += 1;
        }
        Ok(i64::try_from(if finite.negative { -value } else { value }).ok())
    }

    /// The nearest binary number of 64 bits; too large or too small a number is an error.
    pub fn to_float(&self) -> Result<f64, Stop> {
        let float = match &self.0 {
            Number::NegativeInfinity => return Ok(f64::NEG_INFINITY),
            Number::Infinity => return Ok(f64::INFINITY),
            Number::Nan => return Ok(f64::NAN),
            Number::Finite(_) => self.to_string().parse::<f64>().map_err(|_| Stop::Unsupported)?,
        };
        let vanished = float == 0.0 && self.signum() != Some(0);
        if float.is_infinite() || vanished { Err(Stop::Failed("22003")) } else { Ok(float) }
    }

    /// Whether it is neither NaN nor infinite.
    pub fn is_finite(&self) -> bool {
        matches!(self.0, Number::Finite(_))
    }

    /// -1, 0 or 1; none for NaN.
    fn signum(&self) -> Option<i8> {
        Some(match &self.0 {
            Number::NegativeInfinity => -1,
            Number::Infinity => 1,
            Number::Nan => return None,
            Number::Finite(finite) => finite.signum(),
        })
    }
}

impl Finite {
    /// The digits of the same number with a scale that is not smaller.
    fn with_scale(&self, scale: usize) -> Vec<u8> {
        let mut digits = self.digits.to_vec();
        if !digits.is_empty() {
            digits.extend(std::iter::repeat_n(0, scale.saturating_sub(self.scale)));
        }
        digits
    }

    /// Where the point stands, counted from the first digit, and the digits without trailing zeros: the same for equal
    /// numbers.
    fn normal(&self) -> (i64, &[u8]) {
        let zeros = self.digits.iter().rev().take_while(|digit| **digit == 0).count();
        let significant = self.digits.get(..self.digits.len() - zeros).unwrap_or_default();
        if significant.is_empty() {
            return (0, significant);
        }
        // Both are at most `MAX_DIGITS`.
        let length = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        (length(self.digits.len()) - length(self.scale), significant)
    }

    fn signum(&self) -> i8 {
        match (self.digits.is_empty(), self.negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        }
    }
}

impl Ord for Finite {
    fn cmp(&self, other: &Finite) -> Ordering {
        let magnitude = || self.normal().cmp(&other.normal());
        self.signum().cmp(&other.signum()).then_with(|| if self.negative { magnitude().reverse() } else { magnitude() })
    }
}

impl PartialOrd for Finite {
    fn partial_cmp(&self, other: &Finite) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Finite {
    fn eq(&self, other: &Finite) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Finite {}

impl Hash for Finite {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.negative.hash(state);
        self.normal().hash(state);
    }
}

impl From<i64> for Decimal {
    fn from(number: i64) -> Decimal {
        let text = number.unsigned_abs().to_string();
        let digits = text.bytes().map(|digit| digit - b'0').skip_while(|digit| *digit == 0).collect();
        Decimal(Number::Finite(Finite { negative: number < 0, digits, scale: 0 }))
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let finite = match &self.0 {
            Number::NegativeInfinity => return out.write_str("-Infinity"),
            Number::Infinity => return out.write_str("Infinity"),
            Number::Nan => return out.write_str("NaN"),
            Number::Finite(finite) => finite,
        };
        let zeros = (finite.scale + 1).saturating_sub(finite.digits.len());
        let digits = std::iter::repeat_n(0, zeros).chain(finite.digits.iter().copied());
        let mut text: String = digits.map(|digit| char::from(b'0' + digit)).collect();
        if finite.scale > 0 {
            text.insert(text.len() - finite.scale, '.');
        }
        if finite.negative {
            text.insert(0, '-');
        }
        out.write_str(&text)
    }
}

/// The leading digits, and what follows them.
fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(text.iter().take_while(|byte| byte.is_ascii_digit()).count())
}

fn exponent(text: &[u8]) -> Result<i64, Stop> {
    let (negative, unsigned) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        // Read by strtol up to 15, which skips white space.
        [b' ' | b'\t'..=b'\r', ..] => return Err(Stop::Unsupported),
        rest => (false, rest),
    };
    match digits(unsigned) {
        (digits, _) if digits.len() > 6 => Err(Stop::Unsupported),
        ([], _) | (_, [_, ..]) => Err(Stop::Failed("22P02")),
        (digits, []) => {
            let value = digits.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0'));
            Ok(if negative { -value } else { value })
        }
    }
}

/// The order of two numbers without sign, digit by digit.
fn magnitude(left: &[u8], right: &[u8]) -> Ordering {
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}

fn sum(left: &[u8], right: &[u8]) -> Vec<u8> {
    let mut result = Vec::with_capacity(left.len().max(right.len()) + 1);
    let mut carry = 0;
    let (mut left, mut right) = (left.iter().rev(), right.iter().rev());
    loop {
        let digit = match (left.next(), right.next()) {
            (None, None) => break,
            (a, b) => a.unwrap_or(&0) + b.unwrap_or(&0) + carry,
        };
        result.push(digit % 10);
        carry = digit / 10;
    }
    result.push(carry);
    result.reverse();
    result
}

/// Of a number that is not smaller.
fn difference(left: &[u8], right: &[u8]) -> Vec<u8> {
    let mut result = Vec::with_capacity(left.len());
    let mut borrow = 0;
    let mut right = right.iter().rev();
    for digit in left.iter().rev() {
        let taken = right.next().unwrap_or(&0) + borrow;
        borrow = u8::from(*digit < taken);
        result.push(digit + 10 * borrow - taken);
    }
    result.reverse();
    result
}

fn product(left: &[u8], right: &[u8]) -> Vec<u8> {
    let mut result = vec![0u8; left.len() + right.len()];
    for (shift, a) in left.iter().rev().enumerate() {
        let mut carry = 0;
        for (place, slot) in result.iter_mut().rev().skip(shift).enumerate() {
            let digit = match right.len().checked_sub(place + 1).and_then(|index| right.get(index)) {
                Some(b) => a * b,
                None if carry == 0 => break,
                None => 0,
            };
            let value = *slot + digit + carry;
            *slot = value % 10;
            carry = value / 10;
        }
    }
    result
}
