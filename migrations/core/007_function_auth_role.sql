-- The role the caller's token claims.
create function auth.role() returns text language sql stable as
$$ select nullif(pg_catalog.current_setting('request.jwt.claims', true), '')::jsonb ->> 'role' $$;
