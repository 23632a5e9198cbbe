//! `LIKE`, as Postgres matches it byte by byte: also in which cases a lone escape at a pattern's end is an error and in
//! which it is never reached.

use crate::policy::value::Stop;

/// More steps are left to the database: patterns may come from subscribers, and the router waits.
const MAX_STEPS: usize = 1 << 22;

const LONE_ESCAPE: Stop = Stop::Failed("22025");

/// How the text fits the pattern from one place on, up to the next `%`.
enum Fit {
    /// To the end of both.
    Whole,
    /// A `%` was met: the places in pattern and text behind it.
    Any(usize, usize),
    /// Not here, but perhaps further on.
    Not,
    /// Nor further on: the text is too short.
    Never,
}

/// Whether the whole text fits the pattern.
pub(super) fn like(text: &str, pattern: &str) -> Result<bool, Stop> {
    let mut matcher = Matcher { text: text.as_bytes(), pattern: pattern.as_bytes(), steps: 0 };
    // Behind the last `%`: where its run of the pattern begins, and the next place to try it at.
    let mut retry = None;
    let (mut at_pattern, mut at_text) = (0, 0);
    loop {
        match matcher.fit(at_pattern, at_text)? {
            Fit::Whole => return Ok(true),
            Fit::Never => return Ok(false),
            Fit::Any(pattern_rest, text_rest) => {
                let Some((begin, start)) = matcher.behind_any(pattern_rest, text_rest)? else { return Ok(false) };
                if begin == matcher.pattern.len() {
                    return Ok(true);
                }
                retry = Some((begin, start));
            }
            Fit::Not => {}
        }
        let Some((begin, start)) = retry else { return Ok(false) };
        // Every later place for this run: the text grows shorter, so this ends.
        let Some(found) = matcher.candidate(begin, start)? else { return Ok(false) };
        (at_pattern, at_text) = (begin, found);
        retry = Some((begin, matcher.after_character(found)));
    }
}

struct Matcher<'a> {
    text: &'a [u8],
    pattern: &'a [u8],
    steps: usize,
}

impl Matcher<'_> {
    fn step(&mut self) -> Result<(), Stop> {
        self.steps += 1;
        if self.steps > MAX_STEPS { Err(Stop::Unsupported) } else { Ok(()) }
    }

    /// Fits the pattern from `p` on to the text from `t` on.
    fn fit(&mut self, mut p: usize, mut t: usize) -> Result<Fit, Stop> {
        while let (Some(byte), Some(wanted)) = (self.text.get(t), self.pattern.get(p)) {
            self.step()?;
            let wanted = match wanted {
                b'%' => return Ok(Fit::Any(p + 1, t)),
                b'_' => {
                    (p, t) = (p + 1, self.after_character(t));
                    continue;
                }
                b'\\' => {
                    p += 1;
                    self.pattern.get(p).ok_or(LONE_ESCAPE)?
                }
                plain => plain,
            };
            if byte != wanted {
                return Ok(Fit::Not);
            }
            (p, t) = (p + 1, t + 1);
        }
        if t < self.text.len() {
            return Ok(Fit::Not);
        }
        let rest = self.pattern.get(p..).unwrap_or_default();
        Ok(if rest.iter().all(|byte| *byte == b'%') { Fit::Whole } else { Fit::Never })
    }

    /// Skips what `%` and `_` stand for together: none if the text is too short.
    fn behind_any(&mut self, mut p: usize, mut t: usize) -> Result<Option<(usize, usize)>, Stop> {
        while let Some(wildcard @ (b'%' | b'_')) = self.pattern.get(p) {
            self.step()?;
            if *wildcard == b'_' {
                if t >= self.text.len() {
                    return Ok(None);
                }
                t = self.after_character(t);
            }
            p += 1;
        }
        match self.pattern.get(p..) {
            Some([b'\\']) => Err(LONE_ESCAPE),
            _ => Ok(Some((p, t))),
        }
    }

    /// The first place from `t` on where the byte is the one the pattern wants at `p`.
    fn candidate(&mut self, p: usize, mut t: usize) -> Result<Option<usize>, Stop> {
        let wanted = match self.pattern.get(p..) {
            Some([b'\\', escaped, ..]) => *escaped,
            Some([plain, ..]) => *plain,
            _ => return Ok(None),
        };
        while let Some(byte) = self.text.get(t) {
            self.step()?;
            if *byte == wanted {
                return Ok(Some(t));
            }
            t = self.after_character(t);
        }
        Ok(None)
    }

    /// Where the character that begins at `at` ends.
    fn after_character(&self, at: usize) -> usize {
        let rest = self.text.get(at + 1..).unwrap_or_default();
        at + 1 + rest.iter().take_while(|byte| **byte & 0xC0 == 0x80).count()
    }
}
