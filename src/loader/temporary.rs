//! Names of temporary files, and how those of processes that have ended are recognised.
//!
//! A name has the process, a random number of it, because a later process may have the same ID, and
//! the number of the file.

use crate::sys::random;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// A part of a name that no other file has.
pub(super) fn unique() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{}-{:016x}-{number}", std::process::id(), mark())
}

/// Random number of this process.
fn mark() -> u64 {
    static MARK: OnceLock<u64> = OnceLock::new();
    *MARK.get_or_init(|| {
        let seed = random::seed().unwrap_or_default();
        seed[..8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    })
}

/// Returns true for a result of [`unique`] in a process that has ended.
pub(super) fn is_stale(name: &str) -> bool {
    let parts: Vec<_> = name.split('-').collect();
    let [process, own, number] = parts[..] else { return false };
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let is_mark = own.len() == 16 && own.bytes().all(is_hex);
    let (Ok(process), Ok(_)) = (process.parse::<u32>(), number.parse::<u64>()) else {
        return false;
    };
    if process == std::process::id() {
        return is_mark && own != format!("{:016x}", mark());
    }
    is_mark && !Path::new("/proc").join(process.to_string()).exists()
}

#[cfg(test)]
mod tests {
    use super::{is_stale, mark, unique};

    #[test]
    fn names_of_other_processes_with_the_same_id_are_stale() {
        let (own, other, process) = (mark(), mark() ^ 1, std::process::id());
        let [one, two] = [unique(), unique()];
        assert!(one != two && !is_stale(&one) && !is_stale(&two));
        assert!(!is_stale(&format!("{process}-{own:016x}-5")));
        assert!(is_stale(&format!("{process}-{other:016x}-5")));
        assert!(is_stale(&format!("4999999-{own:016x}-5")));
        assert!(!is_stale(&format!("1-{other:016x}-5")), "process 1 runs");
    }

    #[test]
    fn other_names_are_left_alone() {
        for name in ["", "4999999", "4999999-00-0", "4999999-0", "mine-0000000000000000-0"] {
            assert!(!is_stale(name), "{name}");
        }
        assert!(!is_stale("4999999-0000000000000000-0-0"));
        assert!(!is_stale("4999999-000000000000000g-0"));
        assert!(!is_stale("4999999-0000000000000000-x"));
    }
}
