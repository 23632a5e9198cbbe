-- The application's own servers: row level security does not hold for them.
create role service_role nologin noinherit bypassrls;
