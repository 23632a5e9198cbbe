-- $1 slot, $2 whether every pgoutput slot of this database is wanted besides. What there is to say of replication slots,
-- as one JSON object. What a version lacks is read through to_jsonb, where it is simply absent.
select pg_catalog.jsonb_build_object(
  'version_number', pg_catalog.current_setting('server_version_num')::int,
  'database', pg_catalog.current_database(),
  'login', pg_catalog.quote_ident(current_user),
  'in_recovery', pg_catalog.pg_is_in_recovery(),
  'end_lsn', log.end_lsn::text,
  'segment_bytes', pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size')),
  'max_slot_wal_keep_bytes',
    nullif(pg_catalog.pg_size_bytes(pg_catalog.current_setting('max_slot_wal_keep_size')), -1),
  'idle_timeout_seconds', nullif(
    extract(epoch from pg_catalog.current_setting('idle_replication_slot_timeout', true)::interval)::bigint, 0),
  'slots', (
    select coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
      'name', s.slot_name,
      'plugin', s.plugin,
      'database', s.database,
      'is_here', coalesce(s.database = pg_catalog.current_database(), false),
      'temporary', s.temporary,
      'active', s.active,
      'restart_lsn', s.restart_lsn::text,
      'confirmed_lsn', s.confirmed_flush_lsn::text,
      'retained_bytes', pg_catalog.pg_wal_lsn_diff(log.end_lsn, s.restart_lsn)::bigint,
      'wal_status', s.wal_status,
      'safe_wal_bytes', s.safe_wal_size,
      'catalog_xmin_age', case when not pg_catalog.pg_is_in_recovery() then pg_catalog.age(s.catalog_xmin) end,
      'failover', pg_catalog.to_jsonb(s) -> 'failover',
      'synced', pg_catalog.to_jsonb(s) -> 'synced',
      'invalidation_reason', pg_catalog.to_jsonb(s) ->> 'invalidation_reason',
      'inactive_since', pg_catalog.to_jsonb(s) ->> 'inactive_since',
      'inactive_seconds', extract(epoch from
        pg_catalog.now() - (pg_catalog.to_jsonb(s) ->> 'inactive_since')::timestamptz)::bigint,
      'reader', case when s.active_pid is not null then pg_catalog.jsonb_build_object(
        'pid', s.active_pid,
        'role', a.usename,
        'application', nullif(a.application_name, ''),
        'client', pg_catalog.host(a.client_addr)) end)
      order by s.slot_name <> $1::text, s.slot_name), '[]')
    from pg_catalog.pg_replication_slots s
    left join pg_catalog.pg_stat_activity a on a.pid = s.active_pid
    where s.slot_name = $1::text
      or $2::bool and s.plugin = 'pgoutput' and s.database = pg_catalog.current_database())
) as facts
from (select case when pg_catalog.pg_is_in_recovery() then pg_catalog.pg_last_wal_replay_lsn()
  else pg_catalog.pg_current_wal_lsn() end as end_lsn) log
