-- $1 and $2 the advisory lock. Whether somebody else has it who may change what only a reader of the outbox may.
select exists (
  select from pg_catalog.pg_locks l
  join pg_catalog.pg_stat_activity a on a.pid = l.pid
  where l.locktype = 'advisory' and l.granted and l.objsubid = 2 and l.pid <> pg_catalog.pg_backend_pid()
    and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
    and l.classid::bigint = $1 and l.objid::bigint = $2
    and pg_catalog.has_table_privilege(a.usesysid, 'walcast.outbox_state', 'UPDATE'))
