//! One world: made, and compared under several sets of policies and after every transaction.

use super::{
    changes::{rows, transaction},
    images::old_images,
    planted::Mistake,
    policies::{policies, subjects},
    random::Random,
    run::Report,
    stream::Stream,
    world::World,
};
use crate::policies::{
    asked::{Answer, Asked, Subject, ask, attempt},
    compare::{Moment, Replaced, Tally},
    state::Eyes,
};
use std::collections::HashSet;
use walcast::{
    change::Fragment,
    policy::{
        catalog::Catalog,
        lookup::{Lookups, Trouble},
    },
};

/// How much of everything a world has.
const ROWS: usize = 20;
const ROUNDS: usize = 6;

/// A world, and what has been done in it.
pub struct Play<'a> {
    eyes: &'a mut Eyes,
    seed: u64,
    random: Random,
    world: World,
    /// The statements that lead to the state of now.
    history: Vec<String>,
    report: &'a mut Report,
}

/// What does not change while transactions go by.
struct Round {
    catalog: Catalog,
    subjects: Vec<Subject>,
    asked: Vec<Asked>,
    none_replaced: Replaced,
}

/// What does.
struct Now {
    lookups: Lookups,
    answer: Answer,
}

impl Round {
    fn moment<'a>(&'a self, now: &'a Now) -> Moment<'a> {
        Moment {
            catalog: &self.catalog,
            lookups: &now.lookups,
            subjects: &self.subjects,
            answer: &now.answer,
            replaced: &self.none_replaced,
        }
    }
}

impl<'a> Play<'a> {
    /// A random world.
    pub fn new(eyes: &'a mut Eyes, seed: u64, report: &'a mut Report) -> Play<'a> {
        let mut random = Random::new(seed);
        let world = World::random(&mut random, &format!("w{seed}"));
        Play { eyes, seed, random, world, history: Vec::new(), report }
    }

    /// Plays it, and removes it.
    pub async fn play(mut self, database: &str, mistakes: &mut [Mistake]) {
        self.make().await;
        for number in 0..ROUNDS {
            let slot = format!("{database}_{}_{number}", self.seed);
            self.round(&slot, mistakes).await;
            if !self.report.disagreements.is_empty() {
                break;
            }
        }
        let schema = &self.world.schema;
        self.run(&format!("set client_min_messages = warning; drop schema {schema}, {schema}_private cascade")).await;
    }

    async fn make(&mut self) {
        let tables = self.world.tables_sql();
        self.run(&tables).await;
        self.history.push(tables);
        let functions: Vec<String> = self.world.helpers.iter().map(|helper| helper.sql.clone()).collect();
        let refused = self.attempt(&functions).await;
        // Whatever calls them would be refused too.
        let mut number = 0;
        self.world.helpers.retain(|_| {
            number += 1;
            !refused.contains(&(number - 1))
        });
        let Play { random, world, .. } = self;
        let inserts: Vec<String> = world.tables.iter().map(|table| rows(random, world, table, 0..ROWS)).collect();
        self.attempt(&inserts).await;
    }

    /// One set of rights and policies.
    async fn round(&mut self, slot: &str, mistakes: &mut [Mistake]) {
        let known = self.history.len();
        let round = self.begin().await;
        let open = mistakes.iter_mut().filter(|mistake| mistake.found.is_none());
        let mut planted: Vec<(&mut Mistake, Replaced)> = Vec::new();
        for mistake in open {
            let programs = mistake.planted_in(&round.catalog);
            planted.push((mistake, programs));
        }
        let mut now = Now { lookups: self.eyes.lookups(&round.catalog).await, answer: Answer::default() };
        let transactions = self.random.between(0, 2);
        // A new one: reading on from before the policies were made takes longer than all the rest.
        let stream = if transactions > 0 { Some(Stream::open(self.eyes, slot).await) } else { None };
        for number in 0..=transactions {
            if let Some(stream) = stream.as_ref().filter(|_| number > 0) {
                self.change(&round, stream, &mut now).await;
            }
            now.answer = ask(&self.eyes.superuser, &round.subjects, &round.asked).await;
            let judged = self.eyes.judged(&round.catalog, &round.asked).await;
            let moment = round.moment(&now);
            let found = moment.compare(&judged, &mut self.report.tally);
            self.report.note(self.seed, &self.history, "now", found);
            for (mistake, replaced) in &mut planted {
                let moment = Moment { replaced, ..moment };
                if !moment.compare(&judged, &mut Tally::default()).is_empty() {
                    mistake.found.get_or_insert(self.report.tally.decisions);
                }
            }
            if !self.report.disagreements.is_empty() {
                break;
            }
        }
        if let Some(stream) = stream {
            stream.close(self.eyes).await;
        }
        self.forget_rights(known);
    }

    async fn begin(&mut self) -> Round {
        let rights = self.world.rights_sql(&mut self.random);
        self.run(&rights).await;
        self.history.push(rights);
        let policies = policies(&mut self.random, &self.world);
        self.report.policies += policies.iter().filter(|sql| sql.starts_with("create")).count() as u64;
        self.attempt(&policies).await;
        let subjects = subjects(&mut self.random);
        let catalog = self.eyes.catalog().await;
        Round { catalog, subjects, asked: self.world.asked(), none_replaced: Replaced::new() }
    }

    /// One transaction: its old images are judged by the state before it, and then it is followed.
    async fn change(&mut self, round: &Round, stream: &Stream, now: &mut Now) {
        let statements = transaction(&mut self.random, &self.world);
        self.attempt(&statements).await;
        self.report.transactions += 1;
        let fragments = stream.read(self.eyes).await;
        let olds = old_images(&round.catalog, &round.asked, &fragments);
        self.report.old_images += olds.iter().map(|judged| judged.images.len() as u64).sum::<u64>();
        let found = round.moment(now).compare(&olds, &mut self.report.tally);
        self.report.note(self.seed, &self.history, "before the last transaction", found);
        self.follow(round, &fragments, now).await;
    }

    /// Applies a transaction to the lookup rows.
    async fn follow(&mut self, round: &Round, fragments: &[Fragment], now: &mut Now) {
        let mut troubles = false;
        for fragment in fragments {
            self.report.changes += fragment.changes.len() as u64;
            for change in &fragment.changes {
                let Err(trouble) = now.lookups.apply(change, fragment.xid, fragment.commit_lsn) else { continue };
                troubles = true;
                // Arrays of two dimensions and the like, which are written on purpose.
                if !matches!(trouble, Trouble::Unreadable(_)) {
                    self.report.troubles.push(format!("{}: {trouble}", change.relation.name));
                }
            }
        }
        if troubles {
            now.lookups = self.eyes.lookups(&round.catalog).await;
        }
    }

    /// What later rounds need to be seen again: data, not rights and policies.
    fn forget_rights(&mut self, known: usize) {
        let later = self.history.split_off(known);
        let is_data = |sql: &String| !sql.contains("policy") && !sql.starts_with("alter table");
        self.history.extend(later.into_iter().filter(is_data));
    }

    async fn run(&self, sql: &str) {
        self.eyes.superuser.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// Runs statements that may be refused; which were. Those that were not go into the history.
    async fn attempt(&mut self, statements: &[String]) -> HashSet<usize> {
        let refused = attempt(&self.eyes.superuser, statements).await;
        if std::env::var_os("WALCAST_ORACLE_REFUSED").is_some() {
            for (number, why) in &refused {
                #[expect(clippy::print_stdout, reason = "asked for")]
                {
                    println!("refused: {why}: {}", statements[*number]);
                }
            }
        }
        self.report.refused += refused.len() as u64;
        let refused: HashSet<usize> = refused.into_iter().map(|(number, _)| number).collect();
        let accepted = statements.iter().enumerate().filter(|(number, _)| !refused.contains(number));
        self.history.extend(accepted.map(|(_, sql)| sql.clone()));
        refused
    }
}
