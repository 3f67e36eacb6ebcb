//! Cores: the list of them, and pinning a thread to one.
//!
//! A worker that the scheduler moves loses its caches at every move, and two workers on one core
//! wait for each other; so each is pinned before it touches its memory.

use std::io;

/// Returns the cores this process may run on, ascending. Empty if the kernel does not tell.
pub fn cores() -> Vec<usize> {
    let mut cores: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
    cores.sort_unstable();
    cores
}

/// Returns the usable cores that are close to the memory of NUMA node `node`.
///
/// # Errors
/// `NotFound`: there is no such node.
pub(crate) fn cores_of_node(node: usize) -> io::Result<Vec<usize>> {
    let text = std::fs::read_to_string(format!("/sys/devices/system/node/node{node}/cpulist"))?;
    let mut own = list(&text).ok_or(io::ErrorKind::InvalidData)?;
    let allowed = cores();
    own.retain(|core| allowed.contains(core));
    Ok(own)
}

/// Parses a list of cores in the kernel's format, `0-3,8`. `None`: malformed.
pub(crate) fn list(text: &str) -> Option<Vec<usize>> {
    let mut cores = Vec::new();
    for piece in text.trim().split(',').filter(|piece| !piece.is_empty()) {
        let (first, last) = piece.split_once('-').unwrap_or((piece, piece));
        cores.extend(first.parse::<usize>().ok()?..=last.parse().ok()?);
    }
    Some(cores)
}

/// Parses the kernel's mask of cores, in words of 32 bits: `00000001,80000000` is 31 and 32.
/// `None`: malformed.
pub(crate) fn mask(text: &str) -> Option<Vec<usize>> {
    let mut cores = Vec::new();
    for (word, digits) in text.trim().rsplit(',').enumerate() {
        let bits = u32::from_str_radix(digits, 16).ok()?;
        cores.extend((0..32).filter(|bit| bits >> bit & 1 == 1).map(|bit| word * 32 + bit));
    }
    Some(cores)
}

/// Pins the calling thread to `core`.
///
/// # Errors
/// The kernel refused: there is no such core, or this process may not run on it.
pub fn pin(core: usize) -> io::Result<()> {
    if core_affinity::set_for_current(core_affinity::CoreId { id: core }) {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::{cores, cores_of_node, list, mask, pin};

    #[test]
    fn the_kernel_lists_numbers_and_ranges_or_masks_them() {
        assert_eq!(list("0-2,8\n"), Some(vec![0, 1, 2, 8]));
        assert_eq!(mask("00000001,80000001\n"), Some(vec![0, 31, 32]));
        assert_eq!((mask("0"), mask("g")), (Some(vec![]), None));
        assert_eq!(list("5"), Some(vec![5]));
        assert_eq!(list("\n"), Some(vec![]));
        assert_eq!(list("x"), None);
        cores_of_node(99_999).unwrap_err();
    }

    #[test]
    fn a_thread_is_pinned_to_a_core_that_exists_and_to_no_other() {
        let last = *cores().last().unwrap();
        std::thread::spawn(move || {
            pin(last).unwrap();
            assert_eq!(cores(), [last]);
            pin(1_000).unwrap_err();
        })
        .join()
        .unwrap();
    }
}
