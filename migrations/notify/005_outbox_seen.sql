-- What the search for transactions without a number had before its eyes last: those that had ended by then have one, or never
-- get one, so the next search leaves them out, however long others stay open.
alter table walcast.outbox_state add column seen pg_catalog.pg_snapshot;
comment on column walcast.outbox_state.seen is 'walcast: what was looked through';
