//! Resources of processes, read from /proc: CPU time and peak memory.
//!
//! The scheduler counts processor time in nanoseconds for each thread that is alive (`schedstat`);
//! `stat` counts it in ticks of ten milliseconds for the whole process, including ended threads.
//! The larger value is used, because it is nearer to the truth. Ended children that were waited for
//! are in their parent's `stat` only.

use std::fs;
use std::io;
use std::time::Duration;

/// A tick of `stat`: Linux counts in hundredths of a second on every platform.
const TICK: Duration = Duration::from_millis(10);
/// Maximum number of processes of one family: a program that forks without end is not followed.
const FAMILY_MAX: usize = 4_096;

/// Resources of a process and its children up to now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Time of all threads, in user mode and in the kernel, including ended children.
    pub processor: Duration,
    /// Sum of the peak resident memory of each living process, in bytes.
    pub memory_peak: u64,
}

/// Returns the processor time of process `pid` and its children up to now.
///
/// # Errors
/// There is no such process.
pub fn usage(pid: u32) -> io::Result<Usage> {
    let parents = parents();
    let mut family = vec![pid];
    let mut sum = Usage { processor: processor_time(pid)?, memory_peak: memory_peak(pid) };
    let mut next = 0;
    while let Some(&member) = family.get(next) {
        next += 1;
        if member != pid {
            // A child that has ended meanwhile is in its parent's figures.
            sum.processor += processor_time(member).unwrap_or_default();
            sum.memory_peak += memory_peak(member);
        }
        let stat = fs::read_to_string(format!("/proc/{member}/stat")).unwrap_or_default();
        sum.processor += ticks(&stat, ENDED_CHILDREN).unwrap_or_default();
        let children = parents.iter().filter(|(_, parent)| *parent == member);
        family.extend(children.map(|(child, _)| *child));
        family.truncate(FAMILY_MAX);
    }
    Ok(sum)
}

/// Returns the processor time of the process `pid`, without its children.
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
    // Ended threads are in the second value only, whose ticks are coarse.
    Ok(sum.max(ticks(&stat, OWN).unwrap_or_default()))
}

/// Returns every process of this host, and its parent.
fn parents() -> Vec<(u32, u32)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let pair = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some((pid, fields(&stat)?.nth(PARENT)?.parse().ok()?))
    };
    numbers.filter_map(pair).collect()
}

/// Returns the peak resident memory in bytes.
fn memory_peak(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    high_water(&status).unwrap_or(0)
}

/// Returns `VmHWM` in bytes; the file has kibibytes.
fn high_water(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_ascii_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Returns the first number: nanoseconds on a processor.
fn schedstat(text: &str) -> Option<Duration> {
    text.split_ascii_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// Indexes of fields of `stat` after the name: the parent, the process's own times, and those of
/// children that it has waited for. Each pair is user mode and kernel.
const PARENT: usize = 1;
const OWN: usize = 11;
const ENDED_CHILDREN: usize = 13;

/// Returns the fields after the name, which may contain any characters.
fn fields(stat: &str) -> Option<impl Iterator<Item = &str>> {
    let (_, fields) = stat.rsplit_once(')')?;
    Some(fields.split_ascii_whitespace())
}

/// Returns the sum of a pair of times.
fn ticks(stat: &str, place: usize) -> Option<Duration> {
    let mut fields = fields(stat)?.skip(place);
    let mut next = || fields.next()?.parse::<u32>().ok();
    Some(TICK * (next()? + next()?))
}

#[cfg(test)]
mod tests {
    use super::{ENDED_CHILDREN, OWN, high_water, processor_time, schedstat, ticks, usage};
    use std::process::Command;
    use std::time::Duration;

    #[test]
    fn the_files_are_read() {
        assert_eq!(schedstat("887930 4157955 2\n"), Some(Duration::from_nanos(887_930)));
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 7 3 20 0 1 0 5 6 7";
        assert_eq!(ticks(stat, OWN), Some(Duration::from_secs(2)));
        assert_eq!(ticks(stat, ENDED_CHILDREN), Some(Duration::from_millis(100)));
        assert_eq!((schedstat(""), ticks("7 (a) S 1", OWN)), (None, None));
        assert_eq!(high_water("Name:\tx\nVmHWM:\t    1984 kB\n"), Some(1984 * 1024));
        assert_eq!(high_water("Name:\tx\n"), None);
    }

    #[test]
    fn work_of_a_process_is_measured_and_a_missing_one_is_an_error() {
        let own = std::process::id();
        let before = processor_time(own).unwrap();
        let clock = onward::clock::Clock::start();
        while processor_time(own).unwrap() <= before {
            assert!(clock.now().as_nanos() < 20_000_000_000, "no time passes");
        }
        assert!(processor_time(u32::MAX).is_err() && usage(u32::MAX).is_err());
    }

    #[test]
    fn children_count_while_they_live_and_afterwards() {
        // The child's own child is busy, and ends before it.
        let script = "sh -c 'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done'; echo; read line";
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(std::process::Stdio::piped());
        let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let output = child.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line).unwrap();
        let (alone, whole) = (processor_time(child.id()).unwrap(), usage(child.id()).unwrap());
        assert!(whole.processor > alone, "{whole:?} {alone:?}");
        let ours = usage(std::process::id()).unwrap();
        assert!(ours.memory_peak > whole.memory_peak && whole.memory_peak > 0, "{ours:?}");
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
