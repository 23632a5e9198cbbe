-- $1 publication, $2 slot. What `walcast check` and the look before `serve` want to know of the server, as one JSON
-- object. What a version lacks is read through to_jsonb, where it is simply absent.
select pg_catalog.jsonb_build_object(
  'version', pg_catalog.current_setting('server_version'),
  'version_number', pg_catalog.current_setting('server_version_num')::int,
  'wal_level', pg_catalog.current_setting('wal_level'),
  'in_recovery', pg_catalog.pg_is_in_recovery(),
  'max_replication_slots', pg_catalog.current_setting('max_replication_slots')::int,
  'max_wal_senders', pg_catalog.current_setting('max_wal_senders')::int,
  'max_slot_wal_keep_size', pg_catalog.current_setting('max_slot_wal_keep_size'),
  'used_slots', (select pg_catalog.count(*) from pg_catalog.pg_replication_slots),
  'used_senders', (select pg_catalog.count(*) from pg_catalog.pg_stat_replication),
  'login', pg_catalog.quote_ident(me.rolname),
  'login_name', me.rolname,
  'may_replicate', me.rolreplication or me.rolsuper,
  'is_superuser', me.rolsuper,
  'publication_name', pg_catalog.quote_ident($1::text),
  'publication', (
    select pg_catalog.jsonb_build_object(
      'insert', p.pubinsert, 'update', p.pubupdate, 'delete', p.pubdelete)
    from pg_catalog.pg_publication p where p.pubname = $1::text),
  'slot_literal', pg_catalog.quote_literal($2::text),
  'slot', (
    select pg_catalog.jsonb_build_object(
      'plugin', s.plugin,
      'database', s.database,
      'is_here', coalesce(s.database = pg_catalog.current_database(), false),
      'active', s.active)
    from pg_catalog.pg_replication_slots s where s.slot_name = $2::text),
  'existing_roles', (
    select coalesce(pg_catalog.jsonb_agg(r.rolname), '[]') from pg_catalog.pg_roles r
    where r.rolname in ('anon', 'authenticated', 'service_role')),
  'has_auth_schema', exists (select from pg_catalog.pg_namespace where nspname = 'auth'),
  'auth_functions', (
    select coalesce(pg_catalog.jsonb_agg(distinct p.proname), '[]') from pg_catalog.pg_proc p
    join pg_catalog.pg_namespace n on n.oid = p.pronamespace
    where n.nspname = 'auth' and p.proname in ('uid', 'jwt', 'role', 'email') and p.pronargs = 0),
  -- A policy's text is analysed under our login, else under the role of a token: one of them must be let into the
  -- schemas that the text names. These are closed to our login, and to these roles too.
  'closed_schemas', (
    select coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
      'name', closed.nspname, 'quoted', pg_catalog.quote_ident(closed.nspname), 'roles', closed.roles)
      order by closed.nspname), '[]')
    from (
      select n.nspname, pg_catalog.jsonb_agg(r.rolname order by r.rolname) as roles
      from pg_catalog.pg_namespace n
      cross join pg_catalog.pg_roles r
      where not pg_catalog.has_schema_privilege(n.oid, 'USAGE')
        and not pg_catalog.has_schema_privilege(r.oid, n.oid, 'USAGE')
        and r.rolname in ('anon', 'authenticated')
        and n.nspname not like 'pg\_temp\_%' and n.nspname not like 'pg\_toast%'
      group by n.nspname) closed)
) as facts
from pg_catalog.pg_roles me
where me.rolname = current_user
