-- Who calls without having signed in.
create role anon nologin noinherit;
