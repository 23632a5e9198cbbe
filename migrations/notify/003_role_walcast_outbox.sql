-- The role to serve with reads the outbox, gives its transactions numbers, and prunes what it has delivered.
grant usage on schema walcast to walcast;
grant select, delete, truncate on table walcast.outbox to walcast;
grant select, update, delete on table walcast.outbox_shapes to walcast;
grant select, insert, delete, truncate on table walcast.outbox_transactions to walcast;
grant select, update on table walcast.outbox_state to walcast;
grant select, update on sequence walcast.outbox_full to walcast;
grant select, update on sequence walcast.outbox_retired to walcast;
grant update on table walcast.outbox_lead to walcast;
