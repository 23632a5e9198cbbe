-- $1 publication clients subscribe to, $2 publication of lookup tables, $3 roles, $4 names. One row a table that $1
-- publishes or that has one of the names, as JSON; read with an empty search path, so that names in expressions come
-- out qualified. Lists of columns are lists of attribute numbers.
with published as materialized (
  select c.oid, p.pubname, to_jsonb(p) -> 'attnames' as attnames, to_jsonb(p) ->> 'rowfilter' is not null as is_filtered
  from pg_catalog.pg_publication_tables p
  join pg_catalog.pg_namespace n on n.nspname = p.schemaname
  join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = p.tablename
  where p.pubname in ($1::text, $2::text)
),
concerned as materialized (
  select oid from published where pubname = $1::text
  union
  select c.oid
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where c.relname = any ($4::text[]) and c.relkind in ('r', 'p', 'v', 'm', 'f')
    and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast') and n.nspname not like 'pg\_temp\_%'
)
select pg_catalog.jsonb_build_object(
  'oid', c.oid::bigint,
  'schema', n.nspname,
  'name', c.relname,
  'replica_identity', c.relreplident::text,
  'row_security', c.relrowsecurity,
  -- Unlogged tables write no WAL; a partition or an heir shows through its parent.
  'is_ordinary', c.relkind = 'r' and c.relpersistence = 'p' and not c.relispartition and not exists (
    select from pg_catalog.pg_inherits i where i.inhrelid = c.oid or i.inhparent = c.oid),
  'estimated_rows', greatest(c.reltuples, 0)::bigint,
  'publications', (
    select coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
      'is_main', p.pubname = $1::text,
      'columns', p.attnames,
      -- Column lists exist from 15 on; the attribute is absent before.
      'has_column_list', exists (
        select from pg_catalog.pg_publication_rel pr
        where pr.prpubid = pub.oid and pr.prrelid = c.oid and to_jsonb(pr) ->> 'prattrs' is not null),
      'is_filtered', p.is_filtered,
      'has_all_operations', pub.pubinsert and pub.pubupdate and pub.pubdelete and pub.pubtruncate)), '[]')
    from published p join pg_catalog.pg_publication pub on pub.pubname = p.pubname where p.oid = c.oid),
  -- Up to 17 the stream never has generated columns, whatever the view says.
  'streams_generated', pg_catalog.current_setting('server_version_num')::int >= 180000,
  'primary_key', (
    select pg_catalog.to_jsonb((i.indkey::int2[])[0:i.indnkeyatts - 1]) from pg_catalog.pg_index i
    where i.indrelid = c.oid and i.indisprimary limit 1),
  'identity', case c.relreplident
    -- A generated column follows from the others, and is not always streamed.
    when 'f' then (
      select pg_catalog.jsonb_agg(a.attnum order by a.attnum) from pg_catalog.pg_attribute a
      where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = '')
    when 'n' then null
    else (
      select pg_catalog.to_jsonb((i.indkey::int2[])[0:i.indnkeyatts - 1]) from pg_catalog.pg_index i
      where i.indrelid = c.oid and i.indisvalid and i.indimmediate
        and case c.relreplident when 'i' then i.indisreplident else i.indisprimary end
        and not exists (
          select from pg_catalog.pg_attribute a
          where a.attrelid = c.oid and a.attnum = any ((i.indkey::int2[])[0:i.indnkeyatts - 1]) and a.attgenerated <> '')
      limit 1) end,
  'unique_keys', (
    select coalesce(pg_catalog.jsonb_agg((i.indkey::int2[])[0:i.indnkeyatts - 1] order by i.indexrelid), '[]')
    from pg_catalog.pg_index i
    where i.indrelid = c.oid and i.indisunique and i.indisvalid and i.indimmediate
      and i.indpred is null and i.indexprs is null
      and not exists (
        select from pg_catalog.pg_attribute a
        where a.attrelid = c.oid and a.attnum = any ((i.indkey::int2[])[0:i.indnkeyatts - 1]) and not (
          a.attnotnull and not exists (
            -- From 18 on a constraint may hold for new rows only.
            select from pg_catalog.pg_constraint k
            where k.conrelid = c.oid and k.contype = 'n' and not k.convalidated and a.attnum = any (k.conkey))))),
  'columns', (
    select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
      'number', a.attnum,
      'name', a.attname,
      'type_oid', a.atttypid::bigint,
      'type_name', t.typname,
      'collation_oid', a.attcollation::bigint,
      'collation', case
        when a.attcollation = 0 then 'none'
        when not co.collisdeterministic then 'nondeterministic'
        -- Letter case is part of it: lower() goes by the character type. A name says nothing, anybody may give it.
        when co.collprovider = 'c' and co.collcollate in ('C', 'POSIX') and co.collctype in ('C', 'POSIX') then 'bytewise'
        when co.collprovider = 'd' and (
          select d.datcollate in ('C', 'POSIX') and d.datctype in ('C', 'POSIX')
            and coalesce(to_jsonb(d) ->> 'datlocprovider', 'c') = 'c'
          from pg_catalog.pg_database d where d.datname = pg_catalog.current_database()) then 'bytewise'
        else 'deterministic' end,
      'generated', case when a.attgenerated <> '' then pg_catalog.jsonb_build_object(
        'expression', pg_catalog.pg_get_expr(ad.adbin, ad.adrelid),
        -- With its length or scale: the expression is printed without the cast that cuts or rounds to it.
        'sql_type', pg_catalog.format_type(a.atttypid, a.atttypmod),
        'reads', (
          select coalesce(pg_catalog.jsonb_agg(distinct dep.refobjsubid), '[]') from pg_catalog.pg_depend dep
          where ((dep.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass and dep.objid = ad.oid)
              or (dep.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and dep.objid = c.oid and dep.objsubid = a.attnum))
            and dep.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass and dep.refobjid = c.oid
            and dep.refobjsubid > 0 and dep.refobjsubid <> a.attnum)) end
      ) order by a.attnum)
    from pg_catalog.pg_attribute a
    join pg_catalog.pg_type t on t.oid = a.atttypid
    left join pg_catalog.pg_collation co on co.oid = a.attcollation
    left join pg_catalog.pg_attrdef ad on ad.adrelid = a.attrelid and ad.adnum = a.attnum
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped),
  'policies', (
    select coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
      'name', pol.polname,
      'permissive', pol.polpermissive,
      'using', pg_catalog.pg_get_expr(pol.polqual, pol.polrelid),
      'reads', (
        select coalesce(pg_catalog.jsonb_agg(distinct dep.refobjsubid), '[]') from pg_catalog.pg_depend dep
        where dep.classid = 'pg_catalog.pg_policy'::pg_catalog.regclass and dep.objid = pol.oid
          and dep.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass and dep.refobjid = c.oid and dep.refobjsubid <> 0)
      ) order by pol.polname), '[]')
    from pg_catalog.pg_policy pol where pol.polrelid = c.oid and pol.polcmd in ('r', '*')),
  'access', (
    select coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
      'role', r.rolname,
      'usage', pg_catalog.has_schema_privilege(r.oid, n.oid, 'USAGE'),
      'select', (
        select pg_catalog.jsonb_agg(pg_catalog.has_column_privilege(r.oid, c.oid, a.attnum, 'SELECT') order by a.attnum)
        from pg_catalog.pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped),
      'sees_all', not c.relrowsecurity or r.rolbypassrls or r.rolsuper
        or (not c.relforcerowsecurity and pg_catalog.pg_has_role(r.oid, c.relowner, 'USAGE')),
      'policies', (
        select coalesce(pg_catalog.jsonb_agg(pol.polname), '[]') from pg_catalog.pg_policy pol
        where pol.polrelid = c.oid and pol.polcmd in ('r', '*')
          and exists (select from pg_catalog.unnest(pol.polroles) named
                      -- 0 is PUBLIC; a named role counts for those who inherit it.
                      where case when named = 0 then true else pg_catalog.pg_has_role(r.oid, named, 'USAGE') end))
      )), '[]')
    from pg_catalog.pg_roles r where r.rolname = any ($3::text[])),
  'login_reads_all', (
    select pg_catalog.has_schema_privilege(r.oid, n.oid, 'USAGE')
      and (not c.relrowsecurity or r.rolbypassrls or r.rolsuper
           or (not c.relforcerowsecurity and pg_catalog.pg_has_role(r.oid, c.relowner, 'USAGE')))
      and not exists (
        select from pg_catalog.pg_attribute a
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
          and not pg_catalog.has_column_privilege(r.oid, c.oid, a.attnum, 'SELECT'))
    from pg_catalog.pg_roles r where r.rolname = current_user)
) as concerned_table
from concerned
join pg_catalog.pg_class c on c.oid = concerned.oid
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
