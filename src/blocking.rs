//! Work that may block for ever, on threads that can be given up.
//!
//! A read from a mount that hangs and a lookup at a silent resolver block the calling thread, and
//! nothing ends such a call. So each [`Job`] has a detached thread of its own, names its next
//! action at each [`Steps::begin`], and rings at the end. A step has a deadline: the waiting thread
//! drops a job that passes it, a later result is discarded, and the job's thread counts among
//! [`Jobs::running`] until the call returns. There are at most [`JOBS_MAX`] such threads. The one
//! idea: the waiting thread never blocks, and the blocked one is never waited for.

use crate::clock::Clock;
use crate::moment::Moment;
use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;
use std::time::Duration;

/// Maximum time of one step: longer than the C library waits for a silent resolver.
pub const STEP_MAX: Duration = Duration::from_secs(30);
/// Maximum number of threads, blocked ones included.
pub(crate) const JOBS_MAX: usize = 8;

/// Current step of a job, and its start.
#[derive(Clone, Debug)]
pub struct Steps {
    clock: Clock,
    step: Arc<Mutex<Step>>,
}

#[derive(Debug)]
struct Step {
    what: String,
    /// `None`: the step waits for a person and has no deadline.
    until: Option<Moment>,
    since: Moment,
    max: Duration,
}

impl Steps {
    /// Creates the steps of a job that begins now; each step may take `max`.
    pub fn new(clock: Clock, max: Duration) -> Self {
        let since = clock.now();
        let step = Step { what: "starting".into(), until: Some(since.plus(max)), since, max };
        Self { clock, step: Arc::new(Mutex::new(step)) }
    }

    /// Begins a step that does `what`, such as `reading /etc/resolv.conf`.
    pub(crate) fn begin(&self, what: impl Into<String>) {
        self.set(what.into(), true);
    }

    /// Begins a step without a deadline.
    pub(crate) fn begin_endless(&self, what: impl Into<String>) {
        self.set(what.into(), false);
    }

    fn set(&self, what: String, ends: bool) {
        let since = self.clock.now();
        let mut step = self.step.lock().unwrap_or_else(PoisonError::into_inner);
        let until = ends.then(|| since.plus(step.max));
        *step = Step { what, until, since, max: step.max };
    }

    /// Returns the current step, its duration and its deadline.
    fn now(&self) -> (String, Duration, Option<Moment>) {
        let step = self.step.lock().unwrap_or_else(PoisonError::into_inner);
        (step.what.clone(), self.clock.now().since(step.since), step.until)
    }
}

/// The threads of all jobs.
#[derive(Clone, Debug)]
pub(crate) struct Jobs {
    clock: Clock,
    step_max: Duration,
    running: Arc<AtomicUsize>,
}

impl Jobs {
    /// Creates an empty set of threads; each step of a job may take `step_max`.
    pub(crate) fn new(clock: Clock, step_max: Duration) -> Self {
        Self { clock, step_max, running: Arc::default() }
    }

    /// Runs `work` on a thread of its own, which calls `ring` at the end.
    ///
    /// # Errors
    /// [`JOBS_MAX`] threads are blocked, or no thread is left.
    pub(crate) fn start<T: Send + 'static>(
        &self,
        ring: impl FnOnce() + Send + 'static,
        work: impl FnOnce(&Steps) -> T + Send + 'static,
    ) -> io::Result<Job<T>> {
        if self.running() >= JOBS_MAX {
            let what = format!("{JOBS_MAX} earlier attempts are still blocked");
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, what));
        }
        self.running.fetch_add(1, Ordering::Relaxed);
        let running = Running { count: Arc::clone(&self.running), ring: Some(Box::new(ring)) };
        let (sender, result) = crossbeam_channel::bounded(1);
        let steps = Steps::new(self.clock, self.step_max);
        let own = steps.clone();
        let body = move || {
            // Dropped last, even by a panic.
            let _running = running;
            let sender = sender;
            let _ = sender.send(work(&own));
        };
        Builder::new().name("reader".into()).spawn(body)?;
        Ok(Job { clock: self.clock, result, steps, cut: None })
    }

    /// Returns the number of running threads. All those without a waiting [`Job`] are blocked.
    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }
}

/// Counts a thread while it runs and rings at its end.
struct Running {
    count: Arc<AtomicUsize>,
    ring: Option<Box<dyn FnOnce() + Send>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
        if let Some(ring) = self.ring.take() {
            ring();
        }
    }
}

/// Work on another thread. Dropping it gives the work up.
#[derive(Debug)]
pub(crate) struct Job<T> {
    clock: Clock,
    result: Receiver<T>,
    steps: Steps,
    /// Deadline of the whole job, whatever its step.
    cut: Option<Moment>,
}

/// State of a job.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress<T> {
    Running,
    /// Finished, with this result.
    Done(T),
    /// Given up, for this reason.
    Overdue(String),
}

impl<T> Job<T> {
    /// Returns the deadline of the job; `None`: none.
    pub(crate) fn due(&self) -> Option<Moment> {
        let (_, _, until) = self.steps.now();
        [until, self.cut].into_iter().flatten().min()
    }

    /// Sets a deadline of `time` from now for the whole job.
    pub(crate) fn hurry(&mut self, time: Duration) {
        let cut = self.clock.now().plus(time);
        self.cut = Some(self.cut.map_or(cut, |earlier| earlier.min(cut)));
    }

    /// Returns the state of the job.
    pub(crate) fn progress(&self) -> Progress<T> {
        match self.result.try_recv() {
            Ok(result) => Progress::Done(result),
            Err(TryRecvError::Disconnected) => {
                Progress::Overdue("the thread ended before it finished".into())
            }
            Err(TryRecvError::Empty) if self.due().is_some_and(|due| due <= self.clock.now()) => {
                let (what, time, _) = self.steps.now();
                Progress::Overdue(format!("gave up after {:.0} s: {what}", time.as_secs_f64()))
            }
            Err(TryRecvError::Empty) => Progress::Running,
        }
    }

    /// Waits for the result, for callers that have nothing else to do.
    ///
    /// # Errors
    /// The reason why it was given up.
    pub(crate) fn wait(self) -> Result<T, String> {
        loop {
            let left = self.due().map_or(STEP_MAX, |due| due.since(self.clock.now()));
            match self.result.recv_timeout(left) {
                Ok(result) => return Ok(result),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
            match self.progress() {
                Progress::Running => {}
                Progress::Done(result) => return Ok(result),
                Progress::Overdue(why) => return Err(why),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{JOBS_MAX, Job, Jobs, Progress};
    use crate::clock::Clock;
    use crossbeam_channel::{Receiver, Sender, bounded};
    use std::time::Duration;

    const LONG: Duration = Duration::from_secs(3_600);

    fn jobs(step_max: Duration) -> Jobs {
        Jobs::new(Clock::start(), step_max)
    }

    /// A job that is blocked until the sender is dropped, and the receiver of its ring.
    fn blocked(jobs: &Jobs) -> (Job<u8>, Sender<()>, Receiver<()>) {
        let (release, released) = bounded::<()>(0);
        let (rung, ring) = bounded(1);
        let job = jobs.start(
            move || rung.send(()).unwrap(),
            move |steps| {
                steps.begin("looking up silent.test");
                let _ = released.recv();
                7
            },
        );
        (job.unwrap(), release, ring)
    }

    #[test]
    fn a_result_is_announced_by_a_ring_and_taken() {
        let jobs = jobs(LONG);
        let (job, release, ring) = blocked(&jobs);
        assert_eq!((job.progress(), jobs.running()), (Progress::Running, 1));
        drop(release);
        ring.recv().unwrap();
        assert_eq!((job.progress(), jobs.running()), (Progress::Done(7), 0));
    }

    #[test]
    fn a_step_that_takes_too_long_is_named_and_its_thread_counted_until_it_ends() {
        let jobs = jobs(Duration::ZERO);
        let (job, release, ring) = blocked(&jobs);
        let why = job.wait().unwrap_err();
        assert!(why.starts_with("gave up after 0 s: "), "{why}");
        assert_eq!(jobs.running(), 1);
        drop(release);
        ring.recv().unwrap();
        assert_eq!(jobs.running(), 0);
    }

    #[test]
    fn each_step_has_its_own_time_and_one_may_have_none() {
        let jobs = jobs(LONG);
        let (told, step) = bounded(0);
        let (next, go_on) = bounded::<()>(0);
        let job = jobs.start(
            || {},
            move |steps| {
                go_on.recv().unwrap();
                steps.begin_endless("reading standard input");
                told.send(()).unwrap();
                go_on.recv().unwrap();
                steps.begin("reading rc");
                told.send(()).unwrap();
                let _ = go_on.recv();
            },
        );
        let mut job = job.unwrap();
        let first = job.due().unwrap();
        next.send(()).unwrap();
        step.recv().unwrap();
        assert_eq!(job.due(), None);
        next.send(()).unwrap();
        step.recv().unwrap();
        assert!(job.due().unwrap() > first);
        job.hurry(Duration::ZERO);
        assert_eq!(job.progress(), Progress::Overdue("gave up after 0 s: reading rc".into()));
    }

    #[test]
    fn no_more_threads_are_blocked_than_are_counted() {
        let jobs = jobs(LONG);
        let blocked: Vec<_> = (0..JOBS_MAX).map(|_| blocked(&jobs)).collect();
        let refused = jobs.start(|| {}, |_| ()).unwrap_err().to_string();
        assert!(refused.starts_with("8 earlier attempts are still blocked"), "{refused}");
        for (job, release, ring) in blocked {
            drop((job, release));
            ring.recv().unwrap();
        }
        assert_eq!(jobs.start(|| {}, |_| 9).unwrap().wait(), Ok(9));
    }

    #[test]
    fn the_panic_of_a_thread_is_reported() {
        let jobs = jobs(LONG);
        let (rung, ring) = bounded(1);
        let rung = move || rung.send(()).unwrap();
        let job = jobs.start(rung, |_| -> u8 { panic!("on purpose") }).unwrap();
        ring.recv().unwrap();
        assert_eq!(job.wait(), Err("the thread ended before it finished".into()));
        assert_eq!(jobs.running(), 0);
    }
}
