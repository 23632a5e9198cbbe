-- The topic that is asked about or sent to, for policies; null when there is none.
create function realtime.topic() returns text language sql stable as
$$ select nullif(pg_catalog.current_setting('realtime.topic', true), '') $$;
