-- To judge a row as a subscriber's role would, walcast must be able to become that role.
grant anon, authenticated, service_role to walcast;
