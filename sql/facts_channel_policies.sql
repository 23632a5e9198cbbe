-- The texts of the policies that say who may use private channels; read with an empty search path.
select text from (
  select pg_catalog.unnest(array[
    pg_catalog.pg_get_expr(pol.polqual, pol.polrelid), pg_catalog.pg_get_expr(pol.polwithcheck, pol.polrelid)]) as text
  from pg_catalog.pg_policy pol
  join pg_catalog.pg_class c on c.oid = pol.polrelid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where n.nspname = 'realtime' and c.relname = 'messages' and pol.polcmd in ('r', 'a', '*')
) texts where text is not null
