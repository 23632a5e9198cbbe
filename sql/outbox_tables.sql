-- $1 the publication clients subscribe to, $2 the one of realtime.messages. For each table they list: what is published of
-- it, where the trigger is to be that captures it (the table it is a partition of, if that is published), and whether every
-- part of it that has rows has one, always, for every operation; and how many it has. The numbers of columns are those of the listed table. What a version lacks is read
-- through to_jsonb.
with capture as materialized (
  select t.tgrelid, t.tgenabled,
    -- AFTER, for each row, on INSERT, DELETE and UPDATE of whatever, under no condition.
    t.tgenabled = 'A' and t.tgtype & 95 = 29 and t.tgqual is null and t.tgattr::text = '' as is_whole
  from pg_catalog.pg_trigger t
  join pg_catalog.pg_proc p on p.oid = t.tgfoid
  join pg_catalog.pg_namespace n on n.oid = p.pronamespace
  where n.nspname = 'walcast' and p.proname = 'capture' and p.pronargs = 0
),
listed as materialized (
  select pub.oid as publication, pub.pubname = $2 as is_messages, pub.pubinsert, pub.pubupdate, pub.pubdelete,
    c.oid, c.relkind, c.relispartition, pg_catalog.format('%I.%I', l.schemaname, l.tablename) as name,
    pg_catalog.to_jsonb(l) -> 'attnames' as attnames,
    pg_catalog.to_jsonb(l) ->> 'rowfilter' is not null as is_filtered,
    coalesce((
      select a.relid::pg_catalog.oid
      from pg_catalog.pg_partition_ancestors(c.oid) with ordinality as a(relid, place)
      where pub.puballtables or exists (
        select from pg_catalog.pg_publication_rel r where r.prpubid = pub.oid and r.prrelid = a.relid)
      order by a.place desc limit 1), c.oid) as target
  from pg_catalog.pg_publication_tables l
  join pg_catalog.pg_publication pub on pub.pubname = l.pubname
  join pg_catalog.pg_namespace n on n.nspname = l.schemaname
  join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = l.tablename
  -- The outbox in itself would never end.
  where l.pubname in ($1, $2) and n.nspname <> 'walcast'
)
select l.is_messages, l.oid::bigint, l.name, l.pubinsert, l.pubupdate, l.pubdelete, l.is_filtered,
  -- Whether it is all of them: columns that are gone by now were published, too.
  not exists (
    select from pg_catalog.pg_attribute a
    where a.attrelid = l.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
      and l.attnames is not null and not l.attnames ? a.attname::text) as has_all_columns,
  (select coalesce(pg_catalog.array_agg(a.attnum order by a.attnum), '{}')
   from pg_catalog.pg_attribute a
   where a.attrelid = l.oid and a.attnum > 0 and not a.attisdropped
     and (l.attnames is null or l.attnames ? a.attname::text)
     -- Up to 17 the stream never has generated columns, whatever the view says.
     and (a.attgenerated = '' or (l.attnames is not null
       and pg_catalog.current_setting('server_version_num')::int >= 180000))) as columns,
  l.target::bigint,
  (select pg_catalog.format('%I.%I', n.nspname, c.relname) from pg_catalog.pg_class c
   join pg_catalog.pg_namespace n on n.oid = c.relnamespace where c.oid = l.target) as target_name,
  not exists (
    select from (
      select l.target as oid where l.relkind <> 'p' and l.target = l.oid
      union all
      select t.relid from pg_catalog.pg_partition_tree(l.target) t where t.isleaf
      and (l.relkind = 'p' or l.target <> l.oid)) part
    join pg_catalog.pg_class p on p.oid = part.oid and p.relkind = 'r'
    where not exists (
      select from capture t where t.tgrelid = part.oid and t.is_whole))
  and (l.relkind <> 'p' or exists (select from capture t where t.tgrelid = l.target)) as is_captured,
  (select pg_catalog.count(*) from capture t where t.tgrelid = l.target and t.tgenabled <> 'D') as triggers
from listed l
order by l.name, l.is_messages
