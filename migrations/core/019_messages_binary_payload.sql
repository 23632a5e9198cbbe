-- Messages of bytes, which a table that was made long ago has no place for.
alter table realtime.messages
  add column binary_payload bytea,
  add constraint messages_payload_exclusive check (payload is null or binary_payload is null);
