//! The file of a signed zone: a zone file whose last line has the SHA-256 of all lines before.
//!
//! A new version goes to a temporary file, which is synchronised and renamed, so that the file
//! holds one whole version at any time. The hash tells a file that this server wrote from one that
//! was edited or written by another program: signatures are kept from the former only. Temporary
//! files of processes that have ended are removed.

use super::signing::Stop;
use crate::config::Name;
use crate::engine::authority::{Builder, Zone};
use crate::loader::file::{Failure, open};
use crate::loader::temporary;
use crate::loader::zones::BYTES_MAX;
use crate::zonefile::{self, Consumer, Record};
use ahash::RandomState;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Begin of the last line.
const HASH_LINE: &str = "; sha256 ";
/// Digits of the hash.
const HASH_DIGITS: usize = 64;
/// Beginning of the names of temporary files. It is not that of a zone file, which `auto` would
/// read.
const TEMPORARY: &str = "signed-";

/// A signed zone from its file.
pub(super) struct Signed {
    pub(super) zone: Zone,
    /// This server wrote the file, and nothing has changed it.
    pub(super) is_own: bool,
}

/// Writes the file: `head`, then what `body` writes.
///
/// # Errors
/// [`Stop`]; the file of before stays.
pub(super) fn write<T>(
    path: &Path,
    head: &str,
    body: impl FnOnce(&mut Hashing<BufWriter<File>>) -> Result<T, Stop>,
) -> Result<T, Stop> {
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let temporary = directory.join(format!("{TEMPORARY}{}", temporary::unique()));
    let result = write_file(&temporary, head, body).and_then(|result| {
        fs::rename(&temporary, path)?;
        File::open(directory)?.sync_all()?;
        Ok(result)
    });
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    result
}

fn write_file<T>(
    path: &Path,
    head: &str,
    body: impl FnOnce(&mut Hashing<BufWriter<File>>) -> Result<T, Stop>,
) -> Result<T, Stop> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?;
    let out = BufWriter::with_capacity(1 << 16, file);
    let room = BYTES_MAX - (HASH_LINE.len() + HASH_DIGITS + 1) as u64;
    let mut out = Hashing { out, hash: Sha256::new(), room };
    out.write_all(head.as_bytes())?;
    let result = body(&mut out)?;
    let Hashing { mut out, hash, .. } = out;
    out.write_all(hash_line(hash).as_bytes())?;
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    Ok(result)
}

fn hash_line(hash: Sha256) -> String {
    let mut line = String::from(HASH_LINE);
    for byte in hash.finalize() {
        // Writing to a string never fails.
        let _ = write!(line, "{byte:02x}");
    }
    line.push('\n');
    line
}

/// A writer that hashes all bytes, up to a number that a zone file may have.
pub(super) struct Hashing<W> {
    out: W,
    hash: Sha256,
    room: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.room {
            return Err(io::Error::other("the signed zone has more than 1 GiB, the maximum"));
        }
        let len = self.out.write(bytes)?;
        self.hash.update(&bytes[..len]);
        self.room -= len as u64;
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Removes the temporary files in a directory whose processes have ended.
pub(super) fn remove_stale(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name();
        let rest = name.to_str().and_then(|name| name.strip_prefix(TEMPORARY));
        if rest.is_some_and(temporary::is_stale) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Reads the file of a signed zone. `None`: there is none.
///
/// # Errors
/// The text of the error: the file cannot be read, or is no zone file.
pub(super) fn read(
    path: &Path,
    zone: &Name,
    hasher: &RandomState,
) -> Result<Option<Signed>, String> {
    let Some(text) = read_text(path)? else { return Ok(None) };
    let is_own = has_hash(&text);
    let builder = Builder::new(zone.as_wire(), text.len(), hasher.clone());
    let mut alone = Alone(builder);
    zonefile::read(path, &text, zone.as_wire(), &mut alone).map_err(|error| error.to_string())?;
    drop(text);
    let built = alone.0.finish().map_err(|refused| refused.what)?;
    Ok(Some(Signed { zone: built.zone, is_own }))
}

fn read_text(path: &Path) -> Result<Option<Vec<u8>>, String> {
    let file = match open(path) {
        Ok(file) => file,
        Err(Failure::Missing) => return Ok(None),
        Err(failure) => return Err(failure.to_string()),
    };
    let mut text = Vec::new();
    file.take(BYTES_MAX + 1).read_to_end(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > BYTES_MAX {
        return Err("more than 1 GiB".into());
    }
    Ok(Some(text))
}

/// Returns true if the last line has the hash of the others.
fn has_hash(text: &[u8]) -> bool {
    let len = HASH_LINE.len() + HASH_DIGITS + 1;
    let Some(place) = text.len().checked_sub(len) else { return false };
    let (body, line) = text.split_at(place);
    let mut hash = Sha256::new();
    hash.update(body);
    *line == *hash_line(hash).as_bytes()
}

/// A zone file that includes no other.
struct Alone(Builder);

impl Consumer for Alone {
    fn record(&mut self, record: &Record<'_>) -> Result<(), String> {
        let Record { owner, rtype, ttl, data, place } = *record;
        self.0.add(owner, rtype, ttl, data, (place.file, place.line))
    }

    fn include(&mut self, _: &Path) -> Result<Vec<u8>, String> {
        Err("no file of this server includes another".into())
    }
}

#[cfg(test)]
mod tests {
    use super::{
        HASH_DIGITS, HASH_LINE, Hashing, TEMPORARY, has_hash, hash_line, read, remove_stale, write,
    };
    use crate::config::Name;
    use crate::loader::sign::signing::Stop;
    use ahash::RandomState;
    use sha2::{Digest, Sha256};
    use std::fs;
    use std::io::{self, Write};
    use std::path::PathBuf;

    const TEXT: &str = "z. 60 IN SOA ns.z. h.z. 7 2 3 4 5\nz. 60 IN NS ns.z.\n";

    fn directory(test: &str) -> PathBuf {
        let name = format!("onward-signed-{}-{test}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        path
    }

    fn names(directory: &PathBuf) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_that_was_cut_or_changed_is_not_our_own() {
        let directory = directory("own");
        let path = directory.join("db.z.signed");
        let (zone, hasher) = (Name::parse("z").unwrap(), RandomState::with_seeds(1, 2, 3, 4));
        assert!(read(&path, &zone, &hasher).unwrap().is_none());
        write(&path, "; head\n", |out| Ok(out.write_all(TEXT.as_bytes())?)).unwrap();
        let signed = read(&path, &zone, &hasher).unwrap().unwrap();
        assert!(signed.is_own && signed.zone.serial() == 7);
        let whole = fs::read(&path).unwrap();
        assert!(has_hash(&whole) && whole.starts_with(b"; head\nz."));
        for len in 0..whole.len() {
            assert!(!has_hash(&whole[..len]), "cut at {len}");
            let mut changed = whole.clone();
            changed[len] ^= 1;
            assert!(!has_hash(&changed), "changed at {len}");
        }
        fs::write(&path, TEXT).unwrap();
        assert!(!read(&path, &zone, &hasher).unwrap().unwrap().is_own);
        fs::write(&path, "no zone\n").unwrap();
        assert!(read(&path, &zone, &hasher).is_err());
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_failure_keeps_the_old_file_and_no_temporary_one() {
        let directory = directory("failure");
        let path = directory.join("db.z.signed");
        write(&path, "", |out| Ok(out.write_all(TEXT.as_bytes())?)).unwrap();
        let old = fs::read(&path).unwrap();
        let failed = write(&path, "", |out| {
            out.write_all(b"half")?;
            Err::<(), _>(Stop::Io(io::Error::other("disk full")))
        });
        assert!(failed.is_err());
        assert_eq!(
            (names(&directory), fs::read(&path).unwrap()),
            (vec!["db.z.signed".into()], old)
        );
        fs::remove_dir_all(&directory).unwrap();
        // A directory that cannot be created.
        fs::write(&directory, "a file").unwrap();
        assert!(write(&path, "", |_| Ok(())).is_err());
        fs::remove_file(directory).unwrap();
    }

    #[test]
    fn a_file_is_never_larger_than_one_that_is_read() {
        let (hash, room) = (Sha256::new(), 10);
        let mut out = Hashing { out: Vec::new(), hash, room };
        out.write_all(b"12345").unwrap();
        out.write_all(b"67890").unwrap();
        assert!(out.write_all(b"1").unwrap_err().to_string().contains("1 GiB"));
        assert_eq!(out.out, b"1234567890");
        let line = hash_line(Sha256::new());
        assert_eq!(line.len(), HASH_LINE.len() + HASH_DIGITS + 1, "the room for the last line");
    }

    #[test]
    fn temporary_files_of_the_dead_are_removed() {
        let directory = directory("stale");
        fs::create_dir_all(&directory).unwrap();
        let stale = format!("{TEMPORARY}4999999-0123456789abcdef-0");
        let running = format!("{TEMPORARY}{}", crate::loader::temporary::unique());
        let mut kept = ["db.z.signed", "signed-zones", "signed-4999999", &running];
        for name in kept.iter().chain([&&*stale]) {
            fs::write(directory.join(name), "").unwrap();
        }
        remove_stale(&directory);
        kept.sort_unstable();
        assert_eq!(names(&directory), kept);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn temporary_files_are_no_zone_files() {
        let directory = directory("names");
        let path = directory.join("db.z.signed");
        write(&path, "", |_| {
            let names = names(&directory);
            assert!(names.len() == 1 && names[0].starts_with(TEMPORARY), "{names:?}");
            assert!(!names[0].contains("db."), "auto would read {names:?}");
            Ok(())
        })
        .unwrap();
        fs::remove_dir_all(directory).unwrap();
    }
}
