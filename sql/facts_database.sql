-- $1 names. What a policy's meaning depends on beside tables and functions, as one JSON object.
select pg_catalog.jsonb_build_object(
  'login', current_user,
  'time_zone', pg_catalog.current_setting('TimeZone'),
  'default_collation', (
    select case when d.datcollate in ('C', 'POSIX') and d.datctype in ('C', 'POSIX')
        and coalesce(to_jsonb(d) ->> 'datlocprovider', 'c') = 'c'
      then 'bytewise' else 'deterministic' end
    from pg_catalog.pg_database d where d.datname = pg_catalog.current_database()),
  'restricted_builtins', (
    select coalesce(pg_catalog.jsonb_agg(distinct p.proname), '[]') from pg_catalog.pg_proc p
    where p.pronamespace = 'pg_catalog'::pg_catalog.regnamespace and p.proacl is not null and not exists (
      select from pg_catalog.aclexplode(p.proacl) acl where acl.grantee = 0 and acl.privilege_type = 'EXECUTE')),
  'builtin_functions', (
    select coalesce(pg_catalog.jsonb_agg(distinct p.proname), '[]') from pg_catalog.pg_proc p
    where p.pronamespace = 'pg_catalog'::pg_catalog.regnamespace and p.proname = any ($1::text[])),
  -- Without a type of their own they can be meant where one of pg_catalog is not exactly what is asked for.
  'custom_operators', (
    select coalesce(pg_catalog.jsonb_agg(distinct o.oprname), '[]') from pg_catalog.pg_operator o
    where o.oprnamespace <> 'pg_catalog'::pg_catalog.regnamespace and not exists (
      select from pg_catalog.pg_type t
      where t.oid in (o.oprleft, o.oprright) and t.typnamespace <> 'pg_catalog'::pg_catalog.regnamespace)),
  'custom_casts', (
    select coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(k.castsource::bigint, k.casttarget::bigint)), '[]')
    from pg_catalog.pg_cast k where k.oid >= 16384),
  -- For sessions of our login: what ALTER ROLE and ALTER DATABASE gave it.
  'settings', (
    select coalesce(pg_catalog.jsonb_agg(distinct pg_catalog.split_part(setting, '=', 1)), '[]')
    from pg_catalog.pg_db_role_setting s, pg_catalog.unnest(s.setconfig) setting
    where s.setdatabase in (0, (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database()))
      and s.setrole in (0, (select r.oid from pg_catalog.pg_roles r where r.rolname = session_user)))
) as facts
