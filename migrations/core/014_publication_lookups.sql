-- Tables that policies look into and that clients may not subscribe to: their changes are followed so that policies
-- can be decided without asking the database. Nothing in it reaches a client.
create publication walcast_lookups;
