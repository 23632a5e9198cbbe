-- $1 roles, $2 schemas. Which of the roles have USAGE on which of the schemas.
select r.rolname, n.nspname
from pg_catalog.pg_roles r
cross join pg_catalog.pg_namespace n
where r.rolname = any ($1::text[]) and n.nspname = any ($2::text[])
  and pg_catalog.has_schema_privilege(r.oid, n.oid, 'USAGE')
