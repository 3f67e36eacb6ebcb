//! The kernel's statistics of this process: time, memory and descriptors.
//!
//! For occasional readers: each is read from the kernel when needed; an unknown value is zero.

use super::{limits, thread};
use std::fs;
use std::time::Duration;

/// Resources that the process uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Processor time, in user space and in the kernel, of all threads since the start.
    pub(crate) cpu: Duration,
    /// Resident memory in bytes.
    pub(crate) resident_bytes: u64,
    /// Reserved address space in bytes.
    pub(crate) virtual_bytes: u64,
    /// Open descriptors.
    pub(crate) descriptors: u64,
    /// Limit of open descriptors.
    pub(crate) descriptors_max: u64,
}

/// Returns the current resources of this process.
pub(crate) fn usage() -> Usage {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let mut pages = statm.split(' ').map(|pages| pages.parse().unwrap_or(0));
    let mut bytes = || pages.next().unwrap_or(0) * page_len();
    let (virtual_bytes, resident_bytes) = (bytes(), bytes());
    let open = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    Usage {
        cpu: thread::processor_time_by(libc::CLOCK_PROCESS_CPUTIME_ID),
        resident_bytes,
        virtual_bytes,
        // The descriptor that reads the directory is in the list.
        descriptors: open.saturating_sub(1) as u64,
        descriptors_max: limits::open_files().unwrap_or(0),
    }
}

fn page_len() -> u64 {
    // SAFETY: the call takes a number and returns one.
    let len = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    len.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::usage;

    #[test]
    fn a_process_uses_resources() {
        let before = usage();
        let file = std::fs::File::open("/proc/self/statm").unwrap();
        let memory = vec![1u8; 64 << 20];
        let after = usage();
        assert!(after.resident_bytes >= before.resident_bytes + (32 << 20), "{before:?} {after:?}");
        assert!(after.virtual_bytes > after.resident_bytes);
        assert!(after.cpu > before.cpu && after.descriptors >= 4);
        assert!(after.descriptors <= after.descriptors_max);
        drop((file, memory));
    }
}
