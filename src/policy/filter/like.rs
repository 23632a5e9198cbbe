//! `LIKE` as Postgres has it for deterministic collations (PostgreSQL documentation, "LIKE").

/// A longer pattern is left to the database: matching takes time in proportion to its length times the value's.
const MAX_PATTERN_BYTES: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    /// This byte. Longer characters are several of them.
    Byte(u8),
    /// `_`: one character.
    One,
    /// `%`: any number of characters.
    Any,
}

/// A pattern, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern(Vec<Token>);

impl Pattern {
    /// Reads a pattern; none if only the database should answer for it, as when it ends in a lone escape.
    pub(super) fn new(text: &str) -> Option<Pattern> {
        if text.len() > MAX_PATTERN_BYTES {
            return None;
        }
        let mut tokens = Vec::with_capacity(text.len());
        let mut bytes = text.bytes();
        while let Some(byte) = bytes.next() {
            let token = match byte {
                b'%' if tokens.last() == Some(&Token::Any) => continue,
                b'%' => Token::Any,
                b'_' => Token::One,
                b'\\' => Token::Byte(bytes.next()?),
                other => Token::Byte(other),
            };
            tokens.push(token);
        }
        Some(Pattern(tokens))
    }

    /// Whether the whole text, which is UTF-8, fits the pattern.
    pub(super) fn matches(&self, text: &[u8]) -> bool {
        let tokens = &self.0;
        let (mut token, mut at) = (0, 0);
        // Where to go on when a guess at the length of the last `%` was too short.
        let mut retry: Option<(usize, usize)> = None;
        loop {
            match tokens.get(token) {
                Some(Token::Any) => {
                    token += 1;
                    retry = Some((token, at));
                    continue;
                }
                Some(Token::One) if at < text.len() => {
                    token += 1;
                    at = after_character(text, at);
                    continue;
                }
                Some(Token::Byte(byte)) if text.get(at) == Some(byte) => {
                    token += 1;
                    at += 1;
                    continue;
                }
                None if at == text.len() => return true,
                _ => {}
            }
            match retry {
                Some((resume, from)) if from < text.len() => {
                    let from = after_character(text, from);
                    retry = Some((resume, from));
                    (token, at) = (resume, from);
                }
                _ => return false,
            }
        }
    }
}

/// Where the character that begins at `at` ends.
fn after_character(text: &[u8], at: usize) -> usize {
    let continues = |byte: &&u8| (**byte & 0xC0) == 0x80;
    at + 1 + text[at + 1..].iter().take_while(continues).count()
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
        ] {
            assert_eq!(Pattern::new(pattern).unwrap().matches(text.as_bytes()), expected, "{text} like {pattern}");
        }
    }

    #[test]
    fn a_pattern_with_a_lone_escape_at_its_end_is_left_to_the_database() {
        assert_eq!(Pattern::new(r"a\"), None);
        assert_eq!(Pattern::new(&"a".repeat(300)), None);
    }
}
