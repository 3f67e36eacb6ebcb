//! The program's life: start, read the configuration again, hand over, stop.
//!
//! One thread, the first, waits here for signals and for the moments at which something is to be
//! looked at (the file, names whose records have run out, the service manager's watchdog) and does
//! one thing at a time. The data path knows nothing of it: it is told by [`Server::reload`]. What
//! cannot be done is said in the log and changes nothing.

mod handover;
mod log;
mod manager;
mod pidfile;
mod watch;

use crate::cli::{Exit, Serve, Source};
use crate::clock::Clock;
use crate::config::Config;
use crate::host;
use crate::moment::Moment;
use crate::server::Server;
use crate::sys::cpu;
use crate::sys::inherit::Inherited;
use crate::sys::signals::{Signal, Signals};
use handover::Handover;
use log::say;
use manager::Manager;
use pidfile::PidFile;
use std::fmt::Display;
use std::io;
use std::time::Duration;
use watch::Watch;

/// Why the program ends, and how.
pub type Failure = (Exit, String);

/// Serves until a signal says stop, or another process has taken over.
///
/// # Errors
/// What to tell the operator: nothing was started, or waiting failed.
pub fn serve(options: &Serve) -> Result<(), Failure> {
    // Blocked before any thread exists, so that all inherit it and one waits.
    let signals = Signals::block().map_err(failed)?;
    let mut inherited = Inherited::take().map_err(failed)?;
    let handover = Handover::new().map_err(failed)?;
    let cores = options.placement.workers(&cpu::cores()).map_err(refused)?;
    let (name, text) = options.source.load().map_err(refused)?;
    let mut config = load(options, cores.len(), &name, &text)?;
    if options.source == Source::Stdin && config.reload.take().is_some() {
        say("[WARNING] plugin/reload: no effect: standard input can be read only once");
    }
    let clock = Clock::start();
    let watch = Watch::new(clock.now(), &config, &text, &name).map_err(failed)?;
    let lameduck = config.lameduck();
    let ready = inherited.take_ready();
    let server = Server::start_on(config, &cores, options.steer, inherited, |line| say(line));
    let server = server.map_err(failed)?;
    // Whoever reads that we listen finds our number there.
    let _pidfile = options.pidfile.as_deref().and_then(PidFile::write);
    if !options.quiet {
        for address in server.addresses() {
            let plural = if cores.len() == 1 { "" } else { "s" };
            say(format_args!("onward listens on {address}, {} worker{plural}", cores.len()));
        }
        for (address, pages) in server.pages() {
            let paths = pages.iter().map(|page| page.paths()[0]);
            paths.for_each(|path| say(format_args!("onward serves http://{address}{path}")));
        }
    }
    ready.tell();
    let manager = Manager::of_environment(clock.now());
    manager.say("READY=1");
    let workers = cores.len();
    let mut service =
        Service { options, clock, workers, server, watch, manager, handover, lameduck };
    let mut outcome = service.run(&signals);
    if outcome.as_ref().is_ok_and(|end| *end == End::Told) {
        outcome = service.linger(&signals).map(|()| End::Told);
    }
    service.manager.say("STOPPING=1");
    service.server.stop();
    outcome.map(drop).map_err(failed)
}

/// Why it stops to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It was told to.
    Told,
    /// Another process does.
    Succeeded,
}

/// Everything that lives as long as the program.
struct Service<'a> {
    options: &'a Serve,
    clock: Clock,
    workers: usize,
    server: Server,
    watch: Watch,
    manager: Manager,
    handover: Handover,
    /// How long it goes on serving when it is told to stop.
    lameduck: Duration,
}

impl Service<'_> {
    /// Does what signals and time ask for, until one says stop.
    fn run(&mut self, signals: &Signals) -> io::Result<End> {
        loop {
            let now = self.clock.now();
            let due = [self.watch.due(), self.manager.due()].into_iter().flatten().min();
            let due = due.map(|due| due.since(now));
            match signals.wait([due, self.server.due()].into_iter().flatten().min())? {
                Some(Signal::Stop) => return Ok(End::Told),
                Some(Signal::Reload) => self.reload(),
                Some(Signal::Upgrade) => {
                    if let Some(end) = self.hand_over(signals) {
                        return Ok(end);
                    }
                }
                None => {}
            }
            self.on_time(self.clock.now());
        }
    }

    /// Goes on serving for the time of `lameduck`, so that clients learn of the stop before it
    /// comes. Who says stop again means at once; for other signals it is too late.
    fn linger(&mut self, signals: &Signals) -> io::Result<()> {
        if self.lameduck.is_zero() {
            return Ok(());
        }
        let shown = self.lameduck.as_secs_f64();
        say(format_args!(
            "[INFO] plugin/health: lameduck: everything is served for another {shown} s"
        ));
        self.manager.stopping_in(self.lameduck);
        self.server.announce_stop();
        let until = self.clock.now().plus(self.lameduck);
        loop {
            let now = self.clock.now();
            if now >= until {
                return Ok(());
            }
            let due = self.manager.due().map_or(until, |due| due.min(until)).since(now);
            match signals.wait(Some(self.server.due().map_or(due, |other| other.min(due))))? {
                Some(Signal::Stop) => return Ok(()),
                Some(Signal::Reload | Signal::Upgrade) => {
                    say("[WARNING] plugin/health: lameduck: told to stop, nothing else is done");
                }
                None => {}
            }
            self.server.on_time();
            self.feed_watchdog();
        }
    }

    /// Says that all is well, if it is time to and all is.
    fn feed_watchdog(&mut self) {
        if self.manager.is_due(self.clock.now()) && self.server.is_alive() {
            self.manager.say("WATCHDOG=1");
        }
    }

    fn on_time(&mut self, now: Moment) {
        self.server.on_time();
        self.feed_watchdog();
        if self.watch.names_are_due(now) {
            return self.reload();
        }
        if self.watch.file_is_due(now) {
            let read = self.options.source.load_again().map_err(|error| error.to_string());
            match read.and_then(|(name, text)| self.watch.has_changed(&text, &name)) {
                Ok(true) => self.reload(),
                Ok(false) => {}
                Err(why) => say(format_args!("[WARNING] plugin/reload: {why}")),
            }
        }
    }

    /// Reads the configuration again and goes on with it, or with the old one.
    fn reload(&mut self) {
        say("[INFO] Reloading");
        self.manager.say("RELOADING=1");
        let outcome = self.try_reload();
        let reloads = self.server.reloads();
        reloads.count(&outcome);
        match outcome {
            Ok(()) => say(format_args!("[INFO] Reloading complete ({reloads})")),
            Err(why) => {
                say(format_args!("[ERROR] reload failed, nothing has changed: {why}"));
                say(format_args!("[INFO] {reloads}"));
            }
        }
        self.manager.say("READY=1");
    }

    fn try_reload(&mut self) -> Result<(), String> {
        let (name, text) = self.options.source.load_again().map_err(|error| error.to_string())?;
        self.watch.tried(self.clock.now(), &text, &name);
        let config = load(self.options, self.workers, &name, &text).map_err(|(_, why)| why)?;
        let (schedule, lameduck) = (self.watch.schedule(&config), config.lameduck());
        self.server.reload(config).map_err(|error| error.to_string())?;
        self.watch.keep(self.clock.now(), schedule);
        self.lameduck = lameduck;
        Ok(())
    }

    /// Starts the program as it is installed now on the same sockets. Says why we are done, if we
    /// are: it serves, or nobody is to serve any more.
    fn hand_over(&mut self, signals: &Signals) -> Option<End> {
        let Self { clock, server, manager, handover, .. } = self;
        let stop = || {
            if manager.is_due(clock.now()) && server.is_alive() {
                manager.say("WATCHDOG=1");
            }
            signals.take_stop()
        };
        match handover.begin(server, stop) {
            Ok(None) => {
                say("[INFO] told to stop while handing over: the new process is ended as well");
                Some(End::Told)
            }
            Ok(Some(process)) => {
                say(format_args!("[INFO] process {process} has taken over"));
                self.manager.say(&format!("MAINPID={process}"));
                Some(End::Succeeded)
            }
            Err(error) => {
                server.steer();
                say(format_args!("[ERROR] handing over failed, nothing has changed: {error}"));
                None
            }
        }
    }
}

/// Reads the configuration, and prints what is odd about it.
fn load(options: &Serve, workers: usize, name: &str, text: &[u8]) -> Result<Config, Failure> {
    let host = host::describe(workers, options.dns_port).map_err(failed)?;
    let (config, warnings) = Config::load(text, name, &host).map_err(refused)?;
    warnings.iter().for_each(|warning| say(format_args!("[WARNING] {warning}")));
    Ok(config)
}

fn failed(why: impl Display) -> Failure {
    (Exit::Failure, why.to_string())
}

fn refused(why: impl Display) -> Failure {
    (Exit::Usage, why.to_string())
}
