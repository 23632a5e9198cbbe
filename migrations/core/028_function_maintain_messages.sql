-- Makes the partitions of realtime.messages from yesterday to three days ahead and drops those that are past the
-- retention. It runs as its owner, so that whoever serves needs no right to the table.
--
-- Days are those of UTC; sessions elsewhere fill inserted_at with their own time, up to 14 hours off, so yesterday's and
-- tomorrow's partitions are in use, and yesterday's stays whatever the retention is. Dropped is what is a partition of
-- that table, of one day, under the name of that day, and nothing else. What cannot be made or dropped is told in the
-- result, one sentence each, and does not keep the others from it.
create function walcast.maintain_messages(
  retention interval default interval '72 hours', moment timestamptz default pg_catalog.now()
) returns text[] language plpgsql security definer
set search_path = pg_catalog, pg_temp
set datestyle = 'ISO, YMD'
set lock_timeout = '2s'
as $$
declare
  now_utc constant timestamp := moment at time zone 'UTC';
  today constant date := now_utc::date;
  parent constant regclass := (
    select c.oid from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = 'realtime' and c.relname = 'messages' and c.relkind = 'p');
  problems text[] := '{}';
  name text;
  bounds text;
  old record;
begin
  if parent is null then
    return array['realtime.messages does not exist, or is not partitioned'];
  end if;
  -- Two servers of one database wait for each other.
  perform pg_advisory_xact_lock(x'77616c636d736773'::bigint);
  for ahead in -1..3 loop
    name := to_char(today + ahead, '"messages_"YYYY_MM_DD');
    bounds := format('for values from (%L) to (%L)', (today + ahead)::timestamp, (today + ahead + 1)::timestamp);
    begin
      if not exists (
        select from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where i.inhparent = parent
          and lower(pg_get_expr(c.relpartbound, c.oid)) = bounds
      ) then
        execute format('create table realtime.%I partition of realtime.messages %s', name, bounds);
        -- Rows are read through the table above; whoever was given rights to all tables of the schema gets no other way.
        execute format('alter table realtime.%I enable row level security', name);
      end if;
    exception when others then
      problems := problems || format('cannot make partition realtime.%I: %s', name, sqlerrm);
    end;
  end loop;
  for old in
    select c.relname as name
    from pg_inherits i
    join pg_class c on c.oid = i.inhrelid
    join pg_namespace n on n.oid = c.relnamespace
    cross join lateral regexp_match(
      pg_get_expr(c.relpartbound, c.oid),
      '^FOR VALUES FROM \(''(\d{4}-\d\d-\d\d) 00:00:00''\) TO \(''(\d{4}-\d\d-\d\d) 00:00:00''\)$') as days(text)
    where i.inhparent = parent and n.nspname = 'realtime' and c.relkind = 'r'
      and c.relname = 'messages_' || replace(days.text[1], '-', '_')
      and days.text[2]::date = days.text[1]::date + 1
      and days.text[2]::timestamp <= now_utc - retention
      and days.text[1]::date < today - 1
    order by c.relname
  loop
    begin
      execute format('drop table realtime.%I', old.name);
    exception when others then
      problems := problems || format('cannot drop partition realtime.%I: %s', old.name, sqlerrm);
    end;
  end loop;
  return problems;
end
$$;
comment on function walcast.maintain_messages(interval, timestamptz) is 'walcast: partitions of realtime.messages';
revoke all on function walcast.maintain_messages(interval, timestamptz) from public;
