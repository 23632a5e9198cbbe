-- Puts what a statement did to a row into the outbox. It runs as its owner, so whoever writes needs no right to the outbox,
-- and what he sets for his session changes nothing about how values are written: that is how the stream writes them.
--
-- Only an image that the outbox cannot take, as when the disk is full, fails the statement: a change that would be
-- missing without anybody knowing is worse. To keep the disk from that it captures nothing once the outbox has reached its
-- limit, and the server tells its clients of the gap.
--
-- Anybody may use it in a trigger, for a partition gets its triggers with the rights of whoever makes it. What that puts
-- into the outbox is of his own table, and it is read only if that table is published.
create or replace function walcast.capture() returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp
set datestyle = 'ISO, MDY'
set intervalstyle = 'postgres'
set extra_float_digits = 3
set timezone = 'UTC'
set bytea_output = 'hex'
set quote_all_identifiers = off
set lc_monetary from current
-- Planning anew takes longer than the statements do, and all of them find a few rows by an index.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
-- Nobody sees the outbox by policies.
set row_security = off
as $$
declare
  tables oid[] := array[tg_relid];
  now_at tid[];
  now_by xid[];
  shape_id bigint;
  -- Before it is looked at what is set apart.
  own_xid xid8 := pg_current_xact_id();
  own_id bigint := nextval('walcast.outbox_ids') * 65536;
  replaced tid;
  old_image text;
  new_image text;
begin
  if tg_level <> 'ROW' or tg_when <> 'AFTER' or (select f.is_called from walcast.outbox_full f) then
    return null;
  end if;
  -- Now and then, for it takes a look at files.
  if own_id % (256 * 65536) = 0
    and pg_table_size('walcast.outbox') > (select s.limit_bytes from walcast.outbox_state s)
  then
    perform nextval('walcast.outbox_full');
    return null;
  end if;
  -- A table may have several: a partition one of its own beside that of the table it is a part of, a copy one that is called
  -- by the number it had elsewhere, or somebody has made another. One of those that fire now tells of the row: the one that is
  -- called by the table's own number, else the first.
  if tg_name <> '!walcast ' || tg_relid and tg_name <> (
    select t.tgname from pg_trigger t
    where t.tgrelid = tg_relid
      and t.tgfoid = (select own.tgfoid from pg_trigger own where own.tgrelid = tg_relid and own.tgname = tg_name)
      and t.tgenabled in ('A', case current_setting('session_replication_role') when 'replica' then 'R' else 'O' end)
      and t.tgtype & 67 = 1 and t.tgqual is null and t.tgattr::text = ''
      and t.tgtype & case tg_op when 'INSERT' then 4 when 'DELETE' then 8 else 16 end <> 0
    order by t.tgname <> '!walcast ' || tg_relid, t.tgname limit 1
  ) then
    return null;
  end if;
  if (select c.relispartition from pg_class c where c.oid = tg_relid) then
    tables := array(select a.relid::oid from pg_partition_ancestors(tg_relid) a);
  end if;
  -- By its output function: a cast to text could be anybody's.
  if tg_op <> 'INSERT' then
    old_image := format('%s', old);
    replaced := old.ctid;
  end if;
  if tg_op <> 'DELETE' then
    new_image := format('%s', new);
  end if;
  -- Whatever alters a table, its identity, its grants or its policies leaves other rows in the catalogue.
  select array_agg(v.ctid), array_agg(v.xmin) into now_at, now_by
  from (
    select c.ctid, c.xmin from pg_class c where c.oid = any (tables)
    union all
    select a.ctid, a.xmin from pg_attribute a where a.attrelid = any (tables) and a.attnum > 0
    union all
    select i.ctid, i.xmin from pg_index i where i.indrelid = any (tables)
    union all
    select p.ctid, p.xmin from pg_policy p where p.polrelid = any (tables)
  ) v;
  select s.id into shape_id
  from walcast.outbox_shapes s
  where s.relation = tg_relid and s.places = now_at and s.writers = now_by
    -- What is set apart goes, and whoever does not see that it was makes one of his own.
    and (s.made_by = own_xid
      or s.retired_before is null and pg_visible_in_snapshot(
        (select r.last_value from walcast.outbox_retired r)::text::xid8, pg_current_snapshot()))
  limit 1;
  if shape_id is null then
    insert into walcast.outbox_shapes (relation, places, writers, made_by, description)
    select tg_relid, now_at, now_by, own_xid, json_agg(json_build_object(
      'oid', c.oid::bigint,
      'schema', n.nspname,
      'name', c.relname,
      'identity', c.relreplident::text,
      'key', (
        select to_json((i.indkey::int2[])[0:i.indnkeyatts - 1]) from pg_index i
        where i.indrelid = c.oid and i.indisvalid
          and case c.relreplident when 'd' then i.indisprimary and i.indimmediate when 'i' then i.indisreplident end
        limit 1),
      'columns', (
        select json_agg(json_build_array(a.attnum, a.attname, a.atttypid::bigint, a.atttypmod, a.attgenerated <> '')
          order by a.attnum)
        from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped)
    ) order by chain.place)::text
    from unnest(tables) with ordinality as chain(oid, place)
    join pg_class c on c.oid = chain.oid
    join pg_namespace n on n.oid = c.relnamespace
    returning id into shape_id;
  end if;
  -- A trigger of the row before this one may have changed this one again, and that is in the outbox already: it belongs
  -- behind this. Such a row version is not the last one any more, or only locked.
  if tg_op <> 'DELETE' and new.xmax <> '0' then
    own_id := coalesce((
      select later.id - 1
      from (
        select o.id, o.old_place, o.shape from walcast.outbox o
        where o.xid = own_xid order by o.id desc limit 1000
      ) later
      join walcast.outbox_shapes s on s.id = later.shape
      where later.old_place = new.ctid and s.relation = tg_relid
      limit 1), own_id);
  end if;
  insert into walcast.outbox (xid, id, written_at, shape, operation, bytes, old_place, old_row, new_row)
  values (
    own_xid, own_id, clock_timestamp(), shape_id, substr(tg_op, 1, 1)::"char",
    coalesce(octet_length(old_image), 0) + coalesce(octet_length(new_image), 0), replaced, old_image, new_image);
  -- It says nothing, for anybody may say it; many of one transaction are one. A transaction that is to be prepared must
  -- not notify, so where there may be some the server looks by itself.
  if current_setting('max_prepared_transactions') = '0' then
    perform pg_notify('walcast', '');
  end if;
  return null;
end
$$;
comment on function walcast.capture() is 'walcast: fills the outbox, 2';
grant execute on function walcast.capture() to public;
