//! What is written. Every event of a worker, table and person has the next number, so whoever may see a person's rows must
//! see numbers without a gap, each once and in order.

use crate::support::postgres::connect;
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::{
    collections::{HashMap, VecDeque},
    fmt::Write,
    time::Duration,
};
use tokio::sync::watch;

/// Those who write.
pub(crate) const WORKERS: usize = 4;
/// Those whose rows they are.
pub(crate) const PERSONS: usize = 40;
/// Rows of a sequence that are kept.
const KEPT_ROWS: usize = 10;
/// Pause between two transactions of a writer.
const PAUSE_MS: std::ops::Range<u64> = 5..45;

/// A sequence: table, worker, person.
pub(crate) type Sequence = (Table, usize, i32);
/// The last number of each sequence.
pub(crate) type Truth = HashMap<Sequence, u64>;

/// The tables, by who decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Table {
    /// Nobody: everybody sees everything.
    Open,
    /// A policy by the row's owner.
    Owned,
    /// A policy that looks into another table.
    Posted,
    /// A policy only Postgres can decide.
    Asked,
}

impl Table {
    pub(crate) const ALL: [Table; 4] = [Table::Open, Table::Owned, Table::Posted, Table::Asked];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Table::Open => "open",
            Table::Owned => "owned",
            Table::Posted => "posted",
            Table::Asked => "asked",
        }
    }

    pub(crate) fn of(name: &str) -> Option<Table> {
        Table::ALL.into_iter().find(|table| table.name() == name)
    }
}

/// The id of a person as tokens have it.
pub(crate) fn uuid(person: i32) -> String {
    format!("00000000-0000-4000-8000-{person:012}")
}

pub(crate) fn tables() -> String {
    let mut sql = "
        create schema auth;
        create function auth.uid() returns uuid language sql stable as
          $$ select (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid $$;
        create schema soak;
        create function soak.uuid(int) returns uuid language sql immutable as
          $$ select ('00000000-0000-4000-8000-' || lpad($1::text, 12, '0'))::uuid $$;
        create table soak.members (room int, person uuid, primary key (room, person));
        create publication supabase_realtime;
        create publication walcast_lookups for table soak.members;
        create function soak.is_mine(person int) returns boolean language plpgsql stable as
          $$ begin if soak.uuid(person) = auth.uid() then return true; end if; return false; end $$;"
        .to_owned();
    for table in Table::ALL {
        let name = table.name();
        let _ = write!(
            sql,
            "create table soak.{name} (id bigint primary key, worker int, person int, n bigint, owner uuid, body text);
             alter table soak.{name} replica identity full;
             alter publication supabase_realtime add table soak.{name};"
        );
        let policy = match table {
            Table::Open => continue,
            Table::Owned => "owner = (select auth.uid())".to_owned(),
            Table::Posted => "exists (select 1 from soak.members m where m.room = posted.person \
                              and m.person = (select auth.uid()))"
                .to_owned(),
            Table::Asked => "soak.is_mine(person)".to_owned(),
        };
        let _ = write!(
            sql,
            "alter table soak.{name} enable row level security;
             create policy reader on soak.{name} for select to authenticated using ({policy});"
        );
    }
    let _ = write!(
        sql,
        "insert into soak.members select n, soak.uuid(n) from generate_series(0, {PERSONS} - 1) n;
         grant usage on schema auth, soak to anon, authenticated, service_role, walcast;
         grant select on all tables in schema soak to anon, authenticated, service_role, walcast;"
    );
    sql
}

/// One who writes.
pub(crate) struct Writer {
    worker: usize,
    random: StdRng,
    truth: Truth,
    rows: HashMap<Sequence, VecDeque<u64>>,
    next_id: u64,
}

impl Writer {
    pub(crate) fn new(worker: usize, seed: u64) -> Writer {
        Writer {
            worker,
            random: StdRng::seed_from_u64(seed ^ ((worker as u64 + 1) << 32)),
            truth: Truth::new(),
            rows: HashMap::new(),
            next_id: worker as u64 * 1_000_000_000 + 1,
        }
    }

    /// Writes until told to stop; the numbers it committed last.
    pub(crate) async fn write(mut self, url: &str, stop: watch::Receiver<bool>) -> Truth {
        let client = connect(url).await;
        while !*stop.borrow() {
            let before = (self.truth.clone(), self.rows.clone());
            let is_rolled_back = self.random.random_bool(0.05);
            let sql = self.transaction();
            let end = if is_rolled_back { "rollback" } else { "commit" };
            client.batch_execute(&format!("begin; {sql} {end}")).await.expect("rows can be written");
            if is_rolled_back {
                (self.truth, self.rows) = before;
            }
            tokio::time::sleep(Duration::from_millis(self.random.random_range(PAUSE_MS))).await;
        }
        self.truth
    }

    fn transaction(&mut self) -> String {
        let (table, most) = match self.random.random_range(0..100) {
            0..40 => (Table::Open, 800),
            40..70 => (Table::Owned, 800),
            70..97 => (Table::Posted, 800),
            _ => (Table::Asked, 5),
        };
        let size = match self.random.random_range(0..100) {
            0..70 => self.random.random_range(1..=3),
            70..96 => self.random.random_range(4..=40),
            _ => self.random.random_range(200..=800),
        };
        let mut sql = String::new();
        for _ in 0..size.min(most) {
            self.event(table, &mut sql);
        }
        if self.random.random_bool(0.05) {
            // Of somebody nobody is: lookups change, and no right of a client does.
            let (room, person) = (self.random.random_range(0..PERSONS), self.random.random_range(1000..2000));
            let _ = write!(
                sql,
                "insert into soak.members values ({room}, soak.uuid({person})) on conflict do nothing;
                 delete from soak.members where room = {room} and person = soak.uuid({});",
                person + 1
            );
        }
        sql
    }

    fn event(&mut self, table: Table, sql: &mut String) {
        let person = i32::try_from(self.random.random_range(0..PERSONS)).expect("there are few");
        let sequence = (table, self.worker, person);
        let number = self.truth.entry(sequence).or_default();
        *number += 1;
        let (number, name, worker) = (*number, table.name(), self.worker);
        let rows = self.rows.entry(sequence).or_default();
        let is_update = !rows.is_empty() && self.random.random_bool(0.3);
        if is_update {
            let id = rows[self.random.random_range(0..rows.len())];
            let _ = write!(sql, "update soak.{name} set n = {number} where id = {id};");
            return;
        }
        let id = self.next_id;
        self.next_id += 1;
        let length = if self.random.random_bool(0.01) { 20_000 } else { self.random.random_range(10..300) };
        let _ = write!(
            sql,
            "insert into soak.{name} values ({id}, {worker}, {person}, {number}, '{}', repeat('x', {length}));",
            uuid(person)
        );
        rows.push_back(id);
        if rows.len() > KEPT_ROWS
            && let Some(oldest) = rows.pop_front()
        {
            let _ = write!(sql, "delete from soak.{name} where id = {oldest};");
        }
    }
}
