//! `LIKE` as Postgres has it for deterministic collations (PostgreSQL documentation, "LIKE").
//!
//! The time a match takes must not grow with pattern times value, because subscribers choose patterns and the router
//! waits: runs of plain text are searched for in linear time, and long runs with `_` are left to the database.

use memchr::memmem;

/// A longer run with `_` between two `%` is left to the database.
const MAX_RUN: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    /// This byte. Longer characters are several of them.
    Byte(u8),
    /// `_`: one character.
    One,
}

/// What stands between two `%`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Run {
    Plain(Vec<u8>),
    WithOnes(Vec<Token>),
}

/// A pattern, read: its runs, with a `%` between each two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern(Vec<Run>);

impl Pattern {
    /// Reads a pattern; none if only the database should answer for it, as when it ends in a lone escape.
    pub(super) fn new(text: &str) -> Option<Pattern> {
        let mut runs = Vec::new();
        let mut tokens = Vec::new();
        let mut bytes = text.bytes();
        while let Some(byte) = bytes.next() {
            match byte {
                b'%' => runs.push(Run::new(std::mem::take(&mut tokens))?),
                b'_' => tokens.push(Token::One),
                b'\\' => tokens.push(Token::Byte(bytes.next()?)),
                other => tokens.push(Token::Byte(other)),
            }
        }
        runs.push(Run::new(tokens)?);
        Some(Pattern(runs))
    }

    /// Whether the whole text, which is UTF-8, fits the pattern.
    pub(super) fn matches(&self, text: &[u8]) -> bool {
        let Some((first, rest)) = self.0.split_first() else { return false };
        let Some(mut at) = first.fits(text, 0) else { return false };
        let Some((last, between)) = rest.split_last() else { return at == text.len() };
        // The earliest place for each run leaves the most room for those after it.
        for run in between {
            match run.find(text, at) {
                Some(end) => at = end,
                None => return false,
            }
        }
        last.fits_end(text, at)
    }
}

impl Run {
    fn new(tokens: Vec<Token>) -> Option<Run> {
        let plain: Option<Vec<u8>> = tokens
            .iter()
            .map(|token| match token {
                Token::Byte(byte) => Some(*byte),
                Token::One => None,
            })
            .collect();
        match plain {
            Some(plain) => Some(Run::Plain(plain)),
            None if tokens.len() <= MAX_RUN => Some(Run::WithOnes(tokens)),
            None => None,
        }
    }

    /// Where the run ends if it begins at `at`.
    fn fits(&self, text: &[u8], at: usize) -> Option<usize> {
        match self {
            Run::Plain(plain) => text[at..].starts_with(plain).then(|| at + plain.len()),
            Run::WithOnes(tokens) => tokens.iter().try_fold(at, |at, token| match token {
                Token::Byte(byte) => (text.get(at) == Some(byte)).then_some(at + 1),
                Token::One => (at < text.len()).then(|| after_character(text, at)),
            }),
        }
    }

    /// Where the run ends at its first place from `at` on.
    fn find(&self, text: &[u8], at: usize) -> Option<usize> {
        match self {
            Run::Plain(plain) => memmem::find(&text[at..], plain).map(|found| at + found + plain.len()),
            Run::WithOnes(_) => {
                let mut start = at;
                loop {
                    if let Some(end) = self.fits(text, start) {
                        return Some(end);
                    }
                    if start == text.len() {
                        return None;
                    }
                    start = after_character(text, start);
                }
            }
        }
    }

    /// Whether the run fits at the very end of the text, not before `at`.
    fn fits_end(&self, text: &[u8], at: usize) -> bool {
        match self {
            Run::Plain(plain) => text[at..].ends_with(plain),
            Run::WithOnes(tokens) => {
                let starts_character = |token: &&Token| !matches!(token, Token::Byte(byte) if is_continuation(*byte));
                let characters = tokens.iter().filter(starts_character).count();
                let start = (0..characters).try_fold(text.len(), |end, _| before_character(text, end));
                start.is_some_and(|start| start >= at && self.fits(text, start) == Some(text.len()))
            }
        }
    }
}

fn is_continuation(byte: u8) -> bool {
    byte & 0xC0 == 0x80
}

/// Where the character that begins at `at` ends.
fn after_character(text: &[u8], at: usize) -> usize {
    at + 1 + text[at + 1..].iter().take_while(|byte| is_continuation(**byte)).count()
}

/// Where the character that ends at `end` begins.
fn before_character(text: &[u8], end: usize) -> Option<usize> {
    text[..end].iter().rposition(|byte| !is_continuation(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_stand_for_characters_and_escapes_for_themselves() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("%", "", true),
            ("h%", "hit", true),
            ("h%", "shit", false),
            ("%it", "hit it", true),
            ("%a%b%", "xaxxbx", true),
            ("%a%b", "xaxxbx", false),
            ("_", "é", true),
            ("__", "é", false),
            ("_😀_", "a😀b", true),
            ("%_é", "éé", true),
            (r"100\%", "100%", true),
            (r"100\%", "1000", false),
            (r"a\_b", "a_b", true),
            (r"a\_b", "axb", false),
            (r"\\", r"\", true),
            (r"\é", "é", true),
            ("%%%", "x", true),
            ("%aab", "aaaab", true),
            ("ab%ba", "aba", false),
            ("%a_%_b", "xaébb", true),
            ("%a_%_b", "xaéb", false),
            ("a%_", "a", false),
            ("%_", "é", true),
        ] {
            assert_eq!(Pattern::new(pattern).unwrap().matches(text.as_bytes()), expected, "{text} like {pattern}");
        }
    }

    #[test]
    fn long_runs_are_searched_for_in_linear_time_or_not_at_all() {
        let text = "a".repeat(1_000_000);
        let pattern = Pattern::new(&format!("%{}b%", "a".repeat(10_000))).unwrap();
        assert!(!pattern.matches(text.as_bytes()));
        assert_eq!(Pattern::new(&format!("%_{}%", "a".repeat(MAX_RUN))), None);
    }

    #[test]
    fn a_pattern_with_a_lone_escape_at_its_end_is_left_to_the_database() {
        assert_eq!(Pattern::new(r"a\"), None);
        assert_eq!(Pattern::new(r"%\"), None);
    }
}
