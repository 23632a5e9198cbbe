-- $1 a snapshot, $2 a number. The transactions with lower numbers that it does not show, without their epochs.
select t.xid::text::bigint % 4294967296 from walcast.outbox_transactions t
where t.number < $2 and not pg_catalog.pg_visible_in_snapshot(t.xid, $1::text::pg_catalog.pg_snapshot)
