-- $1 names, $2 roles. One row a function outside of pg_catalog with one of these names, as JSON; read with an empty
-- search path.
select pg_catalog.jsonb_build_object(
  'oid', p.oid::bigint,
  'schema', n.nspname,
  'name', p.proname,
  'arguments', (
    select coalesce(pg_catalog.jsonb_agg(argument.type::bigint order by argument.position), '[]')
    from pg_catalog.unnest(p.proargtypes::oid[]) with ordinality as argument (type, position)),
  'argument_names', coalesce(p.proargnames, '{}'),
  'defaults', p.pronargdefaults,
  'returns', p.prorettype::bigint,
  'returns_set', p.proretset,
  'is_plain', p.prokind = 'f' and p.provariadic = 0 and p.proargmodes is null,
  'language', l.lanname,
  'source', p.prosrc,
  'sql_body', pg_catalog.pg_get_function_sqlbody(p.oid),
  'security_definer', p.prosecdef,
  'owner', pg_catalog.pg_get_userbyid(p.proowner),
  'is_strict', p.proisstrict,
  'is_immutable', p.provolatile = 'i',
  'settings', coalesce(p.proconfig, '{}'),
  'execute', (
    select coalesce(pg_catalog.jsonb_agg(r.rolname), '[]') from pg_catalog.pg_roles r
    where r.rolname = any ($2::text[]) and pg_catalog.has_function_privilege(r.oid, p.oid, 'EXECUTE'))
) as function
from pg_catalog.pg_proc p
join pg_catalog.pg_language l on l.oid = p.prolang
join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where p.proname = any ($1::text[]) and n.nspname not in ('pg_catalog', 'information_schema')
  and n.nspname not like 'pg\_temp\_%'
