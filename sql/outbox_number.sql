-- Behind outbox_open.sql; $1 a snapshot, or null. Gives numbers to the transactions that are seen committed (and that this
-- snapshot shows) and have none; the next number. The state is locked by a statement before, so this one sees what others have
-- numbered. Why this is the order: `pg::outbox`.
, fresh as materialized (
  select open.xid, written.*
  from open
  cross join lateral (
    select pg_catalog.max(o.id) as last, pg_catalog.count(*) as rows, pg_catalog.sum(o.bytes)::bigint as bytes,
      pg_catalog.max(o.written_at) as written_at
    from walcast.outbox o where o.xid = open.xid) written
  -- Looked up one by one: they are few, and those with numbers may be many.
  where (select t.number from walcast.outbox_transactions t where t.xid = open.xid) is null
    and ($1::text is null or pg_catalog.pg_visible_in_snapshot(open.xid, $1::text::pg_catalog.pg_snapshot))
),
numbered as (
  insert into walcast.outbox_transactions (number, xid, rows, bytes, written_at)
  select (select s.next_number from state s) - 1 + pg_catalog.row_number() over (order by f.last),
    f.xid, f.rows, f.bytes, f.written_at
  from fresh f
  returning number
)
update walcast.outbox_state s
set next_number = s.next_number + (select pg_catalog.count(*) from numbered),
    seen = case when $1::text is null then st.now else s.seen end,
    -- What was open when the outbox was emptied stays without a number.
    oldest_open = case when $1::text is null
      then greatest(s.oldest_open, pg_catalog.pg_snapshot_xmin(st.now)) else s.oldest_open end
from state st
returning s.next_number
