//! Sources of a Corefile besides itself: files, directories, environment variables.
//!
//! The parser reaches the outside only through the functions of a [`Sources`], so that tests and
//! fuzzing run without a file system. The only functions that touch the real one are in this file,
//! and bound every read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Maximum bytes of one text. Reading a device that never ends stops here.
const TEXT_BYTES_MAX: u64 = 16 << 20;
/// Mode of a file that its group and others may read.
const READ_BY_OTHERS: u32 = 0o044;

/// Reads a file.
pub(crate) type Reader = Box<dyn Fn(&Path) -> io::Result<Vec<u8>>>;
/// Lists a directory.
pub(crate) type Lister = Box<dyn Fn(&Path) -> io::Result<Vec<String>>>;
/// Checks for a regular file.
pub(crate) type Prober = Box<dyn Fn(&Path) -> io::Result<bool>>;
/// Tells whether others than its owner may read a file.
pub(crate) type Exposed = Box<dyn Fn(&Path) -> bool>;
/// Looks up an environment variable.
pub(crate) type Variables = Box<dyn Fn(&str) -> Option<String>>;

/// The files and variables that a Corefile can use.
pub struct Sources {
    /// An absolute path. Names of files in arguments of directives, and the path of the Corefile
    /// itself, are relative to it.
    pub working_directory: PathBuf,
    /// Returns the content of the file at an absolute path. A directory is an error of the kind
    /// [`io::ErrorKind::IsADirectory`], a missing file one of the kind [`io::ErrorKind::NotFound`].
    pub read: Reader,
    /// Returns the names in the directory at an absolute path, in any order.
    pub list: Lister,
    /// Checks that an absolute path is a regular file, and no device or pipe. Errors are those of
    /// `read`. Nothing is read, so that it cannot take long.
    pub(crate) is_file: Prober,
    /// Returns true if others than its owner may read the file at an absolute path.
    pub(crate) is_exposed: Exposed,
    /// Returns the value of an environment variable, if it is set.
    pub variable: Variables,
}

impl Sources {
    /// Creates access to the real files and variables of this process.
    ///
    /// # Errors
    /// The working directory is not known (it may have been removed).
    pub(crate) fn of_this_process() -> io::Result<Self> {
        Ok(Self {
            working_directory: std::env::current_dir()?,
            read: Box::new(read_file),
            list: Box::new(list_directory),
            is_file: Box::new(is_file),
            is_exposed: Box::new(is_exposed),
            variable: Box::new(|name| {
                std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
            }),
        })
    }

    /// Creates access to `files` (absolute path and content) and `variables` only; the working
    /// directory is `/dir`. For tests.
    pub fn fixed(files: BTreeMap<PathBuf, Vec<u8>>, variables: BTreeMap<String, String>) -> Self {
        let listed: Vec<PathBuf> = files.keys().cloned().collect();
        let probed = listed.clone();
        Self {
            working_directory: PathBuf::from("/dir"),
            read: Box::new(move |path| match files.get(path) {
                Some(content) => Ok(content.clone()),
                None if files.keys().any(|file| file.starts_with(path)) => {
                    Err(io::ErrorKind::IsADirectory.into())
                }
                None => Err(io::ErrorKind::NotFound.into()),
            }),
            list: Box::new(move |directory| {
                let below = listed.iter().filter_map(|file| file.strip_prefix(directory).ok());
                let mut names: Vec<String> = below
                    .filter_map(|rest| Some(rest.iter().next()?.to_str()?.to_owned()))
                    .collect();
                names.dedup();
                Ok(names)
            }),
            is_file: Box::new(move |path| {
                let found = probed.iter().find(|file| file.starts_with(path));
                match found.ok_or(io::ErrorKind::NotFound)? {
                    file if file == path => Ok(true),
                    _ => Err(io::ErrorKind::IsADirectory.into()),
                }
            }),
            is_exposed: Box::new(|_| false),
            variable: Box::new(move |name| variables.get(name).cloned()),
        }
    }
}

/// Returns true if the mode of the file at `path` lets its group or others read it.
fn is_exposed(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.mode() & READ_BY_OTHERS != 0)
}

/// Returns the content of the file at `path`.
///
/// # Errors
/// As of [`Sources::read`]; also if it is no regular file, because a read could block for ever or
/// never end.
pub(crate) fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    // Checked before it is opened, because opening a pipe would wait for its writer.
    let kind = std::fs::metadata(path)?.file_type();
    let what = match () {
        () if kind.is_file() => return read_text(File::open(path)?),
        () if kind.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
        () if kind.is_fifo() => "a pipe",
        () if kind.is_char_device() => "a character device",
        () if kind.is_block_device() => "a block device",
        () if kind.is_socket() => "a socket",
        () => "something else",
    };
    let message = format!("not a regular file but {what}");
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}

/// Reads all of `from`: a Corefile, or a file that one refers to.
///
/// # Errors
/// The text cannot be read, or is longer than 16 MiB.
pub(crate) fn read_text(from: impl Read) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    from.take(TEXT_BYTES_MAX + 1).read_to_end(&mut content)?;
    if content.len() as u64 > TEXT_BYTES_MAX {
        return Err(io::Error::other(format!("larger than {TEXT_BYTES_MAX} bytes")));
    }
    Ok(content)
}

fn is_file(path: &Path) -> io::Result<bool> {
    let kind = std::fs::metadata(path)?.file_type();
    if kind.is_dir() { Err(io::ErrorKind::IsADirectory.into()) } else { Ok(kind.is_file()) }
}

fn list_directory(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path)? {
        // A name that is not UTF-8 cannot be written in a Corefile's pattern either.
        names.extend(entry?.file_name().into_string());
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::Sources;
    use std::fs::{self, Permissions};
    use std::io::ErrorKind;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    #[test]
    fn the_real_sources_tell_a_directory_from_a_missing_file() {
        let sources = Sources::of_this_process().unwrap();
        let directory = &sources.working_directory;
        assert_eq!((sources.read)(directory).unwrap_err().kind(), ErrorKind::IsADirectory);
        let missing = directory.join("no such file");
        assert_eq!((sources.read)(&missing).unwrap_err().kind(), ErrorKind::NotFound);
        assert!((sources.list)(directory).unwrap().contains(&"Cargo.toml".to_owned()));
        assert_eq!((sources.is_file)(directory).unwrap_err().kind(), ErrorKind::IsADirectory);
        assert_eq!((sources.is_file)(&missing).unwrap_err().kind(), ErrorKind::NotFound);
        assert!(!(sources.is_file)(Path::new("/dev/zero")).unwrap());
        assert!((sources.is_file)(&directory.join("Cargo.toml")).unwrap());
        let refused = |path: &str| (sources.read)(Path::new(path)).unwrap_err().to_string();
        assert_eq!(refused("/dev/zero"), "not a regular file but a character device");
        let socket = std::env::temp_dir().join(format!("onward-socket-{}", std::process::id()));
        let listening = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert_eq!(refused(socket.to_str().unwrap()), "not a regular file but a socket");
        drop((listening, std::fs::remove_file(socket)));
        assert_eq!((sources.variable)("A=B\0"), None);
    }

    #[test]
    fn a_file_is_exposed_if_its_group_or_others_can_read_it() {
        let sources = Sources::of_this_process().unwrap();
        let path = std::env::temp_dir().join(format!("onward-exposed-{}", std::process::id()));
        fs::write(&path, "").unwrap();
        for (mode, expected) in [(0o600, false), (0o640, true), (0o604, true), (0o711, false)] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert_eq!((sources.is_exposed)(&path), expected, "{mode:o}");
        }
        fs::remove_file(&path).unwrap();
        assert!(!(sources.is_exposed)(&path));
    }
}
