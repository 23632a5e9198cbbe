//! The shapes as data: their SQL, and who decides each for which role. Every one becomes a test of its name.

use super::run::{Rule, Shape, check};

/// All rows, by a right of the role.
const A: Rule = Rule::All;
/// No row: no permissive policy applies.
const N: Rule = Rule::None;
/// The process decides.
const C: Rule = Rule::Compiled;

/// The database decides, and the reason says this.
const fn d(why: &'static str) -> Rule {
    Rule::Database(why)
}

const DOCS: (&str, &str) = ("docs", "id");
const MESSAGES: (&str, &str) = ("messages", "id");
const OPEN: &str = "create policy open on docs using (true)";

/// Name: table, rules for anon, authenticated, service_role, support, shapes_owner and shapes_editor; statements.
macro_rules! shapes {
    ($($name:ident: $table:expr, $rules:expr, $sql:expr;)*) => {
        $(#[test]
        fn $name() {
            check(&Shape { name: stringify!($name), table: $table.0, key: $table.1, rules: $rules, sql: &$sql });
        })*
    };
}

// Row and claims.
shapes! {
    c01_owner_column: DOCS, [N, C, A, N, N, C],
        ["create policy c01 on docs for select to authenticated using (owner_id = auth.uid())"];
    c02_owner_column_wrapped_for_the_planner: DOCS, [N, C, A, N, N, C],
        ["create policy c02 on docs for select to authenticated using ((select auth.uid()) = owner_id)"];
    c03_one_of_two_columns: MESSAGES, [N, C, A, N, N, C],
        ["create policy c03 on messages for select to authenticated using (auth.uid() in (sender_id, recipient_id))"];
    c04_array_of_allowed_users: DOCS, [N, C, A, N, N, C],
        ["create policy c04 on docs for select to authenticated using (auth.uid() = any (editors))"];
    c05_public_or_mine: DOCS, [C, C, A, C, C, C],
        ["create policy c05 on docs for select using (is_public or owner_id = auth.uid())"];
    c06_row_state_only: DOCS, [C, C, A, N, N, C],
        ["create policy c06 on docs for select to anon, authenticated
            using (status = 'published' and deleted_at is null)"];
    c07_everybody: DOCS, [A, N, A, N, N, N],
        ["create policy c07 on docs for select to anon using (true)"];
    c08_no_policy_at_all: DOCS, [N, N, A, N, N, N], [];
    c09_any_signed_in_user: DOCS, [C, C, A, C, C, C],
        ["create policy c09 on docs for select using (auth.role() = 'authenticated')"];
    c09b_any_user_with_an_identifier: DOCS, [C, C, A, C, C, C],
        ["create policy c09b on docs for select using (auth.uid() is not null)"];
    c10_email_match_or_domain: ("profiles", "id"), [N, C, A, N, N, C],
        ["create policy c10 on profiles for select to authenticated
            using (email = auth.email() or auth.email() like '%@example.com')"];
    c11_tenant_of_a_claim: DOCS, [N, C, A, N, N, C],
        ["create policy c11 on docs for select to authenticated
            using (org_id = ((auth.jwt() -> 'app_metadata') ->> 'org_id')::uuid)"];
    c12_claim_holds_a_list_of_tenants: DOCS, [N, C, A, N, N, C],
        ["create policy c12 on docs for select to authenticated
            using ((auth.jwt() #> '{app_metadata,orgs}') ? org_id::text)"];
    c12b_claim_unnested_to_a_set: DOCS, [N, C, A, N, N, C],
        ["create policy c12b on docs for select to authenticated
            using (org_id::text in (select jsonb_array_elements_text(auth.jwt() #> '{app_metadata,orgs}')))"];
    c13_admin_by_claim: DOCS, [N, C, A, N, N, C],
        ["create policy c13 on docs for select to authenticated
            using (coalesce((auth.jwt() -> 'app_metadata' ->> 'role') = 'admin', false))"];
    c13b_admin_by_metadata_users_can_edit: DOCS, [N, C, A, N, N, C],
        ["create policy c13b on docs for select to authenticated
            using ((auth.jwt() -> 'user_metadata' ->> 'role') = 'admin')"];
    c14_claim_against_a_map_in_the_row: DOCS, [N, C, A, N, N, C],
        ["create policy c14 on docs for select to authenticated
            using (meta @> jsonb_build_object('readers', jsonb_build_array(auth.uid()))
                   or meta ->> 'visibility' = 'public')"];
    c15_clearance: DOCS, [N, C, A, N, N, C],
        ["create policy c15 on docs for select to authenticated
            using (level <= coalesce((auth.jwt() -> 'app_metadata' ->> 'level')::int, 0))"];
    c16_overlap_of_tags: DOCS, [N, C, A, N, N, C],
        ["create policy c16 on docs for select to authenticated
            using (tags && array(select jsonb_array_elements_text(auth.jwt() #> '{app_metadata,tags}')))"];
    c17_first_path_segment: DOCS, [N, C, A, N, N, C],
        ["create policy c17 on docs for select to authenticated using (split_part(path, '/', 1) = auth.uid()::text)"];
    c18_case_by_status: DOCS, [N, C, A, N, N, C],
        ["create policy c18 on docs for select to authenticated
            using (case status when 'draft' then owner_id = auth.uid()
                               when 'review' then auth.uid() in (owner_id, reviewer_id)
                               else true end)"];
    c19_generated_column: DOCS, [N, d("generated"), A, N, N, d("generated")],
        ["create policy c19 on docs for select to authenticated using (slug <> 'internal')"];
    c20_policies_by_role_list: DOCS, [C, C, A, C, C, C],
        ["create policy c20a on docs for select to anon using (is_public)",
         "create policy c20b on docs for select to authenticated using (is_public or owner_id = auth.uid())",
         "create policy c20c on docs to public using (status = 'open')"];
}

// Restrictive policies and facts of the session.
shapes! {
    c21_restrictive_tenant_wall: DOCS, [C, C, A, C, C, C],
        ["create policy c21 on docs as restrictive for all to authenticated
            using (org_id = (auth.jwt() ->> 'org_id')::uuid)",
         "create policy a on docs for select using (is_public)",
         "create policy b on docs for select to authenticated using (owner_id = auth.uid())"];
    c21b_restrictive_alone: DOCS, [N, N, A, N, N, N],
        ["create policy c21 on docs as restrictive for all to authenticated using (true)"];
    c22_second_factor_required: DOCS, [A, C, A, A, A, C],
        ["create policy c22 on docs as restrictive to authenticated using (auth.jwt() ->> 'aal' = 'aal2')", OPEN];
    c23_second_factor_for_those_enrolled: DOCS, [A, C, A, A, A, C],
        ["create policy c23 on docs as restrictive to authenticated using (
            array[auth.jwt() ->> 'aal'] <@ (
              select case when count(*) > 0 then array['aal2'] else array['aal1','aal2'] end
              from mfa where user_id = auth.uid() and status = 'verified'))", OPEN];
    c24_no_anonymous_sign_ins: DOCS, [A, C, A, A, A, C],
        ["create policy c24 on docs as restrictive for select to authenticated
            using ((auth.jwt() ->> 'is_anonymous')::boolean is not true)", OPEN];
    c25_tenant_of_a_session_setting: DOCS, [C, C, A, C, C, C],
        ["create policy c25 on docs using (org_id = nullif(current_setting('app.tenant_id', true), '')::uuid)"];
    c26_legacy_claim_setting: DOCS, [C, C, A, C, C, C],
        ["create policy c26 on docs for select
            using (owner_id::text = current_setting('request.jwt.claim.sub', true))"];
    c27_name_of_the_role: DOCS, [C, C, A, C, C, C],
        ["create policy c27 on docs for select using (current_user = 'support' or status = 'open')"];
    c27b_name_of_the_login: DOCS, [d("session_user"), d("session_user"), A, d("session_user"), d("session_user"), d("session_user")],
        ["create policy c27b on docs for select using (session_user <> 'support')"];
    c28_request_headers: DOCS, [d("request.headers"), d("request.headers"), A, d("request.headers"), d("request.headers"), d("request.headers")],
        ["create policy c28 on docs for select
            using (current_setting('request.headers', true)::json ->> 'x-region' = region)"];
}

// Lookups in other tables.
shapes! {
    c29_membership: DOCS, [N, C, A, N, N, C],
        ["create policy c29 on docs for select to authenticated using (
            exists (select 1 from memberships m where m.org_id = docs.org_id and m.user_id = auth.uid()))",
         "create policy own on memberships for select to authenticated using (status is not null)"];
    c29b_membership_whose_own_policy_hides_it: DOCS, [N, C, A, N, N, C],
        ["create policy c29 on docs for select to authenticated using (
            exists (select 1 from memberships m where m.org_id = docs.org_id and m.user_id = auth.uid()))"];
    c30_membership_as_a_set: DOCS, [N, C, A, N, N, C],
        ["create policy c30 on docs for select to authenticated using (
            org_id in (select m.org_id from memberships m where m.user_id = auth.uid()))",
         "create policy own on memberships for select to authenticated using (user_id = auth.uid())"];
    c30b_membership_as_a_set_of_users: DOCS, [N, C, A, N, N, C],
        ["create policy c30b on docs for select to authenticated using (
            auth.uid() in (select m.user_id from memberships m where m.org_id = docs.org_id))",
         "create policy own on memberships for select to authenticated using (true)"];
    c31_membership_with_role_and_state: DOCS, [N, C, A, N, N, C],
        ["create policy c31 on docs for select to authenticated using (
            exists (select 1 from memberships m where m.org_id = docs.org_id and m.user_id = auth.uid()
                    and m.role in ('owner','admin') and m.status = 'active'))",
         "create policy own on memberships for select to authenticated using (true)"];
    c32_admin_flag_in_a_profile: DOCS, [N, C, A, N, N, C],
        ["create policy c32 on docs for select to authenticated using (
            exists (select 1 from profiles p where p.id = auth.uid() and p.is_admin))",
         "create policy own on profiles for select to authenticated using (id = auth.uid())"];
    c32b_admin_flag_as_a_scalar: DOCS, [N, C, A, N, N, C],
        ["create policy c32b on docs for select to authenticated using (
            (select p.is_admin from profiles p where p.id = auth.uid()))",
         "create policy own on profiles for select to authenticated using (id = auth.uid())"];
    c33_definer_helper: DOCS, [N, C, A, N, N, C],
        ["create policy c33 on docs for select to authenticated using (is_member(org_id))"];
    c34_definer_helper_of_a_set: DOCS, [N, C, A, N, N, C],
        ["create policy c34 on docs for select to authenticated using (org_id in (select my_orgs()))"];
    c34b_definer_helper_of_a_set_as_an_array: DOCS, [N, C, A, N, N, C],
        ["create policy c34b on docs for select to authenticated using (org_id = any (array(select my_orgs())))"];
    c35_permission_of_a_role: DOCS, [N, C, A, N, N, C],
        ["create policy c35 on docs for select to authenticated using (can('docs.read'))"];
    c36_join_of_two_tables: DOCS, [N, C, A, N, N, C],
        ["create policy c36 on docs for select to authenticated using (
            exists (select 1 from projects p join memberships m on m.org_id = p.org_id
                    where p.id = docs.project_id and not p.archived and m.user_id = auth.uid()))",
         "create policy own on memberships for select to authenticated using (true)"];
    c37_share_list: DOCS, [N, C, A, N, N, C],
        ["create policy c37 on docs for select to authenticated using (
            owner_id = auth.uid()
            or exists (select 1 from doc_shares s where s.doc_id = docs.id and s.user_id = auth.uid() and s.can_read))"];
    c38_blocks: MESSAGES, [N, C, A, N, N, C],
        ["create policy c38 on messages for select to authenticated using (
            not exists (select 1 from blocks b where b.blocker = auth.uid() and b.blocked = messages.sender_id))"];
    c39_followers: DOCS, [N, C, A, N, N, C],
        ["create policy c39 on docs for select to authenticated using (
            owner_id in (select followee from follows where follower = auth.uid() and state = 'accepted'))"];
    c40_member_who_has_not_left: MESSAGES, [N, C, A, N, N, C],
        ["create policy c40 on messages for select to authenticated using (
            exists (select 1 from room_members r where r.room_id = messages.room_id
                    and r.user_id = auth.uid() and r.left_at is null))"];
    c41_row_compared_with_the_lookup_row: MESSAGES, [N, C, A, N, N, C],
        ["create policy c41 on messages for select to authenticated using (
            exists (select 1 from memberships m join rooms r on r.org_id = m.org_id
                    where r.id = messages.room_id and m.user_id = auth.uid()
                      and (m.expires_at is null or messages.created_at < m.expires_at)))",
         "create policy own on memberships for select to authenticated using (true)"];
    c42_visibility_of_the_parent: MESSAGES, [N, C, A, N, N, C],
        ["create policy c42 on messages for select to authenticated using (
            exists (select 1 from rooms r where r.id = messages.room_id))",
         "alter table rooms enable row level security",
         "create policy members on rooms for select to authenticated using (
            exists (select 1 from room_members m where m.room_id = rooms.id and m.user_id = auth.uid()))"];
    c43_manager_sees_reports: DOCS, [N, C, A, N, N, C],
        ["create policy c43 on docs for select to authenticated using (
            exists (select 1 from profiles p where p.id = docs.owner_id and p.manager_id = auth.uid()))",
         "create policy own on profiles for select to authenticated using (manager_id = auth.uid())"];
}

const MEMBERSHIPS: (&str, &str) = ("memberships", "org_id,user_id");

// Self reference and recursion.
shapes! {
    c44_members_see_members_and_recurse: MEMBERSHIPS, [N, d("recurs"), A, N, N, d("recurs")],
        ["create policy c44 on memberships for select to authenticated using (
            exists (select 1 from memberships m where m.org_id = memberships.org_id and m.user_id = auth.uid()))"];
    c45_members_see_members_by_a_definer: MEMBERSHIPS, [N, C, A, N, N, C],
        ["create policy c45 on memberships for select to authenticated
            using (user_id = auth.uid() or is_member(org_id))"];
    c46_tree_inherited_from_an_ancestor: ("tree", "id"), [N, d(""), A, N, N, d("")],
        ["create policy c46 on tree for select to authenticated using (owns_ancestor(id))"];
    c47_aggregate: DOCS, [C, N, A, N, N, N],
        ["create policy c47 on docs for select to anon using (
            level <= (select count(*) from feature_flags f where f.enabled))"];
}

// Time.
shapes! {
    c48_publish_time_and_expiry: DOCS, [C, C, A, N, N, C],
        ["create policy c48 on docs for select to anon, authenticated
            using (publish_at <= now() and (expires_at is null or expires_at > now()))"];
    c49_share_that_runs_out: DOCS, [N, C, A, N, N, C],
        ["create policy c49 on docs for select to authenticated using (
            exists (select 1 from doc_shares s where s.doc_id = docs.id and s.user_id = auth.uid()
                    and s.expires_at > now()))"];
    c50_recent_rows_only: DOCS, [C, C, A, C, C, C],
        ["create policy c50 on docs for select using (created_at > now() - interval '7 days')"];
    c51_token_age: DOCS, [A, C, A, A, A, C],
        ["create policy c51 on docs as restrictive for select to authenticated
            using (to_timestamp((auth.jwt() ->> 'iat')::bigint) > now() - interval '1 hour')", OPEN];
}

// Not decided by the expression.
shapes! {
    c52_for_all_without_check: DOCS, [N, C, A, N, N, C],
        ["create policy c52 on docs for all to authenticated using (owner_id = auth.uid())"];
    c53_policies_for_writing_only: DOCS, [N, N, A, N, N, N],
        ["create policy c53 on docs for update to authenticated
            using (owner_id = auth.uid()) with check (status <> 'locked')",
         "create policy c53b on docs for insert to authenticated with check (owner_id = auth.uid())"];
    c54_forced_on_its_owner: DOCS, [N, N, A, N, C, N],
        ["alter table docs owner to shapes_owner", "alter table docs force row level security",
         "create policy c54 on docs to shapes_owner using (is_public)"];
    c55_bypassing_role: DOCS, [N, N, A, N, N, N],
        ["create policy c55 on docs to service_role using (false)"];
    c56_owner_of_the_table: DOCS, [N, N, A, N, A, N], ["alter table docs owner to shapes_owner"];
    c57_row_level_security_off: DOCS, [A, A, A, A, A, A],
        ["alter table docs disable row level security", "create policy c57 on docs using (false)"];
    c58_column_grants: DOCS, [N, C, A, N, N, C],
        ["create policy c58 on docs for select to authenticated using (owner_id = auth.uid())",
         "revoke select on docs from authenticated", "grant select (id, title, status) on docs to authenticated"];
    c59_volatile_function: DOCS, [d("random"), N, A, N, N, N],
        ["create policy c59 on docs for select to anon using (random() < 0.1)"];
    c60_operator_of_an_extension: DOCS, [N, d("operator"), A, N, N, d("operator")],
        ["create function near(int, int) returns boolean language sql immutable as 'select abs($1 - $2) < 3'",
         "create operator <~> (leftarg = int, rightarg = int, function = near)",
         "create policy c60 on docs for select to authenticated using (level <~> 3)"];
    c61_comparison_by_collation: DOCS, [N, d(""), A, N, N, d("")],
        ["create policy c61 on docs for select to authenticated
            using (title < 'm' and title ilike auth.email() || '%')"];
    c61b_comparison_by_a_collation_that_is_named: DOCS, [N, d("COLLATE"), A, N, N, d("COLLATE")],
        ["create policy c61b on docs for select to authenticated using (title collate \"C\" < 'm')"];
    c61c_prefix_of_a_path: DOCS, [N, C, A, N, N, C],
        ["create policy c61c on docs for select to authenticated using (path like auth.uid() || '/%')"];
    c62_view_over_the_table: DOCS, [N, C, A, N, N, C],
        ["create policy c62 on docs for select to authenticated using (owner_id = auth.uid())",
         "create view doc_list as select id, title from docs"];
}
