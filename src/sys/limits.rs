//! Limits of the process and of the host that decide the size of pools, and the host's name.
//!
//! Connections need descriptors and source ports. Both limits are read from the kernel here, and
//! the first is raised to the hard limit.

use std::fs;
use std::io;

use super::cvt;

/// The kernel's default range, for a host whose setting cannot be read.
const EPHEMERAL_DEFAULT: (u16, u16) = (32_768, 60_999);

/// Returns the number of ports for outgoing sockets (`net.ipv4.ip_local_port_range`, also for
/// IPv6).
pub(crate) fn ephemeral_ports() -> usize {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let (low, high) = parse_range(&text).unwrap_or(EPHEMERAL_DEFAULT);
    usize::from(high - low) + 1
}

/// Returns the host name; `localhost` if the kernel has none.
pub(crate) fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    Some(name.trim()).filter(|name| !name.is_empty()).unwrap_or("localhost").to_owned()
}

/// Returns the bytes of memory that the process may use: the host's memory, or the limit of its
/// control group if that is less. `None`: unknown.
pub(crate) fn memory() -> Option<usize> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let host = parse_memory(&text)?;
    let group = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let path = group.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let allowed = fs::read_to_string(format!("/sys/fs/cgroup{path}/memory.max"));
    // `max` means no limit, and so does a missing file.
    let allowed = allowed.ok().and_then(|text| text.trim().parse().ok());
    Some(allowed.map_or(host, |allowed: usize| allowed.min(host)))
}

fn parse_memory(text: &str) -> Option<usize> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: usize = line.trim().strip_suffix(" kB")?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

fn parse_range(text: &str) -> Option<(u16, u16)> {
    let mut numbers = text.split_whitespace().map(str::parse);
    let (low, high) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    (low <= high).then_some((low, high))
}

/// Raises the limit of open descriptors to the hard limit; returns that number.
///
/// # Errors
/// The kernel could not report or change the limit.
pub fn raise_open_files() -> io::Result<u64> {
    let mut limit = open_files_limit()?;
    limit.rlim_cur = limit.rlim_max;
    cvt(|| {
        // SAFETY: `limit` is a live rlimit for the kernel to read.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }
    })?;
    Ok(limit.rlim_cur)
}

/// Returns the current limit of open descriptors.
///
/// # Errors
/// The kernel could not report it.
pub(crate) fn open_files() -> io::Result<u64> {
    open_files_limit().map(|limit| limit.rlim_cur)
}

fn open_files_limit() -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    cvt(|| {
        // SAFETY: `limit` is a live rlimit for the kernel to fill.
        unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }
    })?;
    Ok(limit)
}

#[cfg(test)]
mod tests {
    use super::{ephemeral_ports, memory, open_files, parse_memory, parse_range, raise_open_files};

    #[test]
    fn the_memory_is_read_or_not_known() {
        let text = "MemTotal:       16384 kB\nMemFree:         1 kB\n";
        assert_eq!(parse_memory(text), Some(16 << 20));
        for bad in ["", "MemFree: 1 kB", "MemTotal: x kB", "MemTotal: 1"] {
            assert_eq!(parse_memory(bad), None, "{bad:?}");
        }
        assert!(memory().is_none_or(|bytes| bytes > 1 << 20));
    }

    #[test]
    fn the_range_of_ports_is_read_or_refused() {
        assert_eq!(parse_range("32768\t60999\n"), Some((32_768, 60_999)));
        for bad in ["", "1", "9 8", "a b", "1 70000"] {
            assert_eq!(parse_range(bad), None, "{bad:?}");
        }
        assert!(ephemeral_ports() > 0);
    }

    #[test]
    fn the_limit_on_open_files_is_raised_once_and_for_all() {
        let first = raise_open_files().unwrap();
        assert_eq!((raise_open_files().unwrap(), open_files().unwrap()), (first, first));
    }
}
