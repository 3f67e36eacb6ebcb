//! Opens a file, and detects whether it has changed since.
//!
//! Only a regular file is opened: opening a pipe would wait for a writer, and reading a device
//! might never end. A file that was changed so shortly before the read that another change could
//! have the same time stamp is read once more.

use crate::engine::hosts::TooLarge;
use crate::sys::random;
use ahash::RandomState;
use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

/// Time in which a file may change again without a new time stamp, on file systems with nanosecond
/// time stamps.
const TICK: Duration = Duration::from_millis(100);
/// The same on file systems with time stamps in seconds.
const LONG_TICK: Duration = Duration::from_secs(2);

/// Reason why a file could not be loaded.
#[derive(Debug)]
pub enum Failure {
    /// No such file.
    Missing,
    /// The path is a directory.
    Directory,
    /// The path is a pipe, a device or a socket.
    NoFile,
    /// The file cannot be opened or read.
    Unreadable(io::Error),
    /// The file is larger than a table can hold.
    TooLarge(TooLarge),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => write!(f, "file does not exist"),
            Self::Directory => write!(f, "expected a file, found a directory"),
            Self::NoFile => write!(f, "not a regular file"),
            Self::Unreadable(error) => write!(f, "cannot read: {error}"),
            Self::TooLarge(error) => write!(f, "too large: {error}"),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            io::ErrorKind::IsADirectory => Self::Directory,
            _ => Self::Unreadable(error),
        }
    }
}

/// Length and hash, by which equal contents are recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Digest(u64, u64);

impl Digest {
    /// Creates the digest of `len` bytes with this hash.
    pub(super) fn new(len: u64, hash: u64) -> Self {
        Self(len, hash)
    }
}

/// Attributes by which an unchanged file is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Signature {
    /// Time of the last change of the contents, since 1970.
    pub(super) modified: Duration,
    /// Time of the last change of contents or attributes.
    changed: Duration,
    len: u64,
    inode: (u64, u64),
    /// A later change of the file would change its signature.
    is_settled: bool,
}

impl Signature {
    /// Returns the signature of the file at `place`.
    ///
    /// # Errors
    /// There is no regular file.
    pub(super) fn of(place: &Path) -> Result<Self, Failure> {
        let metadata = std::fs::metadata(place)?;
        regular(&metadata)?;
        let time = |seconds: i64, nanos: i64| {
            let [seconds, nanos] =
                [seconds, nanos].map(|number| u64::try_from(number).unwrap_or(0));
            Duration::from_secs(seconds) + Duration::from_nanos(nanos)
        };
        Ok(Self {
            modified: time(metadata.mtime(), metadata.mtime_nsec()),
            changed: time(metadata.ctime(), metadata.ctime_nsec()),
            len: metadata.len(),
            inode: (metadata.dev(), metadata.ino()),
            is_settled: false,
        })
    }

    /// Returns the signature of a file whose read began at `now`.
    pub(super) fn seen_at(self, now: Duration) -> Self {
        let latest = self.modified.max(self.changed);
        let has_nanos = self.modified.subsec_nanos() != 0 || self.changed.subsec_nanos() != 0;
        let tick = if has_nanos { TICK } else { LONG_TICK };
        Self { is_settled: latest + tick < now, ..self }
    }

    /// Returns true if a file that now has the signature `other` is unchanged.
    pub(super) fn stands_for(&self, other: &Self) -> bool {
        self.is_settled && Self { is_settled: false, ..*self } == *other
    }
}

/// Creates a keyed hasher.
///
/// # Errors
/// The kernel has no randomness.
pub fn hasher() -> io::Result<RandomState> {
    let seed = random::seed()?;
    let word = |number: usize| {
        let bytes = seed[8 * number..].first_chunk().copied();
        u64::from_le_bytes(bytes.unwrap_or_default())
    };
    Ok(RandomState::with_seeds(word(0), word(1), word(2), word(3)))
}

pub(super) fn open(place: &Path) -> Result<File, Failure> {
    regular(&std::fs::metadata(place)?)?;
    // O_NONBLOCK, because it may have been replaced by a pipe meanwhile.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(place)?;
    regular(&file.metadata()?)?;
    Ok(file)
}

fn regular(metadata: &Metadata) -> Result<(), Failure> {
    match metadata.file_type() {
        kind if kind.is_file() => Ok(()),
        kind if kind.is_dir() => Err(Failure::Directory),
        _ => Err(Failure::NoFile),
    }
}

/// Fills `piece` as far as the file goes, so that equal files are read in equal pieces.
pub(super) fn fill(file: &mut File, piece: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < piece.len() {
        match file.read(&mut piece[len..]) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}
