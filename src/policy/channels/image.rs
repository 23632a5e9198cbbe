//! The row that a message of a channel would be, as far as it is known without asking: topic, extension, `private`
//! false, no payload. Its id and its times are the database's, and so are defaults.

use super::table::{ChannelColumn, ChannelTable};
use crate::{
    change::{Datum, value::oid},
    policy::topic::Extension,
};

/// What each column of the row is.
#[derive(Clone, Debug)]
pub struct Image(Vec<Content>);

#[derive(Clone, Copy, Debug)]
enum Content {
    Topic,
    Extension,
    False,
    Null,
    /// Only the database knows.
    Unknown,
}

/// The row for one topic and extension.
#[derive(Debug)]
pub(super) struct Values<'a> {
    image: &'a Image,
    topic: Datum,
    extension: Datum,
    no: Datum,
}

impl Image {
    /// The row of this table.
    pub fn of(table: &ChannelTable) -> Image {
        Image(table.columns.iter().map(content).collect())
    }

    pub(super) fn values(&self, topic: &str, extension: Extension) -> Values<'_> {
        let text = |text: &str| Datum::Text(text.to_owned().into());
        Values { image: self, topic: text(topic), extension: text(extension.name()), no: text("f") }
    }
}

fn content(column: &ChannelColumn) -> Content {
    let has_value = column.default.is_some() || column.is_generated || column.is_identity;
    match (column.name.as_str(), column.type_oid) {
        // Of another type, even of a text of some length, it would not be what was put in.
        ("topic", oid::TEXT) => Content::Topic,
        ("extension", oid::TEXT) => Content::Extension,
        ("private", oid::BOOL) => Content::False,
        ("topic" | "extension" | "private" | "id" | "inserted_at" | "updated_at", _) => Content::Unknown,
        _ if has_value => Content::Unknown,
        _ => Content::Null,
    }
}

impl Values<'_> {
    pub(super) fn get(&self, index: usize) -> &Datum {
        match self.image.0.get(index) {
            Some(Content::Topic) => &self.topic,
            Some(Content::Extension) => &self.extension,
            Some(Content::False) => &self.no,
            Some(Content::Null) => &Datum::Null,
            Some(Content::Unknown) | None => &Datum::Absent,
        }
    }
}
