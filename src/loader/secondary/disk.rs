//! State of transferred zones on disk: one file for each zone, from which the next start serves.
//!
//! A file has a head with the time of the last confirmation and its own check value, then the zone,
//! then a SHA-256 of that. The zone is written to a temporary file, synchronised and renamed, so
//! that the file holds one whole version at any time; a confirmation changes the head in place,
//! with one small write. A file that is cut, changed or of another zone is not used.

use crate::config::{Name, PRESENTATION, TEXT_LEN_MAX, spell};
use crate::engine::authority::{Builder, Built, Zone};
use crate::engine::message::{NAME_LEN_MAX, u16_at, u32_at};
use crate::loader::temporary;
use ahash::RandomState;
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Beginning of a file, with the version of its format.
const MAGIC: [u8; 8] = *b"onwardz1";
/// Beginning of the extension of a temporary file.
const TEMPORARY: &str = "new-";
/// Length of the head: the beginning, the time of confirmation, its check value.
const HEAD_LEN: usize = 24;
/// Length of the hash at the end.
const HASH_LEN: usize = 32;
/// Maximum size of a file.
const BYTES_MAX: u64 = 4 << 30;

/// A zone from disk.
pub(super) struct Kept {
    pub(super) built: Built,
    /// Time of the last confirmation, in seconds since 1970.
    pub(super) confirmed: u64,
}

/// The file of a zone: its name without the last dot, bytes that are unusual in names of files
/// escaped.
pub(super) fn path(directory: &Path, apex: &[u8]) -> PathBuf {
    let mut room = [0; TEXT_LEN_MAX];
    let text = spell(apex, &PRESENTATION, &mut room);
    let text = text.strip_suffix('.').unwrap_or(text);
    let mut file = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' => file.push(byte.into()),
            _ => file.push_str(&format!("%{byte:02x}")),
        }
    }
    // The dot of the root: no label has one that is not escaped.
    directory.join(if file.is_empty() { "%2e.zone".into() } else { file + ".zone" })
}

fn head(confirmed: u64) -> [u8; HEAD_LEN] {
    let mut head = [0; HEAD_LEN];
    head[..8].copy_from_slice(&MAGIC);
    head[8..16].copy_from_slice(&confirmed.to_be_bytes());
    let check = Sha256::digest(&head[..16]);
    head[16..].copy_from_slice(&check[..8]);
    head
}

/// Writes a zone that was confirmed at `now`.
///
/// # Errors
/// The text of the error; the old file stays.
pub(super) fn write(directory: &Path, zone: &Zone, now: u64) -> Result<(), String> {
    let path = path(directory, zone.apex());
    check_kind(&path)?;
    let temporary = path.with_extension(format!("{TEMPORARY}{}", temporary::unique()));
    let written = fs::create_dir_all(directory)
        .and_then(|()| write_file(&temporary, zone, now))
        .and_then(|()| fs::rename(&temporary, &path))
        .and_then(|()| File::open(directory)?.sync_all());
    written.map_err(|error| {
        let _ = fs::remove_file(&temporary);
        format!("{}: {error}", path.display())
    })
}

/// Removes temporary files that processes left which have ended in the middle of a write. An error
/// only means that such a file stays.
pub(super) fn remove_leftovers(directory: &Path) {
    let files = fs::read_dir(directory).into_iter().flatten().flatten();
    for path in files.map(|file| file.path()) {
        let extension = path.extension().and_then(|extension| extension.to_str());
        let Some(rest) = extension.and_then(|text| text.strip_prefix(TEMPORARY)) else { continue };
        let is_own = || {
            let mut start = [0; MAGIC.len()];
            let read = read_start(&path, &mut start);
            read.is_ok_and(|len| MAGIC.starts_with(&start[..len]))
        };
        // The process before an upgrade may still write.
        if temporary::is_stale(rest) && is_own() {
            let _ = fs::remove_file(path);
        }
    }
}

/// Reads the first bytes of a file.
fn read_start(path: &Path, start: &mut [u8]) -> io::Result<usize> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a file"));
    }
    let mut len = 0;
    while len < start.len() {
        match (&file).read(&mut start[len..])? {
            0 => break,
            count => len += count,
        }
    }
    Ok(len)
}

/// Refuses a place whose contents must not be overwritten: a text, such as a zone file that an
/// operator has written, or no file at all.
fn check_kind(path: &Path) -> Result<(), String> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    let mut start = [0; HEAD_LEN];
    let is_text = |start: &[u8]| {
        let is_in_text = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~' | 0x80..);
        !start.is_empty() && start.iter().all(is_in_text)
    };
    let what = if !metadata.is_file() {
        "it is no file"
    } else if File::open(path)
        .and_then(|mut file| file.read(&mut start))
        .is_ok_and(|len| is_text(&start[..len]))
    {
        "it is a text and no state of this server"
    } else {
        return Ok(());
    };
    Err(format!("{}: {what}; move it, or use another 'directory'", path.display()))
}

fn write_file(path: &Path, zone: &Zone, now: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o640).open(path)?;
    let mut out = BufWriter::with_capacity(1 << 16, file);
    let mut hash = Sha256::new();
    let mut put = |out: &mut BufWriter<File>, bytes: &[u8]| {
        hash.update(bytes);
        out.write_all(bytes)
    };
    out.write_all(&head(now))?;
    put(&mut out, &[zone.apex().len() as u8])?;
    put(&mut out, zone.apex())?;
    put(&mut out, &(zone.records() as u64).to_be_bytes())?;
    let mut result = Ok(());
    let mut record = Vec::new();
    zone.each_record(|owner, rtype, ttl, data| {
        record.clear();
        record.push(owner.len() as u8);
        record.extend_from_slice(owner);
        record.extend(rtype.to_be_bytes());
        record.extend(ttl.to_be_bytes());
        record.extend((data.len() as u16).to_be_bytes());
        record.extend_from_slice(data);
        result = put(&mut out, &record);
        result.is_ok()
    });
    result?;
    out.write_all(&hash.finalize())?;
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()
}

/// Notes that the zone in the file was confirmed at `now`.
///
/// # Errors
/// The text of the error.
pub(super) fn confirm(directory: &Path, zone: &Zone, now: u64) -> Result<(), String> {
    let path = path(directory, zone.apex());
    check_kind(&path)?;
    let confirmed = OpenOptions::new().write(true).open(&path).and_then(|file| {
        file.write_all_at(&head(now), 0)?;
        file.sync_data()
    });
    match confirmed {
        // Somebody has removed it.
        Err(error) if error.kind() == ErrorKind::NotFound => write(directory, zone, now),
        confirmed => confirmed.map_err(|error| format!("{}: {error}", path.display())),
    }
}

/// Removes the file of a zone that is a member of no catalog any more. An error only means that
/// the file stays.
pub(super) fn remove(directory: &Path, zone: &Name) {
    let path = path(directory, zone.as_wire());
    let mut start = [0; MAGIC.len()];
    if read_start(&path, &mut start).is_ok() && start == MAGIC {
        let _ = fs::remove_file(path);
    }
}

/// Reads the file of a zone. `None`: there is none.
///
/// # Errors
/// The file cannot be used: the text of the error.
pub(super) fn read(
    directory: &Path,
    zone: &Name,
    hasher: &RandomState,
) -> Result<Option<Kept>, String> {
    let path = path(directory, zone.as_wire());
    let bytes = match read_file(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{}: {error}", path.display())),
    };
    let kept = parse(&bytes, zone, hasher);
    kept.map(Some).map_err(|error| format!("{}: {error}", path.display()))
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    // A pipe or a device would not end.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > BYTES_MAX {
        return Err(io::Error::other("not a file of a zone"));
    }
    let mut bytes = Vec::new();
    file.take(BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn parse(bytes: &[u8], zone: &Name, hasher: &RandomState) -> Result<Kept, String> {
    let damaged = || String::from("the file is damaged or incomplete");
    let (head_bytes, rest) = bytes.split_at_checked(HEAD_LEN).ok_or_else(damaged)?;
    let len = rest.len().checked_sub(HASH_LEN).ok_or_else(damaged)?;
    let (body, hash) = rest.split_at(len);
    if head_bytes[..8] != MAGIC || Sha256::digest(body)[..] != *hash {
        return Err(damaged());
    }
    // The body is whole. A head that was cut in the middle of a write only hides the confirmation.
    let confirmed =
        head_bytes[8..16].first_chunk::<8>().map_or(0, |word| u64::from_be_bytes(*word));
    let confirmed = if head(confirmed) == *head_bytes { confirmed } else { 0 };
    let mut reader = Reader { rest: body };
    let apex = reader.name().ok_or_else(damaged)?;
    if apex != zone.as_wire() {
        return Err("the file is of another zone".into());
    }
    let count = reader.take(8).ok_or_else(damaged)?;
    let mut builder = Builder::new(zone.as_wire(), body.len(), hasher.clone());
    let count = count.iter().fold(0, |count: u64, byte| count << 8 | u64::from(*byte));
    builder.reserve(usize::try_from(count).unwrap_or(0).min(body.len() / 10));
    while !reader.rest.is_empty() {
        let owner = reader.name().ok_or_else(damaged)?;
        let fixed = reader.take(8).ok_or_else(damaged)?;
        let (rtype, ttl, len) = (u16_at(fixed, 0), u32_at(fixed, 2), u16_at(fixed, 6));
        let data = reader.take(len.unwrap_or(0).into()).ok_or_else(damaged)?;
        builder.add(owner, rtype.unwrap_or(0), ttl.unwrap_or(0), data, (0, 0))?;
    }
    let built = builder.finish().map_err(|refused| refused.what)?;
    Ok(Kept { built, confirmed })
}

struct Reader<'b> {
    rest: &'b [u8],
}

impl<'b> Reader<'b> {
    fn take(&mut self, len: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    fn name(&mut self) -> Option<&'b [u8]> {
        let len = usize::from(self.take(1)?[0]);
        self.take(len).filter(|name| !name.is_empty() && name.len() <= NAME_LEN_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::{confirm, path, read, remove, remove_leftovers, temporary, write};
    use crate::config::Name;
    use crate::engine::authority::{Builder, Zone};
    use ahash::RandomState;
    use std::fs;
    use std::path::PathBuf;

    fn hasher() -> RandomState {
        RandomState::with_seeds(1, 2, 3, 4)
    }

    fn zone() -> Zone {
        let mut builder = Builder::new(b"\x01z\0", 0, hasher());
        let soa = [&[0, 0, 0, 0, 0, 7][..], &[0; 16]].concat();
        builder.add(b"\x01z\0", 6, 1, &soa, (0, 0)).unwrap();
        builder.add(b"\x01z\0", 2, 1, b"\x02ns\0", (0, 0)).unwrap();
        builder.add(b"\x01a\x01z\0", 1, 60, &[192, 0, 2, 1], (0, 0)).unwrap();
        builder.finish().unwrap_or_else(|refused| panic!("{}", refused.what)).zone
    }

    fn directory(test: &str) -> PathBuf {
        let name = format!("onward-disk-{}-{test}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        path
    }

    #[test]
    fn names_of_files_are_safe() {
        let at = |name: &str| path("/d".as_ref(), Name::parse(name).unwrap().as_wire());
        for (name, file) in [
            ("a.test", "/d/a.test.zone"),
            (".", "/d/%2e.zone"),
            ("root", "/d/root.zone"),
            ("a/b.test", "/d/a%2fb.test.zone"),
        ] {
            assert_eq!(at(name), PathBuf::from(file));
        }
    }

    #[test]
    fn temporary_files_of_ended_processes_are_removed_and_no_others() {
        const MARK: &str = "0123456789abcdef";
        let directory = directory("leftovers");
        write(&directory, &zone(), 5).unwrap();
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        ended.wait().unwrap();
        let (ended, own) = (ended.id(), std::process::id());
        let files = [
            (format!("a.new-{ended}-{MARK}-0"), "onwardz1 and more", false),
            (format!("b.new-{ended}-{MARK}-17"), "", false),
            (format!("c.new-{}", temporary::unique()), "onwardz1", true),
            (format!("d.new-{ended}-{MARK}-0"), "of an operator", true),
            (format!("e.new-{ended}-0"), "onwardz1", true),
            (format!("f.new-{ended}-{MARK}-0-0"), "onwardz1", true),
            (format!("g.old-{ended}-{MARK}-0"), "onwardz1", true),
            // A process of before had the ID of this one.
            (format!("h.new-{own}-{MARK}-0"), "onwardz1", false),
        ];
        for (name, text, _) in &files {
            fs::write(directory.join(name), text).unwrap();
        }
        remove_leftovers(&directory);
        for (name, _, stays) in files {
            assert_eq!(directory.join(&name).exists(), stays, "{name}");
        }
        let name = Name::parse("z").unwrap();
        assert!(read(&directory, &name, &hasher()).unwrap().is_some());
        fs::remove_dir_all(&directory).unwrap();
        remove_leftovers(&directory);
    }

    #[test]
    fn a_text_of_an_operator_is_not_overwritten() {
        let directory = directory("text");
        let file = path(&directory, zone().apex());
        fs::create_dir_all(&directory).unwrap();
        fs::write(&file, "$TTL 3600\n@ SOA a b 1 2 3 4 5\n").unwrap();
        for refused in [write(&directory, &zone(), 5), confirm(&directory, &zone(), 5)] {
            assert!(refused.unwrap_err().contains("it is a text"));
        }
        assert!(fs::read_to_string(&file).unwrap().starts_with("$TTL"));
        fs::write(&file, "").unwrap();
        write(&directory, &zone(), 5).unwrap();
        write(&directory, &zone(), 6).unwrap();
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_zone_comes_back_with_the_time_of_its_last_confirmation() {
        let (directory, name) = (directory("back"), Name::parse("z").unwrap());
        assert!(read(&directory, &name, &hasher()).unwrap().is_none());
        write(&directory, &zone(), 5).unwrap();
        let kept = read(&directory, &name, &hasher()).unwrap().unwrap();
        assert!(kept.built.zone.is_same(&zone()) && kept.confirmed == 5);
        confirm(&directory, &zone(), 9).unwrap();
        assert_eq!(read(&directory, &name, &hasher()).unwrap().unwrap().confirmed, 9);
        fs::remove_file(path(&directory, b"\x01z\0")).unwrap();
        confirm(&directory, &zone(), 10).unwrap();
        assert_eq!(read(&directory, &name, &hasher()).unwrap().unwrap().confirmed, 10);
        let names: Vec<_> = fs::read_dir(&directory).unwrap().collect();
        assert_eq!(names.len(), 1, "no temporary file stays: {names:?}");
        remove(&directory, &name);
        assert!(read(&directory, &name, &hasher()).unwrap().is_none());
        let text = path(&directory, b"\x01z\0");
        fs::write(&text, "$TTL 3600").unwrap();
        remove(&directory, &name);
        assert!(text.exists(), "a text of an operator");
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_file_cut_or_changed_at_any_byte_is_not_used() {
        let (directory, name) = (directory("cut"), Name::parse("z").unwrap());
        write(&directory, &zone(), 5).unwrap();
        let file = path(&directory, b"\x01z\0");
        let whole = fs::read(&file).unwrap();
        for len in 0..whole.len() {
            fs::write(&file, &whole[..len]).unwrap();
            assert!(read(&directory, &name, &hasher()).is_err(), "cut at {len}");
            let mut changed = whole.clone();
            changed[len] ^= 1;
            fs::write(&file, &changed).unwrap();
            // A changed time of confirmation only makes the zone seem old.
            match read(&directory, &name, &hasher()) {
                Err(_) => {}
                Ok(kept) => assert!((8..24).contains(&len) && kept.unwrap().confirmed == 0),
            }
        }
        fs::write(&file, &whole).unwrap();
        let other = Name::parse("y").unwrap();
        fs::rename(&file, path(&directory, other.as_wire())).unwrap();
        assert!(read(&directory, &other, &hasher()).is_err(), "another zone");
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn an_old_file_stays_if_a_new_one_cannot_be_written() {
        let directory = directory("full");
        fs::write(&directory, "no directory").unwrap();
        assert!(write(&directory, &zone(), 5).is_err());
        fs::remove_file(directory).unwrap();
    }
}
