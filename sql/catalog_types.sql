-- Every type a column may have. Read with an empty search path: `sql_name` is what SQL may cast to.
select t.oid::bigint,
       t.typname,
       pg_catalog.format_type(t.oid, null) as sql_name,
       t.typtype::text,
       -- A true array, and not a type that can be subscripted, such as point or jsonb.
       case when t.typcategory = 'A' and t.typelem <> 0 then t.typelem::bigint else 0 end as element,
       coalesce(e.typdelim, ',')::text as delimiter,
       t.typbasetype::bigint,
       case when t.typtype = 'c' then (
         select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(a.attname, a.atttypid::bigint) order by a.attnum)
         from pg_catalog.pg_attribute a where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped) end as fields
from pg_catalog.pg_type t
left join pg_catalog.pg_type e on e.oid = t.typelem
where t.typisdefined and t.typtype <> 'p'
