//! JSON texts, read as Postgres reads them: its grammar, its order of complaints, and numbers and parts as written.
//!
//! The one reader of `json` and `jsonb`. Not serde's, because Postgres' errors differ by what is wrong, half a
//! surrogate pair is only an error where a string's value is wanted, and `json` answers with the text of its parts.

use super::Stop;

/// Deeper values are left to the database: whoever walks one recurses.
const MAX_DEPTH: usize = 100;

const MALFORMED: Stop = Stop::Failed("22P02");

/// A value in a JSON text.
#[derive(Debug)]
pub(in crate::policy) struct Node<'a> {
    /// The value as written.
    pub(in crate::policy) raw: &'a str,
    pub(in crate::policy) kind: Kind<'a>,
}

/// What a value is.
#[derive(Debug)]
pub(in crate::policy) enum Kind<'a> {
    Null,
    Bool(bool),
    Number,
    /// Without escapes, if that was wanted.
    String(String),
    Array(Vec<Node<'a>>),
    /// In the order of the text, equal keys included.
    Object(Vec<(String, Node<'a>)>),
}

/// Reads a text. Where the values of strings are wanted, those that have none are errors.
pub(in crate::policy) fn parse(text: &str, unescape: bool) -> Result<Node<'_>, Stop> {
    let mut parser = Parser { text, at: 0, unescape, start: 0, end: 0, token: Token::End };
    parser.advance()?;
    let node = parser.value(0)?;
    match parser.token {
        Token::End => Ok(node),
        _ => Err(MALFORMED),
    }
}

#[derive(Debug)]
enum Token {
    ObjectStart,
    ObjectEnd,
    ArrayStart,
    ArrayEnd,
    Comma,
    Colon,
    String(String),
    Number,
    Null,
    Bool(bool),
    End,
}

/// Always one token ahead, so that a token's own fault comes before its place's.
struct Parser<'a> {
    text: &'a str,
    /// Behind the token ahead.
    at: usize,
    unescape: bool,
    /// Where the token ahead begins.
    start: usize,
    /// Where the last consumed token ended.
    end: usize,
    token: Token,
}

impl<'a> Parser<'a> {
    fn value(&mut self, depth: usize) -> Result<Node<'a>, Stop> {
        if depth > MAX_DEPTH {
            return Err(Stop::Unsupported);
        }
        let start = self.start;
        let kind = match self.advance()? {
            Token::Null => Kind::Null,
            Token::Bool(value) => Kind::Bool(value),
            Token::Number => Kind::Number,
            Token::String(text) => Kind::String(text),
            Token::ArrayStart => Kind::Array(self.elements(depth)?),
            Token::ObjectStart => Kind::Object(self.fields(depth)?),
            Token::ObjectEnd | Token::ArrayEnd | Token::Comma | Token::Colon | Token::End => return Err(MALFORMED),
        };
        Ok(Node { raw: self.text.get(start..self.end).unwrap_or_default(), kind })
    }

    fn elements(&mut self, depth: usize) -> Result<Vec<Node<'a>>, Stop> {
        let mut elements = Vec::new();
        if !matches!(self.token, Token::ArrayEnd) {
            elements.push(self.value(depth + 1)?);
            while matches!(self.token, Token::Comma) {
                self.advance()?;
                elements.push(self.value(depth + 1)?);
            }
        }
        match self.advance()? {
            Token::ArrayEnd => Ok(elements),
            _ => Err(MALFORMED),
        }
    }

    fn fields(&mut self, depth: usize) -> Result<Vec<(String, Node<'a>)>, Stop> {
        let mut fields = Vec::new();
        if !matches!(self.token, Token::ObjectEnd) {
            fields.push(self.field(depth)?);
            while matches!(self.token, Token::Comma) {
                self.advance()?;
                fields.push(self.field(depth)?);
            }
        }
        match self.advance()? {
            Token::ObjectEnd => Ok(fields),
            _ => Err(MALFORMED),
        }
    }

    fn field(&mut self, depth: usize) -> Result<(String, Node<'a>), Stop> {
        let Token::String(key) = self.advance()? else { return Err(MALFORMED) };
        let Token::Colon = self.advance()? else { return Err(MALFORMED) };
        Ok((key, self.value(depth + 1)?))
    }

    /// Takes the token ahead and reads the next one.
    fn advance(&mut self) -> Result<Token, Stop> {
        self.end = self.at;
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
        self.start = self.at;
        let next = self.next_token()?;
        Ok(std::mem::replace(&mut self.token, next))
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn next_token(&mut self) -> Result<Token, Stop> {
        let rest = self.rest();
        let mark = match rest.bytes().next() {
            None => return Ok(Token::End),
            Some(b'{') => Token::ObjectStart,
            Some(b'}') => Token::ObjectEnd,
            Some(b'[') => Token::ArrayStart,
            Some(b']') => Token::ArrayEnd,
            Some(b',') => Token::Comma,
            Some(b':') => Token::Colon,
            Some(b'"') => return self.string(),
            Some(b'-' | b'0'..=b'9') => return self.number(),
            Some(_) => {
                let length = word(rest.as_bytes());
                self.at += length;
                return match rest.get(..length) {
                    Some("null") => Ok(Token::Null),
                    Some("true") => Ok(Token::Bool(true)),
                    Some("false") => Ok(Token::Bool(false)),
                    _ => Err(MALFORMED),
                };
            }
        };
        self.at += 1;
        Ok(mark)
    }

    fn number(&mut self) -> Result<Token, Stop> {
        let bytes = self.rest().as_bytes();
        let digits = |from: usize| bytes.iter().skip(from).take_while(|byte| byte.is_ascii_digit()).count();
        let mut length = usize::from(bytes.first() == Some(&b'-'));
        length += match bytes.get(length) {
            Some(b'0') => 1,
            Some(b'1'..=b'9') => digits(length),
            _ => return Err(MALFORMED),
        };
        if bytes.get(length) == Some(&b'.') {
            let fraction = digits(length + 1);
            if fraction == 0 {
                return Err(MALFORMED);
            }
            length += 1 + fraction;
        }
        if let Some(b'e' | b'E') = bytes.get(length) {
            length += 1 + usize::from(matches!(bytes.get(length + 1), Some(b'+' | b'-')));
            let exponent = digits(length);
            if exponent == 0 {
                return Err(MALFORMED);
            }
            length += exponent;
        }
        if word(bytes.get(length..).unwrap_or_default()) > 0 {
            return Err(MALFORMED);
        }
        self.at += length;
        Ok(Token::Number)
    }

    fn string(&mut self) -> Result<Token, Stop> {
        let mut value = String::new();
        // The first half of a pair whose second must follow at once.
        let mut high = None;
        let mut characters = self.rest().char_indices().skip(1);
        while let Some((offset, character)) = characters.next() {
            match character {
                '"' if self.unescape && high.is_some() => return Err(MALFORMED),
                '"' => {
                    self.at += offset + 1;
                    return Ok(Token::String(value));
                }
                '\u{0}'..='\u{1f}' => return Err(MALFORMED),
                '\\' => {
                    let escape = characters.next().ok_or(MALFORMED)?.1;
                    let unit = if escape == 'u' { Some(code_unit(&mut characters)?) } else { None };
                    if self.unescape {
                        match unit {
                            Some(unit) => push_unit(unit, &mut high, &mut value)?,
                            None if high.is_some() => return Err(MALFORMED),
                            None => value.push(unescaped(escape)?),
                        }
                    } else if unit.is_none() {
                        unescaped(escape)?;
                    }
                }
                _ if high.is_some() => return Err(MALFORMED),
                other if self.unescape => value.push(other),
                _ => {}
            }
        }
        Err(MALFORMED)
    }
}

/// How many bytes of letters and digits, or what Postgres takes for them, stand here.
fn word(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_' || **byte >= 0x80).count()
}

/// The four hex digits behind `\u`.
fn code_unit(characters: &mut impl Iterator<Item = (usize, char)>) -> Result<u32, Stop> {
    let mut unit = 0;
    for _ in 0..4 {
        let digit = characters.next().and_then(|(_, character)| character.to_digit(16)).ok_or(MALFORMED)?;
        unit = unit * 16 + digit;
    }
    Ok(unit)
}

fn push_unit(unit: u32, high: &mut Option<u32>, value: &mut String) -> Result<(), Stop> {
    let point = match (unit, high.take()) {
        (0xD800..=0xDBFF, None) => {
            *high = Some(unit);
            return Ok(());
        }
        (0xDC00..=0xDFFF, Some(high)) => 0x10000 + ((high & 0x3FF) << 10) + (unit & 0x3FF),
        (0xD800..=0xDFFF, _) | (_, Some(_)) => return Err(MALFORMED),
        (0, None) => return Err(Stop::Failed("22P05")),
        (unit, None) => unit,
    };
    value.push(char::from_u32(point).ok_or(MALFORMED)?);
    Ok(())
}

fn unescaped(escape: char) -> Result<char, Stop> {
    Ok(match escape {
        '"' | '\\' | '/' => escape,
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        _ => return Err(MALFORMED),
    })
}
