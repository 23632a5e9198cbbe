//! Which schemas a policy's text names. Pure.

/// Whether an expression names a schema, as in `auth.uid()`: an identifier before a dot, outside of string literals.
/// The text was printed with an empty search path, so every function and table carries its schema.
pub(super) fn names(expression: &str, schema: &str) -> bool {
    qualifiers(expression).iter().any(|found| found == schema)
}

/// Every identifier that a dot follows, and that follows none itself.
fn qualifiers(expression: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut characters = expression.chars().peekable();
    let mut after_dot = false;
    while let Some(character) = characters.next() {
        let name = match character {
            '\'' => {
                skip_literal(&mut characters);
                continue;
            }
            '"' => {
                let mut name = String::new();
                while let Some(character) = characters.next() {
                    match character {
                        '"' if characters.next_if_eq(&'"').is_some() => name.push('"'),
                        '"' => break,
                        other => name.push(other),
                    }
                }
                name
            }
            first if first.is_alphabetic() || first == '_' => {
                let mut name = String::from(first);
                while let Some(next) = characters.next_if(|next| next.is_alphanumeric() || matches!(next, '_' | '$')) {
                    name.push(next);
                }
                // `E'...'` is a literal with escapes.
                if name == "E" && characters.next_if_eq(&'\'').is_some() {
                    skip_escaped_literal(&mut characters);
                    continue;
                }
                name
            }
            other => {
                after_dot = other == '.';
                continue;
            }
        };
        if !after_dot && characters.peek() == Some(&'.') {
            found.push(name);
        }
        after_dot = false;
    }
    found
}

fn skip_literal(characters: &mut impl Iterator<Item = char>) {
    // A doubled quote ends one literal and begins the next, which comes to the same.
    characters.find(|&character| character == '\'');
}

fn skip_escaped_literal(characters: &mut impl Iterator<Item = char>) {
    while let Some(character) = characters.next() {
        match character {
            '\\' => drop(characters.next()),
            '\'' => return,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn a_schema_counts_where_it_qualifies_a_name_and_nowhere_else() {
        let of = |expression| -> Vec<&str> {
            ["auth", "App x", "public", "t"].into_iter().filter(|schema| names(expression, schema)).collect()
        };
        assert_eq!(of("(( SELECT auth.uid() AS uid) = owner_id)"), ["auth"]);
        assert_eq!(of(r#""App x".may(id) AND auth.role() = 'x'"#), ["auth", "App x"]);
        assert_eq!(of("note = 'auth.uid()'::text"), [""; 0]);
        assert_eq!(of("note = 'it''s auth.uid()'::text"), [""; 0]);
        assert_eq!(of(r"note = E'\\ \' auth.uid()'::text"), [""; 0]);
        assert_eq!(of("x.auth.y = 1"), [""; 0]);
        assert_eq!(of("auth = 1"), [""; 0]);
        assert_eq!(of("EXISTS ( SELECT 1 FROM public.members m WHERE m.id = docs.t)"), ["public"]);
    }
}
