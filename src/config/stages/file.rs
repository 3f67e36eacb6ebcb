//! `file DBFILE [ZONES...] { reload DURATION; reload_by_mtime; fallthrough [ZONES...];
//! upstream ... }`
//!
//! Zones that are answered from zone files. A loader reads the files, and again when they change;
//! here they are only named. The options of a stanza apply to that stanza; in the reference some
//! carry over to later stanzas. If several stanzas name a zone, the last one applies.

use super::super::context::Context;
use super::super::error::DirectiveError;
use super::super::word::{self, Word};
use super::super::{Name, duration, keys, lints};
use crate::corefile::{Cursor, ParseError, Token, did_you_mean};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Default interval of checks for a changed file.
pub(super) const RELOAD: Duration = Duration::from_secs(60);
const OPTIONS: [&str; 4] = ["reload", "reload_by_mtime", "fallthrough", "upstream"];

/// Zones that are answered from one file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ZoneFile {
    /// The file, as it is written.
    pub(crate) path: String,
    /// The zones, each read from the file for itself. `None`: all that the server block serves.
    pub(crate) zones: Option<Vec<Name>>,
    /// Interval of checks for a changed file. `None`: off.
    pub(crate) reload: Option<Duration>,
    /// Names at or below these that do not exist go on. `None`: none does.
    pub(crate) fallthrough: Option<Vec<Name>>,
    /// The file as errors name it.
    pub(crate) label: String,
    /// Path of the file.
    pub(crate) place: PathBuf,
    /// Place of the stanza.
    pub(crate) written: Written,
}

/// Place of a stanza in the Corefile, for messages. It is no part of the configuration: two that
/// differ in nothing else are equal.
#[derive(Clone, Debug, Default)]
pub struct Written(pub String);

impl PartialEq for Written {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Written {}

impl Hash for Written {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// Reads all `file` stanzas of one server block.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Vec<ZoneFile>, DirectiveError> {
    let mut files = Vec::new();
    while let Some(stanza) = context.stanza("file", cursor) {
        let file = cursor.expect_arg()?;
        let words = cursor.rest();
        let zones = zones("file", &words, context)?;
        let root = context.root.unwrap_or_default();
        let mut read = ZoneFile {
            path: file.text.to_string(),
            zones: (!words.is_empty()).then_some(zones),
            reload: Some(RELOAD),
            fallthrough: None,
            label: Path::new(root).join(&*file.text).to_string_lossy().into_owned(),
            place: context.host.sources.working_directory.join(root).join(&*file.text),
            written: Written(stanza.place.to_string()),
        };
        while let Some(property) = cursor.block() {
            match &*property.text {
                "reload" => read.reload = reload(property, cursor)?,
                // Every change of a file is noticed, even if the serial stays.
                "reload_by_mtime" | "upstream" => drop(cursor.rest()),
                "fallthrough" => read.fallthrough = Some(fallthrough("file", cursor, context)?),
                other => {
                    let suggestion = did_you_mean(other, OPTIONS);
                    let message = format!("unknown property '{other}'{suggestion}");
                    return Err(ParseError::at(property, message).into());
                }
            }
        }
        files.push(read);
    }
    Ok(files)
}

/// The zones that `words` of a directive name.
pub(super) fn zones(
    directive: &str,
    words: &[&Token],
    context: &mut Context<'_>,
) -> Result<Vec<Name>, DirectiveError> {
    let mut zones = Vec::new();
    for word in words {
        let zone = keys::parse(&word.text).map_err(|reason| DirectiveError::value(word, reason))?;
        context
            .count_zones(zone.names.len())
            .map_err(|message| DirectiveError::value(word, message))?;
        if let Some(hint) = lints::of_exception(&word.text, &zone, false) {
            let message = format!("plugin/{directive}: zone '{}': {hint}", word.text);
            context.warn(&word.place, message);
        }
        zones.extend(zone.names);
    }
    Ok(zones)
}

/// Reads the zones behind `fallthrough`; none are all.
pub(super) fn fallthrough(
    directive: &str,
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Vec<Name>, DirectiveError> {
    let words = cursor.rest();
    let all = words.is_empty().then(Name::root);
    Ok(zones(directive, &words, context)?.into_iter().chain(all).collect())
}

/// Reads the interval behind `reload`; further words have no meaning.
pub(super) fn reload(
    property: &Token,
    cursor: &mut Cursor<'_>,
) -> Result<Option<Duration>, DirectiveError> {
    let Some(&word) = cursor.rest().first() else {
        return Err(DirectiveError::value(property, "reload duration value is expected"));
    };
    let nanos =
        duration::parse(&word.text).map_err(|message| DirectiveError::value(word, message))?;
    let nanos = u64::try_from(nanos);
    let nanos =
        nanos.map_err(|_| DirectiveError::value(word, "invalid duration: expected 0 or more"))?;
    Ok((nanos > 0).then_some(Duration::from_nanos(nanos)))
}

/// Writes the interval of `reload`.
pub(super) fn write_reload(f: &mut fmt::Formatter<'_>, reload: Option<Duration>) -> fmt::Result {
    let nanos = reload.map_or(0, |reload| i64::try_from(reload.as_nanos()).unwrap_or(i64::MAX));
    writeln!(f, "        reload {}", duration::show(nanos))
}

/// Writes `fallthrough` and its zones, if the stanza has it.
pub(super) fn write_fallthrough(f: &mut fmt::Formatter<'_>, zones: Option<&[Name]>) -> fmt::Result {
    let Some(zones) = zones else { return Ok(()) };
    write!(f, "        fallthrough")?;
    word::names(f, zones)?;
    writeln!(f)
}

/// Writes the stanzas of the directive.
pub(super) fn write(settings: &[ZoneFile], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    settings.iter().try_for_each(|file| write!(f, "{file}"))
}

impl fmt::Display for ZoneFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "    file {}", Word(&self.path))?;
        self.zones.iter().try_for_each(|zones| word::names(f, zones))?;
        writeln!(f, " {{")?;
        write_reload(f, self.reload)?;
        write_fallthrough(f, self.fallthrough.as_deref())?;
        writeln!(f, "    }}")
    }
}
