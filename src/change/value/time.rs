//! Timestamps: ISO 8601 with `T`, the offset in full, `infinity` and `BC` as Postgres writes them in JSON. Dates,
//! times and intervals are their text and so no business of this file.

use super::Malformed;

/// `2026-03-05 09:14:27.3` → `"2026-03-05T09:14:27.3"`.
pub(super) fn render_timestamp(text: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    render(text, out, |_, _| Ok(()))
}

/// `2026-03-05 09:14:27.3+00` → `"2026-03-05T09:14:27.3+00:00"`.
pub(super) fn render_timestamptz(text: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    render(text, out, |offset, out| {
        out.extend_from_slice(offset);
        match offset.len() {
            // Minutes are left out of the text when they are zero, and never out of the JSON.
            3 => out.extend_from_slice(b":00"),
            6 | 9 => {}
            _ => return Err(Malformed),
        }
        Ok(())
    })
}

fn render(
    text: &[u8],
    out: &mut Vec<u8>,
    push_offset: impl FnOnce(&[u8], &mut Vec<u8>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let (era, moment) = match text.strip_suffix(b" BC") {
        Some(moment) => (&b" BC"[..], moment),
        None => (&b""[..], text),
    };
    out.push(b'"');
    if matches!(text, b"infinity" | b"-infinity") {
        out.extend_from_slice(text);
    } else {
        let space = memchr::memchr(b' ', moment).ok_or(Malformed)?;
        let (date, clock) = (&moment[..space], &moment[space + 1..]);
        // The offset begins at the sign: a time of day has none.
        let sign = clock.iter().position(|byte| matches!(byte, b'+' | b'-')).unwrap_or(clock.len());
        let plain = |text: &[u8], extra: &[u8]| text.iter().all(|byte| byte.is_ascii_digit() || extra.contains(byte));
        if !plain(date, b"-") || !plain(&clock[..sign], b":.") || !plain(&clock[sign..], b"+-:") {
            return Err(Malformed);
        }
        out.extend_from_slice(date);
        out.push(b'T');
        out.extend_from_slice(&clock[..sign]);
        push_offset(&clock[sign..], out)?;
        out.extend_from_slice(era);
    }
    out.push(b'"');
    Ok(())
}
