-- What Postgres does when the rows are really written: by the owner and selected as the role, or inserted as the role.
-- All of it is undone. One row a question, so that no error of one hides another's answer.
create schema oracle;
create function oracle.one(role_ text, claims_ text, topic_ text, headers_ text, reads boolean, extension_ text)
  returns text language plpgsql as $$
declare
  probe uuid;
  rows_ int;
begin
  if reads then
    insert into realtime.messages (topic, extension) values (topic_, extension_) returning id into probe;
  end if;
  perform set_config('realtime.topic', topic_, true),
          set_config('request.jwt.claims', claims_, true),
          set_config('request.jwt.claim.sub', coalesce(claims_::jsonb ->> 'sub', ''), true),
          set_config('request.jwt.claim.role', role_, true),
          set_config('request.headers', headers_, true);
  perform set_config('role', role_, true);
  if reads then
    execute 'select m.* from realtime.messages m where m.id = $1' using probe;
    get diagnostics rows_ = row_count;
  else
    execute 'insert into realtime.messages (topic, extension, private, id, inserted_at, updated_at)
             values ($1, $2, false, gen_random_uuid(), now(), now())' using topic_, extension_;
    rows_ := 1;
  end if;
  raise exception using errcode = 'ORACL', message = case when rows_ = 1 then 'yes' else 'no' end;
exception
  when sqlstate 'ORACL' then return sqlerrm;
  when others then return sqlstate;
end $$;

create function oracle.all(roles text[], claims text[], topics text[], headers text[], reads boolean[])
  returns table (n int, broadcast text, presence text) language plpgsql as $$
begin
  for i in 1..cardinality(roles) loop
    n := i - 1;
    broadcast := oracle.one(roles[i], claims[i], topics[i], headers[i], reads[i], 'broadcast');
    presence := oracle.one(roles[i], claims[i], topics[i], headers[i], reads[i], 'presence');
    return next;
  end loop;
end $$;
