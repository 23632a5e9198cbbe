-- Behind outbox_open.sql. Whether a transaction is seen committed that has no number and is to get one, and the next number.
select s.is_whole and exists (
    -- Looked up one by one: they are few, and those with numbers may be many.
    select from open where (select t.number from walcast.outbox_transactions t where t.xid = open.xid) is null),
  s.next_number
from state s
