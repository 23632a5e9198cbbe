//! The table of policies.

use super::{
    compare::{Case, case, compare, few_topics, topics},
    stage::Stage,
};

const PROCESS: &[Case] = &[
    case("no policy", "pp", ""),
    case("true", "pp", "for all to authenticated using (true)"),
    case("to public", "pp", "for all using (true)"),
    case("false", "pp", "for all to authenticated using (false)\nfor select to anon using (true)"),
    case("select only", "pp", "for select to authenticated using (true)"),
    case("insert only", "pp", "for insert to authenticated with check (true)"),
    case(
        "update counts for neither",
        "pp",
        "for update to authenticated using (true)\nfor select to anon using (true)",
    ),
    case(
        "check beside using",
        "pp",
        "for all to authenticated using (realtime.topic() = 'room-1') with check (realtime.topic() = 'room-2')",
    ),
    case("check alone", "pp", "for all to authenticated with check (true)"),
    case("broadcast only", "pp", "for all to authenticated using (extension = 'broadcast')"),
    case("both by name", "pp", "for all to authenticated using (extension in ('broadcast', 'presence'))"),
    case(
        "neither by name",
        "pp",
        "for all to authenticated using (extension in ('postgres_changes'))\nfor all to anon using (extension = any (array['presence']))",
    ),
    case("topic is", "pp", "for all to authenticated using (realtime.topic() = 'room-1')"),
    case(
        "topic is, in a sub-select",
        "pp",
        "for all to authenticated using ((select realtime.topic()) = 'room-1' and extension = 'presence')",
    ),
    case("topic is not", "pp", "for all to authenticated using (realtime.topic() <> 'room-1')"),
    case("topic is null", "pp", "for all to authenticated using (realtime.topic() is null)"),
    case("topic is distinct", "pp", "for all to authenticated using (realtime.topic() is distinct from 'room-1')"),
    case("topic in a list", "pp", "for all to authenticated using (realtime.topic() in ('room-1', 'red', ''))"),
    case("topic by column", "pp", "for all to authenticated using (topic = 'room-1')"),
    case("topic both ways", "pp", "for all to authenticated using (topic = realtime.topic())"),
    case("topic by setting", "pp", "for all to authenticated using (current_setting('realtime.topic') = 'room-1')"),
    case("topic like", "pp", "for all to authenticated using (realtime.topic() like 'room%')"),
    case("topic not like", "pp", "for all to authenticated using (realtime.topic() not like '%\\_%')"),
    case("topic starts with", "pp", "for all to authenticated using (starts_with(realtime.topic(), 'room:'))"),
    case(
        "topic parts",
        "pp",
        "for all to authenticated using (split_part(realtime.topic(), ':', 1) = 'user' and split_part(realtime.topic(), ':', 2) = auth.uid()::text)",
    ),
    case("topic parts by a function", "pp", "for all to authenticated using (part(1) = 'room' and part(3) = '')"),
    case("topic is own id", "pp", "for all to authenticated using (realtime.topic() = auth.uid()::text)"),
    case(
        "topic is made of a claim",
        "pp",
        "for all to authenticated using (realtime.topic() = 'user:' || (auth.jwt() ->> 'sub'))",
    ),
    case("topic is team", "pp", "for all to authenticated using (realtime.topic() = auth.jwt() ->> 'team')"),
    case("claim", "pp", "for all to authenticated using (auth.jwt() ->> 'aal' = 'aal2')"),
    case("claim by path", "pp", "for all to authenticated using ((auth.jwt() #>> '{team}') = 'red')"),
    case(
        "claim in an old setting",
        "pp",
        "for all to authenticated using (current_setting('request.jwt.claim.role', true) = 'authenticated')",
    ),
    case(
        "no subject in an old setting",
        "pp",
        "for all to authenticated using (current_setting('request.jwt.claim.sub', true) = '')",
    ),
    case(
        "an old setting nobody sets",
        "pp",
        "for all to authenticated using (current_setting('request.jwt.claim.email', true) is null)",
    ),
    case("auth.role", "pp", "for all to public using (auth.role() = 'authenticated')"),
    case("current user", "pp", "for all to public using (current_user = 'anon')"),
    case(
        "headers",
        "pp",
        "for all to authenticated using (current_setting('request.headers', true)::json ->> 'x-tenant' = 'acme')",
    ),
    case(
        "headers, missing",
        "pp",
        "for all to authenticated using (current_setting('Request.Headers')::jsonb ->> 'x-other' is null)",
    ),
    case("private", "pp", "for all to authenticated using (private is false and topic = 'room-1')"),
    case("no payload", "pp", "for all to authenticated using (payload is null and event is null)"),
    case(
        "restrictive alone",
        "pp",
        "as restrictive for all to authenticated using (true)\nfor all to anon using (true)",
    ),
    case(
        "restrictive beside",
        "pp",
        "for all to authenticated using (true)\nas restrictive for select to authenticated using (realtime.topic() <> 'room-1')\nas restrictive for insert to authenticated with check (extension = 'broadcast')",
    ),
    case(
        "several permissive",
        "pp",
        "for select to authenticated using (realtime.topic() = 'room-1')\nfor select to public using (extension = 'presence')\nfor insert to authenticated with check (realtime.topic() = 'red')",
    ),
    case("rls off", "pp", "alter table realtime.messages disable row level security"),
    case(
        "case",
        "pp",
        "for all to authenticated using (case extension when 'broadcast' then realtime.topic() = 'room-1' else auth.uid() is not null end)",
    ),
];

const DATABASE: &[Case] = &[
    case("regex", "dd", "for all to authenticated using (realtime.topic() ~ '^room-[0-9]+$')"),
    case("regex, whatever case", "dd", "for all to authenticated using (realtime.topic() ~* '^room')"),
    case(
        "substring by regex",
        "dd",
        "for all to authenticated using (substring(realtime.topic() from 'room-(.*)') = '1')",
    ),
    case(
        "member",
        "dd",
        "for all to authenticated using (exists (select from members m where m.room = realtime.topic() and m.person = auth.uid()))",
    ),
    case(
        "member by column",
        "dd",
        "for all to authenticated using (topic in (select m.room from members m where m.person = (select auth.uid())))",
    ),
    case(
        "reads as member, speaks as admin",
        "dd",
        "for select to authenticated using (is_member(topic))\nfor insert to authenticated with check (exists (select from members m where m.room = realtime.topic() and m.person = auth.uid() and m.admin))",
    ),
    case("member by definer", "dd", "for all to authenticated using (is_member(realtime.topic()))"),
    case("a function in a closed schema", "dd", "for all to authenticated using (private.is_guest(realtime.topic()))"),
    case(
        "member or claim",
        "dd",
        "for all to authenticated using (is_member(topic) or auth.jwt() ->> 'team' = realtime.topic())",
    ),
    case(
        "only writing needs the database",
        "pd",
        "for select to authenticated using (true)\nfor insert to authenticated with check (is_member(topic))",
    ),
    case(
        "time",
        "dd",
        "for all to authenticated using (inserted_at <= now() and inserted_at > now() - interval '1 minute')",
    ),
    case("id", "??", "for all to authenticated using (id is not null and realtime.topic() = 'room-1')"),
    case("the whole row", "dd", "for all to authenticated using (to_jsonb(messages.*) ->> 'topic' = 'room-1')"),
    case(
        "defaults of the row",
        "dd",
        "for all to authenticated using (jsonb_strip_nulls(to_jsonb(messages.*) - 'id' - 'inserted_at' - 'updated_at') = jsonb_build_object('topic', realtime.topic(), 'extension', extension, 'private', false))",
    ),
    case("PL/pgSQL that raises for one extension", "dd", "for all to authenticated using (pick(extension))"),
    case(
        "a recursion",
        "dd",
        "for all to authenticated using (exists (select from realtime.messages m where m.topic = 'room-1'))\nfor all to anon using (true)",
    ),
    case("volatile", "dd", "for all to authenticated using (random() >= 0)"),
    case(
        "no right to look",
        "dd",
        "for all to authenticated using (exists (select from private.guests g where g.room = realtime.topic()))\nfor all to anon using (true)",
    ),
    case(
        "restrictive by lookup",
        "dd",
        "for all to authenticated using (true)\nas restrictive for all to authenticated using (is_member(topic))",
    ),
];

const ERRORS: &[Case] = &[
    case(
        "division by zero",
        "??",
        "for all to authenticated using (1 / (length(extension) - length(extension)) = 1)\nfor all to anon using (true)",
    ),
    case("constant division by zero", "??", "for all to authenticated using (1 / 0 = 1)\nfor all to anon using (true)"),
    case("division for one extension", "??", "for all to authenticated using (1 / (length(extension) - 8) > -9)"),
    case("topic as uuid", "??", "for all to authenticated using (realtime.topic()::uuid = auth.uid())"),
    case("topic column as uuid", "??", "for all to authenticated using (topic::uuid = auth.uid())"),
    case(
        "part of the topic as a number",
        "??",
        "for all to authenticated using (split_part(realtime.topic(), '-', 2)::int = 1)",
    ),
    case(
        "an error behind a true",
        "??",
        "for all to authenticated using (realtime.topic() = 'room-1' or realtime.topic()::uuid is not null)",
    ),
    case(
        "an error behind a false",
        "??",
        "for all to authenticated using (extension = 'broadcast' and realtime.topic()::uuid is not null)",
    ),
    case(
        "an error beside the row",
        "??",
        "for all to authenticated using (extension = 'broadcast' or id = realtime.topic()::uuid)",
    ),
    case(
        "an error beside the column",
        "??",
        "for all to authenticated using (extension = 'broadcast' or topic = (realtime.topic()::uuid)::text)",
    ),
    case(
        "an error in a case",
        "??",
        "for all to authenticated using (case when realtime.topic() like 'room-%' then split_part(realtime.topic(), '-', 2)::int > 0 else false end)",
    ),
    case(
        "an error in one of several",
        "??",
        "for all to authenticated using (realtime.topic()::uuid is not null)\nfor all to authenticated using (realtime.topic() = 'room-1')",
    ),
    case(
        "the same the other way round",
        "??",
        "for all to authenticated using (realtime.topic() = 'room-1')\nfor all to authenticated using (realtime.topic()::uuid is not null)",
    ),
    case(
        "an error in a restriction",
        "??",
        "for all to authenticated using (extension = 'presence')\nas restrictive for all to authenticated using (realtime.topic()::uuid is not null)",
    ),
    case(
        "headers that are no JSON to a number",
        "??",
        "for all to authenticated using ((current_setting('request.headers')::json ->> 'x-tenant')::int = 1)\nfor all to anon using (true)",
    ),
    case(
        "a setting nobody sets",
        "??",
        "for all to authenticated using (current_setting('app.nobody') = '1')\nfor all to anon using (true)",
    ),
    case(
        "an error in a sub-select",
        "??",
        "for all to authenticated using (extension = 'broadcast' or (select realtime.topic()::uuid) = auth.uid())",
    ),
];

#[tokio::test]
async fn what_the_process_decides_is_what_postgres_does() {
    compare(&mut Stage::new("").await, PROCESS, &topics()).await;
}

#[tokio::test]
async fn what_postgres_is_asked_is_what_it_does() {
    compare(&mut Stage::new("").await, DATABASE, &few_topics()).await;
}

#[tokio::test]
async fn errors_grant_nothing_that_postgres_would_not() {
    compare(&mut Stage::new("").await, ERRORS, &few_topics()).await;
}
