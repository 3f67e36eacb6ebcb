//! Errors of certificates and keys.
//!
//! Each names its file as in the Corefile, the error and the remedy. An error of a peer's
//! certificate is a `TlsFault` instead.

use std::fmt;

/// Reason why a configuration's TLS cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetupError {
    /// The file, as in the Corefile; empty: the system's.
    pub(super) file: String,
    /// Error message.
    pub(super) message: String,
}

impl SetupError {
    pub(super) fn new(file: &str, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), message: message.into() }
    }
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.file {
            "" => write!(f, "TLS: {}", self.message),
            file => write!(f, "TLS: {file}: {}", self.message),
        }
    }
}

impl std::error::Error for SetupError {}
