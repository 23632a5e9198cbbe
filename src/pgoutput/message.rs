//! The messages of pgoutput, protocol version 1, each in the order of its fields in the documentation.

use super::{
    reader::{DecodeError, Reader},
    tuple::{self, Tuple},
};
use crate::lsn::Lsn;
use bytes::Bytes;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A committed transaction starts.
    Begin(Begin),
    /// It ends.
    Commit(Commit),
    /// The transaction came from elsewhere.
    Origin(Origin),
    /// What a table looks like from here on.
    Relation(RelationMessage),
    /// What a type of a column is called.
    Type(TypeMessage),
    /// A row came.
    Insert(Insert),
    /// A row changed.
    Update(Update),
    /// A row went.
    Delete(Delete),
    /// Tables were emptied.
    Truncate(Truncate),
    /// `pg_logical_emit_message`.
    Logical(LogicalMessage),
}

/// Begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begin {
    /// Where the commit record is.
    pub commit_lsn: Lsn,
    /// Microseconds since 2000-01-01 UTC.
    pub commit_time: i64,
    /// The transaction's id, without its epoch.
    pub xid: u32,
}

/// Commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Where the commit record is.
    pub commit_lsn: Lsn,
    /// Where it ends: confirming this position confirms the transaction.
    pub end_lsn: Lsn,
    /// Microseconds since 2000-01-01 UTC.
    pub commit_time: i64,
}

/// Origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Where the commit is on the origin.
    pub commit_lsn: Lsn,
    /// The origin's name.
    pub name: String,
}

/// Relation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelationMessage {
    /// The table's oid.
    pub oid: u32,
    /// Its schema; empty means `pg_catalog`.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// `relreplident`: d, n, f or i.
    pub replica_identity: u8,
    /// The published columns.
    pub columns: Vec<RelationColumn>,
}

/// A column of a Relation message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelationColumn {
    /// Whether it is part of the key.
    pub is_key: bool,
    /// Its name.
    pub name: String,
    /// Its type.
    pub type_oid: u32,
    /// Its type modifier.
    pub type_modifier: i32,
}

/// Type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeMessage {
    /// The type's oid.
    pub oid: u32,
    /// Its schema; empty means `pg_catalog`.
    pub schema: String,
    /// Its name.
    pub name: String,
}

/// Insert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Insert {
    /// The table.
    pub relation: u32,
    /// The row.
    pub new: Tuple,
}

/// What an UPDATE or DELETE says of the row before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OldTuple {
    /// The replica identity's columns only; the others read as NULL and mean nothing.
    Key(Tuple),
    /// The whole row.
    Whole(Tuple),
}

/// Update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// The table.
    pub relation: u32,
    /// The row before, when the identity is full or the key changed.
    pub old: Option<OldTuple>,
    /// The row after.
    pub new: Tuple,
}

/// Delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delete {
    /// The table.
    pub relation: u32,
    /// The row before.
    pub old: OldTuple,
}

/// Truncate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Truncate {
    /// TRUNCATE ... CASCADE.
    pub cascade: bool,
    /// TRUNCATE ... RESTART IDENTITY.
    pub restart_identity: bool,
    /// The tables.
    pub relations: Vec<u32>,
}

/// A message written by `pg_logical_emit_message`; sent only when asked for with `messages`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogicalMessage {
    /// Whether it belongs to a transaction.
    pub transactional: bool,
    /// Where it stands.
    pub lsn: Lsn,
    /// What it is for.
    pub prefix: String,
    /// What it says.
    pub content: Bytes,
}

/// Reads one message, to its last byte.
pub fn decode(frame: Bytes) -> Result<Message, DecodeError> {
    let mut reader = Reader::new(frame);
    let tag = reader.u8("message tag")?;
    let (message, name) = match tag {
        b'B' => (Message::Begin(begin(&mut reader)?), "Begin"),
        b'C' => (Message::Commit(commit(&mut reader)?), "Commit"),
        b'O' => (Message::Origin(origin(&mut reader)?), "Origin"),
        b'R' => (Message::Relation(relation(&mut reader)?), "Relation"),
        b'Y' => (Message::Type(type_message(&mut reader)?), "Type"),
        b'I' => (Message::Insert(insert(&mut reader)?), "Insert"),
        b'U' => (Message::Update(update(&mut reader)?), "Update"),
        b'D' => (Message::Delete(delete(&mut reader)?), "Delete"),
        b'T' => (Message::Truncate(truncate(&mut reader)?), "Truncate"),
        b'M' => (Message::Logical(logical_message(&mut reader)?), "Message"),
        tag => return Err(DecodeError::Tag { what: "message", tag }),
    };
    reader.end(name)?;
    Ok(message)
}

fn begin(reader: &mut Reader) -> Result<Begin, DecodeError> {
    Ok(Begin {
        commit_lsn: reader.lsn("Begin commit LSN")?,
        commit_time: reader.i64("Begin commit time")?,
        xid: reader.u32("Begin xid")?,
    })
}

fn commit(reader: &mut Reader) -> Result<Commit, DecodeError> {
    reader.u8("Commit flags")?;
    Ok(Commit {
        commit_lsn: reader.lsn("Commit LSN")?,
        end_lsn: reader.lsn("Commit end LSN")?,
        commit_time: reader.i64("Commit time")?,
    })
}

fn origin(reader: &mut Reader) -> Result<Origin, DecodeError> {
    Ok(Origin { commit_lsn: reader.lsn("Origin commit LSN")?, name: reader.text("Origin name")? })
}

fn relation(reader: &mut Reader) -> Result<RelationMessage, DecodeError> {
    let oid = reader.u32("Relation oid")?;
    let schema = reader.text("Relation schema")?;
    let name = reader.text("Relation name")?;
    let replica_identity = reader.u8("Relation replica identity")?;
    let count = reader.count16("Relation column count")?;
    let mut columns = Vec::with_capacity(count.min(1600));
    for _ in 0..count {
        columns.push(RelationColumn {
            is_key: reader.u8("Relation column flags")? & 1 != 0,
            name: reader.text("Relation column name")?,
            type_oid: reader.u32("Relation column type")?,
            type_modifier: reader.i32("Relation column type modifier")?,
        });
    }
    Ok(RelationMessage { oid, schema, name, replica_identity, columns })
}

fn type_message(reader: &mut Reader) -> Result<TypeMessage, DecodeError> {
    Ok(TypeMessage {
        oid: reader.u32("Type oid")?,
        schema: reader.text("Type schema")?,
        name: reader.text("Type name")?,
    })
}

fn insert(reader: &mut Reader) -> Result<Insert, DecodeError> {
    let relation = reader.u32("Insert relation")?;
    match reader.u8("Insert tuple tag")? {
        b'N' => Ok(Insert { relation, new: tuple::read(reader)? }),
        tag => Err(DecodeError::Tag { what: "Insert tuple", tag }),
    }
}

fn update(reader: &mut Reader) -> Result<Update, DecodeError> {
    let relation = reader.u32("Update relation")?;
    let first = reader.u8("Update tuple tag")?;
    let old = match first {
        b'K' => Some(OldTuple::Key(tuple::read(reader)?)),
        b'O' => Some(OldTuple::Whole(tuple::read(reader)?)),
        _ => None,
    };
    let tag = if old.is_some() { reader.u8("Update new tuple tag")? } else { first };
    match tag {
        b'N' => Ok(Update { relation, old, new: tuple::read(reader)? }),
        tag => Err(DecodeError::Tag { what: "Update tuple", tag }),
    }
}

fn delete(reader: &mut Reader) -> Result<Delete, DecodeError> {
    let relation = reader.u32("Delete relation")?;
    let old = match reader.u8("Delete tuple tag")? {
        b'K' => OldTuple::Key(tuple::read(reader)?),
        b'O' => OldTuple::Whole(tuple::read(reader)?),
        tag => return Err(DecodeError::Tag { what: "Delete tuple", tag }),
    };
    Ok(Delete { relation, old })
}

fn truncate(reader: &mut Reader) -> Result<Truncate, DecodeError> {
    let count = reader.count32("Truncate relation count")?;
    let options = reader.u8("Truncate options")?;
    let mut relations = Vec::new();
    for _ in 0..count {
        relations.push(reader.u32("Truncate relation")?);
    }
    Ok(Truncate { cascade: options & 1 != 0, restart_identity: options & 2 != 0, relations })
}

fn logical_message(reader: &mut Reader) -> Result<LogicalMessage, DecodeError> {
    let transactional = reader.u8("Message flags")? & 1 != 0;
    let lsn = reader.lsn("Message LSN")?;
    let prefix = reader.text("Message prefix")?;
    let length = reader.count32("Message length")?;
    Ok(LogicalMessage { transactional, lsn, prefix, content: reader.bytes(length, "Message content")? })
}
