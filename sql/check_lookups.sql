-- $1 publication clients subscribe to, $2 publication of lookup tables. The second one and what is wrong with its
-- tables, as one JSON object; no row when it does not exist. What a version lacks is read through to_jsonb.
select pg_catalog.jsonb_build_object(
  'has_all_operations', own.pubinsert and own.pubupdate and own.pubdelete and own.pubtruncate,
  'tables', (
    select coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
      'name', pg_catalog.format('%s.%s', n.nspname, c.relname),
      'quoted', pg_catalog.format('%I.%I', n.nspname, c.relname),
      'is_listed', exists (
        select from pg_catalog.pg_publication_rel pr where pr.prpubid = own.oid and pr.prrelid = c.oid),
      -- Postgres joins what two publications say of a table: rows and operations of either.
      'is_restricted', exists (
        select from pg_catalog.pg_publication_tables other
        join pg_catalog.pg_publication main on main.pubname = other.pubname
        where other.pubname = $1::text and other.schemaname = n.nspname and other.tablename = c.relname
          and (to_jsonb(other) ->> 'rowfilter' is not null
            or to_jsonb(other) -> 'attnames' is distinct from to_jsonb(p) -> 'attnames'
            or not (main.pubinsert and main.pubupdate and main.pubdelete))),
      'has_identity', c.relkind = 'p' or c.relreplident = 'f' or exists (
        select from pg_catalog.pg_index i
        where i.indrelid = c.oid and i.indisvalid and i.indimmediate
          and case c.relreplident when 'd' then i.indisprimary when 'i' then i.indisreplident else false end)
      ) order by n.nspname, c.relname), '[]')
    from pg_catalog.pg_publication_tables p
    join pg_catalog.pg_namespace n on n.nspname = p.schemaname
    join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = p.tablename
    where p.pubname = own.pubname)
) as facts
from pg_catalog.pg_publication own
where own.pubname = $2::text
