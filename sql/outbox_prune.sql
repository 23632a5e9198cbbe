-- $1 the number up to which all is handed on, $2 milliseconds and $3 bytes that are kept of it, $4 how many rows go at once.
-- Deletes the oldest transactions beyond that; how many. And the oldest one in the outbox, if it gets no number any more: it
-- was open when the outbox was emptied.
with kept as (
  select pg_catalog.min(t.number) as first
  from (
    select t.number, t.written_at, pg_catalog.sum(t.bytes + 100 * t.rows) over (order by t.number desc) as since
    from walcast.outbox_transactions t
  ) t
  where t.number >= $1::bigint
    or (t.since <= $3::bigint and t.written_at >= pg_catalog.clock_timestamp() - $2::bigint * interval '1 millisecond')
),
old as materialized (
  select o.number, o.xid
  from (
    select t.number, t.xid, pg_catalog.sum(t.rows) over (order by t.number) - t.rows as before
    from walcast.outbox_transactions t
    where t.number < least($1::bigint, coalesce((select k.first from kept k), $1::bigint))
  ) o
  where o.before < $4::bigint
),
forgotten as (
  delete from walcast.outbox_transactions t using old where t.number = old.number
),
gone as (
  delete from walcast.outbox o using old where o.xid = old.xid
),
forsaken as materialized (
  select o.xid
  from (select f.xid from walcast.outbox f order by f.xid limit 1) o
  where o.xid < (select s.oldest_open from walcast.outbox_state s)
    and not exists (select from walcast.outbox_transactions t where t.xid = o.xid)
),
gone_too as (
  delete from walcast.outbox o using forsaken where o.xid = forsaken.xid
)
select pg_catalog.count(*) from old
