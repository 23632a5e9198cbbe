-- Lets clients subscribe to the tables of the demo.
do $$
declare
  table_name text;
begin
  foreach table_name in array array[
    'projects', 'project_members', 'notes', 'tags', 'notes_tags', 'conversations', 'conversation_members', 'messages'
  ] loop
    if not exists (
      select from pg_catalog.pg_publication_tables t
      where t.pubname = 'supabase_realtime' and t.schemaname = 'public' and t.tablename = table_name
    ) then
      execute format('alter publication supabase_realtime add table public.%I', table_name);
    end if;
  end loop;
end
$$;
