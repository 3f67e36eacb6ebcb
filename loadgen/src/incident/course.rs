//! One course: builds the lab, runs the programs in it, triggers the planned events, and cleans up.
//!
//! The backends are `loadgen upstream` and the load client is `loadgen run`, both started from this
//! executable; the forwarder is any command. Programs and namespaces are owned by values that end
//! or remove them when they are dropped, so that errors leave nothing behind.

use super::lab::{FORWARDER, Lab};
use super::measure::{Second, Told, seconds};
use super::plan::{Plan, Variant};
use onward::clock::Clock;
use onward::sys::signals::{Signal, Signals};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

/// Interval of the backends' counters.
const TELL: &str = "200ms";
/// Time until the backends' last counters are read: more than one [`TELL`] interval.
const TELL_WAIT: Duration = Duration::from_millis(500);
/// Maximum time for a program to start.
const START_MAX: Duration = Duration::from_secs(20);
/// Approximate time from the start of the load client's process to its first query. Its error is
/// negligible compared with a second.
const HEAD_START: Duration = Duration::from_millis(30);
/// Response timeout of the load client.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum time for the load client to end after the last timeout.
const END_MAX: Duration = Duration::from_secs(20);
/// Interval of checks whether a program has ended.
const LOOK: Duration = Duration::from_millis(50);
/// Maximum bytes of a failed program's output that are shown, from its end.
const SAID_MAX: usize = 2_000;

/// Forwarder under test.
#[derive(Clone, Debug)]
pub struct Forwarder {
    /// The program and its arguments; `{corefile}` is replaced by the path of its Corefile.
    pub command: Vec<String>,
    /// The forwarder is onward, whose Corefile gets additional options.
    pub own: bool,
}

/// Parameters of all courses.
pub struct Setup<'a> {
    /// The planned events.
    pub plan: &'a Plan,
    /// Forwarder under test.
    pub forwarder: &'a Forwarder,
    /// Directory for files.
    pub directory: &'a Path,
    /// Signals that end the course.
    pub signals: &'a Signals,
}

/// A running program, killed when this is dropped.
struct Running {
    child: Child,
    said: PathBuf,
}

/// The serving programs, and the counters that the backends print.
struct Servers {
    backends: Running,
    first: Told,
    told: Receiver<Told>,
    forwarder: Running,
}

/// Action on the lab at some time.
type Act<'l> = Box<dyn Fn() -> io::Result<()> + 'l>;

impl Setup<'_> {
    /// Runs a course from its start to its end.
    ///
    /// # Errors
    /// `Interrupted`: a signal came. Otherwise the lab could not be built, or a program failed.
    pub fn run(&self, variant: Variant) -> io::Result<Vec<Second>> {
        let plan = self.plan;
        let lab = Lab::build(plan.backends + 1, plan.max_age, variant.key())?;
        let mut servers = self.serve(&lab, variant)?;
        let report = self.directory.join(format!("client-{}.json", variant.key()));
        let clock = Clock::start();
        let mut client = self.client(&lab, Some(&report))?;
        let origin = Clock::calendar() + HEAD_START;
        let start = clock.now().plus(HEAD_START);
        for (when, act) in self.events(&lab) {
            while clock.now() < start.plus(when) {
                self.pause(start.plus(when).since(clock.now()))?;
            }
            act()?;
            servers.forwarder.check("the forwarder")?;
        }
        let end = start.plus(plan.length + TIMEOUT + END_MAX);
        while client.child.try_wait()?.is_none() {
            self.pause(LOOK)?;
            if clock.now() > end {
                return Err(io::Error::other("the load client did not end"));
            }
        }
        servers.forwarder.check("the forwarder")?;
        self.pause(TELL_WAIT)?;
        drop(servers.backends);
        let told: Vec<Told> = [servers.first].into_iter().chain(servers.told).collect();
        let text = fs::read_to_string(&report).map_err(|_| client.failed("the load client"))?;
        let report = serde_json::from_str(&text)?;
        seconds(&told, &report, origin, plan.length).map_err(io::Error::other)
    }

    /// Returns the changes of the backends with their times.
    fn events<'l>(&'l self, lab: &'l Lab) -> [(Duration, Act<'l>); 4] {
        let plan = self.plan;
        let all: Vec<usize> = (1..=plan.backends).collect();
        let (first, healthy) = (all[0], all[1..].to_vec());
        let more: Vec<usize> = (1..=plan.backends + 1).collect();
        [
            (plan.at, Box::new(move || lab.fail(first, plan.fault))),
            // Removed from the map first, otherwise flows deleted from conntrack could be mapped to
            // it again.
            (
                plan.at + plan.notice,
                Box::new(move || lab.serve(&healthy).and_then(|()| lab.forget(first))),
            ),
            (
                plan.recovery(),
                Box::new(move || lab.heal(first, plan.fault).and_then(|()| lab.serve(&all))),
            ),
            (plan.added, Box::new(move || lab.serve(&more))),
        ]
    }

    /// Starts the backends and the forwarder, and waits until a query is answered.
    fn serve(&self, lab: &Lab, variant: Variant) -> io::Result<Servers> {
        let loadgen = std::env::current_exe()?.display().to_string();
        let mut command = lab.backends_command(&loadgen);
        command.args(["upstream", "--tell", TELL, "--listen"]);
        command.args(lab.addresses().iter().map(ToString::to_string));
        let mut backends = self.start(command.stdout(Stdio::piped()), "backends", variant)?;
        let told = listen(&mut backends.child)?;
        let Ok(first) = told.recv_timeout(START_MAX) else {
            return Err(backends.failed("the backends"));
        };
        lab.serve(&(1..=self.plan.backends).collect::<Vec<_>>())?;
        let corefile = self.directory.join(format!("Corefile-{}", variant.key()));
        fs::write(&corefile, variant.corefile(self.plan, self.forwarder.own))?;
        let corefile = corefile.display().to_string();
        let words = self.forwarder.command.iter();
        let words: Vec<_> = words.map(|word| word.replace("{corefile}", &corefile)).collect();
        let (program, arguments) = words.split_first().expect("a command has a word");
        let mut command = lab.client_command(program);
        let mut forwarder = self.start(command.args(arguments), "forwarder", variant)?;
        let clock = Clock::start();
        while !self.client(lab, None)?.child.wait()?.success() {
            forwarder.check("the forwarder")?;
            if clock.now().since(onward::moment::Moment::ZERO) > START_MAX {
                return Err(forwarder.failed("the forwarder"));
            }
            self.pause(Duration::ZERO)?;
        }
        Ok(Servers { backends, first, told, forwarder })
    }

    /// Starts the load, or a single query if there is no `report`.
    fn client(&self, lab: &Lab, report: Option<&Path>) -> io::Result<Running> {
        let loadgen = std::env::current_exe()?.display().to_string();
        let mut command = lab.client_command(&loadgen);
        command.args(["run", "--server", FORWARDER, "--quiet", "--verify"]);
        match report {
            None => command.args(["--count", "1", "--timeout", "200ms"]),
            Some(report) => command
                .args(["--rate", &self.plan.rate.to_string(), "--stretch", "1s"])
                .args(["--seconds", &self.plan.length.as_secs_f64().to_string()])
                .args(["--timeout", &format!("{}s", TIMEOUT.as_secs()), "--json"])
                .arg(report),
        };
        let said = self.directory.join("client.log");
        let child = command.stdout(Stdio::null()).stderr(File::create(&said)?).spawn()?;
        Ok(Running { child, said })
    }

    fn start(&self, command: &mut Command, name: &str, variant: Variant) -> io::Result<Running> {
        let said = self.directory.join(format!("{name}-{}.log", variant.key()));
        let log = File::create(&said)?;
        // The backends' output is read; the forwarder's goes to the same file as its errors.
        if name == "forwarder" {
            command.stdout(log.try_clone()?);
        }
        let child = command.stdin(Stdio::null()).stderr(log).spawn()?;
        Ok(Running { child, said })
    }

    /// Waits, unless a stop signal comes.
    fn pause(&self, length: Duration) -> io::Result<()> {
        if self.signals.wait(Some(length))? == Some(Signal::Stop) {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "interrupted"));
        }
        Ok(())
    }
}

/// Starts a thread that reads the backends' counters until the backends end.
fn listen(backends: &mut Child) -> io::Result<Receiver<Told>> {
    let output = backends.stdout.take().expect("it was asked for");
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new().name("listener".into()).spawn(move || {
        let lines = BufReader::new(output).lines().map_while(Result::ok);
        for told in lines.filter_map(|line| Told::parse(&line)) {
            if sender.send(told).is_err() {
                break;
            }
        }
    })?;
    Ok(receiver)
}

impl Running {
    /// Returns an error if the program has ended.
    fn check(&mut self, name: &str) -> io::Result<()> {
        let ended: Option<ExitStatus> = self.child.try_wait()?;
        ended.map_or(Ok(()), |_| Err(self.failed(name)))
    }

    /// Returns the error about a program that does not work.
    fn failed(&self, name: &str) -> io::Error {
        let said = fs::read_to_string(&self.said).unwrap_or_default();
        let from = said.char_indices().rev().nth(SAID_MAX).map_or(0, |(place, _)| place);
        io::Error::other(format!("{name} does not work; it said:\n{}", said[from..].trim_end()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
