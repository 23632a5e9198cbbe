-- $1 transactions, $2 an id, $3 how many rows, $4 bytes. Their rows behind the id, until one begins behind so many bytes.
select r.xid::text, r.id, r.shape, r.operation, r.old_row, r.new_row
from (
  select o.*, pg_catalog.sum(o.bytes) over (order by o.xid, o.id) - o.bytes as before
  from (
    select * from walcast.outbox
    where xid = any ($1::text[]::pg_catalog.xid8[]) and id > $2
    order by xid, id limit $3
  ) o
) r
where r.before < $4::bigint
order by r.xid, r.id
