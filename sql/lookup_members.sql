-- $1 tables, $2 for each the publication that carries it, $3 the slot's catalog_xmin when the stream began. One row a
-- table that is there and in that publication: since when it is known to be (`membership`), whether that was so before
-- the stream began, what its rows depend on without the stream telling (`mark`), and its columns.
--
-- A transaction before the slot's catalog_xmin had ended before the position the slot streams from. A negative age is
-- that of an id so old that its rows were frozen long ago. Publications of whole schemas (15 and newer) leave their
-- trace in pg_depend, which all versions can be asked for.
with member as (
  select c.oid, c.relnamespace, c.xmin as table_xmin, p.oid as publication, p.xmin as publication_xmin, p.puballtables,
         r.oid as by_table, r.xmin as by_table_xmin, s.objid as by_schema, s.xmin as by_schema_xmin
  from rows from (pg_catalog.unnest($1::oid[]), pg_catalog.unnest($2::text[])) as wanted(oid, publication)
  join pg_catalog.pg_class c on c.oid = wanted.oid
  join pg_catalog.pg_publication p on p.pubname = wanted.publication
  left join pg_catalog.pg_publication_rel r on r.prpubid = p.oid and r.prrelid = c.oid
  left join (pg_catalog.pg_depend s
             join pg_catalog.pg_depend o on o.classid = s.classid and o.objid = s.objid
               and o.refclassid = 'pg_catalog.pg_publication'::pg_catalog.regclass)
    -- 6237 is pg_publication_namespace.
    on s.classid = 6237 and s.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass
       and s.refobjid = c.relnamespace and o.refobjid = p.oid
  where p.puballtables or r.oid is not null or s.objid is not null
),
dated as (
  select member.*, began.age as began, pg_catalog.concat_ws('|', publication, publication_xmin, by_table, by_table_xmin,
           by_schema, by_schema_xmin, case when by_schema is not null then relnamespace end) as membership
  from member, (select pg_catalog.age($3::text::pg_catalog.xid) as age) as began
)
select oid,
       membership,
       coalesce((pg_catalog.age(publication_xmin) > began or pg_catalog.age(publication_xmin) < 0)
         and (puballtables
              or coalesce(pg_catalog.age(by_table_xmin) > began or pg_catalog.age(by_table_xmin) < 0, false)
              or coalesce((pg_catalog.age(by_schema_xmin) > began or pg_catalog.age(by_schema_xmin) < 0)
                          and (pg_catalog.age(table_xmin) > began or pg_catalog.age(table_xmin) < 0), false)), false) as is_settled,
       pg_catalog.concat_ws('|', membership, (
         -- A column that got another type, or the same one with other values, is another row of the catalogue.
         select pg_catalog.string_agg(a.attnum::text || ':' || a.xmin::text, ',' order by a.attnum)
         from pg_catalog.pg_attribute a where a.attrelid = dated.oid and a.attnum > 0), (
         -- A label that was renamed is another text in the same rows.
         select pg_catalog.string_agg(e.oid::text || ':' || e.xmin::text, ',' order by e.oid)
         from pg_catalog.pg_enum e
         where e.enumtypid in (
           select pg_catalog.unnest(array[t.oid, t.typelem, t.typbasetype]) from pg_catalog.pg_attribute a
           join pg_catalog.pg_type t on t.oid = a.atttypid
           where a.attrelid = dated.oid and a.attnum > 0 and not a.attisdropped))) as mark,
       (select coalesce(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(a.attnum, a.attname, a.atttypid::bigint) order by a.attnum), '[]')
        from pg_catalog.pg_attribute a where a.attrelid = dated.oid and a.attnum > 0 and not a.attisdropped) as columns
from dated
