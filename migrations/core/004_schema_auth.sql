-- The schema whose functions tell a policy who is asking.
create schema auth;
grant usage on schema auth to anon, authenticated, service_role;
