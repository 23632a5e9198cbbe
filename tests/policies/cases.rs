//! Every disagreement with Postgres that was ever found, in its smallest form.

use super::{
    PRELUDE,
    asked::{Asked, FUNCTIONS, Subject, ask},
    compare::{Moment, Replaced, Tally},
    state::Eyes,
};
use crate::support::postgres::{Postgres, majors};
use serde_json::{Value, json};
use walcast::policy::catalog::RowRule;

/// `docs (id, ...)` with row level security in a database of its own, and what is compared of it.
struct Case {
    /// Columns of `docs` beside `id`, policies, functions, rows.
    sql: &'static str,
    /// The claims of those who ask, as `authenticated`.
    claims: Vec<Value>,
}

const TABLE: &str = "grant usage on schema public to public;
    create table docs (id int primary key, owner uuid, org int, code text, is_public boolean, tags text[], n numeric);
    alter table docs enable row level security; grant select on docs to authenticated;
    alter publication supabase_realtime add table docs;";

impl Case {
    async fn tally(&self) -> Tally {
        let mut last = Tally::default();
        for major in majors() {
            let database = Postgres::shared(major).database().await;
            database.execute(&format!("{PRELUDE} {FUNCTIONS} {TABLE}")).await;
            let mut eyes = Eyes::open(&database).await;
            eyes.superuser.batch_execute(self.sql).await.unwrap_or_else(|error| panic!("{error:?}"));
            let catalog = eyes.catalog().await;
            let asked = [Asked::new("docs", "id")];
            let judged = eyes.judged(&catalog, &asked).await;
            if let RowRule::Database(policy) = &judged[0].table.access["authenticated"].rows {
                println!("left to the database: {:?}", policy.why);
            }
            let lookups = eyes.lookups(&catalog).await;
            let subjects: Vec<Subject> =
                self.claims.iter().map(|claims| Subject::new("authenticated", claims.clone())).collect();
            let answer = ask(&eyes.superuser, &subjects, &asked).await;
            let replaced = Replaced::new();
            let moment = Moment {
                catalog: &catalog,
                lookups: &lookups,
                subjects: &subjects,
                answer: &answer,
                replaced: &replaced,
            };
            let mut tally = Tally::default();
            let found = moment.compare(&judged, &mut tally);
            let said: Vec<String> = found.iter().take(3).map(ToString::to_string).collect();
            println!("{tally}");
            assert!(said.is_empty(), "PostgreSQL {major}: {} disagreements\n{}", found.len(), said.join("\n"));
            last = tally;
        }
        last
    }
}

fn claims() -> Vec<Value> {
    vec![
        json!({"sub": "11111111-1111-1111-1111-111111111111", "level": "5", "kind": "admin"}),
        json!({"sub": "22222222-2222-2222-2222-222222222222", "level": "x", "kind": "user"}),
        json!({"sub": "user_1", "level": "x", "kind": "admin"}),
    ]
}

const ROWS: &str = "insert into docs values
    (1, '11111111-1111-1111-1111-111111111111', 1, '7', true, '{a}', 1), (2, null, 2, 'x', true, '{b}', 2),
    (3, '22222222-2222-2222-2222-222222222222', 2, '3', false, null, 3), (4, null, null, null, null, null, null),
    (5, null, null, 'x', null, null, null);";

macro_rules! try_case {
    ($($name:ident: $sql:expr;)*) => { $(#[tokio::test] async fn $name() {
        Case { sql: Box::leak(format!("{} {ROWS}", $sql).into_boxed_str()), claims: claims() }.tally().await;
    })* };
}

try_case! {
    t01_unused_argument_row: "create function f(ok boolean, n int) returns boolean language plpgsql as $$ begin return ok; end $$;
        create policy p on docs using (f(is_public, code::int));";
    t02_conditional_argument_row: "create function f(ok boolean, n int) returns boolean language plpgsql as $$ begin return ok or n > 5; end $$;
        create policy p on docs using (f(is_public, code::int));";
    t03_strict_second_fails: "create function f(a text, n int) returns boolean language plpgsql strict as $$ begin return n > 5; end $$;
        create policy p on docs using (f(tags[1], code::int) is null);";
    t03b_strict_second_fails: "create function f(a int, n int) returns boolean language plpgsql strict as $$ begin return n > 5; end $$;
        create policy p on docs using (f(org, code::int) is null);";
    t04_unused_argument_claims: "create function f(ok boolean, u uuid) returns boolean language plpgsql as $$ begin return ok; end $$;
        create policy p on docs using (f(is_public, auth.uid()));";
    t05_lazy_argument_claims: "create function f(ok boolean, o uuid, u uuid) returns boolean language plpgsql as $$ begin return ok or o = (select u); end $$;
        create policy p on docs using (f(is_public, owner, auth.uid()));";
    t06_swallowed_argument_claims: "create function f(k text, u uuid) returns boolean language plpgsql as $$ begin return k = 'admin' or u is not null; end $$;
        create policy p on docs using (is_public and f(auth.jwt() ->> 'kind', auth.uid()));";
    t07_sql_definer_unused: "create function f(ok boolean, u uuid) returns boolean language sql security definer as $$ select ok $$;
        create policy p on docs using (f(is_public, auth.uid()));";
    t08_nested_and_in_or: "create policy p on docs using (is_public or (auth.jwt() ->> 'kind' = 'root' and (auth.jwt() ->> 'level')::int > 3));";
    t09_nested_or_in_or: "create policy p on docs using (is_public or (auth.jwt() ->> 'kind' = 'admin' or (auth.jwt() ->> 'level')::int > 3));";
    t10_nested_or_in_and: "create policy p on docs using (is_public and (auth.jwt() ->> 'kind' = 'admin' or (auth.jwt() ->> 'level')::int > 3));";
    t11_two_policies: "create policy p on docs using (is_public); create policy a on docs using (auth.jwt() ->> 'kind' = 'root' and (auth.jwt() ->> 'level')::int > 3);";
    t12_coalesce: "create policy p on docs using (is_public or coalesce(auth.jwt() ->> 'kind', (1/((auth.jwt() ->> 'level')::int))::text) = 'root');";
    t13_inlined_fn: "create function lvl() returns boolean language sql stable as $$ select auth.jwt() ->> 'kind' = 'root' and (auth.jwt() ->> 'level')::int > 3 $$;
        create policy p on docs using (is_public or lvl());";
    t14_plpgsql_fn: "create function lvl() returns boolean language plpgsql stable as $$ begin return auth.jwt() ->> 'kind' = 'root' and (auth.jwt() ->> 'level')::int > 3; end $$;
        create policy p on docs using (is_public or lvl());";
    t15_setof_unused: "create table m (org int primary key, who uuid); grant select on m to authenticated; alter publication supabase_realtime add table m; insert into m values (1, null), (2, null);
        create function f(u int) returns setof int language sql security definer stable as $$ select org from m $$;
        create policy p on docs using (org in (select f(code::int)));";
    t16_lookup_fn_arg: "create table m (org int primary key, who text); grant select on m to authenticated; alter publication supabase_realtime add table m; insert into m values (1, 'x'), (2, 'x');
        create function f(o int, c int) returns boolean language plpgsql stable as $$ begin return exists (select 1 from m where m.org = o and (m.who = 'x' or m.org = c)); end $$;
        create policy p on docs using (f(org, code::int));";
    t18_case_arms: "create policy p on docs using (case when is_public then true else (auth.jwt() ->> 'level')::int > 3 end);";
    t19_sequence_shadows: "create schema a; create schema b; grant usage on schema a, b to public; create sequence a.m;
        create table b.m (org int primary key); insert into b.m values (1); grant select on b.m to authenticated; alter publication supabase_realtime add table b.m;
        set check_function_bodies = off; create function f(o int) returns boolean language sql stable set search_path = a, b as 'select exists (select 1 from m where m.org = o)';
        create policy p on docs using (f(org));";
    t20_stored_or_null: "create policy p on docs using (code::int > 5 or is_public);";
    t21_two_perm: "create policy a on docs using (is_public); create policy b on docs using (code::int > 5);";
    t22_two_perm: "create policy b on docs using (is_public); create policy a on docs using (code::int > 5);";
    t23_count_alias: "create table m (org int primary key, who uuid); grant select on m to authenticated; alter publication supabase_realtime add table m; insert into m values (1, null), (2, null);
        create policy p on docs using ((select count(*) from m where m.org = docs.org) = 1);";
    t24_not_in: "create table m (org int primary key, who int); grant select on m to authenticated; alter publication supabase_realtime add table m; insert into m values (1, null), (2, 7);
        create policy p on docs using (org not in (select who from m)); create policy q on docs using (org <> all (select who from m where who > 6));";
    t25_bare_variable_free: "create policy p on docs using ((auth.jwt() ->> 'kind') = 'root' and (auth.jwt() ->> 'level')::int > 3 or is_public);";
    t26_and_with_column: "create policy p on docs using (is_public or (org = 77 and (auth.jwt() ->> 'level')::int > 3));";
    t27_subselect: "create policy p on docs using (is_public or (select auth.jwt() ->> 'kind' = 'root' and (auth.jwt() ->> 'level')::int > 3));";

    b01_enum_operator: "create type mood as enum ('open', 'shut'); create table m (org int primary key, s mood, d text); grant select on m to authenticated; alter publication supabase_realtime add table m; insert into m values (1, 'open', 'x'), (2, 'shut', 'y');
        create function never(mood, text) returns boolean language sql immutable as 'select false'; create operator public.= (leftarg = mood, rightarg = text, function = never);
        set search_path = public; create function f(o int) returns boolean language sql stable as $$ select exists (select 1 from public.m where m.org = o and m.s <> 'open') $$;
        create function never(mood, mood) returns boolean language sql immutable as 'select true'; create operator public.<> (leftarg = mood, rightarg = mood, function = never);
        create policy p on docs using (f(org));";
    b02_domain_operator: "create domain loud as text; create table m (org int primary key, s loud); grant select on m to authenticated; alter publication supabase_realtime add table m; insert into m values (1, 'open'), (2, 'shut');
        create function never(loud, loud) returns boolean language sql immutable as 'select false'; create operator public.= (leftarg = loud, rightarg = loud, function = never);
        create function f(o int) returns boolean language sql stable as $$ select exists (select 1 from public.m a, public.m b where a.org = o and a.s = b.s) $$;
        create policy p on docs using (f(org));";
    b05_count_aggregate: "create function one(bigint) returns bigint language sql immutable as 'select 7::bigint'; create aggregate public.count(*) (sfunc = one, stype = bigint, initcond = '7');
        create table m (org int primary key); grant select on m to authenticated; alter publication supabase_realtime add table m; insert into m values (1), (2);
        create function f(o int) returns boolean language sql stable set search_path = public, pg_catalog as $$ select (select count(*) from m where m.org = o) = 1 $$;
        create policy p on docs using (f(org));";
    b32_column_wins: "create table m (org int primary key, who int); grant select on m to authenticated; alter publication supabase_realtime add table m; insert into m values (7, 1);
        create function f(org int) returns boolean language sql stable as $$ select exists (select 1 from m where m.org = org) $$;
        create policy p on docs using (f(org));";
    b36_literals: "create function f(c text) returns boolean language sql stable as $$ select c = 'x'
        '' or c = E'\\x37' or c = e'\063' /* a /* b */ c */ $$; create policy p on docs using (f(code));";
    b22_underscore: "set check_function_bodies = off; create function f() returns int language sql stable as $$ select 1_000 $$; create policy p on docs using (org < f());";
    b40_any_null: "create policy p on docs using (code in ('7', null) or code <> all (tags) or 'a' = any (tags) or not (code = any (tags || '{x}'::text[])));";
    b41_numeric_key: "create table m (n numeric primary key, who text); grant select on m to authenticated; alter publication supabase_realtime add table m; insert into m values (1.00, 'admin'), (2.0, 'user'), (3, null);
        create policy p on docs using (exists (select 1 from m where m.n = docs.n and m.who = auth.jwt() ->> 'kind'));
        create policy q on docs using (n = (select m.n from m where m.n = docs.org::numeric and m.who is null));";
    b42_join_paths: "create table m (org int, who text, boss int, primary key (org, who)); create table k (id int primary key, up int, ok boolean); grant select on m, k to authenticated; alter publication supabase_realtime add table m, k;
        insert into m values (1, 'admin', 2), (2, 'user', 3), (3, 'admin', 1); insert into k values (1, 2, true), (2, 3, null), (3, 1, true);
        create policy p on docs using (exists (select 1 from k join m on m.boss = k.id where k.up = docs.org and k.ok and m.who = auth.jwt() ->> 'kind'));
        create policy q on docs using (org in (select k.up from k where k.id in (select m.boss from m where m.who = auth.jwt() ->> 'kind' and exists (select 1 from k x where x.id = m.org and x.up = k.up))));
        create policy r on docs using ((auth.jwt() ->> 'kind') in (select m.who from m where m.org = docs.org + 1));
        create policy s on docs using ((auth.jwt() ->> 'kind') = any (array(select m.who from m, k where k.up = m.org and k.id = docs.org)));";
    b43_negated_paths: "create table m (org int, who text, primary key (org, who)); grant select on m to authenticated; alter publication supabase_realtime add table m; insert into m values (1, 'admin'), (2, 'user');
        create policy p on docs using (not exists (select 1 from m where m.org = docs.org and m.who = auth.jwt() ->> 'kind'));";
    b44_case_paths: "create policy p on docs using (case when is_public then owner = auth.uid() when org = 2 then code = auth.jwt() ->> 'level' else coalesce(tags && array[auth.jwt() ->> 'kind'], true) end);";
    b45_bool_paths: "create policy p on docs using ((code = auth.jwt() ->> 'level') is true or (is_public = (auth.jwt() ->> 'kind' = 'admin')) or ((auth.jwt() ->> 'level') is distinct from code and org = 3));";
    b46_names: "create policy p on docs using (jsonb_build_array('7', 'x') ? code and auth.jwt() ? code or (auth.jwt() -> 'kind') ? code or (auth.jwt() -> 'level') ? code);";
    b47_rls_of_lookup: "create table m (org int primary key, who text); alter table m enable row level security; grant select on m to authenticated; alter publication supabase_realtime add table m; insert into m values (1, 'admin'), (2, 'user');
        create policy a on m using (who = auth.jwt() ->> 'kind'); create policy b on m as restrictive using (org < 2);
        create policy p on docs using (exists (select 1 from m where m.org = docs.org) or org in (select org from m));";
    b48_count_paths: "create table m (org int, who text, primary key (org, who)); grant select on m to authenticated; alter publication supabase_realtime add table m; insert into m values (1, 'admin'), (2, 'user');
        create policy p on docs using ((select count(*) from m where m.org = docs.org and m.who = auth.jwt() ->> 'kind') = 0 and is_public);
        create policy q on docs using (exists (select 1 from m where m.who = auth.jwt() ->> 'kind' and m.org <= docs.org));";
    b49_nested_depth: "create function f(a boolean) returns boolean language sql immutable as $$ select not(not(not(not(not(not(not(not(not(not(not(not(not(not(not(not(not(not(not(not(not(not(not(not(not(not(not(not(not(not(not(not(not(not(not(not(not(not(not(not a))))))))))))))))))))))))))))))))))))))) $$;
        create policy p on docs using (f(f(f(f(f(f(f(f(f(f(f(f(f(f(f(f(f(f(f(f(f(f(f(f(f(f(f(f(f(f(f(f(f(f(f(f(f(f(f(f(f(f(f(f(f(is_public))))))))))))))))))))))))))))))))))))))))))))));";
    b50_variable_in_sql: "create function f(ok boolean) returns boolean language plpgsql as $$ begin return exists (select 1 from docs d where false) or ok; end $$; create policy p on docs using (is_public);";
}
