-- The caller's e-mail address: claim "email".
create function auth.email() returns text language sql stable as
$$ select nullif(pg_catalog.current_setting('request.jwt.claims', true), '')::jsonb ->> 'email' $$;
