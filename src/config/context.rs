//! Surroundings of a directive while it is read.
//!
//! A reader takes words from a cursor and returns the settings that they mean. Besides the words,
//! it depends on the host, on two directives that are read before all others of the server block
//! (`root` and `metadata`), and on what it notes for the operator: warnings, and features that
//! onward lacks. [`Context`] holds these, so that a directive can be read, and tested, alone.

#[cfg(test)]
use super::error::DirectiveError;
use super::{ConfigError, Host, Name};
use crate::corefile::{Cursor, Place, Token, WARNINGS_MAX, Warning};
use std::fmt;

/// Zones of all keys and exceptions. One word can stand for 128 of them: see [`Notes`].
const ZONES_MAX: usize = 1_000_000;

/// Surroundings of one directive of one server block.
pub(super) struct Context<'a> {
    pub(super) host: &'a Host,
    /// Base of relative paths, as `root` of the server block names it.
    pub(super) root: Option<&'a str>,
    /// Zones of `metadata`; the inner `None`: those of the server block. `None`: the block has no
    /// `metadata`, and no label is set.
    pub(super) labelled: Option<Option<&'a [Name]>>,
    /// Directive that is read, for warnings of readers that several directives share.
    pub(super) plugin: &'static str,
    notes: &'a mut Notes,
}

/// Notes about a whole configuration, collected while it is read.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) warnings: Vec<Warning>,
    /// Errors that do not keep the rest from being read: features that are missing here.
    pub(super) missing: Vec<ConfigError>,
    /// True if a directive of the current server block reads a label of `metadata`.
    pub(super) reads_labels: bool,
    /// Number of zones so far.
    zones: usize,
}

impl Notes {
    /// Notes that begin with those of the parser.
    pub(super) fn new(warnings: Vec<Warning>, missing: Vec<ConfigError>) -> Self {
        Self { warnings, missing, ..Self::default() }
    }

    /// Notes a warning about `place`.
    pub(super) fn warn(&mut self, place: &Place, message: impl Into<String>) {
        if self.warnings.len() <= WARNINGS_MAX {
            self.warnings.push(Warning { place: place.clone(), message: message.into() });
        }
    }

    /// Notes an error of a missing feature.
    pub(super) fn miss(&mut self, error: ConfigError) {
        if self.missing.len() < WARNINGS_MAX {
            self.missing.push(error);
        }
    }
}

impl<'a> Context<'a> {
    /// Context of a server block without `root` and `metadata`.
    pub(super) fn new(host: &'a Host, notes: &'a mut Notes) -> Self {
        Self { host, root: None, labelled: None, plugin: "", notes }
    }

    /// Notes a warning about `place`.
    pub(super) fn warn(&mut self, place: &Place, message: impl Into<String>) {
        self.notes.warn(place, message);
    }

    /// Notes a warning about `place` in the name of the directive that is read.
    pub(super) fn warn_of_plugin(&mut self, place: &Place, message: impl fmt::Display) {
        self.warn(place, format!("plugin/{}: {message}", self.plugin));
    }

    /// Notes that onward lacks `feature`, which `token` asks for. The configuration is refused
    /// when all of it has been read.
    pub(super) fn lacks(&mut self, token: &Token, feature: impl Into<String>) {
        let place = token.place.clone();
        self.notes.miss(ConfigError::NotBuilt { place, what: feature.into() });
    }

    /// Notes that a directive of the server block reads a label.
    pub(super) fn read_label(&mut self) {
        self.notes.reads_labels = true;
    }

    /// Counts further zones.
    ///
    /// # Errors
    /// Message for the operator if there are too many, because short words can stand for many.
    pub(super) fn count_zones(&mut self, more: usize) -> Result<(), String> {
        self.notes.zones += more;
        if self.notes.zones > ZONES_MAX {
            return Err(format!("more than {ZONES_MAX} zones, counting the zones of networks"));
        }
        Ok(())
    }

    /// Returns the word that the next stanza of `directive` begins with, and warns if it is another
    /// word than `directive`, because words that a stanza leaves unread are read as the next one.
    pub(super) fn stanza<'b>(
        &mut self,
        directive: &str,
        cursor: &mut Cursor<'b>,
    ) -> Option<&'b Token> {
        let stanza = cursor.stanza()?;
        let word = &*stanza.text;
        // A name that a variable holds is kept as it was written.
        if word != directive && !word.contains("{$") && !word.contains("{%") {
            let message = format!("'{word}' is read as the start of another '{directive}'");
            self.warn(&stanza.place, message);
        }
        Some(stanza)
    }

    /// Warns that the stanza at `place` replaces an earlier one, if there is one.
    pub(super) fn warn_of_earlier(&mut self, directive: &str, is_second: bool, place: &Place) {
        if is_second {
            let message = format!("plugin/{directive}: written twice: the last one applies");
            self.warn(place, message);
        }
    }
}

/// Reads one directive alone, on a plain host: `text` is what a server block has of it. Returns the
/// settings, or the error, and the warnings.
#[cfg(test)]
pub(super) fn read_alone<T>(
    text: &str,
    read: impl FnOnce(&mut Cursor<'_>, &mut Context<'_>) -> Result<T, DirectiveError>,
) -> (Result<T, String>, Vec<String>) {
    let (host, mut notes) = (Host::plain(), Notes::default());
    let text = format!(". {{\n{text}\n}}\n");
    let corefile = crate::corefile::parse(text.as_bytes(), "f", &host.sources).unwrap();
    let stanzas = &corefile.blocks[0].directives[0];
    let read = read(&mut Cursor::new(&stanzas.tokens), &mut Context::new(&host, &mut notes));
    let read = read.map_err(|error| error.about(stanzas.name).to_string());
    (read, notes.warnings.into_iter().map(|warning| warning.message).collect())
}
