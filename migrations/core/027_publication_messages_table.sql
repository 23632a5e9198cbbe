-- A table that was dropped and made again has left the publication.
alter publication supabase_realtime_messages_publication add table realtime.messages;
