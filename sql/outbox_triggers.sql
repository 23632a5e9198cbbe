-- The triggers that capture a table, without those that partitions have from the table they are a part of.
select t.tgrelid::bigint, pg_catalog.format('%I.%I', n.nspname, c.relname), pg_catalog.quote_ident(t.tgname)
from pg_catalog.pg_trigger t
join pg_catalog.pg_class c on c.oid = t.tgrelid
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
join pg_catalog.pg_proc p on p.oid = t.tgfoid
join pg_catalog.pg_namespace pn on pn.oid = p.pronamespace
where pn.nspname = 'walcast' and p.proname = 'capture' and p.pronargs = 0 and t.tgparentid = 0
order by 2, 3
