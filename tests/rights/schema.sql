-- What private channels are decided by, as the replaced server has it (protocol reference, 6.4 and 6.5), and `auth.uid()`
-- as its databases have it: by the old setting of one claim first.
create schema realtime;
grant usage on schema realtime to anon, authenticated, service_role, walcast;

create function realtime.topic() returns text language sql stable
  as $$ select nullif(current_setting('realtime.topic', true), '')::text $$;

create table realtime.messages (
  topic text not null,
  extension text not null,
  payload jsonb,
  event text,
  private boolean default false,
  updated_at timestamp not null default now(),
  inserted_at timestamp not null default now(),
  id uuid not null default gen_random_uuid(),
  binary_payload bytea,
  primary key (id, inserted_at),
  check (payload is null or binary_payload is null)
) partition by range (inserted_at);
create table realtime.messages_all partition of realtime.messages default;
alter table realtime.messages enable row level security;
grant select, insert, update on realtime.messages to anon, authenticated, service_role;

create or replace function auth.uid() returns uuid language sql stable as $$
  select coalesce(
    nullif(current_setting('request.jwt.claim.sub', true), ''),
    nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid $$;

create table public.members (room text, person uuid, admin boolean default false, primary key (room, person));
insert into public.members values
  ('room-1', '11111111-1111-1111-1111-111111111111', true), ('room-1', '22222222-2222-2222-2222-222222222222', false);
create schema private;
create table private.guests (room text primary key, mail text);
insert into private.guests values ('room-1', 'bob@example.org');
-- Clients have no USAGE on its schema and need none: policies are analysed under their owner, and by us under our login.
grant usage on schema private to walcast;
create function private.is_guest(room text) returns boolean language sql stable security definer set search_path = ''
  as $$ select exists (select from private.guests g where g.room = $1 and g.mail = auth.jwt() ->> 'email') $$;
create function public.is_member(wanted text) returns boolean language sql stable security definer
  set search_path = '' as $$
  select exists (select from public.members m where m.room = wanted and m.person = auth.uid()) $$;
create function public.part(n int) returns text language sql stable
  as $$ select split_part(realtime.topic(), ':', n) $$;
create function public.pick(text) returns boolean language plpgsql stable as $$
begin
  if $1 = 'presence' then raise exception 'not this one' using errcode = 'P0007'; end if;
  return true;
end $$;
create function public.noted() returns boolean language plpgsql volatile security definer as $$
begin
  insert into public.members values (realtime.topic(), gen_random_uuid());
  return true;
end $$;
