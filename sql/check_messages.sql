-- Broadcasts from the database, as one JSON object; no row when there is no table realtime.messages.
select pg_catalog.jsonb_build_object(
  'is_partitioned', c.relkind = 'p',
  'has_tomorrow', exists (
    select from pg_catalog.pg_inherits i join pg_catalog.pg_class day on day.oid = i.inhrelid
    where i.inhparent = c.oid
      and day.relname = pg_catalog.to_char(pg_catalog.now() at time zone 'UTC' + interval '1 day', '"messages_"YYYY_MM_DD')),
  'is_published', exists (
    select from pg_catalog.pg_publication where pubname = 'supabase_realtime_messages_publication'),
  'has_upkeep', upkeep.oid is not null,
  'may_keep', coalesce(
    pg_catalog.has_schema_privilege(upkeep.pronamespace, 'usage')
    and pg_catalog.has_function_privilege(upkeep.oid, 'execute'), false)
) as facts
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
left join pg_catalog.pg_proc upkeep
  on upkeep.pronamespace = pg_catalog.to_regnamespace('walcast') and upkeep.proname = 'maintain_messages'
where n.nspname = 'realtime' and c.relname = 'messages' and c.relkind in ('r', 'p')
