-- What every database of these tests begins with.
create schema auth;
grant usage on schema auth to public;
create function auth.jwt() returns jsonb language sql stable as
  $$ select nullif(current_setting('request.jwt.claims', true), '')::jsonb $$;
create function auth.uid() returns uuid language sql stable as
  $$ select (auth.jwt() ->> 'sub')::uuid $$;
create function auth.role() returns text language sql stable as
  $$ select auth.jwt() ->> 'role' $$;
create function auth.email() returns text language sql stable as
  $$ select auth.jwt() ->> 'email' $$;
create publication supabase_realtime;
