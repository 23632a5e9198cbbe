-- $1 names. The bodies of functions with these names, and whose rights they run with, where that is not the caller's;
-- read with an empty search path.
select coalesce(pg_catalog.pg_get_function_sqlbody(p.oid), p.prosrc) as body,
       case when p.prosecdef then pg_catalog.pg_get_userbyid(p.proowner) end as owner
from pg_catalog.pg_proc p
join pg_catalog.pg_language l on l.oid = p.prolang
join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where p.proname = any ($1::text[]) and n.nspname not in ('pg_catalog', 'information_schema')
  and l.lanname in ('sql', 'plpgsql') and p.prokind = 'f'
