//! `auto [ZONES...] { directory DIR [REGEXP ORIGIN]; reload DURATION; fallthrough [ZONES...];
//! upstream ... }`
//!
//! Zones that are answered from the files of a directory. Of a server block's stanzas the last one
//! applies. The base name of a file, matched by REGEXP, gives the zone's name by way of ORIGIN;
//! directories are read by a loader. Without `directory` it serves no zone, in the reference
//! either: it is read, and has no effect.

use super::super::context::Context;
use super::super::error::DirectiveError;
use super::super::word::{self, Word};
use super::super::{Name, Written};
use super::{Pattern, Settings, file};
use crate::corefile::{Cursor, ParseError, Token, did_you_mean};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const OPTIONS: [&str; 4] = ["directory", "reload", "fallthrough", "upstream"];
/// Characters of a REGEXP.
const PATTERN_MAX: usize = 10_000;
/// Default REGEXP. The reference's is not bound to the beginning and the end of a file's name.
const PATTERN: &str = r"^db\.(.*)$";
/// Default ORIGIN.
const ORIGIN: &str = "{1}";

/// The stanza of a server block that applies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Auto {
    /// The server block has no stanza.
    #[default]
    Absent,
    /// The stanza has no directory, and so no effect.
    Bare,
    /// Zones are answered from the files of a directory.
    Zones(Box<AutoZones>),
}

/// Zones that are answered from the files of a directory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AutoZones {
    /// Names that are answered. `None`: all that the server block serves.
    pub(crate) zones: Option<Vec<Name>>,
    pub(crate) directory: ZoneDirectory,
    /// Interval of checks for changed files. `None`: off.
    pub(crate) reload: Option<Duration>,
    /// Names at or below these that do not exist go on. `None`: none does.
    pub(crate) fallthrough: Option<Vec<Name>>,
    /// Place of the stanza.
    pub(crate) written: Written,
}

/// A directory with zone files.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ZoneDirectory {
    /// The directory, as it is written.
    pub(crate) path: String,
    /// The directory as errors name it.
    pub label: String,
    /// Path of the directory.
    pub(crate) place: PathBuf,
    /// The zones that its files have.
    pub naming: ZoneNaming,
}

/// Zones' names made of files' names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ZoneNaming {
    /// Pattern of base names.
    pattern: Pattern,
    /// The template as it is written.
    template: String,
    /// The same in parts.
    parts: Vec<Part>,
}

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Part {
    Text(String),
    /// The text that the group with this number has matched.
    Group(usize),
}

impl Settings for Auto {
    fn answers(&self) -> bool {
        self.zones().is_some()
    }
}

impl Auto {
    /// The zones, if there is a directory.
    pub(crate) fn zones(&self) -> Option<&AutoZones> {
        match self {
            Self::Absent | Self::Bare => None,
            Self::Zones(zones) => Some(zones),
        }
    }
}

impl ZoneNaming {
    fn parse(pattern: Pattern, template: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = template;
        while let Some(begin) = rest.find('{') {
            let Some(len) = rest[begin..].find('}') else {
                return Err(format!("'}}' is missing in '{template}'"));
            };
            let text = &rest[..begin];
            let name = &rest[begin + 1..begin + len];
            let Some(group) = pattern.group(name) else {
                return Err(format!("'{template}': {} has no group '{name}'", pattern.source));
            };
            // `${1}` is the same as `{1}`.
            parts.push(Part::Text(text.strip_suffix('$').unwrap_or(text).to_owned()));
            parts.push(Part::Group(group));
            rest = &rest[begin + len + 1..];
        }
        parts.push(Part::Text(rest.to_owned()));
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        Ok(Self { pattern, template: template.to_owned(), parts })
    }

    /// Returns the zone of a file with this base name. `None`: the file is no zone file.
    ///
    /// # Errors
    /// The name that comes of it is no domain name.
    pub fn zone_of(&self, base: &[u8]) -> Option<Result<Name, String>> {
        let found = self.pattern.regex.captures(base)?;
        let mut made = Vec::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => made.extend(text.bytes()),
                Part::Group(group) => {
                    let matched = found.get(*group);
                    made.extend(matched.map(|matched| matched.as_bytes()).unwrap_or_default());
                }
            }
        }
        let Ok(text) = std::str::from_utf8(&made) else {
            return Some(Err(format!("'{}' is no domain name", made.escape_ascii())));
        };
        let name = Name::parse(text);
        let text = text.escape_debug();
        Some(name.map_err(|error| format!("'{text}' is not a valid domain name: {error}")))
    }

    /// Returns true if a file with this base name has no zone here, but one in the reference.
    pub(crate) fn is_only_in_reference(&self, base: &[u8]) -> bool {
        let is_default = self.pattern.source == PATTERN;
        is_default && !base.starts_with(b"db.") && base.windows(3).any(|part| part == b"db.")
    }
}

/// Reads all `auto` stanzas of one server block.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Auto, DirectiveError> {
    let mut auto = Auto::Absent;
    while let Some(stanza) = context.stanza("auto", cursor) {
        let is_second = auto != Auto::Absent;
        context.warn_of_earlier("auto", is_second, &stanza.place);
        let words = cursor.rest();
        let zones = file::zones("auto", &words, context)?;
        let zones = (!words.is_empty()).then_some(zones);
        let (mut directory, mut reload, mut fallthrough) = (None, Some(file::RELOAD), None);
        while let Some(property) = cursor.block() {
            match &*property.text {
                "directory" => directory = Some(read_directory(cursor, context)?),
                "reload" => reload = file::reload(property, cursor)?,
                "fallthrough" => fallthrough = Some(file::fallthrough("auto", cursor, context)?),
                "upstream" => drop(cursor.rest()),
                other => {
                    let suggestion = did_you_mean(other, OPTIONS);
                    let message = format!("unknown property '{other}'{suggestion}");
                    return Err(ParseError::at(property, message).into());
                }
            }
        }
        let Some(directory) = directory else {
            let message = "plugin/auto: no effect: without 'directory' there is no zone to serve; \
                           leave it out";
            context.warn(&stanza.place, message);
            auto = Auto::Bare;
            continue;
        };
        let written = Written(stanza.place.to_string());
        auto = Auto::Zones(Box::new(AutoZones { zones, directory, reload, fallthrough, written }));
    }
    Ok(auto)
}

/// Reads `DIR [REGEXP ORIGIN]`.
fn read_directory(
    cursor: &mut Cursor<'_>,
    context: &Context<'_>,
) -> Result<ZoneDirectory, DirectiveError> {
    let path = cursor.expect_arg()?;
    let naming = match cursor.arg() {
        None => naming(path, PATTERN, path, ORIGIN)?,
        Some(pattern) => {
            let template = cursor.expect_arg()?;
            naming(pattern, &pattern.text, template, &template.text)?
        }
    };
    cursor.expect_no_arg()?;
    let root = context.root.unwrap_or_default();
    Ok(ZoneDirectory {
        path: path.text.to_string(),
        label: Path::new(root).join(&*path.text).to_string_lossy().into_owned(),
        place: context.host.sources.working_directory.join(root).join(&*path.text),
        naming,
    })
}

/// Reads REGEXP and ORIGIN, which stand at these words.
fn naming(
    pattern_word: &Token,
    pattern: &str,
    template_word: &Token,
    template: &str,
) -> Result<ZoneNaming, DirectiveError> {
    if pattern.chars().count() > PATTERN_MAX {
        return Err(ParseError::at(pattern_word, "regexp too large").into());
    }
    let pattern = Pattern::parse(pattern);
    let pattern = pattern.map_err(|message| DirectiveError::value(pattern_word, message))?;
    if pattern.regex.captures_len() < 2 {
        return Err(ParseError::at(pattern_word, "Need at least one sub expression").into());
    }
    ZoneNaming::parse(pattern, template)
        .map_err(|message| DirectiveError::value(template_word, message))
}

/// Writes the directive, if the server block has it.
pub(super) fn write(settings: &Auto, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match settings {
        Auto::Absent => Ok(()),
        Auto::Bare => writeln!(f, "    auto"),
        Auto::Zones(zones) => write!(f, "{zones}"),
    }
}

impl fmt::Display for AutoZones {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ZoneDirectory { path, naming: ZoneNaming { pattern, template, .. }, .. } =
            &self.directory;
        write!(f, "    auto")?;
        self.zones.iter().try_for_each(|zones| word::names(f, zones))?;
        writeln!(f, " {{")?;
        let (pattern, template) = (Word(&pattern.source), Word(template));
        writeln!(f, "        directory {} {pattern} {template}", Word(path))?;
        file::write_reload(f, self.reload)?;
        file::write_fallthrough(f, self.fallthrough.as_deref())?;
        writeln!(f, "    }}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::Pattern;
    use super::{ORIGIN, PATTERN, ZoneNaming};

    fn naming(pattern: &str, template: &str) -> Result<ZoneNaming, String> {
        ZoneNaming::parse(Pattern::parse(pattern).unwrap(), template)
    }

    #[test]
    fn a_files_name_gives_the_zones_name() {
        for (pattern, template, base, zone) in [
            (PATTERN, ORIGIN, "db.Example.ORG", "example.org."),
            (PATTERN, ORIGIN, "db.example.org.", "example.org."),
            (PATTERN, ORIGIN, "db..", "."),
            (r"db\.(.*)", "{1}", "xdb.e.test", "e.test."),
            (r"^(.*)\.zone$", "${1}.test", "a.zone", "a.test."),
            (r"^(.)-(?P<rest>.*)$", "{rest}.{1}.{2}", "a-b", "b.a.b."),
        ] {
            let naming = naming(pattern, template).unwrap();
            let found = naming.zone_of(base.as_bytes()).unwrap().unwrap();
            assert_eq!(found.to_string(), zone, "{base}");
        }
    }

    #[test]
    fn a_file_without_a_zone_is_none_and_a_bad_name_an_error() {
        let naming = naming(PATTERN, ORIGIN).unwrap();
        for base in ["xdb.e.test", "db", "README", ".db.e.test.swp"] {
            assert!(naming.zone_of(base.as_bytes()).is_none(), "{base}");
        }
        for base in [&b"db.a..b"[..], b"db.", b"db.\xff"] {
            assert!(naming.zone_of(base).unwrap().is_err(), "{}", base.escape_ascii());
        }
        assert!(naming.is_only_in_reference(b"xdb.e.test"));
        assert!(!naming.is_only_in_reference(b"db.e.test"));
        assert!(!naming.is_only_in_reference(b"readme"));
    }

    #[test]
    fn control_characters_of_a_bad_name_are_escaped() {
        let naming = naming(r"(?s)^db\.(.*)$", ORIGIN).unwrap();
        let error = naming.zone_of(b"db.a..\n[ERROR] \x1b[2J").unwrap().unwrap_err();
        assert!(error.starts_with("'a..\\n[ERROR] \\u{1b}[2J' is not a valid"), "{error}");
    }

    #[test]
    fn a_template_names_groups_that_there_are() {
        for template in ["{2}", "{", "{}", "{name}", "a{1"] {
            assert!(naming(PATTERN, template).is_err(), "{template}");
        }
    }
}
