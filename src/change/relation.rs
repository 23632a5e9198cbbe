//! Tables as the stream describes them. What the catalogue knows beyond that is `policy::catalog`'s.

/// How rows of a table are told apart in the stream (`ALTER TABLE ... REPLICA IDENTITY`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaIdentity {
    /// The primary key, if there is one.
    Default,
    /// Nothing: no old images.
    Nothing,
    /// Every column.
    Full,
    /// A unique index that was named.
    Index,
}

/// One column of a relation message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// The oid of its type.
    pub type_oid: u32,
    /// The type modifier, -1 for none.
    pub type_modifier: i32,
    /// Whether it belongs to the replica identity.
    pub is_key: bool,
}

/// A table, as the stream described it before the changes that follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// The oid of the table (of the partition root with `publish_via_partition_root`).
    pub oid: u32,
    /// The schema's name.
    pub schema: String,
    /// The table's name.
    pub name: String,
    /// How its rows are told apart.
    pub replica_identity: ReplicaIdentity,
    /// The published columns, in the order of the tuples.
    pub columns: Vec<Column>,
}
