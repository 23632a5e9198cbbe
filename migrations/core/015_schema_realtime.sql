-- The schema of broadcasts from the database, by the name applications know.
create schema realtime;
grant usage on schema realtime to anon, authenticated, service_role;
