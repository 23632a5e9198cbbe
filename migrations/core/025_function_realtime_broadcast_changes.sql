-- For triggers: broadcasts what happened to a row. Its use where it cannot work is an error, for whoever wrote the
-- trigger to see.
create function realtime.broadcast_changes(
  topic_name text, event_name text, operation text, table_name text, table_schema text,
  new record, old record, level text default 'ROW'
) returns void language plpgsql as $$
begin
  begin
    if level = 'STATEMENT' then
      raise exception 'function can only be triggered for each row, not for each statement';
    elsif operation is null or operation not in ('INSERT', 'UPDATE', 'DELETE') then
      raise exception 'Unexpected operation type: %', operation;
    end if;
    perform realtime.send(
      pg_catalog.jsonb_build_object(
        'schema', table_schema, 'table', table_name, 'operation', operation, 'record', new, 'old_record', old),
      event_name, topic_name);
  exception when others then
    raise exception 'Failed to process the row: %', sqlerrm;
  end;
end
$$;
