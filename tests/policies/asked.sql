-- What Postgres shows to whom. Everything runs as the role that is asked about, so everybody may call it.
create schema oracle;
grant usage on schema oracle to public;

-- The keys of all rows, whoever asks.
create function oracle.keys(of_table text, key text) returns text[] language plpgsql security definer as $$
declare result text[];
begin
  execute format('select coalesce(array_agg(concat_ws(''|'', %s)), ''{}'') from %s', key, of_table) into result;
  return result;
end $$;

-- Row by row, because one row's error hides all others of a statement.
create function oracle.each(of_table text, key text, out seen text[], out failed text[]) language plpgsql as $$
declare
  one text; condition text; found boolean;
begin
  seen := '{}'; failed := '{}';
  perform set_config('enable_seqscan', 'off', true);
  foreach one in array oracle.keys(of_table, key) loop
    select string_agg(format('%s = %L', k, split_part(one, '|', n::int)), ' and ')
      from unnest(string_to_array(key, ',')) with ordinality as c(k, n) into condition;
    begin
      execute format('select exists (select %s from %s where %s)', key, of_table, condition) into found;
      if found then seen := seen || one; end if;
    exception when others then failed := failed || one;
    end;
  end loop;
  perform set_config('enable_seqscan', 'on', true);
end $$;

-- Every table to every subject, in one transaction and so at one `now()`, in microseconds since 2000.
create function oracle.ask(roles text[], claims text[], tables text[], keys text[],
    out subject int, out of_table int, out seen text[], out failed text[], out at bigint, out error text)
  returns setof record language plpgsql as $$
begin
  at := (extract(epoch from now()) * 1000000)::bigint - 946684800000000;
  for s in 1..cardinality(roles) loop
    perform set_config('role', roles[s], true), set_config('request.jwt.claims', claims[s], true);
    for t in 1..cardinality(tables) loop
      subject := s - 1; of_table := t - 1; error := null;
      begin
        execute format('select coalesce(array_agg(concat_ws(''|'', %s)), ''{}'') from %s', keys[t], tables[t]) into seen;
        failed := '{}';
      exception when others then
        error := sqlstate || ' ' || sqlerrm;
        select e.seen, e.failed into seen, failed from oracle.each(tables[t], keys[t]) e;
      end;
      return next;
    end loop;
  end loop;
  perform set_config('role', 'none', true);
end $$;

-- Runs statements that Postgres may refuse, and says which.
create function oracle.attempt(statements text[]) returns table (n int, error text) language plpgsql as $$
begin
  for i in 1..cardinality(statements) loop
    begin
      execute statements[i];
    exception when others then
      n := i - 1; error := sqlstate || ' ' || sqlerrm;
      return next;
    end;
  end loop;
end $$;

grant execute on all functions in schema oracle to public;
