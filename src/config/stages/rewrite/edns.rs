//! Rules of `rewrite` that change the EDNS options of the query that goes to the upstream.
//!
//! `edns0 local set|append|replace CODE DATA [revert]`, `edns0 local unset CODE`, `edns0 nsid
//! ACTION [revert]` and `edns0 subnet ACTION V4LEN V6LEN [revert]`. DATA is a text, bytes in
//! hexadecimal digits behind `0x`, or a variable in braces, whose value comes from the query.

use super::super::super::context::Context;
use super::super::super::error::DirectiveError;
use super::super::super::word::Word;
use super::super::metadata::LABELS;
use crate::corefile::{Token, did_you_mean};
use std::fmt;

/// Bytes of all options of a query that go to an upstream, codes and lengths included.
pub(crate) const EDNS_OPTIONS_MAX: usize = 350;
/// Bytes of a text or of hexadecimal data.
const DATA_MAX: usize = EDNS_OPTIONS_MAX - 4;
/// Options that belong to one connection, which this server negotiates itself.
const OF_CONNECTIONS: [(u16, &str); 2] = [(11, "keepalive"), (12, "padding")];

/// A rule that changes an option.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct EdnsRule {
    /// Change of the option.
    pub(crate) action: EdnsAction,
    /// Option that is changed.
    pub(crate) option: EdnsOption,
    /// The option is not to be seen in replies; it never is.
    pub(crate) revert: bool,
}

/// Change of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum EdnsAction {
    /// The option is added, or replaces the one that the client sent.
    Set,
    /// The option is added.
    Append,
    /// The option replaces the one that the client sent. Without one the rule does nothing.
    Replace,
    /// The option is removed.
    Unset,
}

const ACTIONS: [(&str, EdnsAction); 4] = [
    ("set", EdnsAction::Set),
    ("append", EdnsAction::Append),
    ("replace", EdnsAction::Replace),
    ("unset", EdnsAction::Unset),
];

/// An option and its value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum EdnsOption {
    /// The option with this code.
    Local {
        /// The option's code.
        code: u16,
        /// The option's value.
        data: EdnsData,
    },
    /// A request for the upstream's identifier (RFC 5001).
    Nsid,
    /// The client's subnet (RFC 7871).
    Subnet {
        /// Bits of an IPv4 address that are sent.
        v4: u8,
        /// Bits of an IPv6 address that are sent.
        v6: u8,
    },
}

/// Value of a local option.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum EdnsData {
    /// These bytes.
    Fixed(Vec<u8>),
    /// QNAME in presentation format, as the query goes on.
    Name,
    /// QTYPE, in two bytes.
    Type,
    /// Address of the client, in four or sixteen bytes.
    ClientAddress,
    /// Port of the client, in two bytes.
    ClientPort,
    /// `udp` or `tcp`.
    Protocol,
    /// Address that the client asked, in four or sixteen bytes.
    ServerAddress,
    /// Port that the client asked, in two bytes.
    ServerPort,
    /// Text of a label of `metadata`.
    Label(String),
}

const VARIABLES: [(&str, EdnsData); 7] = [
    ("qname", EdnsData::Name),
    ("qtype", EdnsData::Type),
    ("client_ip", EdnsData::ClientAddress),
    ("client_port", EdnsData::ClientPort),
    ("protocol", EdnsData::Protocol),
    ("server_ip", EdnsData::ServerAddress),
    ("server_port", EdnsData::ServerPort),
];

/// Reads the words behind `edns0`.
pub(super) fn read(
    field: &Token,
    words: &[&Token],
    context: &mut Context<'_>,
) -> Result<EdnsRule, DirectiveError> {
    let [option, action, values @ ..] = words else {
        let message = "too few arguments for an EDNS0 rule: expected local, nsid or subnet, and \
                       set, append, replace or unset";
        return Err(DirectiveError::value(field, message));
    };
    if !matches!(&*option.text, "local" | "nsid" | "subnet") {
        let suggestion = did_you_mean(&option.text, ["local", "nsid", "subnet"]);
        let message = format!("invalid rule type \"{}\"{suggestion}", option.text);
        return Err(DirectiveError::value(option, message));
    }
    let known = ACTIONS.iter().find(|(name, _)| name.eq_ignore_ascii_case(&action.text));
    let Some((_, known)) = known else {
        let suggestion = did_you_mean(&action.text, ACTIONS.map(|(name, _)| name));
        let message = format!("invalid action: \"{}\"{suggestion}", action.text);
        return Err(DirectiveError::value(action, message));
    };
    let (values, revert) = match values {
        [values @ .., last] if &*last.text == "revert" && *known != EdnsAction::Unset => {
            (values, true)
        }
        values => (values, false),
    };
    let option = match (&*option.text, *known) {
        ("local", EdnsAction::Unset) => {
            let [code] = values else {
                let message = "local unset action requires exactly two arguments: unset CODE";
                return Err(DirectiveError::value(action, message));
            };
            EdnsOption::Local { code: code_of(code)?, data: EdnsData::Fixed(Vec::new()) }
        }
        ("local", _) => {
            let [code, data] = values else {
                let message = "EDNS0 local rules require three or four args: ACTION CODE DATA \
                               [revert]";
                return Err(DirectiveError::value(action, message));
            };
            EdnsOption::Local { code: code_of(code)?, data: data_of(data, context)? }
        }
        ("nsid", EdnsAction::Unset) if !values.is_empty() => {
            let message = "nsid unset action requires exactly one argument";
            return Err(DirectiveError::value(values[0], message));
        }
        ("nsid", _) if !values.is_empty() => {
            let message = "EDNS0 NSID rules can accept no more than one arg: only 'revert' may \
                           follow the action";
            return Err(DirectiveError::value(values[0], message));
        }
        ("nsid", _) => EdnsOption::Nsid,
        (_, EdnsAction::Unset) if !values.is_empty() => {
            let message = "subnet unset action requires exactly one argument";
            return Err(DirectiveError::value(values[0], message));
        }
        (_, EdnsAction::Unset) => EdnsOption::Subnet { v4: 0, v6: 0 },
        _ => {
            let [v4, v6] = values else {
                let message = "EDNS0 subnet rules require three or four args: ACTION V4LEN V6LEN \
                               [revert]";
                return Err(DirectiveError::value(action, message));
            };
            EdnsOption::Subnet { v4: bits(v4, 4, 32)?, v6: bits(v6, 6, 128)? }
        }
    };
    Ok(EdnsRule { action: *known, option, revert })
}

/// The code of an option: a decimal number, or a hexadecimal one behind `0x`.
fn code_of(word: &Token) -> Result<u16, DirectiveError> {
    let text = &*word.text;
    let code = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u16::from_str_radix(digits, 16),
        None => text.parse(),
    };
    let Ok(code) = code else {
        let message = format!(
            "invalid option code '{text}': expected a number from 0 to 65535, such as 0xffee"
        );
        return Err(DirectiveError::value(word, message));
    };
    if let Some((_, name)) = OF_CONNECTIONS.iter().find(|(own, _)| *own == code) {
        let message = format!(
            "option {code} ({name}) applies to one connection: onward sends its own to upstreams"
        );
        return Err(DirectiveError::value(word, message));
    }
    Ok(code)
}

fn data_of(word: &Token, context: &mut Context<'_>) -> Result<EdnsData, DirectiveError> {
    let text = &*word.text;
    if let Some(name) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
        if let Some((_, data)) = VARIABLES.iter().find(|(known, _)| *known == name) {
            return Ok(data.clone());
        }
        if name.split_once('/').is_none_or(|(one, other)| one.is_empty() || other.is_empty()) {
            let known = VARIABLES.map(|(name, _)| format!("{{{name}}}")).join(", ");
            let message = format!(
                "unsupported variable name \"{text}\": expected {known} or a label of metadata"
            );
            return Err(DirectiveError::value(word, message));
        }
        look_at_label(name, word, context);
        return Ok(EdnsData::Label(name.to_owned()));
    }
    let data = match text.strip_prefix("0x") {
        None => text.as_bytes().to_vec(),
        Some(digits) => bytes_of(digits).ok_or_else(|| {
            let message = format!(
                "invalid data '{text}': expected an even number of hexadecimal digits after 0x"
            );
            DirectiveError::value(word, message)
        })?,
    };
    if data.len() > DATA_MAX {
        let message = format!("the option has {} bytes: at most {DATA_MAX} are sent", data.len());
        return Err(DirectiveError::value(word, message));
    }
    Ok(EdnsData::Fixed(data))
}

fn bytes_of(digits: &str) -> Option<Vec<u8>> {
    let (pairs, []) = digits.as_bytes().as_chunks::<2>() else { return None };
    let byte = |[high, low]: &[u8; 2]| {
        let digit = |byte: u8| char::from(byte).to_digit(16);
        Some((digit(*high)? << 4 | digit(*low)?) as u8)
    };
    pairs.iter().map(byte).collect()
}

/// Warns of a label that has no value when rules are applied.
fn look_at_label(label: &str, word: &Token, context: &mut Context<'_>) {
    let why = match (label, context.labelled) {
        ("view/name", Some(_)) => {
            context.read_label();
            return;
        }
        ("view/name", None) => "is set only with the directive 'metadata'".to_owned(),
        (label, _) if LABELS.contains(&label) => {
            "is set only after the query was rewritten".to_owned()
        }
        _ => format!("is set by no directive{}", did_you_mean(label, LABELS)),
    };
    let message = format!("plugin/rewrite: label '{label}' {why}: the rule does nothing");
    context.warn(&word.place, message);
}

fn bits(word: &Token, version: u8, max: u8) -> Result<u8, DirectiveError> {
    word.text.parse().ok().filter(|bits| *bits <= max).ok_or_else(|| {
        let message = format!(
            "invalid IPv{version} bit mask length {}: expected a number from 0 to {max}",
            word.text
        );
        DirectiveError::value(word, message)
    })
}

impl fmt::Display for EdnsRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = ACTIONS.iter().find(|(_, action)| *action == self.action);
        let action = known.map_or("", |(name, _)| name);
        let is_unset = self.action == EdnsAction::Unset;
        match &self.option {
            EdnsOption::Local { code, .. } if is_unset => write!(f, "local unset {code:#06x}")?,
            EdnsOption::Local { code, data } => write!(f, "local {action} {code:#06x} {data}")?,
            EdnsOption::Nsid => write!(f, "nsid {action}")?,
            EdnsOption::Subnet { .. } if is_unset => write!(f, "subnet unset")?,
            EdnsOption::Subnet { v4, v6 } => write!(f, "subnet {action} {v4} {v6}")?,
        }
        if self.revert { write!(f, " revert") } else { Ok(()) }
    }
}

impl fmt::Display for EdnsData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(bytes) => {
                write!(f, "0x")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            Self::Label(label) => write!(f, "{}", Word(&format!("{{{label}}}"))),
            data => {
                let known = VARIABLES.iter().find(|(_, known)| known == data);
                write!(f, "{}", Word(&format!("{{{}}}", known.map_or("", |(name, _)| name))))
            }
        }
    }
}
