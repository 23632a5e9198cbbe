//! The shapes of the reference, as Postgres prints them.

use super::{World, world::Body};
use crate::policy::facts::Language;

const JWT: &str = "text::jsonb(nullif(claims, ''))";

/// The helper functions of the reference.
fn world() -> World {
    let mut world = World::new();
    world.secure("memberships", &[("own", true, "(user_id = auth.uid())")]);
    let source = " select exists (select 1 from public.memberships where org_id = o and user_id = auth.uid()) ";
    let definer = |function: &mut crate::policy::facts::FunctionFacts| {
        function.security_definer = true;
        function.settings = vec!["search_path=\"\"".to_owned()];
    };
    definer(world.function("public", Body { name: "is_member", arguments: "o uuid", returns: "bool", source }));
    let source = " select org_id from public.memberships where user_id = auth.uid() ";
    definer(world.function("public", Body { name: "my_orgs", arguments: "", returns: "setof uuid", source }));
    let source = " begin return exists (select 1 from public.role_permissions
       where role = auth.jwt() ->> 'user_role' and permission = p); end ";
    let can = world.function("public", Body { name: "can", arguments: "p text", returns: "bool", source });
    definer(can);
    can.language = Language::Plpgsql;
    let source = " with recursive up as (select id, parent_id, owner_id from public.tree where id = n
     union all select t.id, t.parent_id, t.owner_id from public.tree t join up on t.id = up.parent_id)
  select exists (select 1 from up where owner_id = auth.uid()) ";
    definer(world.function("public", Body { name: "owns_ancestor", arguments: "n uuid", returns: "bool", source }));
    world
}

/// What is understood: table, policy, expression.
const UNDERSTOOD: &[(&str, &str, &str)] = &[
    ("docs", "(owner_id = auth.uid())", "(docs.owner_id = UID)"),
    ("docs", "(( SELECT auth.uid() AS uid) = owner_id)", "(lazy(UID) = docs.owner_id)"),
    (
        "messages",
        "((auth.uid() = sender_id) OR (auth.uid() = recipient_id))",
        "((UID = messages.sender_id) or (UID = messages.recipient_id))",
    ),
    ("docs", "(auth.uid() = ANY (editors))", "(UID = any(docs.editors))"),
    ("docs", "(is_public OR (owner_id = auth.uid()))", "(docs.is_public or (docs.owner_id = UID))"),
    (
        "docs",
        "((status = 'published'::text) AND (deleted_at IS NULL))",
        "((docs.status = 'published') and docs.deleted_at is null)",
    ),
    ("docs", "true", "true"),
    ("docs", "(auth.role() = 'authenticated'::text)", "(->>(JWT, 'role') = 'authenticated')"),
    ("docs", "(auth.uid() IS NOT NULL)", "not UID is null"),
    (
        "profiles",
        "((email = auth.email()) OR (auth.email() ~~ '%@example.com'::text))",
        "((profiles.email = ->>(JWT, 'email')) or (->>(JWT, 'email') ~~ '%@example.com'))",
    ),
    (
        "docs",
        "(org_id = (((auth.jwt() -> 'app_metadata'::text) ->> 'org_id'::text))::uuid)",
        "(docs.org_id = text::uuid(->>(->(JWT, 'app_metadata'), 'org_id')))",
    ),
    (
        "docs",
        "((auth.jwt() #> '{app_metadata,orgs}'::text[]) ? (org_id)::text)",
        "(#>(JWT, {'app_metadata', 'orgs'}) ? uuid::text(docs.org_id))",
    ),
    (
        "docs",
        "((org_id)::text IN ( SELECT jsonb_array_elements_text((auth.jwt() #> '{app_metadata,orgs}'::text[])) AS jsonb_array_elements_text))",
        "(uuid::text(docs.org_id) = any(jsonb_array_elements_text(#>(JWT, {'app_metadata', 'orgs'}))))",
    ),
    (
        "docs",
        "COALESCE((((auth.jwt() -> 'app_metadata'::text) ->> 'role'::text) = 'admin'::text), false)",
        "coalesce((->>(->(JWT, 'app_metadata'), 'role') = 'admin'), false)",
    ),
    (
        "docs",
        "((meta @> jsonb_build_object('readers', jsonb_build_array(auth.uid()))) OR ((meta ->> 'visibility'::text) = 'public'::text))",
        "((docs.meta @> jsonb_build_object('readers', jsonb_build_array(UID))) or (->>(docs.meta, 'visibility') = 'public'))",
    ),
    (
        "docs",
        "(level <= COALESCE((((auth.jwt() -> 'app_metadata'::text) ->> 'level'::text))::integer, 0))",
        "(docs.level <= coalesce(text::integer(->>(->(JWT, 'app_metadata'), 'level')), 0))",
    ),
    (
        "docs",
        "(tags && ARRAY( SELECT jsonb_array_elements_text((auth.jwt() #> '{app_metadata,tags}'::text[])) AS jsonb_array_elements_text))",
        "(docs.tags && jsonb_array_elements_text(#>(JWT, {'app_metadata', 'tags'})))",
    ),
    (
        "docs",
        "(split_part(path, '/'::text, 1) = (auth.uid())::text)",
        "(split_part(docs.path, '/', 1) = uuid::text(UID))",
    ),
    (
        "docs",
        "\nCASE status\n    WHEN 'draft'::text THEN (owner_id = auth.uid())\n    WHEN 'review'::text THEN ((auth.uid() = owner_id) OR (auth.uid() = reviewer_id))\n    ELSE true\nEND",
        "case when (docs.status = 'draft') then (docs.owner_id = UID) when (docs.status = 'review') then ((UID = docs.owner_id) or (UID = docs.reviewer_id)) else true end",
    ),
    ("docs", "(slug <> 'internal'::text)", "(docs.slug <> 'internal')"),
    (
        "docs",
        "(((auth.jwt() ->> 'is_anonymous'::text))::boolean IS NOT TRUE)",
        "not text::boolean(->>(JWT, 'is_anonymous')) is true",
    ),
    (
        "docs",
        "(org_id = (NULLIF(current_setting('app.tenant_id'::text, true), ''::text))::uuid)",
        "(docs.org_id = text::uuid(nullif(lazy(null), '')))",
    ),
    (
        "docs",
        "((owner_id)::text = current_setting('request.jwt.claim.sub'::text, true))",
        "(uuid::text(docs.owner_id) = lazy(null))",
    ),
    (
        "docs",
        "((CURRENT_USER = 'support'::name) OR (status = 'open'::text))",
        "((role = 'support') or (docs.status = 'open'))",
    ),
    // Lookups. The role sees its own memberships only.
    (
        "docs",
        "(EXISTS ( SELECT 1\n   FROM public.memberships m\n  WHERE ((m.org_id = docs.org_id) AND (m.user_id = auth.uid()))))",
        "exists{memberships[org_id: docs.org_id, user_id: UID] if (memberships.user_id = UID)}",
    ),
    (
        "docs",
        "(org_id IN ( SELECT m.org_id\n   FROM public.memberships m\n  WHERE (m.user_id = auth.uid())))",
        "docs.org_id = any{memberships[user_id: UID] if (memberships.user_id = UID) -> memberships.org_id}",
    ),
    (
        "docs",
        "(auth.uid() IN ( SELECT m.user_id\n   FROM public.memberships m\n  WHERE (m.org_id = docs.org_id)))",
        "UID = any{memberships[org_id: docs.org_id] if (memberships.user_id = UID) -> memberships.user_id}",
    ),
    (
        "docs",
        "(EXISTS ( SELECT 1 FROM public.memberships m WHERE ((m.org_id = docs.org_id) AND (m.user_id = auth.uid()) AND (m.role = ANY (ARRAY['owner'::text, 'admin'::text])) AND (m.status = 'active'::text))))",
        "exists{memberships[org_id: docs.org_id, user_id: UID, status: 'active'] if (memberships.user_id = UID), (memberships.role = any(['owner', 'admin']))}",
    ),
    (
        "docs",
        "(EXISTS ( SELECT 1 FROM public.profiles p WHERE ((p.id = auth.uid()) AND p.is_admin)))",
        "exists{profiles[id: UID] if profiles.is_admin}",
    ),
    (
        "docs",
        "( SELECT p.is_admin FROM public.profiles p WHERE (p.id = auth.uid()))",
        "one{profiles[id: UID] -> profiles.is_admin}",
    ),
    ("docs", "public.is_member(org_id)", "exists{memberships[org_id: docs.org_id, user_id: UID]}"),
    (
        "docs",
        "(org_id IN ( SELECT public.my_orgs() AS my_orgs))",
        "docs.org_id = any{memberships[user_id: UID] -> memberships.org_id}",
    ),
    (
        "docs",
        "(org_id = ANY (ARRAY( SELECT public.my_orgs() AS my_orgs)))",
        "docs.org_id = any{memberships[user_id: UID] -> memberships.org_id}",
    ),
    (
        "docs",
        "public.can('docs.read'::text)",
        "exists{role_permissions[role: ->>(JWT, 'user_role'), permission: 'docs.read']}",
    ),
    (
        "docs",
        "(EXISTS ( SELECT 1\n   FROM (public.projects p\n     JOIN public.memberships m ON ((m.org_id = p.org_id)))\n  WHERE ((p.id = docs.project_id) AND (NOT p.archived) AND (m.user_id = auth.uid()))))",
        "exists{projects[id: docs.project_id] if not projects.archived; memberships[org_id: projects.org_id, user_id: UID] if (memberships.user_id = UID)}",
    ),
    (
        "docs",
        "((owner_id = auth.uid()) OR (EXISTS ( SELECT 1 FROM public.doc_shares s WHERE ((s.doc_id = docs.id) AND (s.user_id = auth.uid()) AND s.can_read))))",
        "((docs.owner_id = UID) or exists{doc_shares[doc_id: docs.id, user_id: UID] if doc_shares.can_read})",
    ),
    (
        "messages",
        "(NOT (EXISTS ( SELECT 1 FROM public.blocks b WHERE ((b.blocker = auth.uid()) AND (b.blocked = messages.sender_id)))))",
        "not exists{blocks[blocker: UID, blocked: messages.sender_id]}",
    ),
    (
        "docs",
        "(owner_id IN ( SELECT follows.followee FROM public.follows WHERE ((follows.follower = auth.uid()) AND (follows.state = 'accepted'::text))))",
        "docs.owner_id = any{follows[follower: UID, state: 'accepted'] -> follows.followee}",
    ),
    (
        "messages",
        "(EXISTS ( SELECT 1 FROM public.room_members r WHERE ((r.room_id = messages.room_id) AND (r.user_id = auth.uid()) AND (r.left_at IS NULL))))",
        "exists{room_members[room_id: messages.room_id, user_id: UID] if room_members.left_at is null}",
    ),
    (
        "messages",
        "(EXISTS ( SELECT 1\n   FROM (public.memberships m\n     JOIN public.rooms r ON ((r.org_id = m.org_id)))\n  WHERE ((r.id = messages.room_id) AND (m.user_id = auth.uid()) AND ((m.expires_at IS NULL) OR (messages.created_at < m.expires_at)))))",
        "exists{memberships[user_id: UID] if (memberships.user_id = UID), (memberships.expires_at is null or (messages.created_at < memberships.expires_at)); rooms[org_id: memberships.org_id, id: messages.room_id]}",
    ),
    (
        "messages",
        "(EXISTS ( SELECT 1 FROM public.rooms r WHERE (r.id = messages.room_id)))",
        "exists{rooms[id: messages.room_id]}",
    ),
    (
        "docs",
        "(EXISTS ( SELECT 1 FROM public.profiles p WHERE ((p.id = docs.owner_id) AND (p.manager_id = auth.uid()))))",
        "exists{profiles[id: docs.owner_id, manager_id: UID]}",
    ),
    (
        "memberships",
        "((user_id = auth.uid()) OR public.is_member(org_id))",
        "((memberships.user_id = UID) or exists{memberships[org_id: memberships.org_id, user_id: UID]})",
    ),
    (
        "docs",
        "(level <= ( SELECT count(*) AS count\n   FROM public.feature_flags f\n  WHERE f.enabled))",
        "(docs.level <= count{feature_flags[] if feature_flags.enabled})",
    ),
    (
        "docs",
        "(ARRAY[(auth.jwt() ->> 'aal'::text)] <@ ( SELECT\n        CASE\n            WHEN (count(*) > 0) THEN ARRAY['aal2'::text]\n            ELSE ARRAY['aal1'::text, 'aal2'::text]\n        END AS \"array\"\n   FROM public.mfa\n  WHERE ((mfa.user_id = auth.uid()) AND (mfa.status = 'verified'::text))))",
        "([->>(JWT, 'aal')] <@ case when (count{mfa[user_id: UID, status: 'verified']} > 0) then ['aal2'] else ['aal1', 'aal2'] end)",
    ),
    (
        "docs",
        "((publish_at <= now()) AND ((expires_at IS NULL) OR (expires_at > now())))",
        "((docs.publish_at <= now) and (docs.expires_at is null or (docs.expires_at > now)))",
    ),
    (
        "docs",
        "(EXISTS ( SELECT 1 FROM public.doc_shares s WHERE ((s.doc_id = docs.id) AND (s.user_id = auth.uid()) AND (s.expires_at > now()))))",
        "exists{doc_shares[doc_id: docs.id, user_id: UID] if (doc_shares.expires_at > now)}",
    ),
];

#[test]
fn the_shapes_that_can_be_proved_are_understood() {
    for (table, using, expected) in UNDERSTOOD {
        let uid = format!("text::uuid(->>({JWT}, 'sub'))");
        let expected = expected.replace("UID", &uid).replace("JWT", JWT);
        assert_eq!(world().read(table, using), Ok(expected), "{using}");
    }
}

#[test]
fn the_shapes_of_time_are_understood() {
    let recent = world().docs("(created_at > (now() - '7 days'::interval))").unwrap();
    assert!(recent.starts_with("(docs.created_at > (now - Interval("), "{recent}");
    let aged =
        "(to_timestamp((((auth.jwt() ->> 'iat'::text))::bigint)::double precision) > (now() - '01:00:00'::interval))";
    let aged = world().docs(aged).unwrap();
    assert!(aged.starts_with("(to_timestamp(bigint::double precision(text::bigint("), "{aged}");
}

/// What is refused: table, policy, reason.
const REFUSED: &[(&str, &str, &str)] = &[
    (
        "docs",
        "(((current_setting('request.headers'::text, true))::json ->> 'x-region'::text) = region)",
        "setting request.headers is the session's",
    ),
    (
        "memberships",
        "(EXISTS ( SELECT 1 FROM public.memberships m WHERE ((m.org_id = memberships.org_id) AND (m.user_id = auth.uid()))))",
        "infinite recursion in the policies of public.memberships",
    ),
    ("tree", "public.owns_ancestor(id)", "WITH is not read"),
    ("docs", "(random() < (0.1)::double precision)", "function random() is volatile"),
    ("docs", "(spot OPERATOR(public.<->) spot)", "operator public.<-> is not known here"),
    (
        "docs",
        "((title < 'm'::text) AND (title ~~* (auth.email() || '%'::text)))",
        "< depends on a collation that is not C",
    ),
];

#[test]
fn the_shapes_that_cannot_be_proved_are_refused_with_the_reason() {
    for (table, using, expected) in REFUSED {
        assert_eq!(world().read(table, using), Err((*expected).to_owned()), "{using}");
    }
}

#[test]
fn order_and_letter_case_are_understood_under_the_c_collation_alone() {
    let using = "((title < 'm'::text) AND (lower(title) = 'a'::text))";
    assert!(world().docs(using).is_err());
    assert!(world().docs(&using.replace("title", "weird_title")).is_ok());
    let why = world().docs("(nick = 'a'::text)").unwrap_err();
    assert_eq!(why, "= depends on a collation that is not C");
}
