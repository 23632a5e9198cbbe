-- $1 the publication of realtime.messages, $2 the one clients subscribe to, $3 the slot's catalog_xmin or null; all as
-- literals, for a walsender takes no parameters. The first one's oid, whether it is older than all the slot may have to
-- decode, and why it cannot be streamed together with the second, if it cannot. What a version lacks is read through
-- to_jsonb.
with root as materialized (
  select c.oid from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where n.nspname = 'realtime' and c.relname = 'messages' and c.relkind in ('r', 'p')
),
tree as materialized (
  select oid from root union select t.relid from root, pg_catalog.pg_partition_tree(root.oid) t
),
listed as materialized (
  select l.pubname, c.oid, pg_catalog.format('%I.%I', l.schemaname, l.tablename) as name,
    c.oid in (select oid from root) as is_root,
    c.oid in (select oid from tree) as is_message,
    pg_catalog.to_jsonb(l) ->> 'rowfilter' is not null
    or pg_catalog.to_jsonb(l) -> 'attnames' is distinct from coalesce(
      (select pg_catalog.jsonb_agg(a.attname order by a.attnum) from pg_catalog.pg_attribute a
       where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and pg_catalog.to_jsonb(l) ? 'attnames'),
      'null') and pg_catalog.to_jsonb(l) ? 'attnames' as is_restricted
  from pg_catalog.pg_publication_tables l
  join pg_catalog.pg_namespace n on n.nspname = l.schemaname
  join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = l.tablename
  where l.pubname in ($1, $2)
)
select p.oid,
  coalesce(pg_catalog.age(p.xmin) > pg_catalog.age($3::text::pg_catalog.xid) or pg_catalog.age(p.xmin) < 0, false),
  case
    when not p.pubinsert or not exists (select from listed l where l.pubname = p.pubname and l.is_message)
      then 'it does not publish what is inserted into realtime.messages'
    when exists (select from listed l where l.pubname = p.pubname and not l.is_message)
      then 'it has other tables than realtime.messages'
    when exists (select from listed l where l.pubname <> p.pubname and l.is_message) and (
        exists (select from listed l where l.is_message and l.is_restricted)
        or (p.pubupdate and not main.pubupdate) or (p.pubdelete and not main.pubdelete) or not main.pubinsert
        or (exists (select from listed l where l.pubname = p.pubname and l.is_message and l.is_root)
            and exists (select from listed l where l.pubname <> p.pubname and l.is_message and not l.is_root)))
      then pg_catalog.format('publication %I has realtime.messages in another way: with a filter, a list of columns, '
        'operations left out or by its partitions', main.pubname)
  end
from pg_catalog.pg_publication p
left join pg_catalog.pg_publication main on main.pubname = $2
where p.pubname = $1
