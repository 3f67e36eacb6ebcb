//! The kernel's randomness, for seeding.
//!
//! A call for each query would cost more than the query: a worker asks once for a seed, and a
//! stream cipher expands it to all ids that it will need.

use std::io;

use super::cvt;

/// Thirty-two unpredictable bytes (`getrandom(2)`; waits at boot until there are any).
///
/// # Errors
/// The kernel lacks the call.
pub(crate) fn seed() -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    let filled = cvt(|| {
        // SAFETY: `seed` is 32 writable bytes.
        let length = unsafe { libc::getrandom(seed.as_mut_ptr().cast(), seed.len(), 0) };
        libc::c_int::try_from(length).unwrap_or(-1)
    })?;
    // Requests of up to 256 bytes are never cut short.
    assert_eq!(filled, seed.len());
    Ok(seed)
}

#[cfg(test)]
mod tests {
    use super::seed;

    #[test]
    fn no_two_seeds_are_equal() {
        assert_ne!(seed().unwrap(), seed().unwrap());
    }
}
