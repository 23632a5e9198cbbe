-- Broadcasts JSON to a topic when the transaction commits. A message that cannot be sent must not undo what the
-- transaction is about, so errors become warnings.
create function realtime.send(payload jsonb, event text, topic text, private boolean default true)
returns void language plpgsql as $$
declare
  message_id constant uuid := pg_catalog.gen_random_uuid();
  message jsonb := send.payload;
begin
  begin
    -- What is no object has no place for an id, and is refused here.
    if (message operator(pg_catalog.?) 'id') is not true then
      message := pg_catalog.jsonb_set(message, '{id}', pg_catalog.to_jsonb(message_id));
    end if;
    perform pg_catalog.set_config('realtime.topic', send.topic, true);
    insert into realtime.messages (id, extension, topic, event, private, payload)
    values (message_id, 'broadcast', send.topic, send.event, send.private, message);
  exception when others then
    raise warning 'WarnSendingBroadcastMessage: %', sqlerrm;
  end;
end
$$;
