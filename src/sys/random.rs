//! The kernel's randomness, for seeding.
//!
//! A system call for each query would cost more than the query: a worker takes one seed, and a
//! stream cipher expands it to all IDs that it will need.

use std::io;

use super::cvt;

/// Returns 32 unpredictable bytes (`getrandom(2)`; at boot, blocks until the pool is ready).
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
