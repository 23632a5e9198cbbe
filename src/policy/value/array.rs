//! The text of a one-dimensional array: what Postgres prints, and what it reads, white space and either way of quoting
//! included. Arrays of more dimensions and with other bounds are not computed with.

use super::Stop;

/// More elements are left to the database.
const MAX_ELEMENTS: usize = 1 << 16;

const MALFORMED: Stop = Stop::Failed("22P02");

/// The texts of the elements, none for NULL.
pub(in crate::policy) fn elements(text: &str) -> Result<Vec<Option<String>>, Stop> {
    let text = super::trim(text);
    let inner = match text.strip_prefix('{') {
        Some(inner) => inner,
        None if text.starts_with('[') => return Err(Stop::Unsupported),
        None => return Err(MALFORMED),
    };
    let mut reader = Reader { rest: inner };
    reader.skip_space();
    if reader.rest == "}" {
        return Ok(Vec::new());
    }
    let mut elements = Vec::new();
    loop {
        match reader.element_and_mark() {
            // Up to 16 this fault counts more than those of the elements before it, from 17 on less.
            Err(_) if !elements.is_empty() => return Err(Stop::Unsupported),
            Err(stop) => return Err(stop),
            Ok((element, mark)) => {
                elements.push(element);
                match mark {
                    Mark::Comma if elements.len() < MAX_ELEMENTS => {}
                    Mark::End => return Ok(elements),
                    Mark::Comma | Mark::Other => return Err(Stop::Unsupported),
                }
            }
        }
    }
}

/// What stands behind an element.
enum Mark {
    Comma,
    /// The end of array and text.
    End,
    Other,
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<char> {
        let mut characters = self.rest.chars();
        let character = characters.next();
        self.rest = characters.as_str();
        character
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start_matches(super::is_space);
    }

    fn element_and_mark(&mut self) -> Result<(Option<String>, Mark), Stop> {
        let element = self.element()?;
        let mark = match self.next() {
            Some(',') => Mark::Comma,
            Some('}') if self.rest.is_empty() => Mark::End,
            _ => Mark::Other,
        };
        Ok((element, mark))
    }

    /// The next element, up to the mark behind it.
    fn element(&mut self) -> Result<Option<String>, Stop> {
        self.skip_space();
        let element = match self.rest.chars().next() {
            Some('"') => {
                self.next();
                Some(self.quoted()?)
            }
            Some('{') => return Err(Stop::Unsupported),
            _ => self.bare()?,
        };
        self.skip_space();
        Ok(element)
    }

    fn quoted(&mut self) -> Result<String, Stop> {
        let mut element = String::new();
        loop {
            match self.next().ok_or(MALFORMED)? {
                '"' => return Ok(element),
                '\\' => element.push(self.next().ok_or(MALFORMED)?),
                other => element.push(other),
            }
        }
    }

    fn bare(&mut self) -> Result<Option<String>, Stop> {
        let mut element = String::new();
        // White space behind the last other character does not count.
        let (mut length, mut has_escape) = (0, false);
        loop {
            match self.rest.chars().next().ok_or(MALFORMED)? {
                ',' | '}' => break,
                '"' | '{' => return Err(MALFORMED),
                '\\' => {
                    self.next();
                    element.push(self.next().ok_or(MALFORMED)?);
                    (length, has_escape) = (element.len(), true);
                }
                other => {
                    self.next();
                    element.push(other);
                    if !super::is_space(other) {
                        length = element.len();
                    }
                }
            }
        }
        element.truncate(length);
        if element.is_empty() {
            return Err(MALFORMED);
        }
        Ok((has_escape || !element.eq_ignore_ascii_case("null")).then_some(element))
    }
}
