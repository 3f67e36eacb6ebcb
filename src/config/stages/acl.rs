//! `acl [ZONES…] { ACTION [type QTYPE…] [net CIDR|IP…] }`
//!
//! `acl`: which clients may ask which types. Several stanzas apply in their order. `*` means all
//! types or networks, and so does a missing section. Invalid zones are ignored with a warning; the
//! reference ignores them silently.

use super::super::context::Context;
use super::super::error::DirectiveError;
use super::super::quote::quote;
use super::super::word::{list, names};
use super::super::{Name, Net, RecordType, keys, lints};
use crate::corefile::{Cursor, ParseError, Token, did_you_mean};
use std::fmt;

/// Access list of some zones.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Acl {
    /// Names at or below these are affected. `None`: all that the server block serves.
    pub(crate) zones: Option<Vec<Name>>,
    /// The first that matches counts.
    pub(crate) lines: Vec<AclLine>,
}

/// Rule of an access list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AclLine {
    /// Action for matching queries.
    pub(crate) action: AclAction,
    /// To queries for these types. `None`: all.
    pub(crate) kinds: Option<Vec<RecordType>>,
    /// To queries from these addresses. `None`: all.
    pub(crate) nets: Option<Vec<Net>>,
}

/// Action of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum AclAction {
    /// Continue with the query.
    Allow,
    /// Reply with REFUSED.
    Block,
    /// Reply without records.
    Filter,
    /// No reply.
    Drop,
}

const ACTIONS: [(&str, AclAction); 4] = [
    ("allow", AclAction::Allow),
    ("block", AclAction::Block),
    ("filter", AclAction::Filter),
    ("drop", AclAction::Drop),
];

/// Reads all `acl` stanzas of one server block.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Vec<Acl>, DirectiveError> {
    let mut lists: Vec<Acl> = Vec::new();
    let mut first = None;
    while let Some(stanza) = context.stanza("acl", cursor) {
        first = first.or(Some(stanza));
        let written = cursor.rest();
        let mut zones = Vec::new();
        for word in &written {
            match keys::parse(&word.text) {
                Ok(zone) => {
                    context
                        .count_zones(zone.names.len())
                        .map_err(|message| DirectiveError::value(word, message))?;
                    if let Some(hint) = lints::of_exception(&word.text, &zone, false) {
                        let message = format!("plugin/acl: zone '{}': {hint}", word.text);
                        context.warn(&word.place, message);
                    }
                    zones.extend(zone.names);
                }
                Err(reason) => {
                    context.warn(&word.place, format!("plugin/acl: zone is ignored: {reason}"));
                }
            }
        }
        let mut lines: Vec<AclLine> = Vec::new();
        let mut ended = false;
        while let Some(action) = cursor.block() {
            if ended {
                let message =
                    "plugin/acl: this rule is never used: an earlier rule matches all queries";
                context.warn(&action.place, message);
            }
            let words = cursor.rest();
            let line = line(action, &words)?;
            warn_of_networks(&words, context);
            ended |= line.kinds.is_none() && line.nets.is_none();
            lines.push(line);
        }
        let zones = (!written.is_empty()).then_some(zones);
        lists.push(Acl { zones, lines });
    }
    let mut lines = lists.iter().flat_map(|acl| &acl.lines);
    if let (Some(first), true) = (first, lines.all(|line| line.action == AclAction::Allow)) {
        let message = "plugin/acl: no query is refused, because queries that match no rule are \
                       allowed: end the list with 'block'";
        context.warn(&first.place, message);
    }
    Ok(lists)
}

/// Notes networks whose addresses say more than their lengths.
fn warn_of_networks(words: &[&Token], context: &mut Context<'_>) {
    for word in words {
        let parts = word.text.split_once('/');
        if let Some(hint) = parts.and_then(|parts| lints::host_bits(parts.0, parts.1)) {
            context.warn(&word.place, format!("plugin/acl: {}: {hint}", word.text));
        }
    }
}

fn line(action: &Token, words: &[&Token]) -> Result<AclLine, DirectiveError> {
    let known = ACTIONS.iter().find(|(name, _)| action.text.eq_ignore_ascii_case(name));
    let Some((_, action)) = known else {
        let suggestion = did_you_mean(&action.text, ACTIONS.map(|(name, _)| name));
        let message = format!(
            "unexpected token {}; expect 'allow', 'block', 'filter' or 'drop'{suggestion}",
            quote(&action.text)
        );
        return Err(ParseError::at(action, message).into());
    };
    let mut line = AclLine { action: *action, kinds: None, nets: None };
    let mut rest = words;
    while let Some((section, behind)) = rest.split_first() {
        let end = behind.iter().position(|word| is_section(word)).unwrap_or(behind.len());
        let (values, following) = behind.split_at(end);
        rest = following;
        if !is_section(section) {
            let found = quote(&section.text);
            let message = format!("unexpected token {found}; expect 'type | net'");
            return Err(ParseError::at(section, message).into());
        }
        if values.is_empty() {
            let message = format!("no token specified in {} section", quote(&section.text));
            return Err(ParseError::at(section, message).into());
        }
        let all = values.iter().any(|value| &*value.text == "*");
        if section.text.eq_ignore_ascii_case("type") {
            let kinds = values.iter().filter(|value| &*value.text != "*").map(|value| rtype(value));
            let kinds = kinds.collect::<Result<Vec<_>, _>>()?;
            line.kinds = (!all).then_some(kinds);
        } else {
            let nets = values.iter().filter(|value| &*value.text != "*").map(|value| net(value));
            let nets = nets.collect::<Result<Vec<_>, _>>()?;
            line.nets = (!all).then_some(nets);
        }
    }
    Ok(line)
}

fn is_section(word: &Token) -> bool {
    ["type", "net"].iter().any(|section| word.text.eq_ignore_ascii_case(section))
}

fn rtype(word: &Token) -> Result<RecordType, DirectiveError> {
    RecordType::parse(&word.text).ok_or_else(|| {
        let suggestion = did_you_mean(&word.text.to_ascii_uppercase(), RecordType::mnemonics());
        let found = quote(&word.text);
        let message = format!("unexpected token {found}; expect legal QTYPE{suggestion}");
        ParseError::at(word, message).into()
    })
}

fn net(word: &Token) -> Result<Net, DirectiveError> {
    Net::parse(&word.text).ok_or_else(|| {
        let message = format!("illegal CIDR notation {}", quote(&word.text));
        ParseError::at(word, message).into()
    })
}

/// Writes the stanzas of the directive.
pub(super) fn write(settings: &[Acl], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    settings.iter().try_for_each(|acl| write!(f, "{acl}"))
}

impl fmt::Display for Acl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "    acl")?;
        match self.zones.as_deref() {
            None => {}
            // No zone: the language has no shorter way to say that.
            Some([]) => write!(f, " ..")?,
            Some(zones) => names(f, zones)?,
        }
        writeln!(f, " {{")?;
        self.lines.iter().try_for_each(|line| line.fmt(f))?;
        writeln!(f, "    }}")
    }
}

impl fmt::Display for AclLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = ACTIONS.iter().find(|(_, action)| *action == self.action);
        write!(f, "        {}", known.map_or("", |(name, _)| name))?;
        if let Some(kinds) = &self.kinds {
            write!(f, " type")?;
            list(f, kinds)?;
        }
        if let Some(nets) = &self.nets {
            write!(f, " net")?;
            list(f, nets)?;
        }
        writeln!(f)
    }
}
