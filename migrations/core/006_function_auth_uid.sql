-- The caller's user id: claim "sub".
create function auth.uid() returns uuid language sql stable as
$$ select (nullif(pg_catalog.current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid $$;
