-- $1 the slot. Whether nothing speaks against logical replication, as far as can be seen without trying, and the slot.
select pg_catalog.current_setting('wal_level') = 'logical' and not pg_catalog.pg_is_in_recovery()
  and (select r.rolreplication or r.rolsuper from pg_catalog.pg_roles r where r.rolname = current_user)
  and (select pg_catalog.count(*) from pg_catalog.pg_replication_slots s where s.slot_name <> $1)
      < pg_catalog.current_setting('max_replication_slots')::int as is_possible,
  own.slot_name is not null as is_there, own.active_pid as reader, own.confirmed_flush_lsn::text as confirmed,
  own.wal_status = 'lost' as is_lost
from (select) one
left join pg_catalog.pg_replication_slots own on own.slot_name = $1
