-- Two people, Alice (1111...) and Bob (2222...), with a project and a conversation they share.
insert into public.projects (id, owner_id, name)
values ('a0000000-0000-4000-8000-000000000001', '11111111-1111-1111-1111-111111111111', 'Moving house')
on conflict do nothing;
insert into public.project_members (project_id, user_id)
values ('a0000000-0000-4000-8000-000000000001', '22222222-2222-2222-2222-222222222222')
on conflict do nothing;
insert into public.notes (id, project_id, owner_id, title, content)
values
  ('b0000000-0000-4000-8000-000000000001', 'a0000000-0000-4000-8000-000000000001',
    '11111111-1111-1111-1111-111111111111', 'Boxes', 'Forty will do.'),
  ('b0000000-0000-4000-8000-000000000002', null,
    '11111111-1111-1111-1111-111111111111', 'Private', 'Only Alice reads this.')
on conflict do nothing;
insert into public.tags (id, owner_id, name)
values ('c0000000-0000-4000-8000-000000000001', '11111111-1111-1111-1111-111111111111', 'to do')
on conflict do nothing;
insert into public.notes_tags (note_id, tag_id)
values ('b0000000-0000-4000-8000-000000000001', 'c0000000-0000-4000-8000-000000000001')
on conflict do nothing;
insert into public.conversations (id, created_by, subject)
values ('d0000000-0000-4000-8000-000000000001', '11111111-1111-1111-1111-111111111111', 'Who brings the van?')
on conflict do nothing;
insert into public.conversation_members (conversation_id, user_id)
values
  ('d0000000-0000-4000-8000-000000000001', '11111111-1111-1111-1111-111111111111'),
  ('d0000000-0000-4000-8000-000000000001', '22222222-2222-2222-2222-222222222222')
on conflict do nothing;
insert into public.messages (id, conversation_id, sender_id, content)
values ('e0000000-0000-4000-8000-000000000001', 'd0000000-0000-4000-8000-000000000001',
  '11111111-1111-1111-1111-111111111111', 'Can you drive on Saturday?')
on conflict do nothing;

-- Remembers that the examples were there once: whoever deletes them does not get them back.
comment on schema walcast_demo is 'walcast demo: what the policies of the demo call (examples inserted)';
