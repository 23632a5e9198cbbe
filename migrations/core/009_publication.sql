-- What clients may subscribe to. Empty: publishing a table is its owner's decision.
create publication supabase_realtime;
