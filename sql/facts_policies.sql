-- $1 publication, $2 names. The USING texts of policies of the tables it publishes, and of those with these names; read
-- with an empty search path.
select pg_catalog.pg_get_expr(pol.polqual, pol.polrelid)
from pg_catalog.pg_policy pol
join pg_catalog.pg_class c on c.oid = pol.polrelid
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where pol.polcmd in ('r', '*') and pol.polqual is not null
  and (c.relname = any ($2::text[]) or (n.nspname, c.relname) in (
    select p.schemaname, p.tablename from pg_catalog.pg_publication_tables p where p.pubname = $1::text))
