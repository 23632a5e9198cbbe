-- $1 publication. One text that changes whenever anything of catalog_tables.sql, catalog_roles.sql or
-- catalog_types.sql may have changed. Cheap enough to ask twice a second: xmin names the transaction that wrote a
-- catalogue row, so rows are compared without being read.
with published as (
  select c.oid, to_jsonb(p)::text as listing
  from pg_catalog.pg_publication_tables p
  join pg_catalog.pg_namespace n on n.nspname = p.schemaname
  join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = p.tablename
  where p.pubname = $1
)
select pg_catalog.md5(pg_catalog.concat_ws('|',
  (select pg_catalog.string_agg(oid::text || listing, ',' order by oid) from published),
  (select pg_catalog.string_agg(p.oid::text || p.xmin::text, ',') from pg_catalog.pg_publication p where p.pubname = $1),
  (select pg_catalog.string_agg(c.oid::text || ':' || c.xmin::text, ',' order by c.oid)
     from pg_catalog.pg_class c join published using (oid)),
  (select pg_catalog.string_agg(a.attrelid::text || ':' || a.attnum::text || ':' || a.xmin::text, ',' order by a.attrelid, a.attnum)
     from pg_catalog.pg_attribute a join published on published.oid = a.attrelid),
  (select pg_catalog.string_agg(i.indexrelid::text || ':' || i.xmin::text, ',' order by i.indexrelid)
     from pg_catalog.pg_index i join published on published.oid = i.indrelid),
  (select pg_catalog.string_agg(d.oid::text || ':' || d.xmin::text, ',' order by d.oid)
     from pg_catalog.pg_attrdef d join published on published.oid = d.adrelid),
  (select pg_catalog.string_agg(pol.oid::text || ':' || pol.xmin::text, ',' order by pol.oid)
     from pg_catalog.pg_policy pol join published on published.oid = pol.polrelid),
  (select pg_catalog.string_agg(n.oid::text || ':' || n.xmin::text, ',' order by n.oid) from pg_catalog.pg_namespace n
     where n.oid in (select c.relnamespace from pg_catalog.pg_class c join published using (oid))),
  (select pg_catalog.string_agg(r.oid::text || r.rolname || r.rolsuper::text || r.rolbypassrls::text || r.rolcanlogin::text
                                || r.rolinherit::text, ',' order by r.oid) from pg_catalog.pg_roles r),
  (select pg_catalog.string_agg(m.roleid::text || ':' || m.member::text || ':' || m.xmin::text, ',' order by m.roleid, m.member, m.xmin::text)
     from pg_catalog.pg_auth_members m),
  (select pg_catalog.string_agg(t.oid::text || ':' || t.xmin::text, ',' order by t.oid) from pg_catalog.pg_type t
     -- Temporary tables come and go with sessions, each with two types that nobody publishes.
     where t.oid >= 16384
       and t.typnamespace not in (select n.oid from pg_catalog.pg_namespace n where n.nspname like 'pg\_temp\_%'))
)) as version
