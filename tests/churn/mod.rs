//! Presence and broadcast under churn, over real sockets: members that join, leave, crash, freeze, track and speak at
//! random, in both encodings. When it is quiet again, everybody's view is the truth, and everybody has heard what was
//! said while he was there, in order and once.
//!
//! A short run is a test. The long one, a minute with 1,000 members:
//!
//! ```sh
//! cargo test --profile bench-fast --test main churn::a_thousand -- --ignored --nocapture
//! ```
//!
//! `WALCAST_CHURN_SEED` chooses another course; what the members do follows from it, when exactly does not.
#![expect(clippy::print_stdout, reason = "the long run tells its figures")]

mod departures;
mod member;
mod verdict;
mod view;
mod wire;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::{mpsc, oneshot};

use crate::support::postgres::{Postgres, drive};
use crate::support::server::Server;
use crate::support::socket::Vsn;
use crate::support::token;
use departures::{Departures, How};
use member::{Common, JoinConfig, Member, Notes, Order, Question};

/// How a run goes.
struct Course {
    members: usize,
    rooms: usize,
    length: Duration,
    /// Things done a second, by all members together.
    pace: u32,
    idle_timeout: Duration,
}

/// What a member looks like to who gives orders.
#[derive(Clone, Copy, PartialEq)]
enum Is {
    Absent,
    Connected,
    Joined,
}

struct Puppet {
    orders: mpsc::Sender<Order>,
    questions: mpsc::Sender<Question>,
    is: Is,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_members_come_and_go_and_everybody_knows_who_is_there_and_what_was_said() {
    let course = Course {
        members: 200,
        rooms: 4,
        length: Duration::from_secs(4),
        pace: 300,
        // Whoever a busy machine holds up is not to be taken for one that is gone.
        idle_timeout: Duration::from_secs(10),
    };
    run(&course).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes more than a minute, and the whole machine"]
async fn a_thousand_members_come_and_go_for_a_minute_and_everybody_knows_who_is_there_and_what_was_said() {
    let course = Course {
        members: 1000,
        rooms: 10,
        length: Duration::from_secs(60),
        pace: 250,
        // A machine that is busy holds a member up for seconds, and whoever says nothing for so long is closed.
        idle_timeout: Duration::from_secs(15),
    };
    run(&course).await;
}

async fn run(course: &Course) {
    let seed = std::env::var("WALCAST_CHURN_SEED").map_or(20_261_121, |seed| seed.parse().expect("a number"));
    let database = Postgres::default().database().await;
    database.execute("create publication supabase_realtime").await;
    let idle = course.idle_timeout.as_millis().to_string();
    let server = Server::start(&database, &[("WALCAST_IDLE_TIMEOUT_MS", &idle)]).await;
    let common = Arc::new(Common {
        address: server.address().to_owned(),
        token: token::anon(),
        heartbeat: course.idle_timeout / 4,
        departures: Departures::default(),
    });
    let mut director = Director { random: StdRng::seed_from_u64(seed), course, puppets: puppets(course, &common) };
    director.direct().await;
    let members = director.settle(seed).await;

    let (tally, _) = verdict::broadcasts(&members);
    let frames: u64 = members.iter().map(|notes| notes.heard_frames).sum();
    let stays: usize = members.iter().map(|notes| notes.stays.len()).sum();
    println!("seed {seed}: {stays} stays, {frames} frames, {tally:?}");
    println!("the longest until a sender was sure: {:?}", verdict::longest_wait(&members));
    for (how, limit) in [
        // A connection that ends is noticed by its end, not by the silence behind it.
        (How::Closed, course.idle_timeout),
        (How::Crashed, course.idle_timeout),
        (How::Frozen, course.idle_timeout + Duration::from_secs(30)),
    ] {
        let (count, longest) = common.departures.longest(how);
        println!("{how:?}: {count} noticed, the last after {longest:?}");
        assert!(count > 0, "seed {seed}: nobody who was {how:?} was noticed");
        assert!(longest < limit, "seed {seed}: {how:?} took {longest:?}");
    }
    assert_eq!(verdict::problems(&members), [""; 0], "seed {seed}");
    assert!(tally.owed > 1000, "seed {seed}: {tally:?}");
    assert!(server.stop().await.success(), "seed {seed}");
}

fn puppets(course: &Course, common: &Arc<Common>) -> Vec<Puppet> {
    let puppet = |number: usize| {
        let (orders, orders_to) = mpsc::channel(1024);
        let (questions, questions_to) = mpsc::channel(1);
        let member = Member::new(common.clone(), number as u64 + 1);
        drive(member.live(orders_to, questions_to));
        Puppet { orders, questions, is: Is::Absent }
    };
    (0..course.members).map(puppet).collect()
}

struct Director<'a> {
    random: StdRng,
    course: &'a Course,
    puppets: Vec<Puppet>,
}

impl Director<'_> {
    /// Everybody joins, then things happen at the pace.
    async fn direct(&mut self) {
        let pause = Duration::from_secs(1) / self.course.pace;
        let mut due = tokio::time::Instant::now();
        for number in 0..self.puppets.len() {
            let join = self.join();
            self.order(number, join).await;
            due += pause / 4;
            tokio::time::sleep_until(due).await;
        }
        for _ in 0..self.course.length.as_secs() * u64::from(self.course.pace) {
            let number = self.random.random_range(0..self.puppets.len());
            let order = self.next(self.puppets[number].is);
            self.order(number, order).await;
            due += pause;
            tokio::time::sleep_until(due).await;
        }
    }

    async fn order(&mut self, number: usize, order: Order) {
        let puppet = &mut self.puppets[number];
        puppet.is = match &order {
            Order::Join { .. } => Is::Joined,
            Order::Leave => Is::Connected,
            Order::Close | Order::Crash { .. } | Order::Freeze => Is::Absent,
            Order::Track(_) | Order::Untrack | Order::Say { .. } => puppet.is,
        };
        puppet.orders.send(order).await.expect("members live as long as the run");
    }

    fn next(&mut self, is: Is) -> Order {
        if is != Is::Joined {
            return self.join();
        }
        let random = &mut self.random;
        match random.random_range(0..100) {
            0..34 => Order::Say { binary: random.random() },
            34..66 => Order::Track(random.random_range(0..4)),
            66..74 => Order::Untrack,
            74..82 => Order::Leave,
            82..86 => Order::Close,
            86..92 => Order::Crash { reset: random.random() },
            92..95 => Order::Freeze,
            _ => self.join(),
        }
    }

    fn join(&mut self) -> Order {
        let random = &mut self.random;
        let config = JoinConfig {
            vsn: if random.random() { Vsn::V1 } else { Vsn::V2 },
            // Few keys, so that several sockets share one.
            key: format!("key-{}", random.random_range(0..self.course.members / 2)),
            presence: random.random_bool(0.9),
            acknowledged: random.random(),
            hears_itself: random.random_bool(0.3),
        };
        Order::Join { room: random.random_range(0..self.course.rooms), config }
    }

    /// Waits until who is gone is known to be gone, and everybody knows the rest.
    async fn settle(&mut self, seed: u64) -> Vec<Notes> {
        let limit = self.course.idle_timeout + Duration::from_secs(60);
        let start = Instant::now();
        loop {
            let mut members = Vec::new();
            for puppet in &self.puppets {
                let (question, answer) = oneshot::channel();
                puppet.questions.send(question).await.expect("members live as long as the run");
                members.push(answer.await.expect("members answer"));
            }
            let mut wrong = verdict::presence(&members);
            wrong.extend(verdict::broadcasts(&members).1);
            let unsettled = members.iter().filter(|notes| !notes.is_settled).count();
            let unsure = members
                .iter()
                .flat_map(|notes| notes.stays.last())
                .filter(|stay| stay.end == member::End::Remains && stay.said.iter().any(|said| said.certain.is_none()));
            if wrong.is_empty() && unsettled == 0 && unsure.count() == 0 {
                return members;
            }
            let problems = verdict::problems(&members);
            assert!(
                start.elapsed() < limit,
                "seed {seed}: after {limit:?} {unsettled} members wait for answers, problems {problems:?}, {} things are wrong:\n{}",
                wrong.len(),
                wrong.iter().take(20).map(String::as_str).collect::<Vec<_>>().join("\n")
            );
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}
