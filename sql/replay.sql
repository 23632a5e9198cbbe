-- $1 topic, $2 milliseconds since the epoch, $3 how many. The newest of them, newest first. All of a transaction have
-- one time: among them the place in the table tells the order. Sessions fill inserted_at with their own time, which is
-- taken to be this session's.
select m.id, m.event, m.payload::text, m.binary_payload
from realtime.messages m
where m.topic = $1 and m.extension = 'broadcast' and m.private
  and m.inserted_at > pg_catalog.to_timestamp($2::int8 / 1000.0)::timestamp
order by m.inserted_at desc, m.ctid desc
limit $3::int8
