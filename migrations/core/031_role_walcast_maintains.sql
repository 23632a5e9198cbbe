-- The role to serve with makes partitions ahead and drops old ones through that function alone.
grant usage on schema walcast to walcast;
grant execute on function walcast.maintain_messages(interval, timestamptz) to walcast;
