-- The schema of broadcasts from the database, by the name applications know.
create schema realtime;
