-- Sends a message as the caller, under the caller's rights: the policies of public.messages hold.
--
-- The sender is auth.uid(). Whom row level security does not bind (service_role, the owner of the table) may send
-- as anything, and without a sender unless it is as a customer. Everybody else sends as a customer, or as what the
-- claim app_metadata.role says he is: agent, chatbot or system.
create or replace function public.insert_message(
  content text,
  conversation_id uuid default null,
  recipient_id uuid default null,
  sender_type text default 'customer',
  metadata jsonb default '{}'
) returns public.messages language plpgsql volatile security invoker set search_path = '' as
$$
declare
  sender uuid := auth.uid();
  bound constant boolean := pg_catalog.row_security_active('public.messages');
  message public.messages;
begin
  if insert_message.content is null or insert_message.content = '' then
    raise exception 'a message needs content' using errcode = '22023';
  end if;
  if pg_catalog.num_nonnulls(insert_message.conversation_id, insert_message.recipient_id) <> 1 then
    raise exception 'a message has exactly one target'
      using errcode = '22023', hint = 'Give either conversation_id or recipient_id.';
  end if;
  if insert_message.sender_type is null
    or insert_message.sender_type not in ('customer', 'agent', 'chatbot', 'system') then
    raise exception 'sender_type is none of customer, agent, chatbot, system' using errcode = '22023';
  end if;
  if sender is null and (bound or insert_message.sender_type = 'customer') then
    raise exception 'a message needs a sender'
      using errcode = '42501', hint = 'Call with a user''s token: its claim "sub" is the sender.';
  end if;
  if bound and not walcast_demo.may_send_as(insert_message.sender_type) then
    raise exception 'this user may not send as %', insert_message.sender_type
      using errcode = '42501', hint = 'The claim app_metadata.role must say so.';
  end if;

  insert into public.messages (conversation_id, recipient_id, sender_id, sender_type, content, metadata)
  values (
    insert_message.conversation_id,
    insert_message.recipient_id,
    sender,
    insert_message.sender_type,
    insert_message.content,
    coalesce(insert_message.metadata, '{}')
  )
  returning * into message;

  -- Any role may listen: the key says which row to ask for, and asking takes rights.
  perform pg_catalog.pg_notify('walcast', pg_catalog.jsonb_build_object(
    'schema', 'public',
    'table', 'messages',
    'operation', 'INSERT',
    'key', pg_catalog.jsonb_build_object('id', message.id)
  )::text);
  return message;
end
$$;

comment on function public.insert_message(text, uuid, uuid, text, jsonb) is
  'walcast demo: sends a message to a conversation or to one person, as the caller';
revoke execute on function public.insert_message(text, uuid, uuid, text, jsonb) from public, anon;
grant execute on function public.insert_message(text, uuid, uuid, text, jsonb) to authenticated, service_role;
