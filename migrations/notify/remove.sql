-- What the notify fallback made. Triggers that still use the function keep it, and with it the outbox.
drop function if exists walcast.capture();
drop table if exists walcast.outbox, walcast.outbox_shapes, walcast.outbox_transactions, walcast.outbox_state;
drop sequence if exists walcast.outbox_ids, walcast.outbox_full, walcast.outbox_retired;
drop view if exists walcast.outbox_lead;
