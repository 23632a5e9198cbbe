//! Other kinds of looking than one membership: through two tables, into the table itself, for what must not be there.

use super::named;
use crate::{
    policies::scene::Stage,
    support::token::{alice, bob},
};

const LOOKED_INTO: &[&str] = &["public.members", "public.projects", "public.blocks"];
const TABLES: &str = "
    create table projects (id int primary key, org int, archived boolean not null default false);
    create table members (id int generated always as identity primary key, org int, person uuid, state text);
    create table blocks (blocker uuid, blocked uuid);
    alter table members replica identity full; alter table blocks replica identity full;
    create table docs (id int primary key, project int);
    create table notes (id int primary key, author uuid, body text);
    create function in_org(o int) returns boolean language sql stable security definer set search_path = '' as
      $$ select exists (select 1 from public.members m where m.org = o and m.person = auth.uid() and m.state = 'in') $$;
    alter table docs enable row level security; alter table notes enable row level security;
    alter table members enable row level security;
    create policy chained on docs for select to authenticated using (exists (
      select 1 from projects p join members m on m.org = p.org
      where p.id = docs.project and not p.archived and m.person = auth.uid() and m.state = 'in'));
    create policy unblocked on notes for select to authenticated using (not exists (
      select 1 from blocks b where b.blocker = auth.uid() and b.blocked = notes.author));
    create policy fellows on members for select to authenticated using (person = auth.uid() or in_org(org));
    alter publication supabase_realtime add table docs, notes, members;
    create publication walcast_lookups for table projects, blocks;
";

async fn stage() -> Stage {
    let stage = Stage::open(TABLES).await;
    stage.followed(LOOKED_INTO).await;
    stage
}

fn only(heard: Vec<String>, table: &str) -> Vec<String> {
    heard.into_iter().filter(|change| change.contains(table)).collect()
}

#[tokio::test]
async fn a_chain_of_two_tables_counts_as_both_are_at_the_commit() {
    let stage = stage().await;
    let mut ear = stage.ear(&alice()).await;
    let lines = "
        insert into docs values (1, 1); insert into members (org, person, state) values (1, {a}, 'in'); insert into projects values (1, 1)
        insert into docs values (2, 1); update projects set org = 2
        insert into docs values (3, 1)
        update projects set org = 1; insert into docs values (4, 1); update members set state = 'out'
        update members set state = 'in'
        insert into docs values (5, 1)
        update projects set archived = true
        insert into docs values (6, 1)
        begin; update projects set archived = false; insert into docs values (7, 1); savepoint s; delete from members; rollback to s; commit
        begin; delete from members; rollback
        update members set org = 3; update projects set org = 3; insert into docs values (8, 1)
        delete from projects; insert into docs values (9, 1); insert into projects values (1, 3)
        insert into docs select n, 1 from generate_series(100, 1500) n; delete from projects
        insert into docs values (10, 1)";
    stage.each(&named(lines)).await;
    let heard = only(stage.heard(&mut ear).await, " docs ");
    assert_eq!(heard, [1, 5, 7, 8, 9].map(|id| format!("INSERT docs {id}")));
    stage.assert_compiled().await;
}

/// A row too few in the index would show what is blocked.
#[tokio::test]
async fn what_must_not_be_there_hides_from_the_commit_that_writes_it() {
    let stage = stage().await;
    let (mut first, mut second) = (stage.ear(&alice()).await, stage.ear(&bob()).await);
    let lines = "
        insert into notes values (1, {b})
        insert into notes values (2, {b}); insert into blocks values ({a}, {b})
        insert into notes values (3, {b}), (4, {a})
        insert into blocks values ({a}, {b}), ({a}, {b}), ({a}, null), (null, {b})
        delete from blocks where ctid = (select min(ctid) from blocks where blocker = {a} and blocked = {b})
        insert into notes values (5, {b})
        delete from blocks where blocker is not null; insert into notes values (6, {b}), (7, null)
        begin; insert into blocks values ({a}, {b}); insert into notes values (8, {b}); commit
        truncate blocks
        begin; insert into blocks values ({a}, {b}); insert into notes values (9, {b}); rollback
        update notes set body = 'x' where id = 3";
    // Emptying a table has it read again, so each line is heard before the next.
    let mut heard = Vec::new();
    for line in named(lines).lines().filter(|line| !line.trim().is_empty()) {
        stage.run(line).await;
        heard.extend(stage.heard(&mut first).await);
    }
    let mine = ["INSERT notes 1", "INSERT notes 4", "INSERT notes 6", "INSERT notes 7", "UPDATE notes 3"];
    assert_eq!(heard, mine);
    let his: Vec<String> = (1..=8).map(|id| format!("INSERT notes {id}")).collect();
    assert_eq!(stage.heard(&mut second).await, [his, vec!["UPDATE notes 3".to_owned()]].concat());
    stage.assert_compiled().await;
}

/// The table that is shown is the one that is looked into.
#[tokio::test]
async fn fellow_members_are_seen_from_the_commit_that_makes_one_a_member() {
    let stage = stage().await;
    let mut ear = stage.ear(&alice()).await;
    let lines = "
        insert into members (org, person, state) values (1, {b}, 'in')
        insert into members (org, person, state) values (1, {b}, 'in'), (1, {a}, 'in')
        insert into members (org, person, state) values (1, {b}, 'in'), (2, {b}, 'in')
        update members set state = 'out' where person = {a}; insert into members (org, person, state) values (1, {b}, 'in')
        insert into members (org, person, state) values (1, {b}, 'in')
        update members set state = 'in' where person = {a}
        update members set state = 'away' where id = 1
        delete from members where id = 1
        delete from members";
    stage.each(&named(lines)).await;
    let mut seen = vec!["INSERT 2", "INSERT 3", "INSERT 4", "UPDATE 3", "UPDATE 3", "UPDATE 1", "DELETE 1"];
    // With all rows gone there is no org to be in: only her own row was hers.
    seen.push("DELETE 3");
    let heard: Vec<String> = stage.heard(&mut ear).await.iter().map(|change| change.replace(" members", "")).collect();
    assert_eq!(heard, seen);
    stage.assert_compiled().await;
}
