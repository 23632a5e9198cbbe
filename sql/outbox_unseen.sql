-- $1 a snapshot. The transactions with numbers that it does not show, without their epochs.
select t.xid::text::bigint % 4294967296 from walcast.outbox_transactions t
where not pg_catalog.pg_visible_in_snapshot(t.xid, $1::text::pg_catalog.pg_snapshot)
