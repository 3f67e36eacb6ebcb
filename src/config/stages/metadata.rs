//! `metadata [ZONES...]`
//!
//! Labels are facts about a query besides its message: `{/LABEL}` in formats of `log` and `dnstap`,
//! and `metadata('LABEL')` in expressions of `view`. Nothing is collected in advance: each reader
//! of a label computes its value. ZONES only affect `view/name`, which the reference collects.

use super::super::Name;
use super::super::context::Context;
use super::super::error::DirectiveError;
use super::super::keys;
use super::super::word::names;
use crate::corefile::{Cursor, Place, did_you_mean};
use std::fmt;

/// Labels that are set: the last upstream that was asked, the class and the type of the reply, and
/// the view.
pub(in super::super) const LABELS: [&str; 4] =
    ["forward/upstream", "log/class", "log/type", "view/name"];

/// Names whose labels are set.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Metadata {
    /// Names at or below these. `None`: those of the block.
    pub(crate) zones: Option<Vec<Name>>,
}

/// Reads the `metadata` stanza of one server block.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Option<Metadata>, DirectiveError> {
    if context.stanza("metadata", cursor).is_none() {
        return Ok(None);
    }
    let words = cursor.rest();
    let mut zones = Vec::new();
    for word in &words {
        match keys::parse(&word.text) {
            Ok(zone) => {
                context
                    .count_zones(zone.names.len())
                    .map_err(|message| DirectiveError::value(word, message))?;
                zones.extend(zone.names);
            }
            Err(reason) => {
                context.warn(&word.place, format!("plugin/metadata: zone is ignored: {reason}"));
            }
        }
    }
    if cursor.block().is_some() || cursor.stanza().is_some() {
        return Err(cursor.argument_error().into());
    }
    Ok(Some(Metadata { zones: (!words.is_empty()).then_some(zones) }))
}

/// Warns of labels in a format, which is written at `place`, that are never set.
pub(super) fn look_at(format: &str, place: &Place, context: &mut Context<'_>) {
    for rest in format.split("{/").skip(1) {
        let Some((label, _)) = rest.split_once('}') else { continue };
        let why = match (LABELS.contains(&label), context.labelled) {
            (true, Some(_)) => {
                context.read_label();
                continue;
            }
            (true, None) => "is set only with the directive 'metadata'".to_owned(),
            (false, _) => format!("is set by no directive{}", did_you_mean(label, LABELS)),
        };
        let message = format!("label '{{/{label}}}' {why}: '-' is written instead");
        context.warn(place, message);
    }
}

/// Writes the directive, if the server block has it.
pub(super) fn write(settings: &Option<Metadata>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some(Metadata { zones }) = settings else { return Ok(()) };
    write!(f, "    metadata")?;
    if let Some(zones) = zones {
        if zones.is_empty() {
            // No name: the language has no shorter way to say that.
            write!(f, " ..")?;
        }
        names(f, zones)?;
    }
    writeln!(f)
}
