-- $1 a number, $2 how many. The transactions from there on; times in microseconds since 2000-01-01 UTC.
select t.number, t.xid::text, t.rows, t.bytes,
  (extract(epoch from t.written_at) * 1000000)::bigint - 946684800000000
from walcast.outbox_transactions t
where t.number >= $1
order by t.number limit $2
