-- The tables of the demo: notes of projects, and a chat. Every statement may run again.
-- Comments that begin with "walcast demo" mark what is ours.
create schema if not exists walcast_demo;
do $$
begin
  if obj_description(to_regnamespace('walcast_demo')::oid, 'pg_namespace') is null then
    comment on schema walcast_demo is 'walcast demo: what the policies of the demo call';
  end if;
end
$$;

create table if not exists public.projects (
  id uuid primary key default gen_random_uuid(),
  owner_id uuid not null default auth.uid(),
  name text not null check (name <> ''),
  created_at timestamptz not null default now()
);
create index if not exists projects_owner_id_idx on public.projects (owner_id);

create table if not exists public.project_members (
  project_id uuid not null references public.projects (id) on delete cascade,
  user_id uuid not null,
  created_at timestamptz not null default now(),
  primary key (project_id, user_id)
);
create index if not exists project_members_user_id_idx on public.project_members (user_id);

create table if not exists public.notes (
  id uuid primary key default gen_random_uuid(),
  project_id uuid references public.projects (id) on delete cascade,
  owner_id uuid not null default auth.uid(),
  title text not null default '',
  content text not null default '',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
create index if not exists notes_owner_id_idx on public.notes (owner_id);
create index if not exists notes_project_id_idx on public.notes (project_id);

create table if not exists public.tags (
  id uuid primary key default gen_random_uuid(),
  owner_id uuid not null default auth.uid(),
  name text not null check (name <> ''),
  unique (owner_id, name)
);

create table if not exists public.notes_tags (
  note_id uuid not null references public.notes (id) on delete cascade,
  tag_id uuid not null references public.tags (id) on delete cascade,
  primary key (note_id, tag_id)
);
create index if not exists notes_tags_tag_id_idx on public.notes_tags (tag_id);

create table if not exists public.conversations (
  id uuid primary key default gen_random_uuid(),
  created_by uuid not null default auth.uid(),
  assignee_id uuid,
  subject text not null default '',
  status text not null default 'open' check (status in ('open', 'pending', 'closed')),
  metadata jsonb not null default '{}',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
create index if not exists conversations_created_by_idx on public.conversations (created_by);
create index if not exists conversations_assignee_id_idx on public.conversations (assignee_id);

create table if not exists public.conversation_members (
  conversation_id uuid not null references public.conversations (id) on delete cascade,
  user_id uuid not null,
  last_read_at timestamptz,
  created_at timestamptz not null default now(),
  primary key (conversation_id, user_id)
);
create index if not exists conversation_members_user_id_idx on public.conversation_members (user_id);

-- A message goes to a conversation or straight to one person. Nobody need have sent what a program says.
create table if not exists public.messages (
  id uuid primary key default gen_random_uuid(),
  conversation_id uuid references public.conversations (id) on delete cascade,
  recipient_id uuid,
  sender_id uuid default auth.uid(),
  sender_type text not null default 'customer' check (sender_type in ('customer', 'agent', 'chatbot', 'system')),
  content text not null check (content <> ''),
  metadata jsonb not null default '{}',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint messages_one_target check (num_nonnulls(conversation_id, recipient_id) = 1),
  constraint messages_customer_is_known check (sender_type <> 'customer' or sender_id is not null)
);
create index if not exists messages_conversation_id_created_at_idx on public.messages (conversation_id, created_at);
create index if not exists messages_recipient_id_created_at_idx on public.messages (recipient_id, created_at);
create index if not exists messages_sender_id_idx on public.messages (sender_id);

comment on table public.projects is 'walcast demo: what notes belong to';
comment on table public.project_members is 'walcast demo: who works on a project beside its owner';
comment on table public.notes is 'walcast demo: notes, seen by their owner and the people of their project';
comment on table public.tags is 'walcast demo: labels, seen by everybody';
comment on table public.notes_tags is 'walcast demo: the labels of a note';
comment on table public.conversations is 'walcast demo: conversations; unassigned ones are open to every agent';
comment on table public.conversation_members is 'walcast demo: who takes part in a conversation';
comment on table public.messages is 'walcast demo: messages to a conversation or to one person';

-- Before anybody has a right here, so that default privileges never show a row.
alter table public.projects enable row level security;
alter table public.project_members enable row level security;
alter table public.notes enable row level security;
alter table public.tags enable row level security;
alter table public.notes_tags enable row level security;
alter table public.conversations enable row level security;
alter table public.conversation_members enable row level security;
alter table public.messages enable row level security;

-- Their SELECT policies read columns beside the key: without the whole old row a DELETE could not be judged.
alter table public.projects replica identity full;
alter table public.notes replica identity full;
alter table public.conversations replica identity full;
alter table public.messages replica identity full;
