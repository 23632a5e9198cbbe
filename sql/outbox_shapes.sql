-- $1 shapes. What their tables were.
select s.id, s.description from walcast.outbox_shapes s where s.id = any ($1)
