//! Values whose text form is one token: which family an oid belongs to, and the families of one line each.

use super::{Malformed, number, oid, string::push_string, time};
use serde::de::IgnoredAny;

/// Appends the JSON of a value of a base type.
pub(super) fn render(type_oid: u32, text: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    match type_oid {
        oid::BOOL => match text {
            b"t" => out.extend_from_slice(b"true"),
            b"f" => out.extend_from_slice(b"false"),
            _ => return Err(Malformed),
        },
        oid::INT2 | oid::INT4 | oid::INT8 | oid::OID => number::render_integer(text, out)?,
        oid::FLOAT4 | oid::FLOAT8 | oid::NUMERIC => number::render_decimal(text, out)?,
        oid::TIMESTAMP => time::render_timestamp(text, out)?,
        oid::TIMESTAMPTZ => time::render_timestamptz(text, out)?,
        oid::BYTEA => {
            let digits = text.strip_prefix(b"\\x").ok_or(Malformed)?;
            push_string(digits, out);
        }
        oid::JSON | oid::JSONB => {
            // Postgres has parsed it already; the look is for what else may be called json in an odd registry,
            // because one broken value would break the whole frame.
            serde_json::from_slice::<IgnoredAny>(text).map_err(|_| Malformed)?;
            out.extend_from_slice(text);
        }
        _ => push_string(text, out),
    }
    Ok(())
}
