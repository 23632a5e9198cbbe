-- What tables were that they are not any more: there is a later one, or no such table. A table that is what it was before gets
-- a new one with its next row.
select s.id from walcast.outbox_shapes s
where s.retired_before is null
  and (exists (
      select from walcast.outbox_shapes later
      where later.relation = s.relation and later.id > s.id and later.retired_before is null)
    or not exists (select from pg_catalog.pg_class c where c.oid = s.relation))
