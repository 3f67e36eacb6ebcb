//! `sign DBFILE [ZONES...] { key file KEY...; directory DIR; reload DURATION }`
//!
//! Zone files that are signed: each zone of DBFILE, with the keys of that zone, into a file of its
//! own in DIR. A loader reads, signs and writes; here the files are only named, apart from the
//! keys, which are read with the configuration. The signed files are served by `file` or `auto`, of
//! this server or another. Without a key the directive is accepted and has no effect, as in the
//! reference. `reload` is the interval of checks for a changed DBFILE; the reference has none.

use super::super::context::Context;
use super::super::error::DirectiveError;
use super::super::word::{self, Word};
use super::super::{Name, SigningKey, Written, dnskey};
use super::dnssec::KEYS_MAX;
use super::{StateDirectory, file};
use crate::corefile::{Cursor, ParseError, Token, did_you_mean};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Default DIR, that of the reference.
const DIRECTORY: &str = "/var/lib/coredns";
const OPTIONS: [&str; 3] = ["key", "directory", "reload"];

/// Zones that are signed from one file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sign {
    /// The file, as it is written.
    pub(crate) path: String,
    /// The zones, each read from the file for itself. `None`: all that the server block serves.
    pub(crate) zones: Option<Vec<Name>>,
    /// The keys, of all zones; if there are none, nothing is signed.
    pub(crate) keys: Vec<SigningKey>,
    /// Directory of the signed files.
    pub(crate) directory: StateDirectory,
    /// Interval of checks for a changed file. `None`: off.
    pub(crate) reload: Option<Duration>,
    /// The file as errors name it.
    pub(crate) label: String,
    /// Path of the file.
    pub(crate) place: PathBuf,
    /// Place of the stanza.
    pub(crate) written: Written,
}

/// Reads all `sign` stanzas of one server block.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Vec<Sign>, DirectiveError> {
    let mut stanzas = Vec::new();
    while let Some(stanza) = context.stanza("sign", cursor) {
        let file = cursor.expect_arg()?;
        let words = cursor.rest();
        let zones = file::zones("sign", &words, context)?;
        let root = context.root.unwrap_or_default();
        let mut read = Sign {
            path: file.text.to_string(),
            zones: (!words.is_empty()).then_some(zones),
            keys: Vec::new(),
            directory: StateDirectory::new(DIRECTORY, context),
            reload: Some(file::RELOAD),
            label: Path::new(root).join(&*file.text).to_string_lossy().into_owned(),
            place: context.host.sources.working_directory.join(root).join(&*file.text),
            written: Written(stanza.place.to_string()),
        };
        while let Some(property) = cursor.block() {
            match &*property.text {
                "key" => keys(cursor, context, &mut read.keys)?,
                "directory" => {
                    let word = cursor.expect_arg()?;
                    if let Some(more) = cursor.arg() {
                        let message = "can only be one argument after \"directory\"";
                        return Err(DirectiveError::value(more, message));
                    }
                    read.directory = StateDirectory::new(&word.text, context);
                }
                "reload" => read.reload = file::reload(property, cursor)?,
                other => {
                    let suggestion = did_you_mean(other, OPTIONS);
                    let message = format!("unknown property '{other}'{suggestion}");
                    return Err(ParseError::at(property, message).into());
                }
            }
        }
        if read.keys.is_empty() {
            let message = "plugin/sign: no effect: without 'key' nothing can be signed";
            context.warn(&stanza.place, message);
        }
        stanzas.push(read);
    }
    Ok(stanzas)
}

/// Reads `file KEY...` behind `key`.
fn keys(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
    keys: &mut Vec<SigningKey>,
) -> Result<(), DirectiveError> {
    let source = cursor.expect_arg()?;
    match &*source.text {
        "file" => {}
        "directory" => {
            let message = "directory: not implemented: name the keys with 'key file'";
            return Err(DirectiveError::value(source, message));
        }
        other => {
            let suggestion = did_you_mean(other, ["file"]);
            let message = format!("unknown property '{other}'{suggestion}");
            return Err(ParseError::at(source, message).into());
        }
    }
    cursor.expect_rest()?.into_iter().try_for_each(|word| add(word, context, keys))
}

fn add(
    word: &Token,
    context: &mut Context<'_>,
    keys: &mut Vec<SigningKey>,
) -> Result<(), DirectiveError> {
    let key = dnskey::read("sign", word, context)?;
    if keys.iter().any(|other| (&other.public, &other.owner) == (&key.public, &key.owner)) {
        return Err(DirectiveError::value(word, format!("key '{key}' is written twice")));
    }
    if keys.iter().filter(|other| other.owner == key.owner).count() >= KEYS_MAX {
        let message =
            format!("more than {KEYS_MAX} keys of a zone: each of them signs every RRset");
        return Err(DirectiveError::value(word, message));
    }
    keys.push(key);
    Ok(())
}

/// Writes the stanzas of the directive.
pub(super) fn write(settings: &[Sign], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    settings.iter().try_for_each(|sign| write!(f, "{sign}"))
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "    sign {}", Word(&self.path))?;
        self.zones.iter().try_for_each(|zones| word::names(f, zones))?;
        writeln!(f, " {{")?;
        self.keys.iter().try_for_each(|key| writeln!(f, "        key file {}", Word(&key.path)))?;
        writeln!(f, "        directory {}", Word(&self.directory.path))?;
        file::write_reload(f, self.reload)?;
        writeln!(f, "    }}")
    }
}
