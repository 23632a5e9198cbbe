//! The steps for broadcasts from the database: schema `realtime`, its table, functions and publication, and the upkeep of
//! the table's partitions. Each is probed by itself, because Supabase's own migrations, of any age, may have made some of
//! them, as another role; what is there stays as it is.

use super::steps::{CREATE_ON_DATABASE, ROLES, Step};

const SCHEMA: &str = "schema realtime";
const TABLE: &str = "table realtime.messages";
const SEND: &str = "function realtime.send()";
const PUBLICATION: &str = "publication supabase_realtime_messages_publication";
const UPKEEP: &str = "function walcast.maintain_messages()";
const OWNER: &str = "function walcast.maintain_messages() runs as who may alter realtime.messages";

const CREATE_IN_REALTIME: &str = "CREATE on schema realtime";
const OWNER_OF_MESSAGES: &str = "ownership of realtime.messages";

/// A probe for a function of schema `realtime` by its name and the types of its arguments.
macro_rules! function_probe {
    ($name:literal, $arguments:literal) => {
        concat!(
            "select exists (select from pg_proc where pronamespace = to_regnamespace('realtime') and proname = '",
            $name,
            "' and oidvectortypes(proargtypes) = '",
            $arguments,
            "')"
        )
    };
}

/// What broadcasting from the database needs.
pub(super) const MESSAGES: &[Step] = &[
    Step {
        name: SCHEMA,
        probe: "select to_regnamespace('realtime') is not null",
        sql: include_str!("../../../migrations/core/015_schema_realtime.sql"),
        needs: CREATE_ON_DATABASE,
        after: &[],
    },
    Step {
        name: "roles of tokens use schema realtime",
        probe: "select count(*) = 3 from pg_namespace n, pg_roles r where n.nspname = 'realtime' \
                and r.rolname in ('anon', 'authenticated', 'service_role') \
                and has_schema_privilege(r.oid, n.oid, 'usage')",
        sql: include_str!("../../../migrations/core/016_schema_realtime_usage.sql"),
        needs: "ownership of schema realtime",
        after: &[SCHEMA, ROLES[0], ROLES[1], ROLES[2]],
    },
    Step {
        name: "function realtime.topic()",
        probe: function_probe!("topic", ""),
        sql: include_str!("../../../migrations/core/017_function_realtime_topic.sql"),
        needs: CREATE_IN_REALTIME,
        after: &[SCHEMA],
    },
    Step {
        name: TABLE,
        probe: "select exists (select from pg_class where relnamespace = to_regnamespace('realtime') \
                and relname = 'messages' and relkind in ('r', 'p'))",
        sql: include_str!("../../../migrations/core/018_table_realtime_messages.sql"),
        needs: CREATE_IN_REALTIME,
        after: &[SCHEMA],
    },
    Step {
        name: "column binary_payload of realtime.messages",
        probe: "select exists (select from pg_class c join pg_attribute a on a.attrelid = c.oid \
                where c.relnamespace = to_regnamespace('realtime') and c.relname = 'messages' \
                and a.attname = 'binary_payload' and not a.attisdropped)",
        sql: include_str!("../../../migrations/core/019_messages_binary_payload.sql"),
        needs: OWNER_OF_MESSAGES,
        after: &[TABLE],
    },
    Step {
        name: "row level security of realtime.messages",
        probe: "select coalesce((select relrowsecurity from pg_class \
                where relnamespace = to_regnamespace('realtime') and relname = 'messages'), false)",
        sql: include_str!("../../../migrations/core/020_messages_row_security.sql"),
        needs: OWNER_OF_MESSAGES,
        after: &[TABLE],
    },
    Step {
        name: "index of realtime.messages",
        // By what it is of, whatever its name.
        probe: "select exists (select from pg_class c join pg_index i on i.indrelid = c.oid \
                join pg_attribute a on a.attrelid = c.oid and a.attnum = i.indkey[0] \
                where c.relnamespace = to_regnamespace('realtime') and c.relname = 'messages' \
                and a.attname = 'inserted_at')",
        sql: include_str!("../../../migrations/core/021_messages_index.sql"),
        needs: OWNER_OF_MESSAGES,
        after: &[TABLE],
    },
    Step {
        name: "roles of tokens use realtime.messages",
        probe: "select count(*) = 9 from pg_class c, pg_roles r, \
                unnest(array['select', 'insert', 'update']) as wanted(privilege) \
                where c.relnamespace = to_regnamespace('realtime') and c.relname = 'messages' \
                and r.rolname in ('anon', 'authenticated', 'service_role') \
                and has_table_privilege(r.oid, c.oid, wanted.privilege)",
        sql: include_str!("../../../migrations/core/022_messages_grants.sql"),
        needs: OWNER_OF_MESSAGES,
        after: &[TABLE, ROLES[0], ROLES[1], ROLES[2]],
    },
    Step {
        name: SEND,
        probe: function_probe!("send", "jsonb, text, text, boolean"),
        sql: include_str!("../../../migrations/core/023_function_realtime_send.sql"),
        needs: CREATE_IN_REALTIME,
        after: &[TABLE],
    },
    Step {
        name: "function realtime.send_binary()",
        probe: function_probe!("send_binary", "bytea, text, text, boolean"),
        sql: include_str!("../../../migrations/core/024_function_realtime_send_binary.sql"),
        needs: CREATE_IN_REALTIME,
        after: &[TABLE],
    },
    Step {
        name: "function realtime.broadcast_changes()",
        probe: function_probe!("broadcast_changes", "text, text, text, text, text, record, record, text"),
        sql: include_str!("../../../migrations/core/025_function_realtime_broadcast_changes.sql"),
        needs: CREATE_IN_REALTIME,
        after: &[SEND],
    },
    Step {
        name: PUBLICATION,
        probe: "select exists (select from pg_publication \
                where pubname = 'supabase_realtime_messages_publication')",
        sql: include_str!("../../../migrations/core/026_publication_messages.sql"),
        needs: "CREATE on the database and ownership of realtime.messages",
        after: &[TABLE],
    },
    Step {
        name: "table realtime.messages in publication supabase_realtime_messages_publication",
        // By its name or with its schema or with all tables; partitions come with it.
        probe: "select exists (select from pg_publication p \
                where p.pubname = 'supabase_realtime_messages_publication' and (p.puballtables or exists ( \
                select from pg_publication_rel r join pg_class c on c.oid = r.prrelid where r.prpubid = p.oid \
                and c.relnamespace = to_regnamespace('realtime') and c.relname = 'messages')))",
        sql: include_str!("../../../migrations/core/027_publication_messages_table.sql"),
        needs: "ownership of the publication and of realtime.messages",
        after: &[TABLE, PUBLICATION],
    },
    Step {
        name: UPKEEP,
        probe: "select exists (select from pg_proc where pronamespace = to_regnamespace('walcast') \
                and proname = 'maintain_messages' \
                and oidvectortypes(proargtypes) = 'interval, timestamp with time zone')",
        sql: include_str!("../../../migrations/core/028_function_maintain_messages.sql"),
        needs: "CREATE on schema walcast",
        after: &["schema walcast"],
    },
    Step {
        name: OWNER,
        probe: "select exists (select from pg_class t, pg_proc p, pg_namespace n, pg_roles r \
                where t.relnamespace = n.oid and n.nspname = 'realtime' and t.relname = 'messages' \
                and p.pronamespace = to_regnamespace('walcast') and p.proname = 'maintain_messages' \
                and r.oid = p.proowner and (r.rolsuper or (pg_has_role(r.oid, t.relowner, 'usage') \
                and has_schema_privilege(r.oid, n.oid, 'create'))))",
        sql: include_str!("../../../migrations/core/029_maintain_messages_owner.sql"),
        needs: "superuser",
        after: &[TABLE, UPKEEP],
    },
    Step {
        name: "partitions of realtime.messages",
        // Of a table that is not partitioned there are none to make.
        probe: "select coalesce((select c.relkind = 'r' or exists ( \
                select from pg_inherits i join pg_class day on day.oid = i.inhrelid where i.inhparent = c.oid \
                and day.relname = to_char(now() at time zone 'UTC' + interval '1 day', '\"messages_\"YYYY_MM_DD')) \
                from pg_class c where c.relnamespace = to_regnamespace('realtime') and c.relname = 'messages' \
                and c.relkind in ('r', 'p')), false)",
        sql: include_str!("../../../migrations/core/030_messages_partitions.sql"),
        needs: "EXECUTE on that function",
        after: &[OWNER],
    },
    Step {
        name: "role walcast, if there is one, keeps the partitions",
        probe: "select not exists (select from pg_roles where rolname = 'walcast') or exists ( \
                select from pg_roles reader, pg_proc p where reader.rolname = 'walcast' \
                and p.pronamespace = to_regnamespace('walcast') and p.proname = 'maintain_messages' \
                and has_schema_privilege(reader.oid, p.pronamespace, 'usage') \
                and has_function_privilege(reader.oid, p.oid, 'execute'))",
        sql: include_str!("../../../migrations/core/031_role_walcast_maintains.sql"),
        needs: "ownership of that function and of schema walcast",
        after: &[UPKEEP],
    },
];

/// The same right for the role that is only offered.
pub(super) const OFFERED: Step = Step {
    name: "role walcast keeps the partitions of realtime.messages",
    probe: "select exists (select from pg_roles reader, pg_proc p where reader.rolname = 'walcast' \
            and p.pronamespace = to_regnamespace('walcast') and p.proname = 'maintain_messages' \
            and has_schema_privilege(reader.oid, p.pronamespace, 'usage') \
            and has_function_privilege(reader.oid, p.oid, 'execute'))",
    sql: include_str!("../../../migrations/core/031_role_walcast_maintains.sql"),
    needs: "ownership of that function and of schema walcast",
    after: &["role walcast", UPKEEP],
};
