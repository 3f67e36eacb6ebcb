//! The program's life: start, reload, upgrade, stop.
//!
//! The first thread waits here for signals and timers (check of the files, host names whose TTL has
//! passed, the service manager's watchdog) and does one thing at a time, none of which may block:
//! files are read and names looked up by other threads (`loading`), which ring when they are done
//! and are given up when they take too long. The data path knows nothing of this: a new
//! configuration reaches it by [`Server::apply`]. A failure is logged and changes nothing.

mod handover;
mod loading;
mod log;
mod manager;
mod names;
mod pidfile;
mod reading;
mod warnings;
mod watch;

use crate::clock::Clock;
use crate::config::HostName;
use crate::corefile::Warning;
use crate::log::{Event, Format, Level, Log, Value};
use crate::moment::Moment;
use crate::options::{self, Exit, Serve, Source};
use crate::server::{Confinement, Server};
use crate::sys::inherit::Inherited;
use crate::sys::signals::{Signal, Signals};
use crate::sys::{account, cpu};
use handover::{Handover, Successor};
use loading::{Loaded, Look, Ready};
use log::say;
use manager::Manager;
use names::Found;
use pidfile::PidFile;
use reading::{Given, Readings, Started};
use std::fmt::Display;
use std::io;
use std::time::Duration;
use watch::Watch;

/// Source of log lines about the process.
const ONWARD: &str = "onward";
/// Source of log lines about lameduck.
const HEALTH: &str = "plugin/health";
/// Source of log lines about host names of upstreams.
const FORWARD: &str = "plugin/forward";
/// Source of log lines about reloads.
const RELOAD: &str = "plugin/reload";

/// Exit status and message.
pub(crate) type Failure = (Exit, String);

/// Serves until a stop signal or an upgrade.
///
/// # Errors
/// The message for the operator: nothing was started, or waiting failed.
pub(crate) fn serve(options: &Serve) -> Result<(), Failure> {
    // Before any other descriptor is opened.
    let mut inherited = Inherited::take().map_err(failed)?;
    // Blocked before any thread exists, so that all inherit the mask and only this thread waits.
    let signals = Signals::block().map_err(failed)?;
    let handover = Handover::new().map_err(failed)?;
    let cores = options.placement.workers(&cpu::cores());
    let cores = cores.map_err(|error| (error.exit(), error.to_string()))?;
    let log = Log::new(format_of(options), say);
    let clock = Clock::start();
    let manager = Manager::of_environment(clock.now());
    let mut readings = Readings::new(options, cores.len(), clock, signals.waker());
    let Some(started) = readings.start(&signals)? else {
        manager.say("STOPPING=1");
        log.event(&Event::new(Level::Info, ONWARD, &"stop signal received before serving started"));
        return Ok(());
    };
    let Started { mut prepared, warnings, tree, account } = started;
    tell_warnings(log, &warnings);
    if options.source == Source::Stdin && prepared.config.reload.take().is_some() {
        let text = "reload has no effect: the configuration came from standard input, which can be \
                    read only once; use --conf FILE";
        log.event(&Event::new(Level::Warning, RELOAD, &text));
    }
    let watch = Watch::new(clock.now(), &prepared.config, tree).map_err(failed)?;
    let lameduck = prepared.config.lameduck();
    let ready = inherited.take_ready();
    let Serve { steer, io_options, .. } = *options;
    let confinement = Confinement { user: account, sandbox: options.sandbox };
    let server =
        Server::start_on(prepared, &cores, steer, io_options, inherited, &confinement, log);
    let server = server.map_err(|error| (error.cause().into(), error.to_string()))?;
    warnings::of_certificates(&server, log);
    readings.warn_of_unreadable(watch.seen(), log);
    // A script that waits for the listeners' line in the log then finds the PID file.
    let _pidfile = options.pidfile.as_deref().and_then(|path| PidFile::write(path, log));
    if !options.quiet {
        tell_start(log, options, &server, cores.len());
    }
    ready.tell();
    manager.say("READY=1");
    let successor = None;
    let mut service =
        Service { clock, server, watch, readings, manager, handover, successor, lameduck, log };
    let mut outcome = service.run(&signals);
    if outcome.as_ref().is_ok_and(|end| *end == End::Told) {
        outcome = service.linger(&signals).map(|()| End::Told);
    }
    service.manager.say("STOPPING=1");
    service.say(Level::Info, ONWARD, &"stopping");
    service.server.stop();
    if let Some(successor) = service.successor {
        successor.send_changes();
    }
    log.event(&Event::new(Level::Info, ONWARD, &"stopped"));
    outcome.map(drop).map_err(failed)
}

/// Reason why the process stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// A stop signal.
    Told,
    /// Another process serves.
    Succeeded,
}

/// State of the running program.
struct Service {
    clock: Clock,
    server: Server,
    watch: Watch,
    readings: Readings,
    manager: Manager,
    handover: Handover,
    /// The process that has taken over.
    successor: Option<Successor>,
    /// Time for which queries are served after a stop signal.
    lameduck: Duration,
    log: Log,
}

impl Service {
    /// Handles signals and timers until the process should stop.
    fn run(&mut self, signals: &Signals) -> io::Result<End> {
        loop {
            let now = self.clock.now();
            // Finished reads are not started again meanwhile.
            let reading = match self.readings.is_idle() {
                true => self.watch.due(),
                false => self.readings.due(),
            };
            let due = [reading, self.manager.due()].into_iter().flatten().min();
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

    /// Serves on for the time of `lameduck`, so that clients learn of the stop before it happens. A
    /// second stop signal ends it at once; other signals are ignored.
    fn linger(&mut self, signals: &Signals) -> io::Result<()> {
        if self.lameduck.is_zero() {
            return Ok(());
        }
        let shown = self.lameduck.as_secs_f64();
        let text =
            format_args!("lameduck: queries are served for {shown} s more, then the process stops");
        self.say(Level::Info, HEALTH, &text);
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
                    let text = "lameduck: reload and upgrade signals are ignored while stopping";
                    self.say(Level::Warning, HEALTH, &text);
                }
                None => {}
            }
            self.server.on_time();
            self.feed_watchdog();
        }
    }

    /// Feeds the watchdog, if it is due and all workers respond.
    fn feed_watchdog(&mut self) {
        if self.manager.is_due(self.clock.now()) && self.server.is_alive() {
            self.manager.say("WATCHDOG=1");
        }
    }

    fn on_time(&mut self, now: Moment) {
        self.server.on_time();
        self.feed_watchdog();
        if let Some(loaded) = self.readings.take_load() {
            let loaded = loaded.map_err(|given| self.give_up(given));
            self.end_reload(loaded);
        }
        let looked = self.readings.take_look();
        match looked.map(|look| look.unwrap_or_else(|given| Err(self.give_up(given)))) {
            Some(Ok(Look::Unchanged)) | None => {}
            Some(Ok(Look::Text)) => self.reload(),
            Some(Ok(Look::Certificates(files))) => {
                self.watch.saw(files);
                self.reload();
            }
            Some(Err(why)) => self.warn_of_watch(&why),
        }
        if let Some(found) = self.readings.take_names() {
            self.end_names(found);
        }
        if self.readings.takes_another() {
            self.reload();
        }
        if !self.readings.is_idle() {
            return;
        }
        if self.watch.file_is_due(now) {
            if let Some(why) = self.readings.look(self.watch.seen()) {
                self.warn_of_watch(&why);
            }
        } else if self.watch.names_are_due(now) {
            self.look_up_names();
        }
    }

    /// Logs that the periodic check of the configuration failed.
    fn warn_of_watch(&self, why: &str) {
        let text = format_args!("cannot check the configuration for changes: {why}");
        self.say(Level::Warning, RELOAD, &text);
    }

    /// Counts a read that was given up; returns the reason.
    fn give_up(&self, given: Given) -> String {
        self.server.reloads().count_given_up();
        given.why
    }

    /// Starts a read of the configuration. If one is in progress, its time is cut short and another
    /// follows, because the text may have changed meanwhile.
    fn reload(&mut self) {
        if self.readings.is_loading() {
            return self.readings.hurry();
        }
        self.log.event(&Event::new(Level::Info, RELOAD, &"Reloading").alone());
        self.manager.say("RELOADING=1");
        self.watch.begin(self.clock.now());
        if let Err(why) = self.readings.load(self.server.before()) {
            self.end_reload(Err(why.to_string()));
        }
    }

    /// Switches to the configuration that was read, or stays with the old one.
    fn end_reload(&mut self, loaded: Result<Loaded, String>) {
        let outcome = loaded.and_then(|loaded| self.adopt(loaded));
        let reloads = self.server.reloads();
        reloads.count(&outcome);
        let counts =
            [("done", Value::Number(reloads.done())), ("failed", Value::Number(reloads.failed()))];
        match outcome {
            Ok(()) => {
                let text = format_args!("Reloading complete ({reloads})");
                self.log.event(&Event::new(Level::Info, RELOAD, &text).with(&counts).alone());
            }
            Err(why) => {
                let text = format_args!("reload failed, nothing has changed: {why}");
                self.log.event(&Event::new(Level::Error, RELOAD, &text).with(&counts).alone());
                if self.log.format() == Format::Text {
                    self.log.event(&Event::new(Level::Info, RELOAD, &reloads).alone());
                }
            }
        }
        self.manager.say("READY=1");
    }

    fn adopt(&mut self, loaded: Loaded) -> Result<(), String> {
        let Loaded { tree, outcome } = loaded;
        if let Some(tree) = tree {
            self.watch.tried(Some(tree));
        }
        let Ready { prepared, warnings } = outcome.map_err(|refusal| refusal.to_string())?;
        tell_warnings(self.log, &warnings);
        let schedule = self.watch.schedule(&prepared.config);
        let lameduck = prepared.config.lameduck();
        self.server.apply(prepared).map_err(|error| error.to_string())?;
        self.watch.adopt(self.clock.now(), schedule);
        self.lameduck = lameduck;
        warnings::of_certificates(&self.server, self.log);
        Ok(())
    }

    /// Looks up the host names of upstreams again.
    fn look_up_names(&mut self) {
        let names = self.watch.begin_names(self.clock.now());
        let Some(corefile) = self.watch.in_force().cloned() else { return };
        if let Err(error) = self.readings.look_up(names, corefile, self.server.before()) {
            self.say(Level::Warning, FORWARD, &format_args!("cannot look up host names: {error}"));
        }
    }

    /// Switches to the addresses that were found.
    fn end_names(&mut self, found: Result<Result<Found, String>, Given>) {
        // Counted from the end of the lookup, so that slow lookups do not follow each other at
        // once.
        self.watch.begin_names(self.clock.now());
        let found = match found.unwrap_or_else(|given| Err(self.give_up(given))) {
            Ok(found) => found,
            Err(why) => {
                let text = format_args!("cannot look up host names: {why}");
                return self.say(Level::Warning, FORWARD, &text);
            }
        };
        for (name, why) in &found.failed {
            let text = format_args!("cannot look up '{name}', its addresses stay: {why}");
            self.say(Level::Warning, FORWARD, &text);
        }
        let adopted = found.ready.map(|ready| ready.and_then(|ready| self.adopt_addresses(ready)));
        match adopted {
            None => {}
            Some(Ok(())) => {
                for HostName { name, addresses, .. } in &found.changed {
                    let list = names::list(addresses);
                    let text = format_args!("addresses of '{name}' are now {list}");
                    self.say(Level::Info, FORWARD, &text);
                }
            }
            Some(Err(why)) => {
                let text = format_args!("cannot use new addresses of host names: {why}");
                return self.say(Level::Error, FORWARD, &text);
            }
        }
        if let Some(ttl) = found.ttl {
            self.watch.keep_names(self.clock.now(), ttl);
        }
    }

    /// Switches to a configuration with other upstream addresses. Its warnings were logged before.
    fn adopt_addresses(&mut self, ready: Ready) -> Result<(), String> {
        let schedule = self.watch.schedule(&ready.prepared.config);
        self.server.apply(ready.prepared).map_err(|error| error.to_string())?;
        self.watch.adopt_addresses(schedule);
        warnings::of_certificates(&self.server, self.log);
        Ok(())
    }

    fn say(&self, level: Level, source: &str, text: &dyn Display) {
        self.log.event(&Event::new(level, source, text));
    }

    /// Starts the installed binary on the same sockets. Returns the reason why this process is to
    /// stop, if any: the new one serves, or a stop signal arrived.
    fn hand_over(&mut self, signals: &Signals) -> Option<End> {
        let Self { clock, server, manager, handover, log, .. } = self;
        let log = *log;
        let say = |level, text: &dyn Display| {
            log.event(&Event::new(level, ONWARD, text).alone());
        };
        let stop = || {
            if manager.is_due(clock.now()) && server.is_alive() {
                manager.say("WATCHDOG=1");
            }
            signals.take_stop()
        };
        match handover.begin(server, stop) {
            Ok(None) => {
                say(
                    Level::Info,
                    &"stop signal received during an upgrade: the new process is stopped as well",
                );
                Some(End::Told)
            }
            Ok(Some(successor)) => {
                let process = successor.process;
                say(Level::Info, &format_args!("upgrade complete: process {process} serves now"));
                self.manager.say(&format!("MAINPID={process}"));
                self.successor = Some(successor);
                Some(End::Succeeded)
            }
            Err(error) => {
                server.steer();
                let text = format_args!("upgrade failed, this process keeps serving: {error}");
                say(Level::Error, &text);
                None
            }
        }
    }
}

/// Prints the warnings about a configuration.
fn tell_warnings(log: Log, warnings: &[Warning]) {
    let warn = |warning| log.event(&Event::new(Level::Warning, "config", warning).alone());
    warnings.iter().for_each(|warning| warn(warning));
}

/// Returns the user and the sandbox of the process, as text.
fn standing(options: &Serve) -> String {
    let user = match (&options.user, account::user()) {
        (Some(name), number) => format!("{name} (user {number})"),
        (None, 0) => "root".to_owned(),
        (None, number) => format!("user {number}"),
    };
    let threads = if options.sandbox {
        "workers are sandboxed: they cannot open files or start programs"
    } else {
        "workers are not sandboxed (--no-sandbox)"
    };
    format!("{user}, {threads}")
}

/// Returns the format of the log.
fn format_of(options: &Serve) -> Format {
    match options.log_format {
        options::Format::Text => Format::Text,
        options::Format::Json => Format::Json,
    }
}

/// Logs that we serve: in text form, a line for each address and endpoint.
fn tell_start(log: Log, options: &Serve, server: &Server, workers: usize) {
    let addresses = server.addresses();
    let pages = server.pages().flat_map(|(address, pages)| {
        pages.iter().map(move |page| format!("http://{address}{}", page.paths()[0]))
    });
    let pages: Vec<_> = pages.collect();
    if format_of(options) == Format::Text {
        let plural = if workers == 1 { "" } else { "s" };
        for address in &addresses {
            log.lines(&format!("onward listens on {address}, {workers} worker{plural}"));
        }
        pages.iter().for_each(|page| log.lines(&format!("onward serves {page}")));
        log.lines(&format!("onward runs as {}", standing(options)));
    }
    let pages = pages.join(" ");
    let list = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let version = env!("CARGO_PKG_VERSION");
    let standing = standing(options);
    let fields = [
        ("version", Value::Text(&version)),
        ("workers", Value::Number(workers as u64)),
        ("addresses", Value::Text(&list)),
        ("http", Value::Text(&pages)),
        ("runs_as", Value::Text(&standing)),
    ];
    log.event(&Event::new(Level::Info, ONWARD, &"started").with(&fields));
}

fn failed(why: impl Display) -> Failure {
    (Exit::Failure, why.to_string())
}
