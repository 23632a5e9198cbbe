//! What a real slot says of committed transactions.

use crate::policies::state::{Eyes, PUBLICATION};
use walcast::{
    change::{Fragment, assemble::Assembler},
    pg::catalog::LOOKUP_PUBLICATION,
    pgoutput::decode,
};

/// A slot, read through SQL.
pub struct Stream {
    slot: String,
}

impl Stream {
    /// A new slot, which begins here.
    pub async fn open(eyes: &Eyes, slot: &str) -> Stream {
        let create = "select pg_create_logical_replication_slot($1, 'pgoutput')";
        eyes.superuser.execute(create, &[&slot]).await.unwrap_or_else(|error| panic!("{error:?}"));
        Stream { slot: slot.to_owned() }
    }

    /// What has committed since the last call.
    pub async fn read(&self, eyes: &Eyes) -> Vec<Fragment> {
        let publications = format!("{PUBLICATION},{LOOKUP_PUBLICATION}");
        let get = "select data from pg_logical_slot_get_binary_changes($1, null, null,
            'proto_version', '1', 'publication_names', $2)";
        let rows =
            eyes.texts.query(get, &[&self.slot, &publications]).await.unwrap_or_else(|error| panic!("{error:?}"));
        let mut assembler = Assembler::default();
        let mut fragments = Vec::new();
        for row in rows {
            let message = decode(row.get::<_, Vec<u8>>(0).into()).unwrap();
            fragments.extend(assembler.push(message).unwrap());
        }
        assert!(assembler.is_idle(), "a transaction has no end");
        fragments
    }

    /// Drops the slot.
    pub async fn close(self, eyes: &Eyes) {
        eyes.superuser.execute("select pg_drop_replication_slot($1)", &[&self.slot]).await.unwrap();
    }
}
