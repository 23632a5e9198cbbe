-- $1 topic, $2 milliseconds since the epoch, $3 how many, $4 how many bytes of payloads. The newest of them, newest
-- first, as far as both go. All of a transaction have one time: among them the place in the table tells the order.
-- Sessions fill inserted_at with their own time, which is taken to be this session's.
select id, event, payload, bytes
from (
  select newest.*, pg_catalog.sum(coalesce(pg_catalog.octet_length(payload), pg_catalog.octet_length(bytes), 0))
    over (order by inserted_at desc, place desc) as total
  from (
    select m.id, m.event, m.payload::text as payload, m.binary_payload as bytes, m.inserted_at, m.ctid as place
    from realtime.messages m
    where m.topic = $1 and m.extension = 'broadcast' and m.private
      and m.inserted_at > pg_catalog.to_timestamp($2::int8 / 1000.0)::timestamp
    order by m.inserted_at desc, m.ctid desc
    limit $3::int8
  ) as newest
) as counted
where total <= $4::int8
order by inserted_at desc, place desc
