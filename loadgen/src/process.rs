//! The processor time that processes have used, read from /proc.
//!
//! The scheduler counts it in nanoseconds for each thread that is alive (`schedstat`); `stat`
//! counts it in ticks of ten milliseconds for the whole process, threads that have ended included.
//! Whichever says more is nearer to the truth.

use std::fs;
use std::io;
use std::time::Duration;

/// A tick of `stat`: Linux counts for programs in hundredths of a second on every platform.
const TICK: Duration = Duration::from_millis(10);

/// The processor time that the process `pid` has used up to now.
///
/// # Errors
/// There is no such process.
pub fn processor_time(pid: u32) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
        .map_err(|error| io::Error::new(error.kind(), format!("process {pid}: {error}")))?;
    let mut sum = Duration::ZERO;
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))?;
    for task in tasks.flatten() {
        // A thread that has ended meanwhile.
        let Ok(text) = fs::read_to_string(task.path().join("schedstat")) else { continue };
        sum += schedstat(&text).unwrap_or_default();
    }
    // Threads that have ended are in the second only, and the ticks it is rounded to are coarse.
    Ok(sum.max(ticks(&stat).unwrap_or_default()))
}

/// The first number: nanoseconds on a processor.
fn schedstat(text: &str) -> Option<Duration> {
    text.split_ascii_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// The fourteenth and fifteenth field, counted behind the name, which may contain anything.
fn ticks(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u32>().ok();
    Some(TICK * (next()? + next()?))
}

#[cfg(test)]
mod tests {
    use super::{processor_time, schedstat, ticks};
    use std::time::Duration;

    #[test]
    fn both_files_are_read() {
        assert_eq!(schedstat("887930 4157955 2\n"), Some(Duration::from_nanos(887_930)));
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 1 0 5 6 7";
        assert_eq!(ticks(stat), Some(Duration::from_secs(2)));
        assert_eq!((schedstat(""), ticks("7 (a) S 1")), (None, None));
    }

    #[test]
    fn work_is_seen_and_strangers_are_not() {
        let own = std::process::id();
        let before = processor_time(own).unwrap();
        let clock = onward::clock::Clock::start();
        while processor_time(own).unwrap() <= before {
            assert!(clock.now().as_nanos() < 20_000_000_000, "no time passes");
        }
        assert!(processor_time(u32::MAX).is_err());
    }
}
