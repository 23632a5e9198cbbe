-- $1 roles. The table whose policies say who may use private channels, as JSON: no row without it. Read with an empty
-- search path, so that names in expressions come out qualified. No role that nobody may claim is ever among the rights,
-- whatever was asked for.
select pg_catalog.jsonb_build_object(
  'oid', c.oid::bigint,
  'columns', (
    select coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
      'number', a.attnum,
      'name', a.attname,
      'type_oid', a.atttypid::bigint,
      'sql_type', pg_catalog.format_type(a.atttypid, a.atttypmod),
      'is_required', a.attnotnull,
      'is_generated', a.attgenerated <> '',
      'is_identity', a.attidentity <> '',
      'default', case when a.attgenerated = '' then coalesce(
        pg_catalog.pg_get_expr(ad.adbin, ad.adrelid), pg_catalog.pg_get_expr(t.typdefaultbin, 0)) end
      ) order by a.attnum), '[]')
    from pg_catalog.pg_attribute a
    join pg_catalog.pg_type t on t.oid = a.atttypid
    left join pg_catalog.pg_attrdef ad on ad.adrelid = a.attrelid and ad.adnum = a.attnum
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped),
  'policies', (
    select coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
      'name', pol.polname,
      'permissive', pol.polpermissive,
      'command', pol.polcmd::text,
      'using', pg_catalog.pg_get_expr(pol.polqual, pol.polrelid),
      'check', pg_catalog.pg_get_expr(pol.polwithcheck, pol.polrelid),
      'reads', (
        select coalesce(pg_catalog.jsonb_agg(distinct dep.refobjsubid), '[]') from pg_catalog.pg_depend dep
        where dep.classid = 'pg_catalog.pg_policy'::pg_catalog.regclass and dep.objid = pol.oid
          and dep.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass and dep.refobjid = c.oid and dep.refobjsubid <> 0)
      -- In bytes, as Postgres orders them.
      ) order by pol.polname collate "C"), '[]')
    from pg_catalog.pg_policy pol where pol.polrelid = c.oid and pol.polcmd in ('r', 'a', '*')),
  'rights', (
    select coalesce(pg_catalog.jsonb_object_agg(r.rolname, pg_catalog.jsonb_build_object(
      'usage', pg_catalog.has_schema_privilege(r.oid, n.oid, 'USAGE'),
      'select', (
        select coalesce(pg_catalog.jsonb_agg(a.attnum order by a.attnum), '[]') from pg_catalog.pg_attribute a
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
          and pg_catalog.has_column_privilege(r.oid, c.oid, a.attnum, 'SELECT')),
      'insert', (
        select coalesce(pg_catalog.jsonb_agg(a.attnum order by a.attnum), '[]') from pg_catalog.pg_attribute a
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
          and pg_catalog.has_column_privilege(r.oid, c.oid, a.attnum, 'INSERT')),
      'is_unfiltered', not c.relrowsecurity or r.rolbypassrls
        or (not c.relforcerowsecurity and pg_catalog.pg_has_role(r.oid, c.relowner, 'USAGE')),
      'policies', (
        select coalesce(pg_catalog.jsonb_agg(pol.polname), '[]') from pg_catalog.pg_policy pol
        where pol.polrelid = c.oid
          and exists (select from pg_catalog.unnest(pol.polroles) named
                      -- 0 is PUBLIC; a named role counts for those who inherit it.
                      where case when named = 0 then true else pg_catalog.pg_has_role(r.oid, named, 'USAGE') end))
      )), '{}')
    from pg_catalog.pg_roles r
    where r.rolname = any ($1::text[]) and not r.rolsuper and r.rolname not in (current_user, session_user))
) as channels
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'realtime' and c.relname = 'messages' and c.relkind in ('r', 'p')
