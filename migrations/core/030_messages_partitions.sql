-- The first partitions; serving makes those of later days.
do $$
declare
  problem text;
begin
  foreach problem in array walcast.maintain_messages() loop
    raise warning '%', problem;
  end loop;
end
$$;
