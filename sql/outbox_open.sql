-- What the search for transactions without a number goes through: those that have ended now and had not when it was looked
-- last. Everything else is left alone: rows of who is still writing are many and not seen, and what had ended before has its
-- number. `seen` counts only if nobody has moved on without it.
with recursive state as materialized (
  select s.is_whole, s.next_number, s.oldest_open, s.now, s.seen,
    greatest(s.oldest_open, pg_catalog.pg_snapshot_xmax(s.seen)) as first
  from (
    select r.is_whole, r.next_number, r.oldest_open, pg_catalog.pg_current_snapshot() as now,
      case when r.seen is not null and r.oldest_open >= pg_catalog.pg_snapshot_xmin(r.seen) then r.seen end as seen
    from (
      -- Limited, so that it is known to be one row: what seems dear is compiled first, which takes longer than to do it.
      select t.is_whole, t.next_number, t.oldest_open,
        (pg_catalog.to_jsonb(t) ->> 'seen')::pg_catalog.pg_snapshot as seen
      from walcast.outbox_state t limit 1) r
  ) s
),
-- From behind one id to before another.
span(behind, before) as materialized (
  select e.behind, coalesce(pg_catalog.lead(e.behind) over (order by e.behind), pg_catalog.pg_snapshot_xmax(e.now))
  from (
    select (greatest(s.first::text::bigint, 1) - 1)::text::pg_catalog.xid8 as behind, s.now from state s
    union all
    select x.xid, s.now from state s cross join lateral pg_catalog.pg_snapshot_xip(s.now) x(xid) where x.xid >= s.first
  ) e
  union all
  select (x.xid::text::bigint - 1)::text::pg_catalog.xid8, (x.xid::text::bigint + 1)::text::pg_catalog.xid8
  from state s cross join lateral pg_catalog.pg_snapshot_xip(s.seen) x(xid)
  where x.xid >= s.oldest_open and pg_catalog.pg_visible_in_snapshot(x.xid, s.now)
),
-- From one transaction to the next, however many rows they have.
open(xid, before) as (
  select o.xid, s.before
  from span s cross join lateral (
    select o.xid from walcast.outbox o where o.xid > s.behind and o.xid < s.before order by o.xid limit 1) o
  union all
  select o.xid, open.before
  from open cross join lateral (
    select o.xid from walcast.outbox o where o.xid > open.xid and o.xid < open.before order by o.xid limit 1) o
)
