-- Who calls with a user's token.
create role authenticated nologin noinherit;
