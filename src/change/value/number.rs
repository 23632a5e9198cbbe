//! Integers, floats and numerics: JSON numbers with the digits Postgres printed, exponents written out.

use super::Malformed;

/// The largest exponent a `double precision` can have, with room; a larger one is no output of Postgres.
const MAX_EXPONENT: usize = 400;

/// Appends an integer's text, which already is a JSON number.
pub(super) fn render_integer(text: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    if !is_whole(digits) {
        return Err(Malformed);
    }
    out.extend_from_slice(text);
    Ok(())
}

/// Appends a float's or numeric's text as jsonb prints it: no exponent, the scale kept; `null` for what is no number.
pub(super) fn render_decimal(text: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    if matches!(text, b"NaN" | b"Infinity" | b"-Infinity") {
        out.extend_from_slice(b"null");
        return Ok(());
    }
    let (negative, unsigned) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match memchr::memchr(b'e', unsigned) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    let (whole, fraction) = match memchr::memchr(b'.', mantissa) {
        Some(at) => (&mantissa[..at], Some(&mantissa[at + 1..])),
        None => (mantissa, None),
    };
    if !is_whole(whole) || fraction.is_some_and(|fraction| !is_digits(fraction)) {
        return Err(Malformed);
    }
    // A float's zero may be negative; jsonb keeps numbers as numeric, which has one zero.
    let zero = whole == b"0" && fraction.is_none_or(|fraction| fraction.iter().all(|digit| *digit == b'0'));
    if negative && !zero {
        out.push(b'-');
    }
    match exponent {
        None => out.extend_from_slice(mantissa),
        Some(exponent) => push_shifted(whole, fraction.unwrap_or(b""), exponent, out)?,
    }
    Ok(())
}

/// Appends `whole.fraction` times ten to the exponent, without an exponent.
fn push_shifted(whole: &[u8], fraction: &[u8], exponent: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    let (down, digits) = match exponent {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if !is_digits(digits) || digits.len() > 3 {
        return Err(Malformed);
    }
    let shift = digits.iter().fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
    if shift > MAX_EXPONENT {
        return Err(Malformed);
    }
    let zeros = |count: usize| std::iter::repeat_n(b'0', count);
    if down {
        // The digits that stay before the point, if the exponent leaves any.
        let kept = whole.len().saturating_sub(shift);
        out.extend_from_slice(if kept == 0 { b"0" } else { &whole[..kept] });
        if shift > 0 || !fraction.is_empty() {
            out.push(b'.');
            out.extend(zeros(shift.saturating_sub(whole.len())));
            out.extend_from_slice(&whole[kept..]);
            out.extend_from_slice(fraction);
        }
    } else {
        let moved = shift.min(fraction.len());
        let digits = whole.iter().chain(&fraction[..moved]).copied().chain(zeros(shift - moved));
        let start = out.len();
        out.extend(digits.skip_while(|digit| *digit == b'0'));
        if out.len() == start {
            out.push(b'0');
        }
        if moved < fraction.len() {
            out.push(b'.');
            out.extend_from_slice(&fraction[moved..]);
        }
    }
    Ok(())
}

fn is_digits(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_digit)
}

/// Digits as JSON wants them before the point: no leading zero but for zero itself.
fn is_whole(text: &[u8]) -> bool {
    is_digits(text) && (text.len() == 1 || text[0] != b'0')
}
