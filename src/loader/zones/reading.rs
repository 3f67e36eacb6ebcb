//! Reads one zone from its file, and records each file that it opens.
//!
//! Text goes record by record to a builder; errors name the file as in the Corefile, with line,
//! column and zone. Files have a maximum size, and only regular files are opened.

use super::Trouble;
use super::files::Files;
use crate::clock::Clock;
use crate::config::FileSource;
use crate::engine::authority::{Builder, Built, Refused};
use crate::engine::memory;
use crate::loader::file::{Failure, Signature, open};
use crate::log::{push_time, without_controls};
use crate::zonefile::{self, Consumer, Record, ZoneError};
use ahash::RandomState;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Seconds before the expiry of a signature at which the warning begins.
const EXPIRY_WARNING: i32 = 7 * 86_400;
/// Maximum size of a zone file. Its text and two copies of its records are in memory during a read.
pub(in crate::loader) const BYTES_MAX: u64 = 1 << 30;

/// Reads a zone, and returns its files as well.
pub(super) fn read(file: &FileSource, hasher: &RandomState) -> (Result<Built, Trouble>, Files) {
    let (built, files) = read_records(file, hasher);
    let built = built.map(|mut built| {
        let now = Clock::calendar().as_secs() as u32;
        let warning = built.zone.expiration().and_then(|at| warning_of_expiration(at, now));
        built.warnings.extend(warning);
        built
    });
    (built, files)
}

/// Reads a zone whose signatures do not matter.
pub(in crate::loader) fn read_records(
    file: &FileSource,
    hasher: &RandomState,
) -> (Result<Built, Trouble>, Files) {
    let own = Signature::of(&file.place).ok();
    let known = HashSet::from([file.place.clone()]);
    let files = vec![(file.place.clone(), own)];
    let mut collecting = Collecting { builder: None, files, known };
    let text = match read_text(&file.place) {
        Ok(text) => text,
        Err(Failure::Missing) => {
            let text = format!("open {}: no such file or directory", file.label);
            return (Err(Trouble::Unopened(text)), collecting.files);
        }
        Err(failure @ (Failure::Directory | Failure::NoFile)) => {
            let text = format!("{}: zone {}: {failure}", file.label, file.zone);
            return (Err(Trouble::Broken(text)), collecting.files);
        }
        Err(failure) => {
            let text = format!("open {}: {failure}", file.label);
            return (Err(Trouble::Unopened(text)), collecting.files);
        }
    };
    let origin = file.zone.as_wire();
    let mut builder = Builder::new(origin, text.len(), hasher.clone());
    builder.reserve(records_in(&text));
    collecting.builder = Some(builder);
    let parsed = zonefile::read(&file.place, &text, origin, &mut collecting);
    memory::release(text);
    let built = parsed.map_err(|error| broken(file, &error)).and_then(|paths| {
        let Some(builder) = collecting.builder.take() else {
            return Err(Trouble::Broken("no zone".into()));
        };
        builder.finish().map_err(|refused| {
            let Refused { place, what } = refused;
            let place = place.map(|(number, line)| (paths.get(usize::from(number)), line));
            let text = match place.unwrap_or_default() {
                (Some(path), line) => {
                    format!("{}:{line}: zone {}: {what}", label(file, path), file.zone)
                }
                _ => format!("{}: zone {}: {what}", file.label, file.zone),
            };
            Trouble::Broken(text)
        })
    });
    (built, collecting.files)
}

/// Returns the warning about signatures over the SOA record that expire at `at`, both times in 32
/// bits (RFC 1982).
fn warning_of_expiration(at: u32, now: u32) -> Option<String> {
    let left = at.wrapping_sub(now) as i32;
    let mut end = String::new();
    push_time(&mut end, Duration::from_secs(at.into()));
    match left {
        ..=0 => Some(format!("the signature of its SOA record expired at {end}: sign it again")),
        _ if left <= EXPIRY_WARNING => {
            Some(format!("the signature of its SOA record expires at {end}: sign it again"))
        }
        _ => None,
    }
}

/// Returns the approximate number of records in a text: one per line of 8 bytes or more.
fn records_in(text: &[u8]) -> usize {
    let lines = text.iter().filter(|byte| **byte == b'\n').count();
    lines.min(text.len() / 8) + 1
}

/// Returns a file's name for errors; the zone's own file as it is written in the Corefile.
fn label(file: &FileSource, path: &Path) -> String {
    if path == file.place { file.label.clone() } else { without_controls(&path.to_string_lossy()) }
}

fn broken(file: &FileSource, error: &ZoneError) -> Trouble {
    let ZoneError { file: path, line, column, what, near } = error;
    let label = label(file, path);
    let near = if near.is_empty() { String::new() } else { format!(" near \"{near}\"") };
    Trouble::Broken(format!("{label}:{line}:{column}: zone {}: {what}{near}", file.zone))
}

/// Reads a whole file.
fn read_text(path: &Path) -> Result<Vec<u8>, Failure> {
    let file: File = open(path)?;
    let len = usize::try_from(file.metadata()?.len()).unwrap_or(0);
    let mut text = Vec::new();
    if text.try_reserve_exact(len.min(BYTES_MAX as usize) + 1).is_err() {
        return Err(Failure::Unreadable(io::ErrorKind::OutOfMemory.into()));
    }
    file.take(BYTES_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > BYTES_MAX {
        return Err(Failure::Unreadable(io::Error::other("more than 1 GiB")));
    }
    Ok(text)
}

/// Records and files of a zone that is being read.
struct Collecting {
    builder: Option<Builder>,
    files: Files,
    /// The paths of `files`.
    known: HashSet<PathBuf>,
}

impl Consumer for Collecting {
    fn record(&mut self, record: &Record<'_>) -> Result<(), String> {
        let Record { owner, rtype, ttl, data, place } = *record;
        let Some(builder) = &mut self.builder else { return Ok(()) };
        builder.add(owner, rtype, ttl, data, (place.file, place.line))
    }

    fn include(&mut self, file: &Path) -> Result<Vec<u8>, String> {
        let signature = Signature::of(file).ok();
        if self.known.insert(file.to_owned()) {
            self.files.push((file.to_owned(), signature));
        }
        read_text(file).map_err(|failure| format!("{}: {failure}", file.display()))
    }
}
