-- The id of the first transaction that has not begun, that of the oldest one that has not ended, and where the log ends;
-- in this order, so that what ended before the second was read is before the third.
select (pg_catalog.pg_snapshot_xmax(s.snapshot))::text::int8, (pg_catalog.pg_snapshot_xmin(s.snapshot))::text::int8,
       pg_catalog.pg_current_wal_insert_lsn()::text
from (select pg_catalog.pg_current_snapshot() as snapshot offset 0) s
