-- The policies decide; these rights only let them be asked.
grant select, insert, update on table realtime.messages to anon, authenticated, service_role;
