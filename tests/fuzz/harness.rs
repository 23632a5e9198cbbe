//! The loop: kept inputs as they are, cut short, and changed, until the time is over. Plain Rust, on the stable toolchain.
//!
//! A decoder tells what it made of an input as a number (`Seen`). An input with a number nobody has seen before is changed
//! further: that is what leads deeper, in the place of a compiler that counts branches. A fault is a panic, more time or
//! memory than the input's length explains, or what the target itself asserts; it is shown in hexadecimal digits, shortened.

use super::{corpus, mutate::Mutator};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};
use std::{
    any::Any,
    collections::HashSet,
    env,
    hash::{DefaultHasher, Hash, Hasher},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Threads of the server have this much stack.
const STACK: usize = 2 << 20;
/// How long one input may take at the best of three times.
const SLOW: Duration = Duration::from_millis(if cfg!(debug_assertions) { 3000 } else { 500 });
/// When nothing is heard of an input for this long, it never ends.
const HANG: Duration = Duration::from_secs(60);
/// Inputs that are changed further.
const POOL: usize = 4000;
/// A longer input is not changed further: it would grow without end, and cost more than it finds.
const POOL_INPUT: usize = 16 * 1024;
/// Attempts to shorten an input with a fault.
const ATTEMPTS: usize = 300;

/// What a decoder made of an input: equal numbers mean nothing new was seen.
pub type Seen = u64;

/// A decoder under test.
pub struct Target {
    /// The name of its corpus.
    pub name: &'static str,
    /// Inputs to begin with, beside those that are kept.
    pub seeds: Vec<Vec<u8>>,
    /// Words of its language.
    pub words: &'static [&'static str],
    /// Bytes it may hold at a time: so many, and so many for each byte of the input.
    pub memory: (usize, usize),
    /// Decodes, asserts.
    pub run: fn(&[u8]) -> Seen,
}

/// What most decoders may hold: JSON of many small values takes 32 bytes for one of them, and twice that while a list grows.
pub const MEMORY: (usize, usize) = (256 * 1024, 160);

/// A number of whatever was seen.
pub fn seen(what: impl Hash) -> Seen {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// The shape of how a text begins: its letters outside of quotes, with numbers as one digit.
pub fn shape(text: &str) -> Seen {
    let mut hasher = DefaultHasher::new();
    let mut quoted = false;
    let mut last = ' ';
    for letter in text.chars().take(80) {
        quoted ^= letter == '"' || letter == '`';
        let letter = if letter.is_ascii_digit() { '0' } else { letter };
        if !quoted && (letter != '0' || last != '0') {
            letter.hash(&mut hasher);
        }
        last = letter;
    }
    hasher.finish()
}

/// What a panic said.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default();
    text.chars().take(2000).collect()
}

/// The settings of a run.
struct Settings {
    time: Duration,
    seed: u64,
    keeps: bool,
}

impl Settings {
    fn read() -> Settings {
        let number = |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
        let clock = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos();
        Settings {
            time: Duration::from_secs(number("WALCAST_FUZZ_SECONDS").unwrap_or(1)),
            seed: number("WALCAST_FUZZ_SEED").unwrap_or_else(|| seen(clock())),
            keeps: number("WALCAST_FUZZ_KEEP").is_some(),
        }
    }
}

/// Runs a target for its time.
pub fn fuzz(target: Target) {
    let settings = Settings::read();
    let (name, seed, time) = (target.name, settings.seed, settings.time);
    let current = Arc::new(Mutex::new(Vec::new()));
    let (done, outcome) = mpsc::channel();
    let watched = Arc::clone(&current);
    let run = move || {
        // Whoever listens has given up on it.
        let _ = done.send(Run::new(&target, &settings, watched).run());
    };
    let thread = thread::Builder::new().name(format!("fuzz {name}")).stack_size(STACK).spawn(run).expect("a thread");
    let outcome = outcome.recv_timeout(time + HANG);
    if let Err(RecvTimeoutError::Timeout) = outcome {
        let input = current.lock().unwrap_or_else(PoisonError::into_inner).clone();
        panic!("{name}, seed {seed}: does not end with {}", corpus::hex(&input));
    }
    let joined = thread.join();
    match outcome {
        Ok(Ok(count)) => eprintln!("{name}: {count}, seed {seed}"),
        Ok(Err(fault)) => panic!("{name}, seed {seed}: {fault}"),
        Err(_) => panic!("{name}, seed {seed}: the harness itself failed: {joined:?}"),
    }
}

struct Run<'a> {
    target: &'a Target,
    settings: &'a Settings,
    current: Arc<Mutex<Vec<u8>>>,
    random: StdRng,
    pool: Vec<Vec<u8>>,
    seen: HashSet<Seen>,
    /// What was found beside the corpus.
    found: Vec<Vec<u8>>,
    count: u64,
}

impl<'a> Run<'a> {
    fn new(target: &'a Target, settings: &'a Settings, current: Arc<Mutex<Vec<u8>>>) -> Run<'a> {
        let random = StdRng::seed_from_u64(settings.seed ^ seen(target.name));
        Run { target, settings, current, random, pool: Vec::new(), seen: HashSet::new(), found: Vec::new(), count: 0 }
    }

    fn run(mut self) -> Result<String, String> {
        let start = Instant::now();
        let mut inputs = corpus::read(self.target.name);
        for input in &inputs {
            self.take(input)?;
        }
        // Where there are many, in the order of chance: a short run does not come to all of them.
        let mut seeds = self.target.seeds.clone();
        seeds.shuffle(&mut self.random);
        assert!(!seeds.is_empty(), "something to begin with");
        for input in &seeds {
            self.take(input)?;
            if start.elapsed() > self.settings.time / 3 {
                break;
            }
        }
        let known = self.found.len();
        // Everything cut at every byte, as far as another part of the time goes.
        inputs.append(&mut seeds);
        inputs.shuffle(&mut self.random);
        let until = start.elapsed() + self.settings.time / 5;
        'cuts: for input in &inputs {
            let step = input.len() / 2000 + 1;
            for length in (0..input.len()).step_by(step) {
                if start.elapsed() > until {
                    break 'cuts;
                }
                self.take(&input[..length])?;
            }
        }
        let mut input = Vec::new();
        while start.elapsed() < self.settings.time {
            let mut mutator = Mutator { random: &mut self.random, pool: &self.pool, words: self.target.words };
            mutator.make(&mut input);
            self.take(&input)?;
        }
        if self.settings.keeps {
            corpus::keep(self.target.name, &self.found[known..]);
        }
        Ok(format!("{} inputs, {} behaviours of which {known} were known", self.count, self.seen.len()))
    }

    fn take(&mut self, input: &[u8]) -> Result<(), String> {
        self.count += 1;
        let seen = match self.try_input(input) {
            Ok(seen) => seen,
            Err(fault) => return Err(self.shortened(input, &fault)),
        };
        if self.seen.insert(seen) && input.len() <= POOL_INPUT {
            self.found.push(input.to_vec());
            if self.pool.len() < POOL {
                self.pool.push(input.to_vec());
            } else {
                let place = self.random.random_range(0..POOL);
                self.pool[place] = input.to_vec();
            }
        }
        Ok(())
    }

    fn try_input(&mut self, input: &[u8]) -> Result<Seen, String> {
        input.clone_into(&mut self.current.lock().unwrap_or_else(PoisonError::into_inner));
        let mut best = Duration::MAX;
        for _ in 0..3 {
            let start = Instant::now();
            let mut outcome = None;
            let memory = allocation_counter::measure(|| {
                outcome = Some(catch_unwind(AssertUnwindSafe(|| (self.target.run)(input))));
            });
            best = best.min(start.elapsed());
            let seen = match outcome {
                Some(Ok(seen)) => seen,
                Some(Err(panic)) => return Err(format!("panics: {}", said(&*panic))),
                None => return Err("is not run".to_owned()),
            };
            let (base, each) = self.target.memory;
            if memory.bytes_max > (base + each * input.len()) as u64 {
                return Err(format!("takes {} bytes of memory", memory.bytes_max));
            }
            if best < SLOW {
                return Ok(seen);
            }
        }
        Err(format!("takes {best:?}"))
    }

    /// The fault with a shorter input that has it, too.
    fn shortened(&mut self, input: &[u8], fault: &str) -> String {
        let mut shortest = input.to_vec();
        let mut attempts = 0;
        let mut piece = shortest.len().div_ceil(2);
        while piece > 0 && attempts < ATTEMPTS {
            let mut at = 0;
            while at < shortest.len() && attempts < ATTEMPTS {
                let end = (at + piece).min(shortest.len());
                let shorter = [&shortest[..at], &shortest[end..]].concat();
                attempts += 1;
                if self.try_input(&shorter).is_err() { shortest = shorter } else { at = end }
            }
            piece /= 2;
        }
        let last = self.try_input(&shortest).err().unwrap_or_default();
        let text = String::from_utf8_lossy(&shortest[..shortest.len().min(2000)]).into_owned();
        let whole = corpus::hex(&shortest[..shortest.len().min(20_000)]);
        format!("{fault}; shortened to {} bytes ({last}): {text:?}\nhex: {whole}", shortest.len())
    }
}
