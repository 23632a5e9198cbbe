-- $1 publication clients subscribe to, $2 publication of lookup tables, $3 names that policies mention. One text that
-- changes whenever anything of the other statements named catalog_* and facts_* may have changed. Cheap enough to ask
-- twice a second: xmin names the transaction that wrote a catalogue row, so rows are compared without being read.
with published as materialized (
  select c.oid, p.pubname, to_jsonb(p)::text as listing
  from pg_catalog.pg_publication_tables p
  join pg_catalog.pg_namespace n on n.nspname = p.schemaname
  join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = p.tablename
  where p.pubname in ($1::text, $2::text)
),
passing as materialized (
  -- Temporary tables come and go with sessions, each with two types that nobody publishes.
  select n.oid from pg_catalog.pg_namespace n where n.nspname like 'pg\_temp\_%'
),
concerned as materialized (
  select c.oid, c.xmin, c.relnamespace
  from pg_catalog.pg_class c
  where c.oid in (
    select oid from published
    union all
    select named.oid from pg_catalog.pg_class named
    where named.relname = any ($3::text[]) and named.relkind <> 't'
      and named.relnamespace not in (select oid from passing))
),
functions as materialized (
  select p.oid, p.xmin, p.pronamespace from pg_catalog.pg_proc p
  where p.proname = any ($3::text[]) and p.pronamespace not in (select oid from passing)
),
database as (
  select d.oid, d.xmin from pg_catalog.pg_database d where d.datname = pg_catalog.current_database()
)
select pg_catalog.md5(pg_catalog.concat_ws('|',
  pg_catalog.current_setting('TimeZone'),
  pg_catalog.current_setting('search_path'),
  (select pg_catalog.string_agg(oid::text || pubname || listing, ',' order by oid, pubname) from published),
  (select pg_catalog.string_agg(p.oid::text || ':' || p.xmin::text, ',' order by p.oid) from pg_catalog.pg_publication p
     where p.pubname in ($1::text, $2::text)),
  -- The listing is a function's, which looks beyond the snapshot of a longer look at the catalogue; these rows are of it.
  (select pg_catalog.string_agg(r.oid::text || ':' || r.xmin::text, ',' order by r.oid) from pg_catalog.pg_publication_rel r
     join pg_catalog.pg_publication p on p.oid = r.prpubid where p.pubname in ($1::text, $2::text)),
  -- 6237 is pg_publication_namespace, which 14 does not have.
  (select pg_catalog.string_agg(d.objid::text || ':' || d.xmin::text, ',' order by d.objid) from pg_catalog.pg_depend d
     join pg_catalog.pg_publication p on p.oid = d.refobjid
     where d.classid = 6237 and d.refclassid = 'pg_catalog.pg_publication'::pg_catalog.regclass
       and p.pubname in ($1::text, $2::text)),
  (select pg_catalog.string_agg(c.oid::text || ':' || c.xmin::text, ',' order by c.oid) from concerned c),
  (select pg_catalog.string_agg(a.attrelid::text || ':' || a.attnum::text || ':' || a.xmin::text, ',' order by a.attrelid, a.attnum)
     from pg_catalog.pg_attribute a join concerned on concerned.oid = a.attrelid),
  (select pg_catalog.string_agg(i.indexrelid::text || ':' || i.xmin::text, ',' order by i.indexrelid)
     from pg_catalog.pg_index i join concerned on concerned.oid = i.indrelid),
  (select pg_catalog.string_agg(d.oid::text || ':' || d.xmin::text, ',' order by d.oid)
     from pg_catalog.pg_attrdef d join concerned on concerned.oid = d.adrelid),
  (select pg_catalog.string_agg(pol.oid::text || ':' || pol.xmin::text, ',' order by pol.oid)
     from pg_catalog.pg_policy pol join concerned on concerned.oid = pol.polrelid),
  (select pg_catalog.string_agg(i.inhrelid::text || ':' || i.inhparent::text, ',' order by i.inhrelid, i.inhparent)
     from pg_catalog.pg_inherits i
     where i.inhrelid in (select oid from concerned) or i.inhparent in (select oid from concerned)),
  -- Rows of these are broadcast, whatever is published otherwise.
  (select pg_catalog.string_agg(t.oid::text, ',' order by t.oid)
     from pg_catalog.pg_class c
     join pg_catalog.pg_namespace n on n.oid = c.relnamespace
     cross join lateral (select c.oid union select relid from pg_catalog.pg_partition_tree(c.oid)) as t(oid)
     where n.nspname = 'realtime' and c.relname = 'messages' and c.relkind in ('r', 'p')),
  (select pg_catalog.string_agg(f.oid::text || ':' || f.xmin::text, ',' order by f.oid) from functions f),
  (select pg_catalog.string_agg(n.oid::text || ':' || n.xmin::text, ',' order by n.oid) from pg_catalog.pg_namespace n
     where n.oid in (select relnamespace from concerned union select pronamespace from functions)),
  (select pg_catalog.string_agg(r.oid::text || r.rolname || r.rolsuper::text || r.rolbypassrls::text || r.rolcanlogin::text
                                || r.rolinherit::text, ',' order by r.oid) from pg_catalog.pg_roles r),
  (select pg_catalog.string_agg(m.roleid::text || ':' || m.member::text || ':' || m.xmin::text, ',' order by m.roleid, m.member, m.xmin::text)
     from pg_catalog.pg_auth_members m),
  (select pg_catalog.string_agg(s.setdatabase::text || ':' || s.setrole::text || ':' || s.xmin::text, ',' order by s.setdatabase, s.setrole)
     from pg_catalog.pg_db_role_setting s
     where s.setdatabase in (0, (select oid from database))
       and s.setrole in (0, (select r.oid from pg_catalog.pg_roles r where r.rolname = session_user))),
  (select pg_catalog.string_agg(k.oid::text || ':' || k.xmin::text, ',' order by k.oid) from pg_catalog.pg_cast k
     where k.oid >= 16384),
  (select pg_catalog.string_agg(o.oid::text || ':' || o.xmin::text, ',' order by o.oid) from pg_catalog.pg_operator o
     where o.oid >= 16384),
  (select xmin::text from database),
  (select pg_catalog.string_agg(t.oid::text || ':' || t.xmin::text, ',' order by t.oid) from pg_catalog.pg_type t
     where t.oid >= 16384 and t.typnamespace not in (select oid from passing)),
  -- Expressions hold a label by its oid, and print it by its name.
  (select pg_catalog.string_agg(e.oid::text || ':' || e.xmin::text, ',' order by e.oid) from pg_catalog.pg_enum e)
)) as version
