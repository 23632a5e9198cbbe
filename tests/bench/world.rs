//! The database of the benchmark of policies: its catalogue and lookup tables, read as the server reads them, and the
//! changes its stream would have.

use crate::support::postgres::{Database, Postgres};
use bytes::Bytes;
use serde_json::json;
use std::{sync::Arc, time::Duration};
use walcast::{
    change::{
        Change, Datum, Fragment, Operation, Row,
        cursor::Beside,
        position::Era,
        relation::{Column, Relation},
    },
    claims::Claims,
    lsn::Lsn,
    pg::{
        Target,
        catalog::{Scope, read},
        connect::TEXT_FORMS,
        lookup::{Load, Outcome, PUBLICATION, Wanted, load},
    },
    policy::{
        catalog::{Catalog, RowRule, Table},
        lookup::{Layout, Lookups},
    },
};

/// The publication clients subscribe to.
const MAIN: &str = "supabase_realtime";
const ROLE: &str = "authenticated";
const LOAD_LIMIT: Duration = Duration::from_secs(60);

const TABLES: &str = "
    create schema auth;
    create function auth.uid() returns uuid language sql stable as
      $$ select (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid $$;
    create table owned (id bigint primary key, owner_id uuid not null, org_id uuid, title text, body text,
      created_at timestamptz);
    create table docs (like owned including all);
    create table memberships (org_id uuid, user_id uuid, role text, primary key (org_id, user_id));
    alter table owned enable row level security;
    alter table docs enable row level security;
    create policy owner on owned for select to authenticated using (owner_id = auth.uid());
    create policy member on docs for select to authenticated using (
      exists (select 1 from memberships m where m.org_id = docs.org_id and m.user_id = auth.uid()));
    grant usage on schema auth to authenticated, walcast;
    grant select on owned, docs, memberships to authenticated, walcast;
    create publication supabase_realtime for table owned, docs;
    create publication walcast_lookups for table memberships;
";

/// Which policy decides.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Policy {
    Owner,
    Membership,
}

impl Policy {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Policy::Owner => "owner",
            Policy::Membership => "membership",
        }
    }

    /// The table under it.
    pub(crate) fn table(self) -> &'static str {
        match self {
            Policy::Owner => "owned",
            Policy::Membership => "docs",
        }
    }
}

/// The id of a user or an organisation.
fn uuid(kind: u8, number: usize) -> String {
    format!("0000000{kind}-0000-4000-8000-{number:012}")
}

/// The claims of a user's token, with what such tokens mostly have.
pub(crate) fn claims(user: usize) -> Claims {
    let sub = uuid(1, user);
    let json = json!({
        "aud": "authenticated", "exp": 4_102_444_800_i64, "iat": 1_700_000_000, "iss": "https://bench.example/auth/v1",
        "sub": sub, "email": format!("user{user}@example.com"), "role": ROLE, "aal": "aal1",
        "session_id": sub, "app_metadata": {"provider": "email"}, "user_metadata": {}, "is_anonymous": false,
    });
    Claims { role: ROLE.into(), expires_at: None, json: json.to_string().into() }
}

/// A database and what is read of it.
pub(crate) struct World {
    database: Database,
    pub(crate) catalog: Arc<Catalog>,
}

impl World {
    pub(crate) async fn new() -> World {
        let database = Postgres::default().database().await;
        database.execute(TABLES).await;
        let catalog = read_catalog(&database).await;
        let world = World { database, catalog };
        for policy in [Policy::Owner, Policy::Membership] {
            let rule = world.table(policy).access.get(ROLE).map(|access| access.rows.clone());
            assert!(matches!(rule, Some(RowRule::Compiled(_))), "the process decides: {rule:?}");
        }
        world
    }

    /// The same catalogue, read once more: its programs are others.
    pub(crate) async fn catalog_again(&self) -> Arc<Catalog> {
        read_catalog(&self.database).await
    }

    pub(crate) fn table(&self, policy: Policy) -> &Arc<Table> {
        let found = self.catalog.tables.values().find(|table| table.name == policy.table());
        found.expect("the table is published")
    }

    /// The lookup tables, when each user of so many is a member of an organisation of his own, or of the same one.
    pub(crate) async fn lookups(&self, users: usize, one_organisation: bool) -> Lookups {
        let organisation = if one_organisation { "0" } else { "n" };
        let id = |kind: u8, number: &str| {
            format!("('0000000{kind}-0000-4000-8000-' || lpad(({number})::text, 12, '0'))::uuid")
        };
        let fill = format!(
            "truncate memberships; insert into memberships select {}, {}, 'member' from generate_series(0, {users} - 1) n",
            id(2, organisation),
            id(1, "n")
        );
        self.database.execute(&fill).await;
        let mut lookups = Lookups::new(1 << 30);
        let target = Target::parse(&self.database.walcast_url()).expect("a connection string");
        let pool = target.pool("bench", 1, TEXT_FORMS).expect("a pool");
        let client = pool.get().await.expect("a connection");
        // There is no stream, so whatever it would have to begin behind is behind it.
        let mut trusted = None;
        loop {
            let wanted = |(oid, need)| {
                let facts = Arc::clone(self.catalog.facts.tables.get(oid).expect("what is looked up is known"));
                let layout = Layout::new(facts, Clone::clone(need), &self.catalog.types).expect("it can be followed");
                Wanted { layout, publication: PUBLICATION.to_owned(), is_streamed: true, trusted: trusted.clone() }
            };
            let tables = self.catalog.lookups.iter().map(wanted).collect();
            let request = Load { tables, room: lookups.room_without(&[]), catalog_xmin: None, limit: LOAD_LIMIT };
            for (_, outcome) in load(&client, &request).await {
                match outcome {
                    Outcome::Loaded { rows, .. } => {
                        lookups.complete(*rows);
                        return lookups;
                    }
                    Outcome::Unsettled { membership, .. } => trusted = Some(membership),
                    Outcome::Writers(_) => {}
                    Outcome::Failed(error) => panic!("a lookup table cannot be read: {error:?}"),
                }
            }
        }
    }
}

async fn read_catalog(database: &Database) -> Arc<Catalog> {
    let target = Target::parse(&database.walcast_url()).expect("a connection string");
    let mut client = target.connect("bench").await.expect("a connection");
    Arc::new(read(&mut client, Scope::of(MAIN)).await.expect("the catalogue can be read"))
}

/// Makes transactions of one new row each.
pub(crate) struct Changes {
    relation: Arc<Relation>,
    next: u64,
}

impl Changes {
    pub(crate) fn of(table: &Table) -> Changes {
        let column = |(index, column): (usize, &walcast::policy::catalog::TableColumn)| Column {
            name: column.name.clone(),
            type_oid: column.type_oid,
            type_modifier: -1,
            is_key: table.primary_key.contains(&index),
        };
        let columns = table.columns.iter().enumerate().map(column).collect();
        let (schema, name) = (table.schema.clone(), table.name.clone());
        let replica_identity = table.replica_identity;
        Changes { relation: Arc::new(Relation { oid: table.oid, schema, name, replica_identity, columns }), next: 1 }
    }

    /// How many it has made.
    pub(crate) fn made(&self) -> usize {
        usize::try_from(self.next - 1).unwrap_or(usize::MAX)
    }

    /// The next one: a row of this user and this organisation.
    pub(crate) fn next(&mut self, user: usize, organisation: usize) -> Arc<Fragment> {
        let number = self.next;
        self.next += 1;
        let texts = [
            number.to_string(),
            uuid(1, user),
            uuid(2, organisation),
            format!("Title of {number}"),
            "A text of about a hundred characters, as notes and messages have it, with \"quotes\" in it, too. "
                .to_owned(),
            "2026-11-21 12:34:56.789012+00".to_owned(),
        ];
        // One buffer, as of one message of the stream.
        let buffer = Bytes::from(texts.concat());
        let mut end = 0;
        let place = |text: &String| {
            end += text.len();
            Datum::Text(buffer.slice(end - text.len()..end))
        };
        let row = Row(texts.iter().map(place).collect());
        let relation = self.relation.clone();
        let change = Change { operation: Operation::Insert, relation, old: None, new: Some(row), ordinal: 0 };
        Arc::new(Fragment {
            era: Era::default(),
            beside: Beside::default(),
            xid: 1000,
            commit_lsn: Lsn(number * 64),
            commit_time: 848_000_000_000_000,
            changes: vec![change],
            end_lsn: Some(Lsn(number * 64 + 32)),
        })
    }
}
