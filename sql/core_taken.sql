-- What stands in the way of the core: a schema of our name that does not carry our comment.
select 'schema' as kind, format('%I', n.nspname) as name
from pg_catalog.pg_namespace n
where n.nspname = 'walcast' and not coalesce(obj_description(n.oid, 'pg_namespace') like 'walcast%', false)
