-- $1 the publication of lookup tables, $2 the one clients subscribe to, $3 the slot's catalog_xmin; all as literals, for
-- a walsender takes no parameters. The first one's oid, whether it is older than all the slot may have to decode, and a
-- table of both of which the second one leaves something out. What a version lacks is read through to_jsonb.
select p.oid,
       coalesce(pg_catalog.age(p.xmin) > pg_catalog.age($3::text::pg_catalog.xid) or pg_catalog.age(p.xmin) < 0, false),
       (select pg_catalog.format('%I.%I', l.schemaname, l.tablename)
        from pg_catalog.pg_publication_tables l
        join pg_catalog.pg_publication_tables c on c.schemaname = l.schemaname and c.tablename = l.tablename
        join pg_catalog.pg_publication cp on cp.pubname = c.pubname
        where l.pubname = p.pubname and c.pubname = $2
          and (pg_catalog.to_jsonb(c) ->> 'rowfilter' is not null
               or pg_catalog.to_jsonb(c) -> 'attnames' is distinct from pg_catalog.to_jsonb(l) -> 'attnames'
               or not (cp.pubinsert and cp.pubupdate and cp.pubdelete))
        order by 1 limit 1)
from pg_catalog.pg_publication p
where p.pubname = $1
