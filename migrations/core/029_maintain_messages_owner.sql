-- The partitions of a table belong to its owner: the function that makes and drops them has to run as that role.
do $$
declare
  owners record;
begin
  select t.relowner::pg_catalog.regrole::text as wanted, p.proowner::pg_catalog.regrole::text as present
  into owners
  from pg_catalog.pg_class t
  join pg_catalog.pg_namespace n on n.oid = t.relnamespace and n.nspname = 'realtime'
  cross join pg_catalog.pg_proc p
  where t.relname = 'messages'
    and p.oid = 'walcast.maintain_messages(interval, timestamptz)'::pg_catalog.regprocedure;
  execute pg_catalog.format('grant usage, create on schema realtime to %s', owners.wanted);
  execute pg_catalog.format('grant usage, create on schema walcast to %s', owners.wanted);
  execute pg_catalog.format(
    'alter function walcast.maintain_messages(interval, timestamptz) owner to %s', owners.wanted);
  execute pg_catalog.format(
    'grant execute on function walcast.maintain_messages(interval, timestamptz) to %s', owners.present);
end
$$;
