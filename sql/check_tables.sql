-- $1 publication. What `walcast check` wants to know of each published table, as one JSON object a row. Read with an
-- empty search path, so that names in policies come out qualified.
with published as (
  select c.oid, c.relkind, c.relreplident, c.relrowsecurity, n.oid as schema_oid, n.nspname, c.relname,
    to_jsonb(p) -> 'attnames' as columns,
    exists (
      select from pg_catalog.pg_publication_rel pr join pg_catalog.pg_publication pub on pub.oid = pr.prpubid
      where pub.pubname = p.pubname and pr.prrelid = c.oid and to_jsonb(pr) ->> 'prattrs' is not null) as has_column_list
  from pg_catalog.pg_publication_tables p
  join pg_catalog.pg_namespace n on n.nspname = p.schemaname
  join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = p.tablename
  where p.pubname = $1::text
),
-- A write goes to a partition, so it is the partitions' identities that count; a table without any is its own.
stored as (
  select published.oid as root, leaf.oid, leaf.relname, leaf_schema.nspname, leaf.relreplident,
    (select i.indkey::int2[] from pg_catalog.pg_index i
     where i.indrelid = leaf.oid and i.indisvalid
       and case leaf.relreplident when 'd' then i.indisprimary and i.indimmediate when 'i' then i.indisreplident end
     limit 1) as key
  from published
  cross join lateral (
    select published.oid as leaf_oid where published.relkind <> 'p'
    union all
    select t.relid::oid from pg_catalog.pg_partition_tree(published.oid) t where published.relkind = 'p' and t.isleaf
  ) leaves
  join pg_catalog.pg_class leaf on leaf.oid = leaves.leaf_oid and leaf.relkind = 'r'
  join pg_catalog.pg_namespace leaf_schema on leaf_schema.oid = leaf.relnamespace
)
select pg_catalog.jsonb_build_object(
  'name', pg_catalog.format('%s.%s', c.nspname, c.relname),
  'quoted', pg_catalog.format('%I.%I', c.nspname, c.relname),
  'quoted_schema', pg_catalog.quote_ident(c.nspname),
  'has_primary_key', exists (select from pg_catalog.pg_index i where i.indrelid = c.oid and i.indisprimary),
  'identity', c.relreplident::text,
  'unidentified', (
    select coalesce(pg_catalog.jsonb_agg(pg_catalog.format('%I.%I', s.nspname, s.relname) order by s.nspname, s.relname), '[]')
    from stored s where s.root = c.oid and s.relreplident <> 'f' and s.key is null),
  'is_key_listed', not c.has_column_list or not exists (
    select from stored s
    join pg_catalog.pg_attribute a on a.attrelid = s.oid and a.attnum > 0 and not a.attisdropped
    where s.root = c.oid and (s.relreplident = 'f' or a.attnum = any (s.key)) and not c.columns ? a.attname::text),
  'row_security', c.relrowsecurity,
  'policies', (
    select coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
      'for_select', pol.polcmd in ('r', '*'),
      'using', pg_catalog.pg_get_expr(pol.polqual, pol.polrelid),
      'roles', (
        select coalesce(pg_catalog.jsonb_agg(r.rolname), '[]') from pg_catalog.pg_roles r
        where r.rolname in ('anon', 'authenticated')
          and exists (select from pg_catalog.unnest(pol.polroles) named
                      -- 0 is PUBLIC; a named role counts for those who inherit it.
                      where case when named = 0 then true else pg_catalog.pg_has_role(r.oid, named, 'USAGE') end)),
      'reads_beyond_key', coalesce(pg_catalog.pg_get_expr(pol.polqual, pol.polrelid) like '%.*%', false) or exists (
        select from pg_catalog.pg_depend dep
        where dep.classid = 'pg_catalog.pg_policy'::pg_catalog.regclass and dep.objid = pol.oid
          and dep.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass and dep.refobjid = c.oid
          and dep.refobjsubid <> 0
          and not exists (
            select from stored s
            join pg_catalog.pg_attribute root_column on root_column.attrelid = c.oid and root_column.attnum = dep.refobjsubid
            join pg_catalog.pg_attribute a on a.attrelid = s.oid and a.attname = root_column.attname
            where s.root = c.oid and a.attnum = any (s.key)))
      ) order by pol.polname), '[]')
    from pg_catalog.pg_policy pol where pol.polrelid = c.oid),
  'readers', (
    select coalesce(pg_catalog.jsonb_agg(r.rolname order by r.rolname), '[]') from pg_catalog.pg_roles r
    where r.rolname in ('anon', 'authenticated')
      and pg_catalog.has_schema_privilege(r.oid, c.schema_oid, 'USAGE')
      and pg_catalog.has_any_column_privilege(r.oid, c.oid, 'SELECT')),
  'may_select', pg_catalog.has_schema_privilege(c.schema_oid, 'USAGE') and pg_catalog.has_table_privilege(c.oid, 'SELECT'),
  -- Up to 17 the stream never has generated columns, whatever the view says.
  'omitted', (
    select coalesce(pg_catalog.jsonb_agg(a.attname order by a.attnum), '[]') from pg_catalog.pg_attribute a
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated <> '' and not c.has_column_list
      and (pg_catalog.current_setting('server_version_num')::int < 180000 or not c.columns ? a.attname::text)),
  'has_stored_omitted', exists (
    select from pg_catalog.pg_attribute a
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = 's')
) as facts
from published c
order by c.nspname, c.relname
