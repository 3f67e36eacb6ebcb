//! Reads in progress: the configuration, or a check of its files.
//!
//! One at a time; a read of the configuration precedes a check. A reload requested during a read
//! leaves that one a moment more, and comes next. A read whose file or resolver does not answer is
//! given up and counted ([`Reloads`](crate::control::Reloads)), its thread abandoned. The number of
//! such threads is limited by [`blocking`](crate::blocking).

use super::loading::{self, Loaded, Look, Ready, Request};
use super::names::{self, Found};
use super::watch::Seen;
use super::{Failure, failed, warnings};
use crate::blocking::{Job, Jobs, Progress, STEP_MAX};
use crate::check::Refusal;
use crate::clock::Clock;
use crate::config::HostName;
use crate::corefile::{Corefile, Warning};
use crate::log::Log;
use crate::moment::Moment;
use crate::options::{Serve, Source};
use crate::server::Before;
use crate::server::{Confinement, Prepared};
use crate::sys::account::Account;
use crate::sys::signals::{SignalWaker, Signals};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Time limit of a read when another one is requested.
const HURRY: Duration = Duration::from_secs(1);

/// Result of the first read.
pub(super) struct Started {
    pub(super) prepared: Prepared,
    pub(super) warnings: Vec<Warning>,
    pub(super) tree: Option<Arc<Corefile>>,
    /// The account to switch to.
    pub(super) account: Option<Account>,
}

/// Reads in progress.
pub(super) struct Readings {
    options: Serve,
    workers: usize,
    clock: Clock,
    waker: SignalWaker,
    jobs: Jobs,
    load: Option<Job<Loaded>>,
    look: Option<Job<Result<Look, String>>>,
    names: Option<Job<Result<Found, String>>>,
    /// Another read of the configuration is requested.
    again: bool,
    /// The lack of threads for a check has been logged.
    full: bool,
}

impl Readings {
    /// Creates the state without reads; `waker` is rung at the end of each.
    pub(super) fn new(options: &Serve, workers: usize, clock: Clock, waker: SignalWaker) -> Self {
        let (options, jobs) = (options.clone(), Jobs::new(clock, STEP_MAX));
        let (load, look, names, again, full) = (None, None, None, false, false);
        Self { options, workers, clock, waker, jobs, load, look, names, again, full }
    }

    /// Reads the configuration for the first time; `None`: a stop signal arrived meanwhile.
    ///
    /// # Errors
    /// The message for the operator.
    pub(super) fn start(&mut self, signals: &Signals) -> Result<Option<Started>, Failure> {
        let user = self.options.user.clone();
        let request = self.request(None);
        let job = self.begin(move |steps| {
            steps.begin("looking up the user of --user");
            let account = user.as_deref().map(Confinement::find).transpose();
            (account, loading::load(&request, steps))
        });
        let job = job.map_err(failed)?;
        let (account, loaded) = loop {
            match job.progress() {
                Progress::Done(result) => break result,
                Progress::Overdue(why) => return Err(failed(why)),
                Progress::Running => {}
            }
            let left = job.due().map(|due| due.since(self.clock.now()));
            if signals.wait_for_stop(left).map_err(failed)? {
                return Ok(None);
            }
        };
        let refused = |refusal: Refusal| (refusal.cause().into(), refusal.to_string());
        let Loaded { tree, outcome } = loaded;
        let Ready { prepared, warnings } = outcome.map_err(refused)?;
        let account = account.map_err(|error| refused(Refusal::Start(error)))?;
        Ok(Some(Started { prepared, warnings, tree, account }))
    }

    /// Starts a read of the configuration, to follow `before`. A check of files or a lookup of
    /// names in progress is given up for it.
    ///
    /// # Errors
    /// No thread is left.
    pub(super) fn load(&mut self, before: Before) -> io::Result<()> {
        (self.look, self.names) = (None, None);
        let request = self.request(Some(before));
        self.load = Some(self.begin(move |steps| loading::load(&request, steps))?);
        Ok(())
    }

    /// Starts a comparison of text and files with `seen`. Returns why not, once.
    pub(super) fn look(&mut self, seen: Seen) -> Option<String> {
        let source = self.options.source.clone();
        match self.begin(move |steps| loading::look(&source, seen, steps)) {
            Ok(look) => {
                (self.look, self.full) = (Some(look), false);
                None
            }
            Err(_) if self.full => None,
            Err(error) => {
                self.full = true;
                Some(error.to_string())
            }
        }
    }

    /// Starts a lookup of `names`, which belong to the configuration made from `corefile`; a
    /// changed configuration is prepared from `before`.
    ///
    /// # Errors
    /// No thread is left.
    pub(super) fn look_up(
        &mut self,
        names: Vec<HostName>,
        corefile: Arc<Corefile>,
        before: Before,
    ) -> io::Result<()> {
        let (workers, dns_port) = (self.workers, self.options.dns_port);
        let before = Some(before);
        let request = names::Request { names, corefile, before, workers, dns_port };
        self.names = Some(self.begin(move |steps| names::look_up(request, steps))?);
        Ok(())
    }

    /// Returns true if no read is in progress.
    pub(super) fn is_idle(&self) -> bool {
        self.load.is_none() && self.look.is_none() && self.names.is_none()
    }

    /// Returns true if a read of the configuration is in progress.
    pub(super) fn is_loading(&self) -> bool {
        self.load.is_some()
    }

    /// Requests another read of the configuration, after the one in progress.
    pub(super) fn hurry(&mut self) {
        if let Some(load) = &mut self.load {
            load.hurry(HURRY);
        }
        self.again = true;
    }

    /// Returns true if another read of the configuration is requested, and clears the request.
    pub(super) fn takes_another(&mut self) -> bool {
        self.load.is_none() && std::mem::take(&mut self.again)
    }

    /// Returns the deadline of the reads in progress.
    pub(super) fn due(&self) -> Option<Moment> {
        let load = self.load.as_ref().and_then(Job::due);
        let look = self.look.as_ref().and_then(Job::due);
        let names = self.names.as_ref().and_then(Job::due);
        [load, look, names].into_iter().flatten().min()
    }

    /// Returns the configuration, when it has been read or given up.
    pub(super) fn take_load(&mut self) -> Option<Result<Loaded, Given>> {
        take(&mut self.load, &self.jobs)
    }

    /// Returns the result of the check, when it is over.
    pub(super) fn take_look(&mut self) -> Option<Result<Result<Look, String>, Given>> {
        take(&mut self.look, &self.jobs)
    }

    /// Returns the result of the lookup of names, when it is over.
    pub(super) fn take_names(&mut self) -> Option<Result<Result<Found, String>, Given>> {
        take(&mut self.names, &self.jobs)
    }

    /// Warns of those files in `seen` that the process cannot read again with its account, so that
    /// the operator learns it before a reload fails.
    pub(super) fn warn_of_unreadable(&self, seen: Seen, log: Log) {
        let source = self.options.source.clone();
        if let Some(user) = self.options.user.clone().filter(|_| source != Source::Stdin) {
            // The job itself logs its findings.
            let _ = self.begin(move |steps| {
                warnings::of_unreadable(&source, &user, &seen, steps, log);
            });
        }
    }

    fn request(&self, before: Option<Before>) -> Request {
        Request { options: self.options.clone(), workers: self.workers, before }
    }

    fn begin<T: Send + 'static>(
        &self,
        work: impl FnOnce(&crate::blocking::Steps) -> T + Send + 'static,
    ) -> io::Result<Job<T>> {
        let waker = self.waker.clone();
        self.jobs.start(move || waker.ring(), work)
    }
}

/// A read that was given up.
pub(super) struct Given {
    pub(super) why: String,
}

/// Returns the result of a finished job.
fn take<T>(job: &mut Option<Job<T>>, jobs: &Jobs) -> Option<Result<T, Given>> {
    let outcome = match job.as_ref()?.progress() {
        Progress::Running => return None,
        Progress::Done(result) => Ok(result),
        Progress::Overdue(why) => {
            let blocked = jobs.running();
            let plural = if blocked == 1 { "" } else { "s" };
            Err(Given { why: format!("{why} ({blocked} thread{plural} blocked)") })
        }
    };
    *job = None;
    Some(outcome)
}
