-- $1 names of settings. Those that have a value in a session of our login that nobody changed.
select name from pg_catalog.unnest($1::text[]) name where pg_catalog.current_setting(name, true) is not null
