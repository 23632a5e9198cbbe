-- The claims of the caller's token; null when there is no token.
create function auth.jwt() returns jsonb language sql stable as
$$ select nullif(pg_catalog.current_setting('request.jwt.claims', true), '')::jsonb $$;
