-- The oldest transaction that has not ended, an id above those of all that have, and where the log ends: whatever has a lower
-- id than the oldest has ended before there. The snapshot is taken first.
select (pg_catalog.pg_snapshot_xmin(s.snapshot))::text, (pg_catalog.pg_snapshot_xmax(s.snapshot))::text,
  pg_catalog.pg_current_wal_insert_lsn()::text
from (select pg_catalog.pg_current_snapshot() as snapshot offset 0) s
