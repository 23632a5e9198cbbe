-- $1 transactions. Those of them that have not ended.
select distinct transactionid::text
from pg_catalog.pg_locks
where locktype = 'transactionid' and mode = 'ExclusiveLock' and granted and transactionid::text = any ($1::text[])
