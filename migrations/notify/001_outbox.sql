-- The rows of published tables as they were written, for a server that cannot read the log. Triggers fill it, the server
-- alone reads it and prunes what it has delivered.
--
-- Nobody but the owner has a right to it from the start, whatever default privileges say.
create sequence walcast.outbox_ids as bigint cache 1;

-- Once a number was drawn from this the outbox is full, and nothing is captured until the server has emptied it: a sequence,
-- because that must hold whatever becomes of the transaction that found out.
create sequence walcast.outbox_full;

-- What a table was when a row of it was written: as JSON the table and the tables it is a partition of, and the rows of the
-- catalogue by which it is known that nothing was altered since.
create table walcast.outbox_shapes (
  id bigint generated always as identity primary key,
  relation oid not null,
  places tid[] not null,
  writers xid[] not null,
  description text not null
);
create index outbox_shapes_relation on walcast.outbox_shapes (relation);

-- An image is what record_out prints: (one,"two with a blank",,four). Ids order what one transaction did; they have gaps, for
-- what turns out to have come before another. The place is that of the row version that was replaced.
create table walcast.outbox (
  xid xid8 not null,
  id bigint not null,
  written_at timestamptz not null,
  shape bigint not null,
  operation "char" not null,
  bytes bigint not null,
  old_place tid,
  old_row text,
  new_row text,
  primary key (xid, id)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);

-- The transactions that were seen committed, in the order in which clients hear of them.
create table walcast.outbox_transactions (
  number bigint primary key,
  xid xid8 not null unique,
  rows bigint not null,
  bytes bigint not null,
  written_at timestamptz not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);

-- What is known of them: the next number, the oldest transaction that may still be without one, of which database the
-- numbers are, and how often they began anew: when a server went over to the log, transactions in between have none. And how
-- large the outbox may become while nobody reads it.
create table walcast.outbox_state (
  is_it boolean primary key default true check (is_it),
  next_number bigint not null default 1,
  oldest_open xid8 not null default '0',
  history text not null default '',
  generation bigint not null default 0,
  is_whole boolean not null default false,
  limit_bytes bigint not null default 8589934592
);
insert into walcast.outbox_state default values;

do $$
declare
  granted record;
begin
  for granted in
    select c.relname, c.relkind, acl.grantee
    from pg_catalog.pg_class c
    cross join lateral pg_catalog.aclexplode(c.relacl) acl
    where c.relnamespace = 'walcast'::pg_catalog.regnamespace and c.relname like 'outbox%'
      and acl.grantee <> c.relowner
    group by c.relname, c.relkind, acl.grantee
  loop
    execute pg_catalog.format('revoke all on %s walcast.%I from %s',
      case granted.relkind when 'S' then 'sequence' else 'table' end, granted.relname,
      case granted.grantee when 0 then 'public' else pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(granted.grantee)) end);
  end loop;
end
$$;
comment on table walcast.outbox is 'walcast: rows for the notify fallback';
