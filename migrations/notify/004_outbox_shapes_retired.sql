-- What tables were goes when no row needs it any more; src/pg/outbox/shapes.rs says when that is certain. A sequence, because
-- its value is seen at once, however old the snapshot is of whoever looks.
alter table walcast.outbox_shapes add column retired_before xid8, add column made_by xid8;
create sequence walcast.outbox_retired;

do $$
declare
  granted record;
begin
  for granted in
    select acl.grantee
    from pg_catalog.pg_class c
    cross join lateral pg_catalog.aclexplode(c.relacl) acl
    where c.oid = 'walcast.outbox_retired'::pg_catalog.regclass and acl.grantee <> c.relowner
    group by acl.grantee
  loop
    execute pg_catalog.format('revoke all on sequence walcast.outbox_retired from %s',
      case granted.grantee when 0 then 'public' else pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(granted.grantee)) end);
  end loop;
end
$$;
comment on sequence walcast.outbox_retired is 'walcast: who set descriptions of tables apart last';
