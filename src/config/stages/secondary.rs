//! `secondary [ZONES...] { transfer from [tls://]ADDRESS[:PORT]... [key NAME]; directory DIR;
//! tls [CERT KEY] [CA]; tls_servername NAME; tls_pin PIN...; catalog [MEMBER_ZONES...];
//! fallthrough [ZONES...] }`
//!
//! Zones that are transferred from their primaries. Each `transfer from` adds primaries; a `key`
//! is one of the block's `tsig`, with which queries are signed and NOTIFY has to be. In DIR the
//! zones are kept for the next start. A loader transfers the zones; here they are only named. If
//! several stanzas name a zone, the last one applies.

use super::super::context::Context;
use super::super::error::DirectiveError;
use super::super::forward::tls::Written as WrittenTls;
use super::super::tls::{ClientTls, Pin};
use super::super::word::{self, Word};
use super::super::{Name, Written};
use super::file;
use crate::corefile::{Cursor, ParseError, Token, did_you_mean};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Port of primaries without one.
const PORT: u16 = 53;
/// The same over TLS (RFC 9103 §7.1).
const TLS_PORT: u16 = 853;
/// Maximum number of primaries of a stanza: each is asked at each refresh.
const PRIMARIES_MAX: usize = 16;
const OPTIONS: [&str; 7] =
    ["transfer", "directory", "tls", "tls_servername", "tls_pin", "catalog", "fallthrough"];

/// Zones that are transferred from primaries.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SecondaryZones {
    /// The zones. `None`: all that the server block serves.
    pub(crate) zones: Option<Vec<Name>>,
    /// The primaries; at least one.
    pub(crate) primaries: Vec<PrimaryTarget>,
    /// Directory in which the zones are kept. `None`: they are not.
    pub(crate) directory: Option<StateDirectory>,
    /// The zones are catalogs, whose members are at or below these; empty: no limit. `None`: they
    /// are not.
    pub(crate) catalog: Option<Vec<Name>>,
    /// Names at or below these that do not exist go on. `None`: none does.
    pub(crate) fallthrough: Option<Vec<Name>>,
    /// Place of the stanza.
    pub(crate) written: Written,
}

impl SecondaryZones {
    /// Names of the keys of its primaries.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Name> {
        self.primaries.iter().filter_map(|primary| primary.key.as_ref())
    }
}

/// A server that zones are transferred from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PrimaryTarget {
    pub(crate) address: SocketAddr,
    /// Settings of TLS. `None`: plain TCP.
    pub(crate) tls: Option<Arc<ClientTls>>,
    /// Name of the key of queries and of NOTIFY, one of the block's `tsig`.
    pub(crate) key: Option<Name>,
}

/// A directory for the state of zones.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct StateDirectory {
    /// The directory, as it is written.
    pub(crate) path: String,
    /// The directory as errors name it.
    pub(crate) label: String,
    /// Path of the directory.
    pub(crate) place: PathBuf,
}

impl StateDirectory {
    /// The directory that is written as `path`.
    pub(super) fn new(path: &str, context: &Context<'_>) -> Self {
        let root = context.root.unwrap_or_default();
        let base = context.host.sources.working_directory.join(root);
        let label = Path::new(root).join(path).to_string_lossy().into_owned();
        Self { path: path.to_owned(), label, place: base.join(path) }
    }
}

/// Reads all `secondary` stanzas of one server block.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Vec<SecondaryZones>, DirectiveError> {
    let mut stanzas = Vec::new();
    while let Some(stanza) = context.stanza("secondary", cursor) {
        let words = cursor.rest();
        let zones = file::zones("secondary", &words, context)?;
        let mut read = SecondaryZones {
            zones: (!words.is_empty()).then_some(zones),
            primaries: Vec::new(),
            directory: None,
            catalog: None,
            fallthrough: None,
            written: Written(stanza.place.to_string()),
        };
        let mut tls = WrittenTls::default();
        while let Some(property) = cursor.block() {
            match &*property.text {
                "transfer" => {
                    let from = cursor.expect_arg()?;
                    if &*from.text != "from" {
                        let message = format!("unknown property '{}'", from.text);
                        return Err(ParseError::at(from, message).into());
                    }
                    primaries(&cursor.expect_rest()?, &mut read.primaries)?;
                }
                "directory" => {
                    let word = cursor.expect_arg()?;
                    cursor.expect_no_arg()?;
                    read.directory = Some(StateDirectory::new(&word.text, context));
                }
                "tls" | "tls_servername" | "tls_pin" => tls.read(property, cursor, context)?,
                "fallthrough" => {
                    read.fallthrough = Some(file::fallthrough("secondary", cursor, context)?);
                }
                "catalog" => {
                    let words = cursor.rest();
                    read.catalog = Some(file::zones("secondary", &words, context)?);
                }
                other => {
                    let suggestion = did_you_mean(other, OPTIONS);
                    let message = format!("unknown property '{other}'{suggestion}");
                    return Err(ParseError::at(property, message).into());
                }
            }
        }
        if read.primaries.is_empty() {
            let message = "secondary zones require a transfer from property";
            return Err(ParseError::at(stanza, message).into());
        }
        secure(&tls, &mut read.primaries, context);
        if read.directory.is_none() {
            let message = "plugin/secondary: without 'directory' the zones are not kept on disk: \
                           after a restart they are SERVFAIL until a primary answers";
            context.warn(&stanza.place, message);
        }
        stanzas.push(read);
    }
    Ok(stanzas)
}

/// Gives the settings of TLS to the primaries that use it.
fn secure(tls: &WrittenTls, primaries: &mut [PrimaryTarget], context: &mut Context<'_>) {
    let Some(place) = tls.place() else { return };
    let settings = Arc::new(tls.settings());
    let mut count = 0;
    for own in primaries.iter_mut().filter_map(|primary| primary.tls.as_mut()) {
        *own = Arc::clone(&settings);
        count += 1;
    }
    if count == 0 {
        let message = "plugin/secondary: no primary has tls://: the TLS options have no effect";
        context.warn(place, message);
    }
}

/// Reads the words behind `transfer from`.
fn primaries(words: &[&Token], out: &mut Vec<PrimaryTarget>) -> Result<(), DirectiveError> {
    let (addresses, key) = match words {
        [addresses @ .., key, name] if &*key.text == "key" => {
            let name = Name::parse(&name.text).map_err(|error| {
                let message = format!("invalid name of a key '{}': {error}", name.text);
                DirectiveError::value(name, message)
            })?;
            (addresses, Some(name))
        }
        _ => (words, None),
    };
    if addresses.is_empty() {
        return Err(DirectiveError::value(words[0], "expected an address before 'key'"));
    }
    for word in addresses {
        if &*word.text == "*" {
            return Err(DirectiveError::value(word, "can't use '*' in transfer from"));
        }
        let (text, is_secure) = match word.text.strip_prefix("tls://") {
            Some(text) => (text, true),
            None => (&*word.text, false),
        };
        let address = address(text, if is_secure { TLS_PORT } else { PORT }).ok_or_else(|| {
            let message = format!("must specify an IP address: '{}'", word.text);
            DirectiveError::value(word, message)
        })?;
        if out.len() >= PRIMARIES_MAX {
            return Err(DirectiveError::value(
                word,
                format!("more than {PRIMARIES_MAX} primaries"),
            ));
        }
        let tls = is_secure.then(Arc::default);
        out.push(PrimaryTarget { address, tls, key: key.clone() });
    }
    Ok(())
}

fn address(text: &str, port: u16) -> Option<SocketAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some((address, port).into());
    }
    text.parse::<SocketAddr>().ok().filter(|address| address.port() > 0)
}

/// Writes all stanzas of a server block.
pub(super) fn write(stanzas: &[SecondaryZones], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    stanzas.iter().try_for_each(|stanza| write!(f, "{stanza}"))
}

impl fmt::Display for SecondaryZones {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "    secondary")?;
        self.zones.iter().try_for_each(|zones| word::names(f, zones))?;
        writeln!(f, " {{")?;
        for PrimaryTarget { address, tls, key } in &self.primaries {
            let (scheme, usual) = if tls.is_some() { ("tls://", TLS_PORT) } else { ("", PORT) };
            write!(f, "        transfer from {scheme}")?;
            if address.port() == usual {
                write!(f, "{}", address.ip())?;
            } else {
                write!(f, "{address}")?;
            }
            match key {
                Some(key) => writeln!(f, " key {}", key.in_corefile())?,
                None => writeln!(f)?,
            }
        }
        if let Some(directory) = &self.directory {
            writeln!(f, "        directory {}", Word(&directory.path))?;
        }
        if let Some(limits) = &self.catalog {
            write!(f, "        catalog")?;
            word::names(f, limits)?;
            writeln!(f)?;
        }
        if let Some(tls) = self.primaries.iter().find_map(|primary| primary.tls.as_ref()) {
            if tls.identity.is_some() || tls.authorities.is_some() {
                write!(f, "        tls")?;
                tls.files().try_for_each(|file| write!(f, " {}", Word(&file.path)))?;
                writeln!(f)?;
            }
            tls.name.iter().try_for_each(|name| writeln!(f, "        tls_servername {name}"))?;
            tls.pins.iter().try_for_each(|pin| writeln!(f, "        tls_pin {}", Pin(pin)))?;
        }
        file::write_fallthrough(f, self.fallthrough.as_deref())?;
        writeln!(f, "    }}")
    }
}
