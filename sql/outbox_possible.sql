-- Whether nothing speaks against logical replication, as far as can be seen without trying.
select pg_catalog.current_setting('wal_level') = 'logical' and not pg_catalog.pg_is_in_recovery()
  and (select r.rolreplication or r.rolsuper from pg_catalog.pg_roles r where r.rolname = current_user)
  and (select pg_catalog.count(*) from pg_catalog.pg_replication_slots s where s.slot_name <> $1)
      < pg_catalog.current_setting('max_replication_slots')::int
