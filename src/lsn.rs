//! `Lsn`: a position in the write-ahead log, in the form Postgres prints it.

use std::{fmt, str::FromStr};

/// A byte position in the write-ahead log (PostgreSQL documentation, "pg_lsn Type").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// The position that Postgres itself uses for "none".
    pub const ZERO: Lsn = Lsn(0);
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// The text was not two hexadecimal numbers of 32 bits with a slash between them.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not an LSN such as 16/B374D848")]
pub struct ParseLsnError(String);

impl FromStr for Lsn {
    type Err = ParseLsnError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.split_once('/').and_then(|(high, low)| {
            let high = u32::from_str_radix(high, 16).ok()?;
            let low = u32::from_str_radix(low, 16).ok()?;
            Some(Lsn((u64::from(high) << 32) | u64::from(low)))
        });
        parsed.ok_or_else(|| ParseLsnError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_lsn_prints_as_postgres_prints_it_and_reads_back() {
        let lsn: Lsn = "16/B374D848".parse().unwrap();
        assert_eq!(lsn, Lsn(0x16_B374_D848));
        assert_eq!(lsn.to_string(), "16/B374D848");
        assert_eq!(Lsn(5).to_string(), "0/5");
    }

    #[test]
    fn a_text_that_is_no_lsn_is_refused_with_the_text_in_the_error() {
        for text in ["", "16", "16/", "/1", "1/123456789", "x/y"] {
            assert!(text.parse::<Lsn>().unwrap_err().to_string().contains(text));
        }
    }
}
