-- The tables that the shapes are written for, and rows that tell their policies apart: both sides of every condition,
-- and NULLs.
create table orgs (id uuid primary key, parent_id uuid, plan text, owner_id uuid);
create table memberships (org_id uuid, user_id uuid, role text, status text, expires_at timestamptz,
                          primary key (org_id, user_id));
create table profiles (id uuid primary key, is_admin boolean, email text, dept text, manager_id uuid);
create table projects (id uuid primary key, org_id uuid, owner_id uuid, archived boolean);
create table docs (id uuid primary key, owner_id uuid, org_id uuid, project_id uuid, folder_id uuid,
  reviewer_id uuid, editors uuid[], is_public boolean, status text, meta jsonb, tags text[], region text,
  level int, title text, path text, slug text generated always as (lower(title)) stored,
  publish_at timestamptz, expires_at timestamptz, deleted_at timestamptz, created_at timestamptz);
create table doc_shares (doc_id uuid, user_id uuid, can_read boolean, expires_at timestamptz,
                         primary key (doc_id, user_id));
create table blocks (blocker uuid, blocked uuid, primary key (blocker, blocked));
create table follows (follower uuid, followee uuid, state text, primary key (follower, followee));
create table folders (id uuid primary key, parent_id uuid, owner_id uuid);
create table role_permissions (role text, permission text, primary key (role, permission));
create table rooms (id uuid primary key, topic text unique, org_id uuid);
create table room_members (room_id uuid, user_id uuid, left_at timestamptz, primary key (room_id, user_id));
create table messages (id uuid primary key, room_id uuid, sender_id uuid, recipient_id uuid, body text,
                       created_at timestamptz);
create table feature_flags (name text primary key, enabled boolean);
create table mfa (user_id uuid, status text);
create table tree (id uuid primary key, parent_id uuid, owner_id uuid);
alter table docs enable row level security;
alter table messages enable row level security;
alter table memberships enable row level security;
alter table tree enable row level security;
alter table profiles enable row level security;
-- Nothing else tells its rows apart.
alter table mfa replica identity full;

create function is_member(o uuid) returns boolean language sql stable security definer
  set search_path = '' as
  $$ select exists (select 1 from public.memberships where org_id = o and user_id = auth.uid()) $$;
create function my_orgs() returns setof uuid language sql stable security definer set search_path = '' as
  $$ select org_id from public.memberships where user_id = auth.uid() $$;
create function can(p text) returns boolean language plpgsql stable security definer set search_path = '' as
  $$ begin return exists (select 1 from public.role_permissions
       where role = auth.jwt() ->> 'user_role' and permission = p); end $$;
create function owns_ancestor(n uuid) returns boolean language sql stable security definer set search_path = '' as $$
  with recursive up as (select id, parent_id, owner_id from public.tree where id = n
     union all select t.id, t.parent_id, t.owner_id from public.tree t join up on t.id = up.parent_id)
  select exists (select 1 from up where owner_id = auth.uid()) $$;

do $$ begin
  perform pg_advisory_xact_lock(4711);
  if not exists (select from pg_roles where rolname = 'shapes_owner') then
    create role shapes_owner nologin; create role shapes_editor nologin; create role support nologin;
    grant authenticated to shapes_editor; grant shapes_owner, shapes_editor, support to walcast;
  end if;
end $$;
grant usage on schema public, auth to shapes_owner, shapes_editor, support;
grant select on all tables in schema public to anon, authenticated, service_role, walcast, shapes_owner, shapes_editor,
  support;

create function u(n int) returns uuid language sql immutable as
  $$ select (repeat(n::text, 8) || '-' || repeat(n::text, 4) || '-' || repeat(n::text, 4) || '-' || repeat(n::text, 4)
     || '-' || repeat(n::text, 12))::uuid $$;
-- 1 alice, 2 bob, 3 carol; 4 and 5 organisations, 6 and 7 projects and rooms, 8 and 9 rows.
insert into orgs values (u(4), null, 'pro', u(1)), (u(5), u(4), 'free', null);
insert into memberships values
  (u(4), u(1), 'owner', 'active', null), (u(4), u(2), 'viewer', 'active', now() + interval '1 day'),
  (u(5), u(2), 'admin', 'invited', now() - interval '1 day'), (u(5), u(3), null, null, 'infinity');
insert into profiles values
  (u(1), true, 'alice@example.com', 'x', u(2)), (u(2), false, 'Bob@Example.com', null, null),
  (u(3), null, null, 'y', u(3)), (u(9), true, 'nobody@example.org', 'y', u(1));
insert into projects values
  (u(6), u(4), u(1), false), (u(7), u(4), u(2), true), (u(8), u(5), u(3), null), (u(9), null, null, false);
insert into doc_shares values
  (u(2), u(1), true, now() + interval '1 day'), (u(2), u(2), false, now() - interval '1 day'), (u(3), u(3), null, null),
  (u(4), u(2), true, '-infinity'), (u(1), u(3), true, 'infinity');
insert into blocks values (u(1), u(2)), (u(3), u(1));
insert into follows values (u(1), u(2), 'accepted'), (u(2), u(1), 'asked'), (u(3), u(2), null), (u(3), u(1), 'accepted');
insert into role_permissions values ('editor', 'docs.read'), ('viewer', 'docs.list');
insert into rooms values (u(6), 'one', u(4)), (u(7), 'two', u(5)), (u(8), null, null);
insert into room_members values (u(6), u(1), null), (u(6), u(2), now()), (u(7), u(2), null), (u(7), u(3), 'infinity');
insert into feature_flags values ('a', true), ('b', true), ('c', false), ('d', null);
insert into mfa values (u(1), 'verified'), (u(1), 'verified'), (u(2), 'unverified'), (u(3), null), (null, 'verified');
insert into tree values
  (u(1), null, u(1)), (u(2), u(1), u(2)), (u(3), u(2), null), (u(4), null, null), (u(5), u(4), u(3));
insert into messages values
  (u(1), u(6), u(1), u(2), 'a', now()), (u(2), u(6), u(2), u(1), 'b', now() - interval '2 days'),
  (u(3), u(7), u(2), u(3), 'c', now() + interval '2 days'), (u(4), u(7), u(3), null, 'd', null),
  (u(5), null, null, u(2), null, '-infinity'), (u(6), u(8), u(1), u(1), '', 'infinity');
insert into docs (id, owner_id, org_id, project_id, folder_id, reviewer_id, editors, is_public, status, meta, tags,
    region, level, title, path, publish_at, expires_at, deleted_at, created_at) values
  (u(1), u(1), u(4), u(6), null, u(2), array[u(1)], true, 'published',
     jsonb_build_object('readers', jsonb_build_array(u(1))), '{red}', 'eu', 1, 'Internal', u(1) || '/x',
     now() - interval '1 day', null, null, now() - interval '1 day'),
  (u(2), u(2), u(5), u(7), u(9), null, array[u(1), u(2)], false, 'draft', '{"visibility": "public"}', null, 'us', 5,
     'x', u(2) || '/y', now() + interval '1 day', null, now(), now() - interval '8 days'),
  (u(3), null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null),
  (u(4), u(2), u(4), u(8), null, u(1), '{}', false, 'review', 'null', '{green,red}', '', 0, 'Zoo', '',
     now() - interval '2 days', now() - interval '1 day', null, now()),
  (u(5), u(1), u(5), u(6), null, u(1), null, true, 'open', '[]', '{NULL,green}', 'eu', 3, 'internal', 'a/b',
     '-infinity', 'infinity', null, 'infinity'),
  (u(6), u(3), u(4), u(9), null, u(3), array[null, u(3)], null, 'published', '{"readers": {}, "visibility": null}', '{}',
     'EU', -1, 'alice@example.com!', '/' || u(3), 'infinity', now() + interval '1 day', 'infinity', '-infinity'),
  (u(7), u(3), u(9), u(7), null, null, array[u(2), u(2)], false, 'locked', jsonb_build_object('readers',
     jsonb_build_array(u(2), u(3), null), 'visibility', 'PUBLIC'), '{blue}', null, 2147483647, 'M', u(3)::text,
     now(), now() + interval '1 hour', null, now() - interval '6 days 23 hours');
drop function u;
alter publication supabase_realtime add table orgs, memberships, profiles, projects, docs, doc_shares, blocks, follows,
  folders, role_permissions, rooms, room_members, messages, feature_flags, mfa, tree;
