-- The least-privileged role, where there is one, may read the demo as it reads every published table.
do $$
begin
  if exists (select from pg_catalog.pg_roles r where r.rolname = 'walcast') then
    grant usage on schema public to walcast;
    grant select on table
      public.projects, public.project_members, public.notes, public.tags, public.notes_tags,
      public.conversations, public.conversation_members, public.messages
    to walcast;
  end if;
end
$$;
