//! The harness of all benches: cost of one operation, in nanoseconds or instructions.
//!
//! A bench is a name and a function that sets it up and returns the operation to repeat.
//!
//! * `cargo bench -p benches --bench routes` prints for each bench the median of several rounds:
//!   `name  median ns/op (min … max of N rounds)`. A word after `--` selects names containing it.
//! * `cargo bench -p benches --bench routes -- --list` prints the names.
//! * `cargo bench -p benches --bench routes -- --count NAME N` sets NAME up, does N operations and
//!   is silent.
//!
//! If an operation needs another one first, such as a response its query, only the part passed to
//! [`Meter`] is counted.
//!
//! Instructions are counted in [`metered`] alone, as the difference of two runs, so that set-up
//! cancels out: `valgrind --tool=callgrind --toggle-collect='*harness*metered*' BINARY --count NAME
//! N` for two values of N, then the difference of the collected counts, divided by the difference
//! of N. `benches/instructions` does this for all benches. Counts repeat to a few parts in a
//! million where times vary by tenths: instructions gate, times inform.

pub mod tables;

use onward::clock::Clock;
use onward::moment::nanos;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::Duration;

/// Rounds per bench: odd, so that the median is one of them.
const ROUNDS: usize = 21;
/// Minimum duration of a round, far above the clock's own cost.
const ROUND_MIN: Duration = Duration::from_millis(10);

/// One benchmark.
#[derive(Clone, Copy)]
pub struct Bench {
    /// Name on the command line.
    pub name: &'static str,
    /// Builds the state of the operations.
    pub set_up: fn() -> Operations,
}

/// Performs the given number of operations, with the meter around the counted part.
pub type Operations = Box<dyn FnMut(u64, &mut Meter)>;

/// Wraps one operation, so that repeating it costs no indirect call each time.
pub fn repeat(mut operation: impl FnMut() + 'static) -> Operations {
    whole(move |count| {
        for _ in 0..count {
            operation();
        }
    })
}

/// Wraps operations that are counted entirely.
pub fn whole(mut operations: impl FnMut(u64) + 'static) -> Operations {
    Box::new(move |count, meter| meter.count(|| operations(count)))
}

/// Separates the counted part of an operation from the rest.
pub struct Meter {
    clock: Clock,
    spent: Duration,
}

impl Meter {
    fn start() -> Self {
        Self { clock: Clock::start(), spent: Duration::ZERO }
    }

    /// Runs the counted part. The two clock reads are amortised over many operations.
    pub fn count(&mut self, mut part: impl FnMut()) {
        let start = self.clock.now();
        metered(&mut part);
        self.spent += self.clock.now().since(start);
    }
}

/// Function whose instructions are counted, under a name of its own.
#[inline(never)]
fn metered(part: &mut dyn FnMut()) {
    part();
    black_box(());
}

/// Returns the exit code of a bench binary.
pub fn run(benches: &[Bench]) -> ExitCode {
    let typed: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = typed.iter().map(String::as_str).collect();
    match words[..] {
        ["--list"] => benches.iter().for_each(|bench| println!("{}", bench.name)),
        ["--count", name, count] => {
            let bench = benches.iter().find(|bench| bench.name == name);
            let (Some(bench), Ok(count)) = (bench, count.parse()) else {
                return usage();
            };
            let mut meter = Meter::start();
            (bench.set_up)()(count, &mut meter);
        }
        [] => benches.iter().for_each(time),
        [part] if !part.starts_with('-') => {
            benches.iter().filter(|bench| bench.name.contains(part)).for_each(time);
        }
        _ => return usage(),
    }
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!("usage: [PART OF A NAME] | --list | --count NAME OPERATIONS");
    ExitCode::FAILURE
}

/// Measures one bench and prints its line.
fn time(bench: &Bench) {
    let mut meter = Meter::start();
    let mut operations = (bench.set_up)();
    let mut round = |count| {
        meter.spent = Duration::ZERO;
        operations(count, &mut meter);
        meter.spent
    };
    let mut count = 1;
    while round(count) < ROUND_MIN {
        count *= 2;
    }
    let mut costs: Vec<f64> =
        (0..ROUNDS).map(|_| nanos(round(count)) as f64 / count as f64).collect();
    costs.sort_by(f64::total_cmp);
    println!(
        "{:<40} {:>9.1} ns/op ({:.1} … {:.1} of {ROUNDS} rounds)",
        bench.name,
        costs[ROUNDS / 2],
        costs[0],
        costs[ROUNDS - 1],
    );
}
