//! `dnstap SOCKET [full] [WRITEBUF_MIB [QUEUE_X10000]] { identity; version; extra; skipverify }`
//!
//! `dnstap`: receivers of the messages of clients and upstreams. SOCKET is a path, `unix://PATH` or
//! `tcp://HOST:PORT`; several stanzas name several receivers. The writer connects to them, and
//! reports those that do not listen. TLS, and sockets that receivers connect to, are refused.

use super::super::context::Context;
use super::super::error::DirectiveError;
use super::super::numbers;
use super::super::word::Word;
use super::metadata;
use crate::corefile::{Cursor, ParseError, Token, did_you_mean};
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;

const PROPERTIES: [&str; 4] = ["identity", "version", "extra", "skipverify"];
/// Range of the reference, in MiB.
const WRITE_BUFFER: RangeInclusive<i64> = 1..=1024;
/// Range of the reference, in units of 10000 messages.
const QUEUE: RangeInclusive<i64> = 1..=4096;

/// A receiver of messages.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tap {
    /// Address of the receiver.
    pub(crate) target: TapTarget,
    /// With the messages themselves.
    pub(crate) full: bool,
    /// Written, and without effect: each batch is written at once.
    pub(crate) write_buffer_mib: u32,
    /// Length of the queue, in units of 10000 messages.
    pub(crate) queue_x10000: u32,
    /// Identity of the sender; the host name by default.
    pub(crate) identity: String,
    /// Version of the sender; onward's by default.
    pub(crate) version: String,
    /// Extra text of each message, with the placeholders of `log`.
    pub(crate) extra: Option<String>,
}

/// Address of a receiver.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TapTarget {
    /// At a socket in the file system.
    Unix(PathBuf),
    /// At `HOST:PORT`; a name is looked up each time that a connection is made.
    Tcp(String),
}

/// Reads all `dnstap` stanzas of one server block.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Vec<Tap>, DirectiveError> {
    let mut taps = Vec::new();
    while context.stanza("dnstap", cursor).is_some() {
        let arguments = cursor.expect_rest()?;
        let (socket, mut rest) = (arguments[0], &arguments[1..]);
        let target = target(socket)?;
        let full = rest.first().is_some_and(|word| &*word.text == "full");
        rest = if full { &rest[1..] } else { rest };
        let write_buffer_mib = number(rest.first(), &WRITE_BUFFER)?;
        let queue_x10000 = number(rest.get(1), &QUEUE)?;
        if rest.len() > 2 {
            return Err(cursor.argument_error().into());
        }
        let mut tap = Tap {
            target,
            full,
            write_buffer_mib,
            queue_x10000,
            identity: context.host.name.clone(),
            version: concat!("onward-", env!("CARGO_PKG_VERSION")).into(),
            extra: None,
        };
        while let Some(property) = cursor.block() {
            match &*property.text {
                "identity" => tap.identity = cursor.expect_arg()?.text.to_string(),
                "version" => tap.version = cursor.expect_arg()?.text.to_string(),
                "extra" => {
                    let extra = cursor.expect_arg()?;
                    metadata::look_at(&extra.text, &extra.place, context);
                    tap.extra = Some(extra.text.to_string());
                }
                // Of TLS, which nothing here speaks.
                "skipverify" => {}
                other => {
                    let suggestion = did_you_mean(other, PROPERTIES);
                    let message = format!("unknown property '{other}'{suggestion}");
                    return Err(ParseError::at(property, message).into());
                }
            }
            cursor.expect_no_arg()?;
        }
        taps.push(tap);
    }
    Ok(taps)
}

/// Returns the meaning of SOCKET.
fn target(socket: &Token) -> Result<TapTarget, DirectiveError> {
    let text = &*socket.text;
    if text == "listen" {
        return Err(DirectiveError::not_built(
            socket,
            "a socket that receivers of dnstap connect to",
        ));
    }
    if text.starts_with("tls://") {
        return Err(DirectiveError::not_built(socket, "dnstap over TLS"));
    }
    if let Some(address) = text.strip_prefix("tcp://") {
        let parts = address.rsplit_once(':');
        let whole = parts.is_some_and(|(host, port)| {
            let bare = !host.contains(':') || (host.starts_with('[') && host.ends_with(']'));
            !host.is_empty() && bare && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        if !whole {
            let message = format!("'{text}' is not a valid tcp://HOST:PORT");
            return Err(DirectiveError::value(socket, message));
        }
        return Ok(TapTarget::Tcp(address.into()));
    }
    let path = text.strip_prefix("unix://").unwrap_or(text);
    if path.is_empty() || path.contains("://") {
        let message = format!("'{text}' is not a path, unix://PATH or tcp://HOST:PORT");
        return Err(DirectiveError::value(socket, message));
    }
    Ok(TapTarget::Unix(path.into()))
}

/// A number within `range`; 1 if none is written.
fn number(word: Option<&&Token>, range: &RangeInclusive<i64>) -> Result<u32, DirectiveError> {
    let Some(word) = word else { return Ok(1) };
    let number =
        numbers::signed(&word.text).map_err(|message| DirectiveError::value(word, message))?;
    if !range.contains(&number) {
        let (least, most) = (range.start(), range.end());
        let message = format!("{number} is out of range: [{least}, {most}]");
        return Err(DirectiveError::value(word, message));
    }
    Ok(number as u32)
}

/// Writes the stanzas of the directive.
pub(super) fn write(settings: &[Tap], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    settings.iter().try_for_each(|tap| write!(f, "{tap}"))
}

impl fmt::Display for TapTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

impl fmt::Display for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let full = if self.full { " full" } else { "" };
        let (target, buffer) = (self.target.to_string(), self.write_buffer_mib);
        writeln!(f, "    dnstap {}{full} {buffer} {} {{", Word(&target), self.queue_x10000)?;
        writeln!(f, "        identity {}", Word(&self.identity))?;
        writeln!(f, "        version {}", Word(&self.version))?;
        if let Some(extra) = &self.extra {
            writeln!(f, "        extra {}", Word(extra))?;
        }
        writeln!(f, "    }}")
    }
}
