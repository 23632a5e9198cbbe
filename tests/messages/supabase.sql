-- Schema realtime as the migrations of Supabase's own server leave it, written from the reference: its roles, its
-- table with daily partitions, its functions (bodies are stand-ins, but for what is sent), its publication.
do $$
declare
  made text;
begin
  foreach made in array array[
    'anon nologin noinherit', 'authenticated nologin noinherit', 'service_role nologin noinherit bypassrls',
    'supabase_realtime_admin nologin noinherit', 'supabase_admin login superuser', 'authenticator login noinherit'
  ] loop
    begin
      execute 'create role ' || made;
    exception when duplicate_object or unique_violation then null;
    end;
  end loop;
end
$$;
create schema if not exists realtime authorization supabase_admin;
grant usage on schema realtime to anon, authenticated, service_role;
grant all on schema realtime to supabase_realtime_admin;
set role supabase_admin;
create table realtime.schema_migrations (version bigint primary key, inserted_at timestamp(0));
create table realtime.subscription (id bigint generated always as identity primary key, subscription_id uuid not null);
create function realtime.topic() returns text language sql stable as
  $$ select nullif(current_setting('realtime.topic', true), '')::text $$;
create table realtime.messages (
  topic text not null, extension text not null, payload jsonb, event text, private boolean default false,
  updated_at timestamp not null default now(), inserted_at timestamp not null default now(),
  id uuid not null default gen_random_uuid(), binary_payload bytea,
  primary key (id, inserted_at),
  constraint theirs check (payload is null or binary_payload is null)
) partition by range (inserted_at);
alter table realtime.messages enable row level security;
create index theirs_index on realtime.messages (inserted_at desc, topic) where extension = 'broadcast' and private;
grant select, insert, update on realtime.messages to anon, authenticated, service_role;
alter table realtime.messages owner to supabase_realtime_admin;
create function realtime.send(payload jsonb, event text, topic text, private boolean default true) returns void
language plpgsql as $$
begin
  perform set_config('realtime.topic', topic, true);
  insert into realtime.messages (payload, event, topic, private, extension)
  values (payload || '{"theirs": true}', event, topic, private, 'broadcast');
end
$$;
create function realtime.send_binary(payload bytea, event text, topic text, private boolean default true) returns void
language sql as $$ insert into realtime.messages (binary_payload, event, topic, private, extension)
  values (payload, event, topic, private, 'broadcast') $$;
create function realtime.broadcast_changes(
  topic_name text, event_name text, operation text, table_name text, table_schema text, new record, old record,
  level text default 'ROW') returns void language plpgsql as $$ begin perform realtime.send('{}', event_name, topic_name); end $$;
reset role;
do $$
declare
  today date := (now() at time zone 'UTC')::date;
begin
  for ahead in -1..3 loop
    execute format('create table realtime.%I partition of realtime.messages for values from (%L) to (%L)',
      to_char(today + ahead, '"messages_"YYYY_MM_DD'), today + ahead, today + ahead + 1);
    execute format('alter table realtime.%I owner to supabase_realtime_admin',
      to_char(today + ahead, '"messages_"YYYY_MM_DD'));
  end loop;
end
$$;
create publication supabase_realtime_messages_publication for table realtime.messages;
alter publication supabase_realtime_messages_publication owner to supabase_admin;
