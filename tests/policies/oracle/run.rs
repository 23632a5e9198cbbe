//! Runs worlds: makes one, compares under several sets of policies, and after every transaction.

use super::{
    changes::{rows, transaction},
    claims,
    expression::Writer,
    planted::Mistake,
    random::Random,
    stream::Stream,
    world::{ROLES, ROLES_SQL, World},
};
use crate::{
    policies::{
        PRELUDE,
        asked::{Answer, Asked, FUNCTIONS, Subject, ask, attempt},
        compare::{Disagreement, Moment, Replaced, Tally},
        state::{Eyes, Image, Judged, key_of},
    },
    support::postgres::{Database, Postgres},
};
use std::{collections::HashSet, fmt::Write, sync::Arc};
use walcast::{
    change::{Change, Datum, Fragment, OldRow},
    policy::{
        catalog::{Catalog, Table},
        lookup::{Lookups, Trouble},
    },
};

/// How much of everything a world has.
const ROWS: usize = 20;
const CLAIMS: usize = 10;
const ROUNDS: usize = 6;

/// What came out.
#[derive(Default)]
pub struct Report {
    pub tally: Tally,
    pub worlds: u64,
    pub policies: u64,
    /// Policies, functions and statements that Postgres refused.
    pub refused: u64,
    pub transactions: u64,
    /// Changes of rows that were judged, and old images among them.
    pub changes: u64,
    pub old_images: u64,
    /// Followed tables that ended, with the reason.
    pub troubles: Vec<String>,
    /// Disagreements, with all that is needed to see them again.
    pub disagreements: Vec<String>,
}

/// A database for worlds.
pub struct Oracle {
    eyes: Eyes,
    database: Database,
}

impl Oracle {
    /// One on this cluster.
    pub async fn open(postgres: &'static Postgres) -> Oracle {
        let database = postgres.database().await;
        let own_publication = "create publication walcast_lookups";
        database.execute(&format!("{PRELUDE} {FUNCTIONS} {ROLES_SQL} {own_publication}")).await;
        Oracle { eyes: Eyes::open(&database).await, database }
    }

    /// Runs worlds until this many decisions have been compared, or a disagreement is found. Notes which mistakes
    /// would have been found, and ends when all are.
    pub async fn run(&mut self, seed: u64, decisions: u64, mistakes: &mut [Mistake]) -> Report {
        let mut report = Report::default();
        let is_hunt = !mistakes.is_empty();
        while report.tally.decisions < decisions && report.disagreements.is_empty() {
            if is_hunt && mistakes.iter().all(|mistake| mistake.found.is_some()) {
                break;
            }
            self.world(seed.wrapping_add(report.worlds), mistakes, &mut report).await;
            report.worlds += 1;
        }
        report
    }

    async fn world(&mut self, seed: u64, mistakes: &mut [Mistake], report: &mut Report) {
        let mut random = Random::new(seed);
        let schema = format!("w{seed}");
        let mut world = World::random(&mut random, &schema);
        let mut history = vec![world.tables_sql()];
        self.eyes
            .superuser
            .batch_execute(&history[0])
            .await
            .unwrap_or_else(|error| panic!("{}: {error:?}", history[0]));
        let functions: Vec<String> = world.helpers.iter().map(|helper| helper.sql.clone()).collect();
        let refused = self.attempt(&functions, &mut history, report).await;
        // Whatever calls them would be refused too.
        let mut number = 0;
        world.helpers.retain(|_| {
            number += 1;
            !refused.contains(&(number - 1))
        });
        let inserts: Vec<String> = world.tables.iter().map(|table| rows(&mut random, &world, table, 0..ROWS)).collect();
        self.attempt(&inserts, &mut history, report).await;
        for number in 0..ROUNDS {
            let slot = format!("{}_{seed}_{number}", self.database.name);
            self.round(seed, &mut random, &world, &slot, &mut history, mistakes, report).await;
            if !report.disagreements.is_empty() {
                break;
            }
        }
        let drop = format!("set client_min_messages = warning; drop schema {schema} cascade");
        self.eyes.superuser.batch_execute(&drop).await.unwrap();
    }

    /// One set of rights and policies.
    #[expect(clippy::too_many_arguments, reason = "what a round reads and writes")]
    async fn round(
        &mut self,
        seed: u64,
        random: &mut Random,
        world: &World,
        slot: &str,
        history: &mut Vec<String>,
        mistakes: &mut [Mistake],
        report: &mut Report,
    ) {
        let rights = world.rights_sql(random);
        self.eyes.superuser.batch_execute(&rights).await.unwrap_or_else(|error| panic!("{rights}: {error:?}"));
        let policies = policies(random, world);
        report.policies += policies.iter().filter(|sql| sql.starts_with("create")).count() as u64;
        let known = history.len();
        history.push(rights);
        self.attempt(&policies, history, report).await;
        let subjects = subjects(random);
        let asked = world.asked();
        let catalog = self.eyes.catalog().await;
        let replaced = Replaced::new();
        let open = mistakes.iter_mut().filter(|mistake| mistake.found.is_none());
        let mut planted: Vec<(&mut Mistake, Replaced)> = open
            .map(|mistake| {
                let programs = mistake.planted_in(&catalog);
                (mistake, programs)
            })
            .collect();
        let mut now = Now { lookups: self.eyes.lookups(&catalog).await, answer: Answer::default() };
        let transactions = random.between(0, 2);
        // A new one: reading on from before the policies were made takes longer than all the rest.
        let stream = if transactions > 0 { Some(Stream::open(&self.eyes, slot).await) } else { None };
        for number in 0..=transactions {
            if let Some(stream) = stream.as_ref().filter(|_| number > 0) {
                let statements = transaction(random, world);
                self.attempt(&statements, history, report).await;
                report.transactions += 1;
                let fragments = stream.read(&self.eyes).await;
                let before = Moment {
                    catalog: &catalog,
                    lookups: &now.lookups,
                    subjects: &subjects,
                    answer: &now.answer,
                    replaced: &replaced,
                };
                let olds = old_images(&catalog, &asked, &fragments);
                report.old_images += olds.iter().map(|judged| judged.images.len() as u64).sum::<u64>();
                let found = before.compare(&olds, &mut report.tally);
                report.note(seed, history, "before the last transaction", found);
                self.follow(&catalog, &fragments, &mut now, report).await;
            }
            now.answer = ask(&self.eyes.superuser, &subjects, &asked).await;
            let judged = self.eyes.judged(&catalog, &asked).await;
            let moment = Moment {
                catalog: &catalog,
                lookups: &now.lookups,
                subjects: &subjects,
                answer: &now.answer,
                replaced: &replaced,
            };
            let found = moment.compare(&judged, &mut report.tally);
            report.note(seed, history, "now", found);
            for (mistake, replaced) in &mut planted {
                let moment = Moment { replaced, ..moment };
                if !moment.compare(&judged, &mut Tally::default()).is_empty() {
                    mistake.found.get_or_insert(report.tally.decisions);
                }
            }
            if !report.disagreements.is_empty() {
                break;
            }
        }
        if let Some(stream) = stream {
            stream.close(&self.eyes).await;
        }
        // What later rounds need to be seen again: data, not rights and policies.
        let policies: HashSet<usize> =
            (known..history.len()).filter(|&at| history[at].contains("policy") || at == known).collect();
        let mut at = 0;
        history.retain(|_| {
            at += 1;
            !policies.contains(&(at - 1))
        });
    }

    /// Applies a transaction to the lookup rows.
    async fn follow(&self, catalog: &Catalog, fragments: &[Fragment], now: &mut Now, report: &mut Report) {
        let mut troubles = false;
        for fragment in fragments {
            report.changes += fragment.changes.len() as u64;
            for change in &fragment.changes {
                let Err(trouble) = now.lookups.apply(change, fragment.xid, fragment.commit_lsn) else { continue };
                troubles = true;
                // Arrays of two dimensions and the like, which are written on purpose.
                if !matches!(trouble, Trouble::Unreadable(_)) {
                    report.troubles.push(format!("{}: {trouble}", change.relation.name));
                }
            }
        }
        if troubles {
            now.lookups = self.eyes.lookups(catalog).await;
        }
    }

    /// Runs statements that may be refused; which were. Those that were not go into the history.
    async fn attempt(&self, statements: &[String], history: &mut Vec<String>, report: &mut Report) -> HashSet<usize> {
        let refused = attempt(&self.eyes.superuser, statements).await;
        if std::env::var_os("WALCAST_ORACLE_REFUSED").is_some() {
            for (number, why) in &refused {
                #[expect(clippy::print_stdout, reason = "asked for")]
                {
                    println!("refused: {why}: {}", statements[*number]);
                }
            }
        }
        report.refused += refused.len() as u64;
        let refused: HashSet<usize> = refused.into_iter().map(|(number, _)| number).collect();
        let accepted = statements.iter().enumerate().filter(|(number, _)| !refused.contains(number));
        history.extend(accepted.map(|(_, sql)| sql.clone()));
        refused
    }
}

struct Now {
    lookups: Lookups,
    answer: Answer,
}

impl Report {
    fn note(&mut self, seed: u64, history: &[String], when: &str, found: Vec<Disagreement>) {
        for disagreement in found.into_iter().take(2) {
            let mut text = format!("world {seed}, {when}: {disagreement}\n");
            if self.disagreements.is_empty() {
                for sql in history {
                    let _ = writeln!(text, "{};", sql.trim_end());
                }
            }
            self.disagreements.push(text);
        }
    }
}

/// New policies in the places of the old ones.
fn policies(random: &mut Random, world: &World) -> Vec<String> {
    let mut statements = Vec::new();
    let is_by_role = random.percent(50);
    for (number, table) in world.tables.iter().enumerate() {
        let name = world.qualified(table);
        for policy in 0..5 {
            statements.push(format!("drop policy if exists p{policy} on {name}"));
        }
        if is_by_role {
            // One for each role, so that many are compared at once.
            for (policy, role) in ROLES[..5].iter().enumerate() {
                statements.push(create(random, world, number, policy, role));
            }
            continue;
        }
        let count = match random.below(20) {
            0 => 0,
            1..9 => 1,
            9..16 => 2,
            _ => random.between(3, 5),
        };
        for policy in 0..count {
            let to = roles(random);
            statements.push(create(random, world, number, policy, to));
        }
    }
    statements
}

fn create(random: &mut Random, world: &World, table: usize, policy: usize, to: &str) -> String {
    let mut writer = Writer::new(random, world);
    // Policies that look at each other in a circle fail in Postgres: now and then is enough.
    if !writer.random.percent(4) {
        writer.tables.retain(|&other| other > table);
    }
    let using = if writer.random.percent(4) { "true".to_owned() } else { writer.policy(table) };
    let permissive = if policy > 0 && random.percent(20) { " as restrictive" } else { "" };
    let command = *random.pick(&["select", "select", "all"]);
    let name = world.qualified(&world.tables[table]);
    format!("create policy p{policy} on {name}{permissive} for {command} to {to} using ({using})")
}

fn roles(random: &mut Random) -> &'static str {
    match random.below(10) {
        0..7 => "public",
        7..8 => "oracle_user",
        8 => "oracle_member, oracle_owner",
        _ => ROLES[random.below(ROLES.len())],
    }
}

fn subjects(random: &mut Random) -> Vec<Subject> {
    let mut subjects = Vec::new();
    for _ in 0..CLAIMS {
        let claims = claims::random(random);
        // One that bypasses everything is of little interest.
        let last = if random.percent(10) { 6 } else { 5 };
        subjects.push(Subject::new(ROLES[random.below(last)], claims.clone()));
        subjects.push(Subject::new(ROLES[random.below(5)], claims));
    }
    subjects
}

/// The first old image of every row that was changed, of tables that log whole ones.
fn old_images(catalog: &Catalog, asked: &[Asked], fragments: &[Fragment]) -> Vec<Judged> {
    let mut judged = Vec::new();
    for (number, asked) in asked.iter().enumerate() {
        let is_table = |table: &&Arc<Table>| asked.table == format!("{}.{}", table.schema, table.name);
        let Some(table) = catalog.tables.values().find(is_table) else { continue };
        let changes = fragments.iter().flat_map(|fragment| &fragment.changes);
        let mut images: Vec<Image> = Vec::new();
        // Rows whose old image is not of the time before the transaction.
        let mut touched: HashSet<String> = HashSet::new();
        for change in changes.filter(|change| change.relation.oid == table.oid) {
            let old = change.old.as_ref().filter(|old| old.whole).map(|old| old_image(asked, table, change, old));
            let new = change.new.as_ref().map(|new| key_of(asked, table, &by_column(table, change, &new.0)));
            if let Some(old) = old {
                if touched.insert(old.key.clone()) {
                    images.push(old);
                }
            }
            touched.extend(new);
        }
        judged.push(Judged { number, asked: asked.clone(), table: Arc::clone(table), images });
    }
    judged
}

fn old_image(asked: &Asked, table: &Table, change: &Change, old: &OldRow) -> Image {
    let values = by_column(table, change, &old.row.0);
    Image { key: key_of(asked, table, &values), values }
}

/// The values of an image in the order of the table's columns.
fn by_column(table: &Table, change: &Change, values: &[Datum]) -> Vec<Datum> {
    let value = |name: &str| {
        let place = change.relation.columns.iter().position(|column| column.name == name);
        place.map_or(Datum::Absent, |place| values[place].clone())
    };
    table.columns.iter().map(|column| value(&column.name)).collect()
}
