-- The role to serve with: it can stream, and become the three roles, and nothing else.
-- It has no password yet. Give it one, in psql with: \password walcast
create role walcast login replication noinherit;
