-- realtime.messages and its partitions, by their oids.
select t.oid::bigint
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
cross join lateral (select c.oid union select relid from pg_catalog.pg_partition_tree(c.oid)) as t(oid)
where n.nspname = 'realtime' and c.relname = 'messages' and c.relkind in ('r', 'p')
