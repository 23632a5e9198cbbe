-- The same for bytes, which are sent as they are.
create function realtime.send_binary(payload bytea, event text, topic text, private boolean default true)
returns void language plpgsql as $$
begin
  begin
    perform pg_catalog.set_config('realtime.topic', send_binary.topic, true);
    insert into realtime.messages (extension, topic, event, private, binary_payload)
    values ('broadcast', send_binary.topic, send_binary.event, send_binary.private, send_binary.payload);
  exception when others then
    raise warning 'WarnSendingBroadcastMessage: %', sqlerrm;
  end;
end
$$;
