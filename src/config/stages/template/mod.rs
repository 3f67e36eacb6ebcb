//! `template CLASS TYPE [ZONES…] { match RE…; answer|additional|authority TEXT; rcode RCODE;
//! ederror CODE [TEXT]; fallthrough [ZONES…] }`
//!
//! Answers that are written from the query. Several stanzas hold in their order. Texts and patterns
//! are read and compiled here, and a record that no query changes but for its owner is read here
//! once and for all. [`language`] is that of the texts, [`pattern`] that of `match`.

mod language;
mod pattern;
mod reader;

pub(crate) use language::{Part, TEXT_MAX, Text, Value};
pub(crate) use pattern::Pattern;
pub(super) use reader::read;

use super::super::word::{Word, names};
use super::super::{Name, RecordType, rcodes};
use std::fmt;

/// Bytes of the text of an extended error.
pub(crate) const ERROR_TEXT_MAX: usize = 128;

/// Answers for some queries.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Template {
    /// Names at or below these are affected. `None`: all that the server block serves.
    pub(crate) zones: Option<Vec<Name>>,
    /// Queries of this class. `None`: of any.
    pub(crate) class: Option<u16>,
    /// Queries for this type. `None`: for any.
    pub(crate) rtype: Option<RecordType>,
    /// One of these must match the name. Empty: all names do.
    pub(crate) patterns: Vec<Pattern>,
    /// Records of the answer section.
    pub(crate) answers: Vec<TemplateRecord>,
    /// Records of the authority section.
    pub(crate) authorities: Vec<TemplateRecord>,
    /// Records of the additional section.
    pub(crate) additionals: Vec<TemplateRecord>,
    /// The response code.
    pub(crate) rcode: u16,
    /// An extended error and its text.
    pub(crate) error: Option<(u16, String)>,
    /// A name at or below these that no pattern matches goes on; any other fails.
    pub(crate) fallthrough: Vec<Name>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TemplateRecord {
    /// The text that is rendered.
    pub(crate) text: Text,
    /// The record, if no query changes more of it than its owner and class.
    pub(crate) fixed: Option<FixedRecord>,
}

/// A record that is the same for all queries.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FixedRecord {
    /// The owner in wire format. `None`: the name asked for.
    pub(crate) owner: Option<Box<[u8]>>,
    /// The class. `None`: that of the question.
    pub(crate) class: Option<u16>,
    /// The type.
    pub(crate) rtype: u16,
    /// The time to live, in seconds.
    pub(crate) ttl: u32,
    /// The data in wire format.
    pub(crate) data: Box<[u8]>,
}

/// The classes that have a mnemonic.
pub(super) const CLASSES: [(u16, &str); 6] =
    [(1, "IN"), (2, "CS"), (3, "CH"), (4, "HS"), (254, "NONE"), (255, "ANY")];

/// The mnemonic of a class, if it has one.
pub(crate) fn class_mnemonic(class: u16) -> Option<&'static str> {
    CLASSES.iter().find(|(known, _)| *known == class).map(|(_, mnemonic)| *mnemonic)
}

/// Writes them, if there are any.
pub(super) fn write(settings: &[Template], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    settings.iter().try_for_each(|template| write!(f, "{template}"))
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = self.class.map_or(Some("ANY"), class_mnemonic).unwrap_or_default();
        let rtype = self.rtype.unwrap_or(RecordType(255));
        write!(f, "    template {class} {rtype}")?;
        names(f, self.zones.as_deref().unwrap_or_default())?;
        writeln!(f, " {{")?;
        for Pattern { source, .. } in &self.patterns {
            writeln!(f, "        match {}", Word(source))?;
        }
        let sections = [
            ("answer", &self.answers),
            ("additional", &self.additionals),
            ("authority", &self.authorities),
        ];
        for (section, records) in sections {
            for TemplateRecord { text, .. } in records {
                writeln!(f, "        {section} {}", Word(&text.source))?;
            }
        }
        let rcode = rcodes::rcode_name(self.rcode).unwrap_or_default();
        writeln!(f, "        rcode {rcode}")?;
        if let Some((code, text)) = &self.error {
            let text = if text.is_empty() { String::new() } else { format!(" {}", Word(text)) };
            writeln!(f, "        ederror {code}{text}")?;
        }
        if !self.fallthrough.is_empty() {
            write!(f, "        fallthrough")?;
            names(f, &self.fallthrough)?;
            writeln!(f)?;
        }
        writeln!(f, "    }}")
    }
}
