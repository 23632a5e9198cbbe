//! The benchmark of compiled policies: how many changes a CPU second judges and delivers, by policy, recipients and
//! number of subscribers. A command, not a test; see `RESULTS.md` beside it.
//!
//! A Postgres of its own gives the catalogue and the lookup tables. The router's core is then driven in this process:
//! its subscribers have real outboxes, which are emptied as sockets would, and that counts.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "printing is what it is for")]

#[expect(dead_code, reason = "the other benchmark asks for other processes")]
mod process;
#[expect(dead_code, unreachable_pub, clippy::unwrap_used, reason = "shared with the tests, which use more of it")]
#[path = "../support/mod.rs"]
mod support;
mod world;

use process::{resident_mib, thread_cpu_seconds};
use serde_json::{Value, json};
use std::{sync::Arc, time::Instant};
use walcast::{
    change::position::Position,
    doors::phoenix::V1,
    hub::{Member, MemberId, MessageForm, OutboxReceiver, outbox},
    policy::{
        binding::{Binding, BindingRequest},
        lookup::Lookups,
    },
    router::{Config, Judge, Subscription, SubscriptionKey},
    source::WindowConfig,
};
use world::{Changes, Policy, World, claims};

/// What the server keeps by default.
fn config() -> Config {
    Config {
        strict_deletes: false,
        max_record_bytes: 1 << 20,
        backlog_bytes: 64 << 20,
        transaction_bytes: 32 << 20,
        meters: Arc::default(),
        resume_window: WindowConfig::default(),
    }
}

const OUTBOX_FRAMES: usize = 4096;
const OUTBOX_BYTES: usize = 1 << 20;
/// Messages that are made between two looks at the clock.
const BATCH_MESSAGES: usize = 20_000;
/// Changes between two times the outboxes are emptied.
const CHUNK: usize = 500;
/// Subscriptions that are exchanged to find out what that costs.
const EXCHANGED: usize = 1000;

/// So many subscriptions tell what one takes, once a run: then there is memory that was used before.
const MEASURED_MEMORY: usize = 100_000;

/// Changes a second of the replaced server's filter in SQL, by subscribers, on two such cores.
const REPLACED: [(usize, f64); 3] = [(1, 1349.0), (100, 265.0), (1000, 43.0)];

#[derive(Clone, Copy, PartialEq)]
enum Recipients {
    /// Of each change another one.
    One,
    /// The same, but the changes of the run are for a thousand of the subscribers only: whatever the number of the
    /// others, their part of the memory is not looked at, so this should be flat.
    OneOfFew,
    All,
}

/// How many of the subscribers get something then.
const FEW: usize = 1000;

impl Recipients {
    fn name(self) -> &'static str {
        match self {
            Recipients::One => "one",
            Recipients::OneOfFew => "one, of the same 1,000",
            Recipients::All => "all",
        }
    }
}

struct Plan {
    /// CPU seconds of each case.
    seconds: f64,
    counts: Vec<usize>,
    policies: Vec<Policy>,
    recipients: Vec<Recipients>,
}

fn plan() -> Plan {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    let mut counts: Vec<usize> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    let names = ["--quick", "owner", "membership", "one", "all"];
    let is_known = |argument: &String| {
        names.contains(&argument.as_str()) || argument.parse::<usize>().is_ok_and(|count| count > 0)
    };
    if !arguments.iter().all(is_known) {
        eprintln!(
            "usage: cargo bench --profile bench-fast --bench policies -- [--quick] [owner] [membership] [one] [all] [SUBSCRIBERS]..."
        );
        std::process::exit(2);
    }
    if counts.is_empty() {
        counts = if has("--quick") { vec![1, 1000, 10_000] } else { vec![1, 100, 1000, 10_000, 100_000] };
    }
    let chosen = |name: &str, other: &str| has(name) || !has(other);
    let mut policies = vec![Policy::Owner, Policy::Membership];
    policies.retain(|policy| match policy {
        Policy::Owner => chosen("owner", "membership"),
        Policy::Membership => chosen("membership", "owner"),
    });
    let mut recipients = vec![Recipients::One, Recipients::OneOfFew, Recipients::All];
    recipients.retain(|recipients| match recipients {
        Recipients::One | Recipients::OneOfFew => chosen("one", "all"),
        Recipients::All => chosen("all", "one"),
    });
    Plan { seconds: if has("--quick") { 0.2 } else { 1.5 }, counts, policies, recipients }
}

fn main() {
    let plan = plan();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(run(plan));
}

async fn run(plan: Plan) {
    let started = Instant::now();
    let world = World::new().await;
    println!("One change a transaction, one thread; its outboxes are emptied by the same thread, and that counts.\n");
    println!(
        "| policy | recipients | subscribers | changes/CPU s | messages/CPU s | changes/s | times the replaced server | subscribe µs | other claims µs | unsubscribe µs | other catalogue ms | bytes a subscription |"
    );
    println!("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    let mut is_measured = false;
    for &policy in &plan.policies {
        for &recipients in &plan.recipients {
            for &subscribers in &plan.counts {
                if recipients == Recipients::OneOfFew && subscribers <= FEW {
                    continue;
                }
                let tells_memory = subscribers >= MEASURED_MEMORY && !std::mem::replace(&mut is_measured, true);
                let case = Case { world: &world, policy, recipients, subscribers, tells_memory };
                println!("{}", case.run(plan.seconds).await);
            }
        }
    }
    println!("\nThe run took {:.0} s.", started.elapsed().as_secs_f64());
}

struct Case<'a> {
    world: &'a World,
    policy: Policy,
    recipients: Recipients,
    subscribers: usize,
    tells_memory: bool,
}

/// A subscriber and the other end of his outbox.
struct Client {
    member: Arc<Member>,
    outbox: OutboxReceiver,
}

impl Client {
    fn new() -> Client {
        let (sender, outbox) = outbox(OUTBOX_FRAMES, OUTBOX_BYTES);
        let member =
            Member::new(MemberId::default(), "realtime:bench".into(), Value::Null, &V1, MessageForm::Modern, sender);
        Client { member, outbox }
    }

    /// Takes out what is in it.
    fn drain(&mut self) -> usize {
        std::iter::from_fn(|| self.outbox.receive_ready()).count()
    }
}

/// What was measured while changes were routed.
#[derive(Default)]
struct Flow {
    changes: usize,
    messages: usize,
    cpu: f64,
    wall: f64,
}

impl Case<'_> {
    async fn run(&self, seconds: f64) -> String {
        let lookups = match self.policy {
            Policy::Owner => Lookups::default(),
            Policy::Membership => self.world.lookups(self.subscribers, self.recipients == Recipients::All).await,
        };
        let other_catalog = self.world.catalog_again().await;
        let mut clients: Vec<Client> = (0..self.subscribers).map(|_| Client::new()).collect();
        let mut judge = Judge::new(config(), self.world.catalog.clone());
        let memory = resident_mib(std::process::id());
        let (mut keys, subscribe) = self.subscribe_all(&mut judge, &mut clients, &lookups);
        let memory = (resident_mib(std::process::id()) - memory) * 1_048_576.0 / self.subscribers as f64;
        let flow = self.flow(&mut judge, &mut clients, &lookups, seconds);
        let (claims, unsubscribe) = self.exchange(&mut judge, &mut clients, &mut keys, &lookups);
        let before = thread_cpu_seconds();
        judge.set_catalog(other_catalog, &lookups);
        let catalog = thread_cpu_seconds() - before;
        let rate = flow.changes as f64 / flow.cpu;
        let is_compared = self.recipients == Recipients::One;
        let replaced = REPLACED.iter().find(|(subscribers, _)| is_compared && *subscribers == self.subscribers);
        format!(
            "| {} | {} | {} | {rate:.0} | {:.0} | {:.0} | {} | {subscribe:.1} | {claims:.1} | {unsubscribe:.1} | {:.0} | {} |",
            self.policy.name(),
            self.recipients.name(),
            self.subscribers,
            flow.messages as f64 / flow.cpu,
            flow.changes as f64 / flow.wall,
            replaced.map_or("-".to_owned(), |(_, replaced)| format!("{:.0}", rate / replaced)),
            catalog * 1000.0,
            if self.tells_memory { format!("{memory:.0}") } else { "-".to_owned() },
        )
    }

    /// Who number `number` is.
    fn user(&self, number: usize) -> usize {
        // Whoever owns a row is one user; all of them may be his.
        if self.policy == Policy::Owner && self.recipients == Recipients::All { 0 } else { number }
    }

    fn subscription(&self, number: usize, client: &Client) -> Subscription {
        let entry = json!({"event": "*", "schema": "public", "table": self.policy.table()});
        let request = BindingRequest::parse(entry.as_object().expect("an object"));
        Subscription {
            member: client.member.clone(),
            claims: claims(self.user(number)),
            bindings: vec![Binding { id: 12_345_678, request }],
            casts: Arc::default(),
            start: Position::default(),
            resume: None,
            visibility: false,
            held_reply: None,
        }
    }

    /// The keys of all subscriptions, and the microseconds each took.
    fn subscribe_all(
        &self,
        judge: &mut Judge,
        clients: &mut [Client],
        lookups: &Lookups,
    ) -> (Vec<SubscriptionKey>, f64) {
        let before = thread_cpu_seconds();
        let mut keys = Vec::with_capacity(clients.len());
        for (number, client) in clients.iter_mut().enumerate() {
            let subscription = self.subscription(number, client);
            keys.push(judge.subscribe(subscription, lookups).expect("nothing is wrong with it"));
            client.drain();
        }
        (keys, (thread_cpu_seconds() - before) * 1e6 / clients.len() as f64)
    }

    /// Routes changes for so many CPU seconds.
    fn flow(&self, judge: &mut Judge, clients: &mut [Client], lookups: &Lookups, seconds: f64) -> Flow {
        let mut changes = Changes::of(self.world.table(self.policy));
        let mut flow = Flow::default();
        // The first batch pays for what is made on demand.
        let mut is_warm = false;
        while flow.cpu < seconds {
            let batch = self.batch(&mut changes);
            let (cpu, wall) = (thread_cpu_seconds(), Instant::now());
            let (mut messages, mut sent) = (0, 0);
            for chunk in batch.chunks(CHUNK) {
                for (_, fragment) in chunk {
                    let routed = judge.route(fragment, lookups, fragment.commit_time);
                    assert!(!routed.is_left_to_database, "the process decides");
                    sent += routed.messages;
                }
                messages += match self.recipients {
                    Recipients::One | Recipients::OneOfFew => {
                        chunk.iter().map(|(recipient, _)| clients[*recipient].drain()).sum::<usize>()
                    }
                    Recipients::All => clients.iter_mut().map(Client::drain).sum(),
                };
            }
            let (cpu, wall) = (thread_cpu_seconds() - cpu, wall.elapsed().as_secs_f64());
            let recipients = if self.recipients == Recipients::All { self.subscribers } else { 1 };
            let wanted = batch.len() * recipients;
            assert_eq!((messages, sent), (wanted, wanted as u64), "everybody gets what is his, and nobody else");
            if std::mem::replace(&mut is_warm, true) {
                flow.changes += batch.len();
                flow.messages += messages;
                flow.cpu += cpu;
                flow.wall += wall;
            }
        }
        flow
    }

    fn batch(&self, changes: &mut Changes) -> Vec<(usize, Arc<walcast::change::Fragment>)> {
        let count = match self.recipients {
            Recipients::One | Recipients::OneOfFew => BATCH_MESSAGES,
            Recipients::All => BATCH_MESSAGES.div_ceil(self.subscribers),
        };
        let of = |number: usize| match self.recipients {
            // The multiplier spreads consecutive changes over the subscribers.
            Recipients::One => number.wrapping_mul(7919) % self.subscribers,
            Recipients::OneOfFew => number.wrapping_mul(7919) % FEW * (self.subscribers / FEW),
            Recipients::All => 0,
        };
        let start = changes.made();
        (start..start + count).map(|number| (of(number), changes.next(of(number), of(number)))).collect()
    }

    /// The microseconds it takes to give a subscription other claims, and to take it out.
    fn exchange(
        &self,
        judge: &mut Judge,
        clients: &mut [Client],
        keys: &mut [SubscriptionKey],
        lookups: &Lookups,
    ) -> (f64, f64) {
        let step = self.subscribers.div_ceil(EXCHANGED);
        let chosen: Vec<usize> = (0..self.subscribers).step_by(step).collect();
        let rounds = (EXCHANGED * 5).div_ceil(chosen.len());
        let (mut replacing, mut leaving) = (0.0, 0.0);
        for _ in 0..rounds {
            let others: Vec<_> = chosen.iter().map(|&number| (number, claims(self.user(number) + 1))).collect();
            let before = thread_cpu_seconds();
            for (number, claims) in others {
                judge.replace_claims(keys[number], claims, lookups);
                clients[number].drain();
            }
            replacing += thread_cpu_seconds() - before;
            let before = thread_cpu_seconds();
            chosen.iter().for_each(|&number| judge.unsubscribe(keys[number]));
            leaving += thread_cpu_seconds() - before;
            for &number in &chosen {
                let subscription = self.subscription(number, &clients[number]);
                keys[number] = judge.subscribe(subscription, lookups).expect("nothing is wrong with it");
                clients[number].drain();
            }
        }
        let each = 1e6 / (rounds * chosen.len()) as f64;
        (replacing * each, leaving * each)
    }
}
