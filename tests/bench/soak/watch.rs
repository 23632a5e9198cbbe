//! The server's process from outside: memory, threads, file descriptors, and what it says of itself.

use crate::{
    process::{cpu_seconds, descriptors, resident_mib, threads},
    support::{json::Json, server::Server},
};
use std::time::{Duration, Instant};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// What memory may have grown by between a third of the time and the end, as a share and in MiB: an allocator does not
/// give everything back, and the load is not the same at any two moments.
const GROWTH: (f64, f64) = (1.15, 8.0);
/// Descriptors, tasks and threads that may be more at the end: connections to the database that are kept, and threads for
/// files that end when they have been idle.
const KEPT: usize = 16;

/// What was seen at a moment.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    at: Duration,
    resident_mib: f64,
    cpu: f64,
    threads: f64,
    descriptors: usize,
    tasks: usize,
    pub(crate) connections: usize,
    pub(crate) subscriptions: usize,
    behind: usize,
    rooms: usize,
    presences: usize,
    changes: usize,
    deliveries: usize,
    lags: usize,
    gaps: usize,
    slow: usize,
}

impl Sample {
    pub(crate) const HEAD: &str = "| s | RSS MiB | CPU s | threads | descriptors | tasks | connections | subscriptions | behind | rooms | presences | changes | deliveries | lags | gaps | slow |\n|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|";

    pub(crate) fn line(&self) -> String {
        format!(
            "| {:.0} | {:.1} | {:.0} | {:.0} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            self.at.as_secs_f64(),
            self.resident_mib,
            self.cpu,
            self.threads,
            self.descriptors,
            self.tasks,
            self.connections,
            self.subscriptions,
            self.behind,
            self.rooms,
            self.presences,
            self.changes,
            self.deliveries,
            self.lags,
            self.gaps,
            self.slow
        )
    }
}

/// Looks at a server.
pub(crate) struct Watch {
    pid: u32,
    address: String,
    start: Instant,
    samples: Vec<Sample>,
    first: Option<Sample>,
}

impl Watch {
    pub(crate) fn new(server: &Server) -> Watch {
        Watch {
            pid: server.pid(),
            address: server.address().to_owned(),
            start: Instant::now(),
            samples: Vec::new(),
            first: None,
        }
    }

    /// Looks now.
    pub(crate) async fn sample(&mut self) -> Sample {
        let health = health(&self.address).await.unwrap_or(Json::Null);
        let number = |json: &Json| json.as_i64().and_then(|number| usize::try_from(number).ok()).unwrap_or(0);
        let of = |name: &str| number(health.at(name));
        let counter = |name: &str| number(health.at("counters").at(name));
        let sample = Sample {
            at: self.start.elapsed(),
            resident_mib: resident_mib(self.pid),
            cpu: cpu_seconds(self.pid),
            threads: threads(self.pid),
            descriptors: descriptors(self.pid),
            tasks: of("tasks"),
            connections: of("connections"),
            subscriptions: of("subscriptions"),
            behind: of("subscriptions_behind"),
            rooms: of("rooms"),
            presences: of("presences"),
            changes: counter("changes_total"),
            deliveries: counter("deliveries_total"),
            lags: counter("lags_total"),
            gaps: counter("gaps_total"),
            slow: counter("slow_clients_total"),
        };
        self.first.get_or_insert_with(|| sample.clone());
        self.samples.push(sample.clone());
        sample
    }

    /// Mean memory around this share of the time so far.
    fn mean(&self, from: f64, to: f64) -> f64 {
        let end = self.samples.last().map_or(0.0, |sample| sample.at.as_secs_f64());
        let within = |sample: &&Sample| (from * end..=to * end).contains(&sample.at.as_secs_f64());
        let memory: Vec<f64> = self.samples.iter().filter(within).map(|sample| sample.resident_mib).collect();
        memory.iter().sum::<f64>() / memory.len().max(1) as f64
    }

    fn third_and_end(&self) -> (f64, f64) {
        (self.mean(0.28, 0.39), self.mean(0.89, 1.0))
    }

    /// Whether memory has grown since a third of the time.
    pub(crate) fn growth(&self) -> Vec<String> {
        let (third, end) = self.third_and_end();
        let is_flat = end <= third * GROWTH.0 + GROWTH.1;
        if is_flat {
            Vec::new()
        } else {
            vec![format!("memory: {third:.1} MiB after a third, {end:.1} MiB at the end")]
        }
    }

    /// What is left of clients that are gone.
    pub(crate) async fn leaks(&mut self, limit: Duration) -> Vec<String> {
        let start = Instant::now();
        loop {
            let now = self.sample().await;
            let mut faults = Vec::new();
            let left = [
                ("connections", now.connections),
                ("subscriptions", now.subscriptions),
                ("subscriptions behind", now.behind),
                ("rooms", now.rooms),
                ("presences", now.presences),
            ];
            let left = left.iter().filter(|(_, count)| *count > 0);
            faults.extend(left.map(|(what, count)| format!("{count} {what} are left of nobody")));
            // One client is one descriptor and three tasks: far fewer may stay than there were clients.
            if now.descriptors > KEPT * 4 {
                faults.push(format!("{} file descriptors are left", now.descriptors));
            }
            if now.tasks > KEPT * 4 {
                faults.push(format!("{} tasks are left", now.tasks));
            }
            if now.threads > self.first.as_ref().map_or(0.0, |first| first.threads) + KEPT as f64 {
                faults.push(format!("{} threads are left", now.threads));
            }
            if faults.is_empty() || start.elapsed() > limit {
                println!("{}", now.line());
                return faults;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    pub(crate) fn summary(&self) -> String {
        let (third, end) = self.third_and_end();
        let most = self.samples.iter().map(|sample| sample.resident_mib).fold(0.0, f64::max);
        format!("Memory: {third:.1} MiB around a third of the time, {end:.1} MiB at its end, {most:.1} MiB at most.")
    }
}

async fn health(address: &str) -> Option<Json> {
    let ask = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        let request = format!("GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        Json::parse(answer.split_once("\r\n\r\n")?.1).ok()
    };
    tokio::time::timeout(Duration::from_secs(10), ask).await.ok().flatten()
}
