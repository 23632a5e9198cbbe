//! What a review of compiled policies found: each judged by the process and by Postgres.

use super::{
    PRELUDE,
    asked::{Asked, FUNCTIONS, Subject, ask},
    compare::{Moment, Replaced, Tally},
    state::Eyes,
};
use crate::support::postgres::{Postgres, majors};
use serde_json::json;

const TABLE: &str = "grant usage on schema public to public;
    create table docs (id int primary key, owner uuid, org int, code text, is_public boolean);
    alter table docs enable row level security; grant select on docs to authenticated;
    alter publication supabase_realtime add table docs;
    insert into docs values (1, '11111111-1111-1111-1111-111111111111', 1, '7', true), (2, null, 2, 'x', true),
      (3, '22222222-2222-2222-2222-222222222222', 2, '3', false), (4, null, null, null, null), (5, null, null, 'x', null)";

/// Whole claims, and such that a policy fails on.
fn subjects() -> Vec<Subject> {
    let claims = [
        json!({"sub": "11111111-1111-1111-1111-111111111111", "kind": "admin"}),
        json!({"sub": "22222222-2222-2222-2222-222222222222", "kind": "user"}),
        json!({"sub": "user_1", "kind": "admin"}),
    ];
    claims.into_iter().map(|claims| Subject::new("authenticated", claims)).collect()
}

/// Whatever the process decides of `docs` under these policies, Postgres must decide so too.
async fn check(policies: &str) {
    for major in majors() {
        let database = Postgres::shared(major).database().await;
        database.execute(&format!("{PRELUDE} {FUNCTIONS} {TABLE}")).await;
        let mut eyes = Eyes::open(&database).await;
        eyes.superuser.batch_execute(policies).await.unwrap_or_else(|error| panic!("{error:?}"));
        let catalog = eyes.catalog().await;
        let asked = [Asked::new("docs", "id")];
        let judged = eyes.judged(&catalog, &asked).await;
        let lookups = eyes.lookups(&catalog).await;
        let subjects = subjects();
        let answer = ask(&eyes.superuser, &subjects, &asked).await;
        let replaced = Replaced::new();
        let moment =
            Moment { catalog: &catalog, lookups: &lookups, subjects: &subjects, answer: &answer, replaced: &replaced };
        let mut tally = Tally::default();
        let found = moment.compare(&judged, &mut tally);
        let said: Vec<String> = found.iter().take(3).map(ToString::to_string).collect();
        assert!(said.is_empty(), "PostgreSQL {major}: {} disagreements\n{}", found.len(), said.join("\n"));
        assert!(tally.decisions > 0, "{tally}");
    }
}

macro_rules! cases {
    ($($name:ident: $policies:expr;)*) => {
        $(#[tokio::test]
        async fn $name() {
            check($policies).await;
        })*
    };
}

cases! {
    an_argument_nobody_uses_is_an_error_all_the_same:
        "create function f(ok boolean, n int) returns boolean language plpgsql as $$ begin return ok; end $$;
        create policy p on docs using (f(is_public, code::int))";
    an_argument_used_on_condition_is_an_error_all_the_same:
        "create function f(ok boolean, n int) returns boolean language plpgsql as $$ begin return ok or n > 5; end $$;
        create policy p on docs using (f(is_public, code::int))";
    a_strict_function_computes_all_arguments_before_one_is_null:
        "create function f(a int, n int) returns boolean language plpgsql strict as $$ begin return n > 5; end $$;
        create policy p on docs using (f(org, code::int) is null)";
    claims_that_fail_in_an_argument_nobody_uses_hide_the_row:
        "create function f(ok boolean, u uuid) returns boolean language sql security definer as $$ select ok $$;
        create policy p on docs using (f(is_public, auth.uid()))";
    claims_that_fail_in_an_argument_in_a_sub_select_hide_the_row:
        "create function f(ok boolean, o uuid, u uuid) returns boolean language plpgsql as $$ begin return ok or o = (select u); end $$;
        create policy p on docs using (f(is_public, owner, auth.uid()))";
    claims_that_fail_behind_others_that_decide_hide_the_row:
        "create function f(k text, u uuid) returns boolean language plpgsql as $$ begin return k = 'admin' or u is not null; end $$;
        create policy p on docs using (is_public and f(auth.jwt() ->> 'kind', auth.uid()))";
    an_argument_of_a_set_nobody_uses_is_an_error_all_the_same:
        "create table m (org int primary key, s text); grant select on m to authenticated; alter publication supabase_realtime add table m; insert into m values (1, 'open'), (2, 'shut');
        create function f(u int) returns setof int language sql security definer stable as $$ select org from m $$;
        create policy p on docs using (org in (select f(code::int)))";
    a_sequence_takes_a_tables_name_in_the_search_path:
        "create schema a; create schema b; grant usage on schema a, b to public; create sequence a.m;
        create table b.m (org int primary key); insert into b.m values (1); grant select on b.m to authenticated;
        alter publication supabase_realtime add table b.m; set check_function_bodies = off;
        create function f(o int) returns boolean language sql stable set search_path = a, b as 'select exists (select 1 from m where m.org = o)';
        create policy p on docs using (f(org))";
    an_operator_of_an_enum_is_meant_before_that_of_any_enum:
        "create type mood as enum ('open', 'shut'); create table m (org int primary key, s mood);
        grant select on m to authenticated; alter publication supabase_realtime add table m; insert into m values (1, 'open'), (2, 'shut');
        create function never(mood, mood) returns boolean language sql immutable as 'select false';
        create operator public.= (leftarg = mood, rightarg = mood, function = never);
        create function f(o int) returns boolean language sql stable as $$ select exists (select 1 from m a, m b where a.org = o and a.s = b.s) $$;
        create policy p on docs using (f(org))";
    an_operator_of_a_domain_is_meant_before_that_of_its_base:
        "create domain loud as text; create table m (org int primary key, s loud);
        grant select on m to authenticated; alter publication supabase_realtime add table m; insert into m values (1, 'open'), (2, 'shut');
        create function never(loud, loud) returns boolean language sql immutable as 'select false';
        create operator public.= (leftarg = loud, rightarg = loud, function = never);
        create function f(o int) returns boolean language sql stable as $$ select exists (select 1 from m a, m b where a.org = o and a.s = b.s) $$;
        create policy p on docs using (f(org))";
    count_may_be_an_aggregate_that_comes_before_the_built_in_one:
        "create table m (org int primary key, s text); grant select on m to authenticated; alter publication supabase_realtime add table m; insert into m values (1, 'open'), (2, 'shut');
        create function one(bigint) returns bigint language sql immutable as 'select 7::bigint';
        create aggregate public.count(*) (sfunc = one, stype = bigint, initcond = '7');
        create function f(o int) returns boolean language sql stable set search_path = public, pg_catalog as $$ select (select count(*) from m where m.org = o) = 1 $$;
        create policy p on docs using (f(org))";
    a_policy_as_deep_as_is_read_is_computed:
        "create function f(a boolean) returns boolean language sql immutable as $$ select not(not(not(not(not(not(not(not(not(not(not(not(not(not(not(not(not(not(not(not(not(not(not(not(a)))))))))))))))))))))))) $$;
        create function g(a boolean) returns boolean language sql immutable as $$ select f(f(f(f(f(f(f(f(f(f(f(f(f(f(a)))))))))))))) $$;
        create policy p on docs using (g(g(g(g(g(is_public))))))";
}
