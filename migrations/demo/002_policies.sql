-- Who may do what in the demo. Every statement may run again.
--
-- A policy of one table asks another table through a function that runs with its owner's rights: asked directly,
-- the tables' policies would call each other without end. Each function is one SQL expression over its arguments
-- and the caller's claims.
create or replace function walcast_demo.is_agent() returns boolean language sql stable set search_path = '' as
$$ select coalesce(auth.jwt() -> 'app_metadata' ->> 'role' = 'agent', false) $$;

create or replace function walcast_demo.may_send_as(sender_type text) returns boolean
language sql stable set search_path = '' as
$$ select coalesce($1 = 'customer' or auth.jwt() -> 'app_metadata' ->> 'role' = $1, false) $$;

create or replace function walcast_demo.owns_project(project_id uuid) returns boolean
language sql stable security definer set search_path = '' as
$$ select exists (select from public.projects p where p.id = $1 and p.owner_id = auth.uid()) $$;

create or replace function walcast_demo.is_project_member(project_id uuid) returns boolean
language sql stable security definer set search_path = '' as
$$ select exists (select from public.project_members m where m.project_id = $1 and m.user_id = auth.uid()) $$;

create or replace function walcast_demo.may_see_note(note_id uuid) returns boolean
language sql stable security definer set search_path = '' as
$$ select exists (
  select from public.notes n
  where n.id = $1
    and (n.owner_id = auth.uid()
      or walcast_demo.owns_project(n.project_id)
      or walcast_demo.is_project_member(n.project_id))
) $$;

create or replace function walcast_demo.is_conversation_member(conversation_id uuid) returns boolean
language sql stable security definer set search_path = '' as
$$ select exists (select from public.conversation_members m where m.conversation_id = $1 and m.user_id = auth.uid()) $$;

create or replace function walcast_demo.runs_conversation(conversation_id uuid) returns boolean
language sql stable security definer set search_path = '' as
$$ select exists (
  select from public.conversations c
  where c.id = $1
    and (c.created_by = auth.uid()
      or c.assignee_id = auth.uid()
      or (c.assignee_id is null and walcast_demo.is_agent()))
) $$;

create or replace function walcast_demo.touch() returns trigger language plpgsql set search_path = '' as
$$
begin
  new.updated_at := now();
  return new;
end
$$;

create or replace trigger touch before update on public.notes
  for each row execute function walcast_demo.touch();
create or replace trigger touch before update on public.conversations
  for each row execute function walcast_demo.touch();
create or replace trigger touch before update on public.messages
  for each row execute function walcast_demo.touch();

grant usage on schema walcast_demo to anon, authenticated, service_role;
revoke execute on all functions in schema walcast_demo from public;
grant execute on all functions in schema walcast_demo to anon, authenticated, service_role;

-- What default privileges may have given away goes first: TRUNCATE, for one, asks no policy.
revoke all on table
  public.projects, public.project_members, public.notes, public.tags, public.notes_tags,
  public.conversations, public.conversation_members, public.messages
from public, anon, authenticated;
grant select on table
  public.projects, public.project_members, public.notes, public.tags, public.notes_tags,
  public.conversations, public.conversation_members, public.messages
to anon;
grant select, insert, delete on table
  public.projects, public.project_members, public.notes, public.tags, public.notes_tags,
  public.conversations, public.conversation_members, public.messages
to authenticated;
-- Owner, sender and target are written once: a policy cannot compare a row with what it was.
grant update (name) on table public.projects to authenticated;
grant update (project_id, title, content) on table public.notes to authenticated;
grant update (name) on table public.tags to authenticated;
grant update (assignee_id, subject, status, metadata) on table public.conversations to authenticated;
grant update (last_read_at) on table public.conversation_members to authenticated;
grant update (content, metadata) on table public.messages to authenticated;
grant select, insert, update, delete on table
  public.projects, public.project_members, public.notes, public.tags, public.notes_tags,
  public.conversations, public.conversation_members, public.messages
to service_role;

drop policy if exists projects_select on public.projects;
create policy projects_select on public.projects for select to authenticated
  using (owner_id = (select auth.uid()) or walcast_demo.is_project_member(id));
drop policy if exists projects_insert on public.projects;
create policy projects_insert on public.projects for insert to authenticated
  with check (owner_id = (select auth.uid()));
drop policy if exists projects_update on public.projects;
create policy projects_update on public.projects for update to authenticated
  using (owner_id = (select auth.uid()));
drop policy if exists projects_delete on public.projects;
create policy projects_delete on public.projects for delete to authenticated
  using (owner_id = (select auth.uid()));

-- Members see each other; the owner lets in and puts out; anybody may leave.
drop policy if exists project_members_select on public.project_members;
create policy project_members_select on public.project_members for select to authenticated
  using (
    user_id = (select auth.uid())
    or walcast_demo.owns_project(project_id)
    or walcast_demo.is_project_member(project_id)
  );
drop policy if exists project_members_insert on public.project_members;
create policy project_members_insert on public.project_members for insert to authenticated
  with check (walcast_demo.owns_project(project_id));
drop policy if exists project_members_delete on public.project_members;
create policy project_members_delete on public.project_members for delete to authenticated
  using (user_id = (select auth.uid()) or walcast_demo.owns_project(project_id));

-- Whoever sees a note may write in it; only its owner may delete it.
drop policy if exists notes_select on public.notes;
create policy notes_select on public.notes for select to authenticated
  using (
    owner_id = (select auth.uid())
    or walcast_demo.owns_project(project_id)
    or walcast_demo.is_project_member(project_id)
  );
drop policy if exists notes_insert on public.notes;
create policy notes_insert on public.notes for insert to authenticated
  with check (
    owner_id = (select auth.uid())
    and (
      project_id is null
      or walcast_demo.owns_project(project_id)
      or walcast_demo.is_project_member(project_id)
    )
  );
drop policy if exists notes_update on public.notes;
create policy notes_update on public.notes for update to authenticated
  using (
    owner_id = (select auth.uid())
    or walcast_demo.owns_project(project_id)
    or walcast_demo.is_project_member(project_id)
  )
  with check (
    (project_id is null and owner_id = (select auth.uid()))
    or walcast_demo.owns_project(project_id)
    or walcast_demo.is_project_member(project_id)
  );
drop policy if exists notes_delete on public.notes;
create policy notes_delete on public.notes for delete to authenticated
  using (owner_id = (select auth.uid()));

drop policy if exists tags_select on public.tags;
create policy tags_select on public.tags for select to anon, authenticated
  using (true);
drop policy if exists tags_insert on public.tags;
create policy tags_insert on public.tags for insert to authenticated
  with check (owner_id = (select auth.uid()));
drop policy if exists tags_update on public.tags;
create policy tags_update on public.tags for update to authenticated
  using (owner_id = (select auth.uid()));
drop policy if exists tags_delete on public.tags;
create policy tags_delete on public.tags for delete to authenticated
  using (owner_id = (select auth.uid()));

drop policy if exists notes_tags_select on public.notes_tags;
create policy notes_tags_select on public.notes_tags for select to authenticated
  using (walcast_demo.may_see_note(note_id));
drop policy if exists notes_tags_insert on public.notes_tags;
create policy notes_tags_insert on public.notes_tags for insert to authenticated
  with check (walcast_demo.may_see_note(note_id));
drop policy if exists notes_tags_delete on public.notes_tags;
create policy notes_tags_delete on public.notes_tags for delete to authenticated
  using (walcast_demo.may_see_note(note_id));

-- An agent takes an unassigned conversation by making himself its assignee.
drop policy if exists conversations_select on public.conversations;
create policy conversations_select on public.conversations for select to authenticated
  using (
    created_by = (select auth.uid())
    or assignee_id = (select auth.uid())
    or (assignee_id is null and walcast_demo.is_agent())
    or walcast_demo.is_conversation_member(id)
  );
drop policy if exists conversations_insert on public.conversations;
create policy conversations_insert on public.conversations for insert to authenticated
  with check (created_by = (select auth.uid()));
drop policy if exists conversations_update on public.conversations;
create policy conversations_update on public.conversations for update to authenticated
  using (
    created_by = (select auth.uid())
    or assignee_id = (select auth.uid())
    or (assignee_id is null and walcast_demo.is_agent())
  );
drop policy if exists conversations_delete on public.conversations;
create policy conversations_delete on public.conversations for delete to authenticated
  using (created_by = (select auth.uid()));

-- Who runs a conversation lets in and puts out; a member marks what he has read, and may leave.
drop policy if exists conversation_members_select on public.conversation_members;
create policy conversation_members_select on public.conversation_members for select to authenticated
  using (
    user_id = (select auth.uid())
    or walcast_demo.runs_conversation(conversation_id)
    or walcast_demo.is_conversation_member(conversation_id)
  );
drop policy if exists conversation_members_insert on public.conversation_members;
create policy conversation_members_insert on public.conversation_members for insert to authenticated
  with check (walcast_demo.runs_conversation(conversation_id));
drop policy if exists conversation_members_update on public.conversation_members;
create policy conversation_members_update on public.conversation_members for update to authenticated
  using (user_id = (select auth.uid()));
drop policy if exists conversation_members_delete on public.conversation_members;
create policy conversation_members_delete on public.conversation_members for delete to authenticated
  using (user_id = (select auth.uid()) or walcast_demo.runs_conversation(conversation_id));

drop policy if exists messages_select on public.messages;
create policy messages_select on public.messages for select to authenticated
  using (
    sender_id = (select auth.uid())
    or recipient_id = (select auth.uid())
    or walcast_demo.is_conversation_member(conversation_id)
    or walcast_demo.runs_conversation(conversation_id)
  );
drop policy if exists messages_insert on public.messages;
create policy messages_insert on public.messages for insert to authenticated
  with check (
    sender_id = (select auth.uid())
    and walcast_demo.may_send_as(sender_type)
    and (
      recipient_id is not null
      or walcast_demo.is_conversation_member(conversation_id)
      or walcast_demo.runs_conversation(conversation_id)
    )
  );
drop policy if exists messages_update on public.messages;
create policy messages_update on public.messages for update to authenticated
  using (sender_id = (select auth.uid()));
drop policy if exists messages_delete on public.messages;
create policy messages_delete on public.messages for delete to authenticated
  using (sender_id = (select auth.uid()));
