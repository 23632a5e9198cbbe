//! Arrays of any dimension in the text form of `array_out` (PostgreSQL documentation, "Array Input and Output Syntax").

use super::{Malformed, TypeRegistry, number, render_nested};

/// Postgres knows no array of more dimensions.
const MAX_DIMENSIONS: usize = 6;

/// Appends the JSON of an array.
pub(super) fn render(
    types: &TypeRegistry,
    element: u32,
    delimiter: u8,
    text: &[u8],
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<(), Malformed> {
    let rest = skip_bounds(text)?;
    let mut reader =
        Reader { types, element, delimiter, depth: depth + 1, rest, leaf_level: None, scratch: Vec::new() };
    reader.level(1, out)?;
    if reader.rest.is_empty() { Ok(()) } else { Err(Malformed) }
}

/// Appends the JSON of an `int2vector` or `oidvector`, whose elements stand apart by a space.
pub(super) fn render_vector(text: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    out.push(b'[');
    if !text.is_empty() {
        for (index, element) in text.split(|byte| *byte == b' ').enumerate() {
            if index > 0 {
                out.push(b',');
            }
            number::render_integer(element, out)?;
        }
    }
    out.push(b']');
    Ok(())
}

/// What follows `[0:2]=`, which is there when a lower bound is not 1 and which JSON cannot say.
fn skip_bounds(text: &[u8]) -> Result<&[u8], Malformed> {
    if text.first() != Some(&b'[') {
        return Ok(text);
    }
    let end = memchr::memchr(b'=', text).ok_or(Malformed)?;
    let bounds = &text[..end];
    let plain = bounds.iter().all(|byte| byte.is_ascii_digit() || b"[]:+-".contains(byte));
    if plain && bounds.ends_with(b"]") { Ok(&text[end + 1..]) } else { Err(Malformed) }
}

struct Reader<'a> {
    types: &'a TypeRegistry,
    element: u32,
    delimiter: u8,
    depth: usize,
    rest: &'a [u8],
    /// How deep the elements stand, once one was seen: the same everywhere in an array.
    leaf_level: Option<usize>,
    /// Where an element with escapes is put together.
    scratch: Vec<u8>,
}

impl Reader<'_> {
    /// One pair of braces.
    fn level(&mut self, level: usize, out: &mut Vec<u8>) -> Result<(), Malformed> {
        if level > MAX_DIMENSIONS {
            return Err(Malformed);
        }
        self.eat(b'{')?;
        out.push(b'[');
        if level == 1 && self.rest.first() == Some(&b'}') {
            self.rest = &self.rest[1..];
            out.push(b']');
            return Ok(());
        }
        loop {
            if self.rest.first() == Some(&b'{') {
                self.level(level + 1, out)?;
            } else {
                if *self.leaf_level.get_or_insert(level) != level {
                    return Err(Malformed);
                }
                self.element(out)?;
            }
            match self.rest.first() {
                Some(byte) if *byte == self.delimiter => out.push(b','),
                Some(b'}') => break,
                _ => return Err(Malformed),
            }
            self.rest = &self.rest[1..];
        }
        self.rest = &self.rest[1..];
        out.push(b']');
        Ok(())
    }

    fn element(&mut self, out: &mut Vec<u8>) -> Result<(), Malformed> {
        if self.rest.first() == Some(&b'"') {
            return self.quoted(out);
        }
        let delimiter = self.delimiter;
        let end = self.rest.iter().position(|byte| *byte == delimiter || *byte == b'}').ok_or(Malformed)?;
        let (element, rest) = self.rest.split_at(end);
        // The output function quotes these, so they mean that the text is none of its making.
        if element.is_empty() || element.iter().any(|byte| b"\"\\{".contains(byte)) {
            return Err(Malformed);
        }
        if element == b"NULL" {
            out.extend_from_slice(b"null");
        } else {
            render_nested(self.types, self.element, element, self.depth, out);
        }
        self.rest = rest;
        Ok(())
    }

    fn quoted(&mut self, out: &mut Vec<u8>) -> Result<(), Malformed> {
        self.rest = &self.rest[1..];
        self.scratch.clear();
        let first = memchr::memchr2(b'"', b'\\', self.rest).ok_or(Malformed)?;
        if self.rest[first] == b'"' {
            render_nested(self.types, self.element, &self.rest[..first], self.depth, out);
            self.rest = &self.rest[first + 1..];
            return Ok(());
        }
        loop {
            let at = memchr::memchr2(b'"', b'\\', self.rest).ok_or(Malformed)?;
            self.scratch.extend_from_slice(&self.rest[..at]);
            if self.rest[at] == b'"' {
                self.rest = &self.rest[at + 1..];
                break;
            }
            self.scratch.push(*self.rest.get(at + 1).ok_or(Malformed)?);
            self.rest = &self.rest[at + 2..];
        }
        render_nested(self.types, self.element, &self.scratch, self.depth, out);
        Ok(())
    }

    fn eat(&mut self, byte: u8) -> Result<(), Malformed> {
        match self.rest.split_first() {
            Some((first, rest)) if *first == byte => {
                self.rest = rest;
                Ok(())
            }
            _ => Err(Malformed),
        }
    }
}
