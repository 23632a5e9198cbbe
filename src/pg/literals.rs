//! Values in statements that take no parameters: those of a walsender.

/// The statement with values, which are SQL already, in the places of `$1`, `$2` and so on. It is gone through once: what
/// looks like a place within a value is none.
pub(crate) fn with_values<const COUNT: usize>(statement: &str, values: [&str; COUNT]) -> String {
    let mut parts = statement.split('$');
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.len() - part.trim_start_matches(|character: char| character.is_ascii_digit()).len();
        let (number, rest) = part.split_at(digits);
        match number.parse::<usize>().ok().and_then(|number| values.get(number.checked_sub(1)?)) {
            Some(value) => filled.extend([*value, rest]),
            None => filled.extend(["$", part]),
        }
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::with_values;

    #[test]
    fn a_value_that_looks_like_a_place_stays_what_it_is() {
        let filled = with_values("select $1, $2 || $1::text -- $9 $", ["'$2'", "'a $1 b'"]);
        assert_eq!(filled, "select '$2', 'a $1 b' || '$2'::text -- $9 $");
    }
}
