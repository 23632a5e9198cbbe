-- $1 hours of retention, $2 the moment in microseconds since the Unix epoch. What could not be done, one sentence each.
select walcast.maintain_messages(
  pg_catalog.make_interval(hours => $1::int4),
  pg_catalog.timestamptz 'epoch' + $2::int8 * interval '1 microsecond')
