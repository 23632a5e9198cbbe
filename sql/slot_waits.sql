-- $1 a process that makes a slot: the transactions it waits for. A prepared one has no process, and is found by its number.
-- Of other roles' sessions a login that is not privileged does not see since when they are open.
select w.pid,
       coalesce(p.gid, a.usename::text),
       coalesce(p.prepared, a.xact_start)::text
from pg_catalog.unnest(pg_catalog.pg_blocking_pids($1)) w(pid)
left join pg_catalog.pg_stat_activity a on a.pid = w.pid
left join pg_catalog.pg_prepared_xacts p on w.pid = 0 and p.transaction in (
  select l.transactionid from pg_catalog.pg_locks l
  where l.pid = $1 and not l.granted and l.locktype = 'transactionid')
order by w.pid
limit 1
