//! The steps of a migration, in order: what each makes, how to see that it is there, which right it takes. The SQL
//! is in `migrations/`, one file a step. Running them is `super`'s.

use super::{Outcome, StepReport};

/// One thing a migration makes.
///
/// Probes look into the catalogue's tables: what looks a name up (`to_regprocedure`, a name given to
/// `has_table_privilege`) fails in a schema whose USAGE we lack.
pub(super) struct Step {
    /// What it makes, in words.
    pub(super) name: &'static str,
    /// A query for one boolean: is it there already?
    pub(super) probe: &'static str,
    /// What makes it.
    pub(super) sql: &'static str,
    /// The right that takes.
    pub(super) needs: &'static str,
    /// Names of the steps it builds on.
    pub(super) after: &'static [&'static str],
}

impl Step {
    /// What became of it.
    pub(super) fn report(&self, outcome: Outcome) -> StepReport {
        StepReport { name: self.name.into(), outcome, needs: self.needs.into(), sql: self.sql.into() }
    }
}

pub(super) const ROLES: &[&str] = &["role anon", "role authenticated", "role service_role"];
const FUNCTIONS: &[&str] =
    &["function auth.jwt()", "function auth.uid()", "function auth.role()", "function auth.email()"];

const CREATE_ROLE: &str = "CREATEROLE";
const CREATE_IN_AUTH: &str = "CREATE on schema auth";
pub(super) const CREATE_ON_DATABASE: &str = "CREATE on the database";
const OWNER_OF_DEMO: &str = "ownership of the demo's tables";

/// What serving needs, whatever the user's tables are.
pub(super) const CORE: &[Step] = &[
    Step {
        name: ROLES[0],
        probe: "select exists (select from pg_roles where rolname = 'anon')",
        sql: include_str!("../../../migrations/core/001_role_anon.sql"),
        needs: CREATE_ROLE,
        after: &[],
    },
    Step {
        name: ROLES[1],
        probe: "select exists (select from pg_roles where rolname = 'authenticated')",
        sql: include_str!("../../../migrations/core/002_role_authenticated.sql"),
        needs: CREATE_ROLE,
        after: &[],
    },
    Step {
        name: ROLES[2],
        probe: "select exists (select from pg_roles where rolname = 'service_role')",
        sql: include_str!("../../../migrations/core/003_role_service_role.sql"),
        needs: "superuser; from PostgreSQL 16 on, CREATEROLE and BYPASSRLS",
        after: &[],
    },
    Step {
        name: "schema auth",
        probe: "select to_regnamespace('auth') is not null",
        sql: include_str!("../../../migrations/core/004_schema_auth.sql"),
        needs: CREATE_ON_DATABASE,
        after: ROLES,
    },
    Step {
        name: FUNCTIONS[0],
        probe: "select exists (select from pg_proc where pronamespace = to_regnamespace('auth') \
                and proname = 'jwt' and pronargs = 0)",
        sql: include_str!("../../../migrations/core/005_function_auth_jwt.sql"),
        needs: CREATE_IN_AUTH,
        after: &["schema auth"],
    },
    Step {
        name: FUNCTIONS[1],
        probe: "select exists (select from pg_proc where pronamespace = to_regnamespace('auth') \
                and proname = 'uid' and pronargs = 0)",
        sql: include_str!("../../../migrations/core/006_function_auth_uid.sql"),
        needs: CREATE_IN_AUTH,
        after: &["schema auth"],
    },
    Step {
        name: FUNCTIONS[2],
        probe: "select exists (select from pg_proc where pronamespace = to_regnamespace('auth') \
                and proname = 'role' and pronargs = 0)",
        sql: include_str!("../../../migrations/core/007_function_auth_role.sql"),
        needs: CREATE_IN_AUTH,
        after: &["schema auth"],
    },
    Step {
        name: FUNCTIONS[3],
        probe: "select exists (select from pg_proc where pronamespace = to_regnamespace('auth') \
                and proname = 'email' and pronargs = 0)",
        sql: include_str!("../../../migrations/core/008_function_auth_email.sql"),
        needs: CREATE_IN_AUTH,
        after: &["schema auth"],
    },
    Step {
        name: "publication supabase_realtime",
        probe: "select exists (select from pg_publication where pubname = 'supabase_realtime')",
        sql: include_str!("../../../migrations/core/009_publication.sql"),
        needs: CREATE_ON_DATABASE,
        after: &[],
    },
    Step {
        name: "schema walcast",
        probe: "select to_regnamespace('walcast') is not null",
        sql: include_str!("../../../migrations/core/010_schema_walcast.sql"),
        needs: CREATE_ON_DATABASE,
        after: &[],
    },
    Step {
        name: super::lookups::STEP,
        probe: "select exists (select from pg_publication where pubname = 'walcast_lookups')",
        sql: include_str!("../../../migrations/core/014_publication_lookups.sql"),
        needs: CREATE_ON_DATABASE,
        after: &[],
    },
];

/// The role to serve with. Never run: a role that can log in is an administrator's decision, and so is a right on
/// the user's tables.
pub(super) const LEAST_PRIVILEGE: &[Step] = &[
    Step {
        name: "role walcast",
        probe: "select exists (select from pg_roles where rolname = 'walcast')",
        sql: include_str!("../../../migrations/core/011_role_walcast.sql"),
        needs: "superuser; from PostgreSQL 16 on, CREATEROLE and REPLICATION",
        after: ROLES,
    },
    Step {
        name: "memberships of role walcast",
        probe: "select count(*) = 3 from pg_roles reader, pg_roles claimed where reader.rolname = 'walcast' \
                and claimed.rolname in ('anon', 'authenticated', 'service_role') \
                and pg_has_role(reader.oid, claimed.oid, 'member')",
        sql: include_str!("../../../migrations/core/012_role_walcast_members.sql"),
        needs: "ADMIN on the three roles",
        after: &["role walcast"],
    },
    Step {
        name: "role walcast reads the published tables",
        probe: "select exists (select from pg_roles where rolname = 'walcast') \
                and not exists (select from pg_publication_tables t \
                join pg_namespace n on n.nspname = t.schemaname \
                join pg_class c on c.relnamespace = n.oid and c.relname = t.tablename \
                left join pg_roles reader on reader.rolname = 'walcast' \
                where t.pubname = 'supabase_realtime' and not coalesce( \
                has_table_privilege(reader.oid, c.oid, 'select') \
                and has_schema_privilege(reader.oid, n.oid, 'usage'), false))",
        sql: include_str!("../../../migrations/core/013_role_walcast_select.sql"),
        needs: "ownership of the published tables",
        after: &["role walcast", "publication supabase_realtime"],
    },
    super::messages::OFFERED,
];

/// The example tables, their policies and rows.
pub(super) const DEMO: &[Step] = &[
    Step {
        name: "tables of the demo",
        // The policies are made last among what the first two files make, so this stands for the tables alone.
        probe: "select count(*) = 8 from pg_class c where c.relnamespace = to_regnamespace('public') \
                and c.relkind = 'r' and c.relrowsecurity \
                and obj_description(c.oid, 'pg_class') like 'walcast demo%' \
                and c.relname in ('projects', 'project_members', 'notes', 'tags', 'notes_tags', \
                'conversations', 'conversation_members', 'messages')",
        sql: include_str!("../../../migrations/demo/001_tables.sql"),
        needs: "CREATE on the database and on schema public",
        after: FUNCTIONS,
    },
    Step {
        name: "policies of the demo",
        probe: "select count(*) = 30 from pg_policies where schemaname = 'public' \
                and tablename in ('projects', 'project_members', 'notes', 'tags', 'notes_tags', \
                'conversations', 'conversation_members', 'messages') \
                and policyname like tablename || '\\_%'",
        sql: include_str!("../../../migrations/demo/002_policies.sql"),
        needs: OWNER_OF_DEMO,
        after: &["tables of the demo", ROLES[0], ROLES[1], ROLES[2]],
    },
    Step {
        name: "function public.insert_message",
        probe: "select exists (select from pg_proc p where p.pronamespace = to_regnamespace('public') \
                and p.proname = 'insert_message' and obj_description(p.oid, 'pg_proc') like 'walcast demo%')",
        sql: include_str!("../../../migrations/demo/003_insert_message.sql"),
        needs: "CREATE on schema public",
        after: &["policies of the demo"],
    },
    Step {
        name: "tables of the demo in the publication",
        probe: "select count(*) = 8 from pg_publication_tables where pubname = 'supabase_realtime' \
                and schemaname = 'public' and tablename in ('projects', 'project_members', 'notes', 'tags', \
                'notes_tags', 'conversations', 'conversation_members', 'messages')",
        sql: include_str!("../../../migrations/demo/004_publication.sql"),
        needs: "ownership of the publication and of the demo's tables",
        after: &["policies of the demo", "publication supabase_realtime"],
    },
    Step {
        name: "role walcast, if there is one, reads the demo",
        probe: "select not exists (select from pg_roles where rolname = 'walcast') or 8 = ( \
                select count(*) from pg_class c, pg_roles reader where reader.rolname = 'walcast' \
                and c.relnamespace = to_regnamespace('public') \
                and c.relname in ('projects', 'project_members', 'notes', 'tags', 'notes_tags', \
                'conversations', 'conversation_members', 'messages') \
                and has_table_privilege(reader.oid, c.oid, 'select'))",
        sql: include_str!("../../../migrations/demo/005_reader.sql"),
        needs: OWNER_OF_DEMO,
        after: &["tables of the demo"],
    },
    Step {
        name: "examples of the demo",
        probe: "select coalesce(obj_description(to_regnamespace('walcast_demo')::oid, 'pg_namespace') \
                like '%(examples inserted)', false)",
        sql: include_str!("../../../migrations/demo/006_examples.sql"),
        needs: OWNER_OF_DEMO,
        after: &["tables of the demo"],
    },
];

/// The demo's tables, as they must be free or ours.
pub(super) const DEMO_TABLES: &[&str] = &[
    "projects",
    "project_members",
    "notes",
    "tags",
    "notes_tags",
    "conversations",
    "conversation_members",
    "messages",
];

/// The demo's indexes, likewise: `create index if not exists` would take any index of that name for ours.
pub(super) const DEMO_INDEXES: &[&str] = &[
    "projects_owner_id_idx",
    "project_members_user_id_idx",
    "notes_owner_id_idx",
    "notes_project_id_idx",
    "notes_tags_tag_id_idx",
    "conversations_created_by_idx",
    "conversations_assignee_id_idx",
    "conversation_members_user_id_idx",
    "messages_conversation_id_created_at_idx",
    "messages_recipient_id_created_at_idx",
    "messages_sender_id_idx",
];
