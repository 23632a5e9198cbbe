-- $1 tables. The transactions that may have written to them and have not ended, as (table, transaction). A lock on the
-- table is taken before the first write and given back after the end of the transaction is visible to new snapshots.
-- Read in one go, so that both locks of a transaction are seen.
with locks as materialized (select * from pg_catalog.pg_locks where granted)
select distinct l.relation, x.transactionid::text
from locks l
join locks x on x.virtualtransaction = l.virtualtransaction and x.locktype = 'transactionid' and x.mode = 'ExclusiveLock'
where l.locktype = 'relation'
  and l.database = (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database())
  and l.relation = any ($1::oid[])
  and l.mode in ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
