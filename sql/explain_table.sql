-- $1 publication, $2 schema, $3 table: what the publication says of the table, as one JSON object; no row when there is
-- no such table. Read with an empty search path. What a version lacks is read through to_jsonb, where it is absent.
select pg_catalog.jsonb_build_object(
  'is_table', c.relkind in ('r', 'p'),
  'has_publication', exists (select from pg_catalog.pg_publication p where p.pubname = $1::text),
  'is_published', exists (
    select from pg_catalog.pg_publication_tables t
    where t.pubname = $1::text and t.schemaname = n.nspname and t.tablename = c.relname),
  'row_filter', (
    select to_jsonb(t) ->> 'rowfilter' from pg_catalog.pg_publication_tables t
    where t.pubname = $1::text and t.schemaname = n.nspname and t.tablename = c.relname limit 1),
  'operations', (
    select pg_catalog.to_jsonb(pg_catalog.array_remove(array[
      case when p.pubinsert then 'INSERT' end, case when p.pubupdate then 'UPDATE' end,
      case when p.pubdelete then 'DELETE' end], null))
    from pg_catalog.pg_publication p where p.pubname = $1::text),
  'forces_row_security', c.relforcerowsecurity
) as explained
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where n.nspname = $2::text and c.relname = $3::text and c.relkind in ('r', 'p', 'v', 'm', 'f')
