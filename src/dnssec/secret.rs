//! Bytes that are overwritten before their memory is given back: private keys and their files.
//!
//! Copies share the bytes. The library that signs keeps its own copy of a key, which it does not
//! overwrite.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use zeroize::Zeroize;

/// Secret bytes.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct SecretBytes(Arc<Overwritten>);

#[derive(Default, PartialEq, Eq, Hash)]
struct Overwritten(Vec<u8>);

impl Drop for Overwritten {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl From<Vec<u8>> for SecretBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Overwritten(bytes)))
    }
}

impl Deref for SecretBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0.0
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretBytes({})", self.len())
    }
}
