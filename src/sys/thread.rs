//! The kernel's statistics of a thread: its ID, its processor time, and its migrations.
//!
//! The first two are of the calling thread and cheap; the last is read from a file, for threads
//! that serve no queries.

use super::cvt;
use std::fs;
use std::time::Duration;

/// Returns the kernel's ID of the calling thread.
pub(crate) fn number() -> u32 {
    // SAFETY: the call takes no argument and cannot fail.
    let number = unsafe { libc::gettid() };
    number.unsigned_abs()
}

/// Returns the processor time of the calling thread, in user space and in the kernel.
pub(crate) fn processor_time() -> Duration {
    processor_time_by(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Returns the time of a clock that counts processor time.
pub(super) fn processor_time_by(clock: libc::clockid_t) -> Duration {
    let zero = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let mut time = zero;
    let asked = cvt(|| {
        // SAFETY: `time` is a valid place for the result.
        unsafe { libc::clock_gettime(clock, &raw mut time) }
    });
    // Every kernel has this clock; if it failed, the time would be zero.
    let time = asked.map_or(zero, |_| time);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// Returns the number of migrations of a thread of this process. `None`: the kernel was built
/// without it.
pub(crate) fn migrations(thread: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/self/task/{thread}/sched")).ok()?;
    let line = text.lines().find(|line| line.starts_with("se.nr_migrations"))?;
    line.rsplit(':').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{migrations, number, processor_time};

    #[test]
    fn a_thread_has_a_number_of_its_own_and_its_time_goes_on() {
        let before = processor_time();
        let other = std::thread::spawn(number).join().unwrap();
        assert_ne!(other, number());
        let mut rounds = 0;
        while processor_time() == before {
            rounds += 1;
        }
        assert!(processor_time() > before, "after {rounds} rounds");
    }

    #[test]
    fn a_missing_thread_has_no_migrations() {
        assert_eq!(migrations(0), None);
    }
}
