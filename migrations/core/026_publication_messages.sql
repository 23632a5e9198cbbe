-- What the server reads of it. Clients do not subscribe to this publication.
create publication supabase_realtime_messages_publication for table realtime.messages;
