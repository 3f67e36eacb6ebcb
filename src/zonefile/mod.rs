//! Zone files: from text to records (RFC 1035 §5). PURE.
//!
//! [`read`] parses the text of a zone file and passes each record to its caller, in wire format,
//! with its position. `$ORIGIN`, `$TTL`, `$INCLUDE` and `$GENERATE` ([`generate`]) are executed on
//! the way; the caller supplies included files. Whether the records are a valid zone is decided by
//! `engine::authority`; data of single types are read by [`crate::config::record`]. The first
//! mistake ends the reading with an error that has file, line, column and the expected syntax.
//! Depth, number and size of included files are bounded, and so is the number of generated records.

mod generate;

use crate::config::RecordError;
use crate::config::record::{
    Data, Word, Words, class_of, read_data, read_name, read_period, rtype_of,
};
use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Maximum depth of files that include each other.
const DEPTH_MAX: usize = 7;
/// Maximum number of included files of one zone.
const FILES_MAX: usize = u16::MAX as usize;
/// Maximum bytes of all files of one zone.
const BYTES_MAX: u64 = 4 << 30;
/// Maximum number of records from all `$GENERATE` of a zone.
const GENERATED_MAX: u64 = 1 << 24;
/// The largest TTL (RFC 2181 §8).
const TTL_MAX: u32 = i32::MAX as u32;
/// Maximum bytes of a record's data.
const DATA_MAX: usize = u16::MAX as usize;
/// Maximum bytes of a name in wire format.
const NAME_MAX: usize = 255;
/// Maximum bytes of a word that an error quotes.
const NEAR_MAX: usize = 40;
/// A byte order mark, which some editors write.
const MARK: &[u8] = b"\xef\xbb\xbf";
/// Rtypes NSEC3 and NSEC3PARAM.
const HASHED: [u16; 2] = [50, 51];

/// Position of a record: number of its file, in the order of opening, and its line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The number of the file.
    pub file: u16,
    /// The line, counted from 1.
    pub line: u32,
}

/// One record of class IN.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The owner in wire format, as it was written.
    pub owner: &'a [u8],
    /// The rtype.
    pub rtype: u16,
    /// The TTL in seconds.
    pub ttl: u32,
    /// The data in wire format, uncompressed.
    pub data: &'a [u8],
    /// Position in the file.
    pub place: Place,
}

/// Reason why a zone file cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneError {
    pub(crate) file: PathBuf,
    /// The line, counted from 1.
    pub(crate) line: u32,
    /// The byte of the line, counted from 1.
    pub(crate) column: usize,
    /// The mistake, or the expected syntax.
    pub(crate) what: String,
    /// The word at the mistake; empty at the end of a line.
    pub(crate) near: String,
}

impl fmt::Display for ZoneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, what, near } = self;
        write!(f, "{}:{line}:{column}: {what}", file.display())?;
        if near.is_empty() { Ok(()) } else { write!(f, " near \"{near}\"") }
    }
}

impl std::error::Error for ZoneError {}

/// Receiver of records and supplier of included files.
pub trait Consumer {
    /// Takes a record.
    ///
    /// # Errors
    /// The record cannot be part of the zone.
    fn record(&mut self, record: &Record<'_>) -> Result<(), String>;

    /// Returns the bytes of an included file.
    ///
    /// # Errors
    /// The reason why it cannot be read.
    fn include(&mut self, file: &Path) -> Result<Vec<u8>, String>;
}

/// Reads a zone file. `label`: the file as errors name it; included files are relative to its
/// directory. `origin`: the zone, in wire format. Returns the names of all files, by number.
///
/// # Errors
/// The first mistake.
pub fn read(
    label: &Path,
    text: &[u8],
    origin: &[u8],
    consumer: &mut dyn Consumer,
) -> Result<Vec<PathBuf>, ZoneError> {
    let mut reader = Reader {
        consumer,
        files: Vec::new(),
        bytes: 0,
        generated: 0,
        data: Vec::with_capacity(512),
        line: Vec::new(),
    };
    let mut state = State { origin: origin.to_vec(), ttl: None, is_set: false, owner: Vec::new() };
    reader.file(label, text, &mut state, 0)?;
    Ok(reader.files)
}

/// Mistake within a record, at a byte of its text, counted from 1.
struct Fault {
    column: usize,
    what: Cow<'static, str>,
}

impl From<RecordError> for Fault {
    fn from(RecordError { column, what }: RecordError) -> Self {
        Self { column, what: what.into() }
    }
}

impl Fault {
    fn at(word: &Word<'_>, what: impl Into<Cow<'static, str>>) -> Self {
        Self { column: word.column, what: what.into() }
    }
}

/// A mistake, or an error that has its position already.
enum Stop {
    Fault(Fault),
    Error(ZoneError),
}

impl<T: Into<Fault>> From<T> for Stop {
    fn from(fault: T) -> Self {
        Self::Fault(fault.into())
    }
}

/// Defaults of later records. Those of an included file end with it.
#[derive(Clone)]
struct State {
    origin: Vec<u8>,
    /// TTL of records without one.
    ttl: Option<u32>,
    /// The TTL was set by `$TTL`; otherwise it is that of the last record.
    is_set: bool,
    /// Owner of records without one; empty: there was none yet.
    owner: Vec<u8>,
}

struct Reader<'a> {
    consumer: &'a mut dyn Consumer,
    files: Vec<PathBuf>,
    bytes: u64,
    generated: u64,
    /// Data of the current record.
    data: Vec<u8>,
    /// A line generated by `$GENERATE`.
    line: Vec<u8>,
}

/// The current file.
struct Current<'a> {
    path: &'a Path,
    text: &'a [u8],
    place: Place,
    depth: usize,
}

impl Reader<'_> {
    fn file(
        &mut self,
        path: &Path,
        text: &[u8],
        state: &mut State,
        depth: usize,
    ) -> Result<(), ZoneError> {
        let file = self.files.len() as u16;
        self.files.push(path.to_owned());
        self.bytes += text.len() as u64;
        let mut at = if text.starts_with(MARK) { MARK.len() } else { 0 };
        let mut current = Current { path, text, place: Place { file, line: 1 }, depth };
        while at < text.len() {
            let mut words = Words::of_line(&text[at..]);
            match self.line(&mut words, &current, state) {
                Ok(()) => {}
                Err(Stop::Error(error)) => return Err(error),
                Err(Stop::Fault(fault)) => return Err(error_at(&current, at, &fault)),
            }
            // The end of the line is consumed as well.
            let end = (at + words.place() + 1).min(text.len());
            let lines = text[at..end].iter().filter(|byte| **byte == b'\n').count();
            current.place.line = current.place.line.saturating_add(lines as u32);
            at = end;
        }
        Ok(())
    }

    /// Reads an entry, which is one line, or several joined by parentheses.
    fn line(
        &mut self,
        words: &mut Words<'_>,
        current: &Current<'_>,
        state: &mut State,
    ) -> Result<(), Stop> {
        let Some(first) = words.next()? else { return Ok(()) };
        let has_owner = first.column == 1;
        if has_owner && !first.quoted && first.text.first() == Some(&b'$') {
            return self.directive(&first, words, current, state);
        }
        if has_owner {
            name_into(&first, state)?;
            let word = words.expect("the record ends before its type")?;
            return Ok(self.record(word, words, current.place, state)?);
        }
        if state.owner.is_empty() {
            return Err(Fault::at(&first, "the first record of a file must name its owner").into());
        }
        Ok(self.record(first, words, current.place, state)?)
    }

    /// Reads a record after its owner, which is in the state, from `first` on.
    fn record(
        &mut self,
        first: Word<'_>,
        words: &mut Words<'_>,
        place: Place,
        state: &mut State,
    ) -> Result<(), Fault> {
        let (mut ttl, mut class, mut word) = (None, None, first);
        let rtype = loop {
            if class.is_none()
                && let Some(found) = class_of(&word)
            {
                class = Some(found);
                if found != 1 {
                    return Err(Fault::at(&word, "only records of class IN are supported"));
                }
            } else if ttl.is_none() && word.text.first().is_some_and(u8::is_ascii_digit) {
                ttl = Some(ttl_of(&word)?);
            } else if let Some(rtype) = rtype_of(&word) {
                break rtype;
            } else if ttl.is_none() && read_period(&word).is_ok() {
                ttl = Some(ttl_of(&word)?);
            } else {
                return Err(Fault::at(&word, "expected a TTL, class or record type"));
            }
            word = words.expect("the record ends before its type")?;
        };
        if HASHED.contains(&rtype) {
            return Err(Fault::at(&word, "NSEC3 zone is not supported: sign the zone with NSEC"));
        }
        if rtype == 0 || rtype == 41 || (128..=255).contains(&rtype) {
            return Err(Fault::at(&word, "a zone cannot contain records of this type"));
        }
        if ttl.is_some() && !state.is_set {
            state.ttl = ttl;
        }
        let ttl = ttl.or(state.ttl);
        let ttl = ttl.ok_or_else(|| Fault::at(&word, "missing TTL with no previous value"))?;
        self.data.clear();
        let mut data = Data::new(&mut self.data, DATA_MAX, &state.origin);
        read_data(rtype, words, &mut data)?;
        if let Some(more) = words.next()? {
            return Err(Fault::at(&more, "unexpected word after the end"));
        }
        let record = Record { owner: &state.owner, rtype, ttl, data: &self.data, place };
        self.consumer.record(&record).map_err(|what| Fault::at(&word, what))
    }

    fn directive(
        &mut self,
        name: &Word<'_>,
        words: &mut Words<'_>,
        current: &Current<'_>,
        state: &mut State,
    ) -> Result<(), Stop> {
        match &*name.text.to_ascii_uppercase() {
            b"$ORIGIN" => {
                let word = words.expect("expected a name after $ORIGIN")?;
                state.origin = origin(&word, state)?;
            }
            b"$TTL" => {
                let word = words.expect("expected a TTL after $TTL")?;
                (state.ttl, state.is_set) = (Some(ttl_of(&word)?), true);
            }
            b"$INCLUDE" => return self.include(words, current, state),
            b"$GENERATE" => return Ok(self.generate(words, current, state)?),
            _ => {
                let what = "expected $ORIGIN, $TTL, $INCLUDE or $GENERATE";
                return Err(Fault::at(name, what).into());
            }
        }
        end(words)?;
        Ok(())
    }

    fn include(
        &mut self,
        words: &mut Words<'_>,
        current: &Current<'_>,
        state: &State,
    ) -> Result<(), Stop> {
        let word = words.expect("expected a file after $INCLUDE")?;
        let mut inner = State { owner: Vec::new(), ..state.clone() };
        if let Some(word) = words.next()? {
            inner.origin = origin(&word, state)?;
        }
        end(words)?;
        if current.depth >= DEPTH_MAX {
            let what = format!("$INCLUDE is nested more than {DEPTH_MAX} levels deep");
            return Err(Fault::at(&word, what).into());
        }
        if self.files.len() >= FILES_MAX {
            let what = format!("more than {FILES_MAX} files in a zone");
            return Err(Fault::at(&word, what).into());
        }
        let mut written = Vec::new();
        let mut is_escaped = false;
        for byte in word.text {
            is_escaped = *byte == b'\\' && !is_escaped;
            if !is_escaped {
                written.push(*byte);
            }
        }
        let written = Path::new(OsStr::from_bytes(&written));
        let path = current.path.parent().unwrap_or(Path::new("")).join(written);
        let text = self.consumer.include(&path);
        let text = text.map_err(|what| Fault::at(&word, format!("cannot include: {what}")))?;
        if self.bytes + text.len() as u64 > BYTES_MAX {
            let what = format!("more than {} GiB of text", BYTES_MAX >> 30);
            return Err(Fault::at(&word, what).into());
        }
        self.file(&path, &text, &mut inner, current.depth + 1).map_err(Stop::Error)
    }

    fn generate(
        &mut self,
        words: &mut Words<'_>,
        current: &Current<'_>,
        state: &mut State,
    ) -> Result<(), Fault> {
        let word = words.expect("expected START-STOP after $GENERATE")?;
        let range = generate::range(word.text).map_err(|what| Fault::at(&word, what))?;
        let begin = words.place();
        let mut last = word;
        while let Some(next) = words.next()? {
            last = next;
        }
        let template = words.text(begin);
        if template.iter().all(u8::is_ascii_whitespace) {
            return Err(Fault::at(&last, "expected a name and a record after the range"));
        }
        let mut own = state.clone();
        own.ttl = state.ttl.or(Some(generate::TTL));
        for number in range {
            self.generated += 1;
            if self.generated > GENERATED_MAX {
                let what = format!("more than {GENERATED_MAX} records are generated");
                return Err(Fault::at(&word, what));
            }
            let mut line = std::mem::take(&mut self.line);
            let made = self.generated_record(number, template, &mut line, current.place, &mut own);
            self.line = line;
            // Generated text has no position in the file, so the error is at the directive itself.
            made.map_err(|fault| {
                let what = format!("{} (generated with {number})", fault.what);
                Fault::at(&word, what)
            })?;
        }
        Ok(())
    }

    fn generated_record(
        &mut self,
        number: i64,
        template: &[u8],
        line: &mut Vec<u8>,
        place: Place,
        state: &mut State,
    ) -> Result<(), Fault> {
        generate::line(template, number, line)
            .map_err(|what| Fault { column: 1, what: what.into() })?;
        let mut words = Words::of_line(line);
        let owner = words.expect("expected a name")?;
        name_into(&owner, state)?;
        let first = words.expect("the record ends before its type")?;
        self.record(first, &mut words, place, state)
    }
}

/// Reads the owner of the current and later records.
fn name_into(word: &Word<'_>, state: &mut State) -> Result<(), RecordError> {
    let State { owner, origin, .. } = state;
    owner.clear();
    read_name(word, &mut Data::new(owner, 2 * NAME_MAX, origin))
}

fn origin(word: &Word<'_>, state: &State) -> Result<Vec<u8>, RecordError> {
    let mut name = Vec::new();
    read_name(word, &mut Data::new(&mut name, 2 * NAME_MAX, &state.origin))?;
    Ok(name)
}

fn ttl_of(word: &Word<'_>) -> Result<u32, Fault> {
    let ttl = read_period(word)?;
    if ttl > TTL_MAX {
        return Err(Fault::at(word, format!("a TTL is at most {TTL_MAX}")));
    }
    Ok(ttl)
}

/// Expects the end of the entry.
fn end(words: &mut Words<'_>) -> Result<(), Fault> {
    match words.next()? {
        Some(more) => Err(Fault::at(&more, "unexpected word after the end")),
        None => Ok(()),
    }
}

/// Returns the error of a fault in the record that begins at byte `at`.
fn error_at(current: &Current<'_>, at: usize, fault: &Fault) -> ZoneError {
    let text = current.text;
    let place = (at + fault.column - 1).min(text.len());
    let before = &text[at..place];
    let lines = before.iter().filter(|byte| **byte == b'\n').count();
    let start = text[..place].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let rest = &text[place..];
    let len = rest.iter().take(NEAR_MAX).take_while(|byte| !byte.is_ascii_whitespace()).count();
    ZoneError {
        file: current.path.to_owned(),
        line: current.place.line.saturating_add(lines as u32),
        column: place - start + 1,
        what: fault.what.to_string(),
        near: rest[..len].escape_ascii().to_string(),
    }
}

#[cfg(test)]
mod tests;
