-- Reading the published tables, for their lookups and for checks.
do $$
declare
  published record;
begin
  for published in
    select t.schemaname, t.tablename
    from pg_catalog.pg_publication_tables t
    where t.pubname = 'supabase_realtime'
  loop
    execute format('grant usage on schema %I to walcast', published.schemaname);
    execute format('grant select on table %I.%I to walcast', published.schemaname, published.tablename);
  end loop;
end
$$;
