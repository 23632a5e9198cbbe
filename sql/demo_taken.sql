-- What stands in the way of the demo: names it uses that belong to something else. Ours carry a comment that
-- begins with "walcast demo". $1: the demo's tables, $2: its indexes.
select case when c.relkind in ('r', 'p') then 'table' else 'relation' end as kind,
  format('%I.%I', n.nspname, c.relname) as name
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'public' and c.relname = any ($1::text[])
  and not (c.relkind = 'r' and coalesce(obj_description(c.oid, 'pg_class') like 'walcast demo%', false))
union all
select 'index', format('%I.%I', n.nspname, c.relname)
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'public' and c.relname = any ($2::text[])
  and not exists (
    select from pg_catalog.pg_index i
    where i.indexrelid = c.oid and obj_description(i.indrelid, 'pg_class') like 'walcast demo%'
  )
union all
-- A table's name is also a type's name, and so is its array's.
select 'type', format('%I.%I', n.nspname, t.typname)
from pg_catalog.pg_type t
join pg_catalog.pg_namespace n on n.oid = t.typnamespace
where n.nspname = 'public' and t.typname = any ($1::text[]) and t.typrelid = 0 and t.typelem = 0
union all
-- An overload would do as well as the same arguments: a call by argument names could mean either.
select 'function', format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid))
from pg_catalog.pg_proc p
join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'public' and p.proname = 'insert_message'
  and not coalesce(obj_description(p.oid, 'pg_proc') like 'walcast demo%', false)
union all
select 'schema', format('%I', n.nspname)
from pg_catalog.pg_namespace n
where n.nspname = 'walcast_demo'
  and not coalesce(obj_description(n.oid, 'pg_namespace') like 'walcast demo%', false)
order by 1, 2
