//! One connection that writes without a pause: small transactions of all kinds, each row with a number, and a line in the
//! ledger for each. One writer, so the order of the numbers is that of the commits, whatever ends and comes again.

use super::{site::CAROL, storm::PATIENCE};
use crate::support::{
    postgres::{drive, try_connect},
    token::{ALICE, BOB},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_postgres::Client;

const PAUSE: Duration = Duration::from_millis(8);
const RETRY: Duration = Duration::from_millis(30);

/// What the writer is told.
pub enum Order {
    /// Go on, or stand still; the answer comes when it does.
    Run(bool, oneshot::Sender<()>),
    /// Write a row that everybody sees; the answer is its number.
    Mark(oneshot::Sender<i64>),
    /// Write one transaction of so many rows of 100 KB.
    Large(u32, oneshot::Sender<()>),
}

/// How the writer is told.
#[derive(Clone)]
pub struct Writer {
    orders: mpsc::Sender<Order>,
}

struct Task {
    url: watch::Receiver<String>,
    client: Option<Client>,
    /// The last number used.
    n: i64,
    random: StdRng,
}

impl Writer {
    /// One that stands still until it is told to run.
    pub fn start(url: watch::Receiver<String>, seed: u64) -> Writer {
        let (orders, told) = mpsc::channel(8);
        let random = StdRng::seed_from_u64(seed);
        drive(Task { url, client: None, n: 0, random }.run(told));
        Writer { orders }
    }

    async fn tell<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> T {
        let (answer, answered) = oneshot::channel();
        let is_told = self.orders.send(order(answer)).await.is_ok();
        assert!(is_told, "the writer runs");
        tokio::time::timeout(PATIENCE, answered).await.expect("the writer writes").unwrap()
    }

    pub async fn run(&self) {
        self.tell(|answer| Order::Run(true, answer)).await;
    }

    pub async fn pause(&self) {
        self.tell(|answer| Order::Run(false, answer)).await;
    }

    /// Writes a row that everybody sees; its number.
    pub async fn mark(&self) -> i64 {
        self.tell(Order::Mark).await
    }

    /// Writes one transaction of so many rows of 100 KB.
    pub async fn large(&self, rows: u32) {
        self.tell(|answer| Order::Large(rows, answer)).await;
    }
}

impl Task {
    async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        let mut is_running = false;
        loop {
            tokio::select! {
                biased;
                order = orders.recv() => match order {
                    Some(Order::Run(wanted, answer)) => {
                        is_running = wanted;
                        let _ = answer.send(());
                    }
                    Some(Order::Mark(answer)) => {
                        let n = self.mark().await;
                        let _ = answer.send(n);
                    }
                    Some(Order::Large(rows, answer)) => {
                        self.large(rows).await;
                        let _ = answer.send(());
                    }
                    None => return,
                },
                () = tokio::time::sleep(PAUSE), if is_running => {
                    let sql = self.transaction();
                    self.execute(&sql).await;
                }
            }
        }
    }

    /// Runs it once; false when it is not known to have been done. The ledger knows.
    async fn execute(&mut self, sql: &str) -> bool {
        if self.client.is_none() {
            let url = self.url.borrow().clone();
            let Ok(client) = try_connect(&url).await else {
                tokio::time::sleep(RETRY).await;
                return false;
            };
            self.client = Some(client);
        }
        let Some(client) = &self.client else { return false };
        match client.batch_execute(sql).await {
            Ok(()) => true,
            Err(error) => {
                // What a table's changes get in the way of is a transaction that never was.
                if client.is_closed() {
                    self.client = None;
                    tokio::time::sleep(RETRY).await;
                } else {
                    assert!(error.as_db_error().is_some(), "{error:?}");
                    let _ = client.batch_execute("rollback").await;
                }
                false
            }
        }
    }

    async fn mark(&mut self) -> i64 {
        loop {
            self.n += 1;
            let n = self.n;
            let sql = format!(
                "begin; insert into marks values ({n}, {n});
                 insert into ledger values ({n}, 'marks', 'INSERT', {n}); commit"
            );
            if self.execute(&sql).await {
                return n;
            }
        }
    }

    async fn large(&mut self, rows: u32) {
        loop {
            let (first, last) = (self.n + 1, self.n + i64::from(rows));
            self.n = last;
            let sql = format!(
                "begin;
                 insert into shared select g, 2, g, repeat('x', 100000) from generate_series({first}, {last}) g;
                 insert into ledger select g, 'shared', 'INSERT', g, null, 2, null from generate_series({first}, {last}) g;
                 commit"
            );
            if self.execute(&sql).await {
                return;
            }
        }
    }

    fn transaction(&mut self) -> String {
        let count = if self.random.random_ratio(1, 40) { 40 } else { self.random.random_range(1..=4) };
        let changes: Vec<String> = (0..count).map(|_| self.change()).collect();
        format!("begin; {} commit", changes.concat())
    }

    fn change(&mut self) -> String {
        self.n += 1;
        let random = &mut self.random;
        let (n, table) = (self.n, ["owned", "shared", "odd"][random.random_range(0..3)]);
        let body = random.random_range(0..200);
        let (kind, value) = match table {
            "owned" => ("owner", format!("'{}'", [ALICE, BOB, CAROL][random.random_range(0..3)])),
            "shared" => ("room", random.random_range(1..=4).to_string()),
            _ => ("tag", format!("'{}'", ["a", "b", "c"][random.random_range(0..3)])),
        };
        let (op, sql) = match random.random_range(0..10) {
            0..6 => ("INSERT", format!("insert into {table} values ({n}, {value}, {n}, repeat('x', {body}))")),
            // Rows of one's own making, and of the last ones, so that there are some whatever came before.
            6..9 => ("UPDATE", format!("update {table} set n = {n} where id = (select max(id) from {table})")),
            _ => ("DELETE", format!("delete from {table} where id = (select max(id) from {table})")),
        };
        let [owner, room, tag] =
            [("owner", "uuid"), ("room", "int"), ("tag", "text")].map(|(column, of)| match column == kind {
                true => column.to_owned(),
                false => format!("null::{of}"),
            });
        format!(
            "with c as ({sql} returning id, {kind})
             insert into ledger select {n}, '{table}', '{op}', id, {owner}, {room}, {tag} from c; "
        )
    }
}
