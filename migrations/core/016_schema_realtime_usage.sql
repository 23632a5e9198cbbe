-- Policies and functions of the schema are used by these roles.
grant usage on schema realtime to anon, authenticated, service_role;
