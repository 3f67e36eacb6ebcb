//! A query's log line: in the format of its rule, or as a JSON object.
//!
//! A format is parsed once for each generation of the configuration. Text in braces that is no
//! placeholder is literal, and so are stray braces, as in the reference.

use super::fields::{self, Field};
use super::interfaces::Interfaces;
use crate::config::{Name, PRESENTATION, Stages, TEXT_LEN_MAX, spell};
use crate::engine::journal::Record;
use crate::engine::zones::LowercaseName;
use crate::log::{Level, begin_json, quote};
use std::time::Duration;

const COMMON: &str = "{remote}:{port} - {>id} \"{type} {class} {name} {proto} {size} {>do} \
                      {>bufsize}\" {rcode} {>rflags} {rsize} {duration}";
/// Additional part of `{combined}`.
const OPCODE: &str = " \"{>opcode}\"";

/// A piece of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Field(Field),
    /// The name of the view, for QNAMEs at or below these names.
    View(Box<[Name]>, Box<str>),
}

/// Format of a rule's lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pattern {
    pieces: Vec<Piece>,
}

impl Pattern {
    /// Parses a format, for a server block with these directives.
    pub(super) fn new(format: &str, stages: &Stages) -> Self {
        let labelled = stages.metadata.is_some();
        let format = format.replace("{common}", COMMON);
        let format = format.replace("{combined}", &(COMMON.to_owned() + OPCODE));
        let mut pattern = Self::default();
        let mut rest = &format[..];
        while let Some(end) = rest.find('}') {
            let start = rest[..end].rfind('{');
            let word = start.map_or("", |start| &rest[start + 1..end]);
            match start.zip(Field::of(word, labelled)) {
                Some((start, field)) => {
                    pattern.add_text(&rest[..start]);
                    match view(stages).filter(|_| word == "/view/name") {
                        Some(Piece::Text(name)) => pattern.add_text(&name),
                        Some(piece) => pattern.pieces.push(piece),
                        None => pattern.pieces.push(Piece::Field(field)),
                    }
                }
                None => pattern.add_text(&rest[..=end]),
            }
            rest = &rest[end + 1..];
        }
        pattern.add_text(rest);
        pattern
    }

    fn add_text(&mut self, text: &str) {
        match self.pieces.last_mut() {
            _ if text.is_empty() => {}
            Some(Piece::Text(before)) => *before = format!("{before}{text}").into(),
            _ => self.pieces.push(Piece::Text(text.into())),
        }
    }

    /// Appends the line of `record`, whose name is `name`.
    pub(super) fn push(
        &self,
        out: &mut String,
        record: &Record,
        name: &[u8],
        interfaces: &mut Interfaces,
    ) {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Field(field) => field.push(out, record, name, interfaces),
                Piece::View(zones, view) => {
                    let name = LowercaseName::new(name);
                    let is_set = zones.iter().any(|zone| name.is_within(zone.as_wire()));
                    out.push_str(if is_set { view } else { fields::NOTHING });
                }
            }
        }
    }
}

/// Returns the label of the view for a server block with these directives, if it is ever set.
fn view(stages: &Stages) -> Option<Piece> {
    let (metadata, view) = (stages.metadata.as_ref()?, stages.view.as_ref()?);
    let name = view.name.as_str().into();
    Some(match &metadata.zones {
        None => Piece::Text(name),
        Some(zones) => Piece::View(zones.clone().into(), name),
    })
}

/// Appends a query's line of text.
pub(super) fn push_text(
    out: &mut String,
    pattern: &Pattern,
    record: &Record,
    name: &[u8],
    interfaces: &mut Interfaces,
) {
    out.push_str("[INFO] ");
    pattern.push(out, record, name, interfaces);
    out.push('\n');
}

/// Appends a query's JSON object. `time`: of its end, since 1970.
pub(super) fn push_json(
    out: &mut String,
    time: Duration,
    record: &Record,
    name: &[u8],
    interfaces: &mut Interfaces,
) {
    begin_json(out, time, Level::Info, "plugin/log", "query");
    let number = |out: &mut String, key: &str, number: u64| {
        out.push_str(key);
        fields::push_number(out, number);
    };
    let asking = &record.asking;
    if let Some(peer) = asking.peer {
        out.push_str(",\"client\":");
        match (peer.ip(), interfaces.of(peer)) {
            // Without the brackets that separate it from a port.
            (address, Some(interface)) => quote(out, &format!("{address}%{interface}")),
            (address, None) if address.is_ipv6() => quote(out, &address.to_string()),
            (address, None) => {
                out.push('"');
                fields::push_address(out, address, None);
                out.push('"');
            }
        }
        number(out, ",\"port\":", peer.port().into());
    }
    number(out, ",\"id\":", asking.asked.id.into());
    out.push_str(",\"type\":\"");
    fields::push_type(out, asking.rtype);
    out.push_str("\",\"class\":\"");
    fields::push_class(out, asking.class);
    out.push_str("\",\"name\":");
    quote(out, spell(name, &PRESENTATION, &mut [0; TEXT_LEN_MAX]));
    out.push_str(",\"proto\":\"");
    out.push_str(fields::proto(record));
    number(out, "\",\"size\":", asking.size.into());
    out.push_str(if fields::dnssec_ok(record) { ",\"do\":true" } else { ",\"do\":false" });
    number(out, ",\"bufsize\":", fields::buffer_size(record).into());
    match record.reply {
        Some(reply) => {
            out.push_str(",\"rcode\":\"");
            fields::push_rcode(out, reply.rcode);
            out.push_str("\",\"flags\":\"");
            fields::push_flags(out, reply.flags);
            number(out, "\",\"rsize\":", reply.size.into());
        }
        None => out.push_str(",\"rcode\":null,\"flags\":null,\"rsize\":0"),
    }
    out.push_str(",\"duration_s\":");
    fields::push_seconds(out, record.at.since(asking.since));
    out.push_str("}\n");
}

#[cfg(test)]
mod tests;
