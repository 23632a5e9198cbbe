-- $1 publication. One row a published table, as JSON; read with an empty search path, so that names in expressions
-- come out qualified. Lists of columns are lists of attribute numbers.
select pg_catalog.jsonb_build_object(
  'oid', c.oid::bigint,
  'schema', n.nspname,
  'name', c.relname,
  'replica_identity', c.relreplident::text,
  'row_security', c.relrowsecurity,
  'force_row_security', c.relforcerowsecurity,
  -- Column lists exist from 15 on; the attribute is absent before.
  'published', to_jsonb(p) -> 'attnames',
  'has_column_list', exists (
    select from pg_catalog.pg_publication_rel pr join pg_catalog.pg_publication pub on pub.oid = pr.prpubid
    where pub.pubname = p.pubname and pr.prrelid = c.oid and to_jsonb(pr) ->> 'prattrs' is not null),
  -- Up to 17 the stream never has generated columns, whatever the view says.
  'streams_generated', pg_catalog.current_setting('server_version_num')::int >= 180000,
  'primary_key', (
    select pg_catalog.to_jsonb(i.indkey::int2[]) from pg_catalog.pg_index i
    where i.indrelid = c.oid and i.indisprimary limit 1),
  'columns', (
    select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
      'number', a.attnum,
      'name', a.attname,
      'type_oid', a.atttypid::bigint,
      'type_name', t.typname,
      'collation', case
        when a.attcollation = 0 then 'none'
        when not co.collisdeterministic then 'nondeterministic'
        when co.collname in ('C', 'POSIX') then 'bytewise'
        when co.collname = 'default' and (select d.datcollate in ('C', 'POSIX') and d.datlocprovider_c
             from (select datcollate, coalesce(to_jsonb(pd) ->> 'datlocprovider', 'c') = 'c' as datlocprovider_c
                   from pg_catalog.pg_database pd where pd.datname = pg_catalog.current_database()) d) then 'bytewise'
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
      'roles', pg_catalog.to_jsonb(pol.polroles::bigint[]),
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
      'owner', pg_catalog.pg_has_role(r.oid, c.relowner, 'USAGE'),
      'select', (
        select pg_catalog.jsonb_agg(pg_catalog.has_schema_privilege(r.oid, n.oid, 'USAGE')
                                    and pg_catalog.has_column_privilege(r.oid, c.oid, a.attnum, 'SELECT') order by a.attnum)
        from pg_catalog.pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped),
      'policies', (
        select coalesce(pg_catalog.jsonb_agg(pol.polname), '[]') from pg_catalog.pg_policy pol
        where pol.polrelid = c.oid and pol.polcmd in ('r', '*')
          and exists (select from pg_catalog.unnest(pol.polroles) named
                      -- 0 is PUBLIC; a named role counts for those who inherit it.
                      where case when named = 0 then true else pg_catalog.pg_has_role(r.oid, named, 'USAGE') end))
      )), '[]')
    from pg_catalog.pg_roles r where r.rolname = any ($2))
) as published_table
from pg_catalog.pg_publication_tables p
join pg_catalog.pg_namespace n on n.nspname = p.schemaname
join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = p.tablename
join pg_catalog.pg_roles o on o.oid = c.relowner
where p.pubname = $1
