-- Whether there is an outbox, whether our login may do with it what reading takes, whose it is, and what else tells one
-- history of numbers from another: the cluster, its timeline, the database, the table.
select c.oid::bigint,
  pg_catalog.has_schema_privilege(n.oid, 'USAGE')
    and (select pg_catalog.count(*) = 4 and pg_catalog.bool_and(
          pg_catalog.has_table_privilege(t.oid, 'SELECT') and case t.relname
            when 'outbox_state' then pg_catalog.has_table_privilege(t.oid, 'UPDATE')
            when 'outbox_shapes' then true
            when 'outbox_transactions' then
              pg_catalog.has_table_privilege(t.oid, 'INSERT') and pg_catalog.has_table_privilege(t.oid, 'DELETE')
            else pg_catalog.has_table_privilege(t.oid, 'DELETE') end)
         from pg_catalog.pg_class t
         where t.relnamespace = n.oid
           and t.relname in ('outbox', 'outbox_shapes', 'outbox_transactions', 'outbox_state')) as may_read,
  pg_catalog.pg_get_userbyid(c.relowner)::text as owner,
  (select d.oid::bigint from pg_catalog.pg_database d where d.datname = pg_catalog.current_database()) as database,
  (select s.system_identifier from pg_catalog.pg_control_system() s) as system,
  -- The first eight digits of a log file's name are the timeline.
  case when pg_catalog.pg_is_in_recovery() then null else
    pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8) end as timeline,
  exists (
    select from pg_catalog.pg_class t
    where t.relnamespace = n.oid and t.relname = 'outbox_lead' and t.relkind = 'v'
      and pg_catalog.has_table_privilege(t.oid, 'UPDATE')) as may_lead,
  exists (
    select from pg_catalog.pg_proc p
    where p.pronamespace = n.oid and p.proname = 'capture' and p.pronargs = 0
      and pg_catalog.obj_description(p.oid, 'pg_proc') = 'walcast: fills the outbox, 2')
  and exists (
    select from pg_catalog.pg_class t
    where t.relnamespace = n.oid and t.relname = 'outbox_shapes'
      and pg_catalog.has_table_privilege(t.oid, 'UPDATE') and pg_catalog.has_table_privilege(t.oid, 'DELETE'))
  and exists (
    select from pg_catalog.pg_class t
    where t.relnamespace = n.oid and t.relname = 'outbox_retired' and t.relkind = 'S'
      and pg_catalog.has_sequence_privilege(t.oid, 'SELECT') and pg_catalog.has_sequence_privilege(t.oid, 'UPDATE')
    ) as is_current,
  pg_catalog.pg_is_in_recovery() as in_recovery
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'walcast' and c.relname = 'outbox' and c.relkind = 'r'
