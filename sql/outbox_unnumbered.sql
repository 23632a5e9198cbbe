-- Whether a transaction is seen committed that has no number and is to get one, and the next number.
with recursive open(xid) as (
  (select o.xid from walcast.outbox o
   where o.xid >= (select s.oldest_open from walcast.outbox_state s) order by o.xid limit 1)
  union all
  select (select o.xid from walcast.outbox o where o.xid > open.xid order by o.xid limit 1)
  from open where open.xid is not null
)
select (select s.is_whole from walcast.outbox_state s) and exists (
    select from open where open.xid is not null
      and not exists (select from walcast.outbox_transactions t where t.xid = open.xid)),
  (select s.next_number from walcast.outbox_state s)
