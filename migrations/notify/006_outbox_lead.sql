-- Who reads the outbox has this locked, which takes a right to it. A view, because nobody vacuums one: a table that is
-- locked for months would keep its database from that.
create view walcast.outbox_lead as select true as is_it;

do $$
declare
  granted record;
begin
  for granted in
    select acl.grantee
    from pg_catalog.pg_class c
    cross join lateral pg_catalog.aclexplode(c.relacl) acl
    where c.oid = 'walcast.outbox_lead'::pg_catalog.regclass and acl.grantee <> c.relowner
    group by acl.grantee
  loop
    execute pg_catalog.format('revoke all on table walcast.outbox_lead from %s',
      case granted.grantee when 0 then 'public' else pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(granted.grantee)) end);
  end loop;
end
$$;
comment on view walcast.outbox_lead is 'walcast: locked by the server that reads the outbox';
