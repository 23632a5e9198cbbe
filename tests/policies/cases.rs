//! Every disagreement with Postgres that was ever found, in its smallest form.

use super::{
    asked::{Asked, Subject},
    compare::Tally,
    stage::play,
};
use crate::support::token::ALICE;
use serde_json::json;

const TABLE: &str = "
    create table docs (id int primary key, owner_id uuid, level int, is_public boolean);
    alter table docs enable row level security;
    alter publication supabase_realtime add table docs;
    grant select on all tables in schema public to anon, walcast, service_role;
    insert into docs values (1, '11111111-1111-1111-1111-111111111111', 1, true), (2, null, null, false);
";

/// Compares a table `docs` under policies, for a good token, the identifier of a third party, and no claims.
#[track_caller]
fn agree(sql: &str) -> Tally {
    let subjects = [json!({"sub": ALICE}), json!({"sub": "user_2abc"}), json!({})];
    let subjects = subjects.map(|claims| Subject::new("anon", claims));
    let played = play(&format!("{TABLE} {sql}"), &[Asked::new("docs", "id")], &subjects);
    for played in &played {
        played.agrees(sql);
        assert_eq!(played.tally.decisions, 6);
    }
    played.into_iter().next().expect("a version is under test").tally
}

#[test]
fn a_permissive_policy_that_fails_does_not_hide_what_one_with_a_later_name_shows() {
    let tally = agree(
        "create policy p0 on docs using (coalesce(auth.uid() = owner_id, true));
         create policy p1 on docs using (is_public)",
    );
    assert!(tally.visible > 0);
}

#[test]
fn an_error_behind_the_first_policy_by_name_is_not_reached() {
    agree(
        "create policy p0 on docs using (level / 0 = 1);
         create policy p1 on docs using (is_public)",
    );
}

#[test]
fn an_or_with_a_constant_that_is_true_has_no_errors() {
    let tally = agree("create policy p on docs using (auth.uid() = owner_id or array[1, 2] && array[2])");
    assert_eq!(tally.errors, 0);
    agree("create policy p on docs using (auth.uid() = owner_id or true)");
    agree("create policy p on docs using (not (auth.uid() = owner_id and false))");
}

#[test]
fn a_policy_that_recurses_fails_also_beside_one_that_is_true() {
    let tally = agree(
        "create policy p0 on docs using (true);
         create policy p1 on docs using (exists (select from docs other where other.id = docs.id))",
    );
    assert_eq!(tally.visible, 0);
}

#[test]
fn an_argument_that_a_function_does_not_use_may_fail_all_the_same() {
    let tally = agree(
        "create table flags (id int primary key); grant select on flags to anon, service_role;
         alter publication supabase_realtime add table flags; insert into flags values (1);
         create function f(arg uuid) returns boolean language plpgsql stable
           as $$ begin return exists (select from public.flags); end $$;
         create policy p on docs using (f(auth.uid()))",
    );
    assert!(tally.doubts > 0 && tally.visible > 0);
    agree(
        "create function f(arg int) returns boolean language plpgsql stable as $$ begin return true; end $$;
         create policy p on docs using (f(1 / (level - 1)))",
    );
}

#[test]
fn what_constants_decide_while_postgres_plans_is_never_computed() {
    agree("create policy p on docs using ((level::text::uuid = null::uuid) is null)");
    agree("create policy p on docs using (not (level / 0 = 1 and false))");
    agree("create policy p on docs using (case when true then is_public else level / 0 = 1 end)");
    agree("create policy p on docs using (coalesce(null, is_public, true))");
}

#[test]
fn a_function_that_is_wrongly_declared_immutable_fails_where_it_is_not_reached() {
    let tally = agree(
        "create function f() returns boolean language plpgsql immutable
           as $$ begin return auth.uid() is not null; end $$;
         create policy p0 on docs using (true); create policy p1 on docs using (f())",
    );
    assert_eq!(tally.visible, 0);
}
