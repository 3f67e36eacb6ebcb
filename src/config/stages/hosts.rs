//! `hosts [FILE [ZONES…]] { [IP NAME…] ttl SECONDS no_reverse reload DURATION
//! fallthrough [ZONES…] fallthrough_unsupported }`
//!
//! Names and addresses from a file and from lines of the configuration itself. A loader reads
//! the file, and again when it changes; here it is only named. A file that is missing or is not a
//! regular file leads to a warning. A line that is neither an option nor begins with an address is
//! ignored as in the reference, but with a warning.

use super::super::context::Context;
use super::super::error::DirectiveError;
use super::super::word::{self, Word};
use super::super::{Name, duration, keys, lints};
use super::once;
use crate::corefile::{Cursor, ParseError, Token, did_you_mean};
use std::fmt;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The file that is read if none is named.
const FILE: &str = "/etc/hosts";
/// Seconds for which answers hold.
const TTL: u32 = 3_600;
/// The largest `ttl`.
const TTL_MAX: u32 = 65_535;
/// Default interval of checks for a changed file.
const RELOAD: Duration = Duration::from_secs(5);
const OPTIONS: [&str; 5] =
    ["ttl", "no_reverse", "reload", "fallthrough", "fallthrough_unsupported"];

/// Names that are answered from a hosts file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hosts {
    /// The file, as it is written.
    pub(crate) path: String,
    /// Names at or below these are affected. `None`: all that the server block serves.
    pub(crate) zones: Option<Vec<Name>>,
    /// Seconds for which answers hold.
    pub(crate) ttl: u32,
    /// Unknown names at or below these go on. `None`: none does.
    pub(crate) fallthrough: Option<Vec<Name>>,
    /// So do known names that are asked for other types than addresses.
    pub(crate) fallthrough_unsupported: bool,
    /// Source of names and addresses.
    pub(crate) source: Arc<HostsSource>,
    /// The number of that source among all of the configuration.
    pub slot: usize,
}

/// Source of a table of names and addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct HostsSource {
    /// The file as metrics call it.
    pub label: String,
    /// Path of the file.
    pub place: PathBuf,
    /// Entries behind those of the file.
    pub inline: Vec<HostsLine>,
    /// Addresses lead to names, too.
    pub reverse: bool,
    /// Interval of checks for a changed file. `None`: off.
    pub reload: Option<Duration>,
}

/// An address and its names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostsLine {
    /// The address; one of IPv4 that is mapped into IPv6 is one of IPv4.
    pub(crate) address: IpAddr,
    pub(crate) names: Vec<Name>,
}

/// Reads the `hosts` stanza of one server block.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Option<Hosts>, DirectiveError> {
    let Some(stanza) = context.stanza("hosts", cursor) else { return Ok(None) };
    let words = cursor.rest();
    let file = words.first().copied();
    let path = file.map_or(FILE, |file| &*file.text);
    let zones = zones(words.get(1..).unwrap_or_default(), context)?;
    let root = context.root.unwrap_or_default();
    let mut source = HostsSource {
        label: Path::new(root).join(path).to_string_lossy().into_owned(),
        place: context.host.sources.working_directory.join(root).join(path),
        inline: Vec::new(),
        reverse: true,
        reload: Some(RELOAD),
    };
    look_at(file.unwrap_or(stanza), &source, context)?;
    let mut hosts = Hosts {
        path: path.to_owned(),
        zones: (words.len() > 1).then_some(zones),
        ttl: TTL,
        fallthrough: None,
        fallthrough_unsupported: false,
        source: Arc::default(),
        slot: 0,
    };
    let mut unsupported = None;
    while let Some(property) = cursor.block() {
        match &*property.text {
            "ttl" => hosts.ttl = ttl(property, cursor)?,
            "no_reverse" => {
                source.reverse = false;
                cursor.rest();
            }
            "reload" => source.reload = reload(property, cursor)?,
            "fallthrough" => {
                let words = cursor.rest();
                let all = words.is_empty().then(Name::root);
                let zones = self::zones(&words, context)?.into_iter().chain(all);
                hosts.fallthrough = Some(zones.collect());
            }
            "fallthrough_unsupported" => {
                cursor.expect_no_arg()?;
                unsupported = Some(property);
            }
            _ if hosts.fallthrough.is_none() => {
                source.inline.extend(line(property, &cursor.rest(), context));
            }
            other => {
                let hint = match is_address(other) {
                    true => ": entries must be before 'fallthrough'".to_owned(),
                    false => did_you_mean(other, OPTIONS),
                };
                let message = format!("unknown property '{other}'{hint}");
                return Err(ParseError::at(property, message).into());
            }
        }
    }
    if let (Some(property), None) = (unsupported, &hosts.fallthrough) {
        let message = "fallthrough_unsupported requires fallthrough";
        return Err(ParseError::at(property, message).into());
    }
    hosts.fallthrough_unsupported = unsupported.is_some();
    hosts.source = Arc::new(source);
    once(cursor)?;
    Ok(Some(hosts))
}

fn is_address(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

/// Returns the zones that `words` name. An invalid name is ignored with a warning.
fn zones(words: &[&Token], context: &mut Context<'_>) -> Result<Vec<Name>, DirectiveError> {
    let mut zones = Vec::new();
    for word in words {
        match keys::parse(&word.text) {
            Ok(zone) => {
                context
                    .count_zones(zone.names.len())
                    .map_err(|message| DirectiveError::value(word, message))?;
                let is_option = OPTIONS.contains(&&*word.text);
                if is_address(&word.text) {
                    let message = format!(
                        "plugin/hosts: zone '{}' is an address: entries must be on lines of their \
                         own, before 'fallthrough'",
                        word.text
                    );
                    context.warn(&word.place, message);
                } else if let Some(hint) = lints::of_exception(&word.text, &zone, is_option) {
                    let message = format!("plugin/hosts: zone '{}': {hint}", word.text);
                    context.warn(&word.place, message);
                }
                zones.extend(zone.names);
            }
            Err(reason) => {
                context.warn(&word.place, format!("plugin/hosts: zone is ignored: {reason}"));
            }
        }
    }
    Ok(zones)
}

/// Warns of a file that is missing or is not a regular file.
fn look_at(
    word: &Token,
    source: &HostsSource,
    context: &mut Context<'_>,
) -> Result<(), DirectiveError> {
    let HostsSource { label, place, .. } = source;
    let odd = match (context.host.sources.is_file)(place) {
        Ok(true) => return Ok(()),
        Ok(false) => format!("Hosts file \"{label}\" is not a regular file and is not read"),
        Err(error) if error.kind() == ErrorKind::IsADirectory => {
            format!("Hosts file \"{label}\" is a directory")
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            format!("File does not exist: {label}")
        }
        Err(error) => {
            let message = format!("unable to access hosts file '{label}': {error}");
            return Err(DirectiveError::host(word, message));
        }
    };
    context.warn(&word.place, format!("plugin/hosts: {odd}"));
    Ok(())
}

fn ttl(property: &Token, cursor: &mut Cursor<'_>) -> Result<u32, DirectiveError> {
    let words = cursor.rest();
    let Some(word) = words.first() else {
        return Err(ParseError::at(property, "ttl needs a time in second").into());
    };
    let Ok(seconds) = super::super::numbers::signed(&word.text) else {
        return Err(ParseError::at(word, "ttl needs a number of second").into());
    };
    let seconds = u32::try_from(seconds).ok().filter(|ttl| (1..=TTL_MAX).contains(ttl));
    seconds.ok_or_else(|| ParseError::at(word, "ttl provided is invalid").into())
}

fn reload(property: &Token, cursor: &mut Cursor<'_>) -> Result<Option<Duration>, DirectiveError> {
    let words = cursor.rest();
    let &[word] = &words[..] else {
        let message = "reload needs a duration (zero seconds to disable)";
        return Err(ParseError::at(property, message).into());
    };
    let refused = |what: &str| ParseError::at(word, format!("{what} for reload '{}'", word.text));
    let nanos = duration::parse(&word.text).map_err(|_| refused("invalid duration"))?;
    let nanos = u64::try_from(nanos).map_err(|_| refused("invalid negative duration"))?;
    Ok((nanos > 0).then_some(Duration::from_nanos(nanos)))
}

/// Returns the entry that a line states. `None`: it is ignored with a warning.
fn line(first: &Token, names: &[&Token], context: &mut Context<'_>) -> Option<HostsLine> {
    let Some(address) = address(&first.text) else {
        let suggestion = did_you_mean(&first.text.to_ascii_lowercase(), OPTIONS);
        let message = format!(
            "plugin/hosts: '{}' is not an address or an option{suggestion}: the line is \
             ignored",
            first.text
        );
        context.warn(&first.place, message);
        return None;
    };
    let mut known = Vec::new();
    for word in names.iter().flat_map(|name| name.text.split_whitespace()) {
        match Name::parse(word) {
            Ok(name) if word.is_ascii() => known.push(name),
            Ok(_) => context.warn(&first.place, not_a_name(word, "it is not ASCII")),
            Err(reason) => context.warn(&first.place, not_a_name(word, &reason.to_string())),
        }
    }
    (!known.is_empty()).then_some(HostsLine { address, names: known })
}

fn not_a_name(word: &str, reason: &str) -> String {
    format!("plugin/hosts: '{word}' is not a valid domain name and is ignored: {reason}")
}

/// The address, without the interface that may stand behind it.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.split('%').next().unwrap_or(text);
    let v6 = || text.parse::<Ipv6Addr>().ok().map(|ip| IpAddr::from(ip).to_canonical());
    text.parse().ok().map(IpAddr::V4).or_else(v6)
}

/// Writes zones, of which there may be none: the language has no shorter way to say that.
fn write_zones(f: &mut fmt::Formatter<'_>, zones: &[Name]) -> fmt::Result {
    if zones.is_empty() { write!(f, " ..") } else { word::names(f, zones) }
}

/// Writes the directive, if the server block has it.
pub(super) fn write(settings: &Option<Hosts>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    settings.iter().try_for_each(|hosts| write!(f, "{hosts}"))
}

impl fmt::Display for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HostsSource { inline, reverse, reload, .. } = &*self.source;
        write!(f, "    hosts {}", Word(&self.path))?;
        self.zones.iter().try_for_each(|zones| write_zones(f, zones))?;
        writeln!(f, " {{")?;
        for HostsLine { address, names } in inline {
            write!(f, "        {address}")?;
            word::names(f, names)?;
            writeln!(f)?;
        }
        writeln!(f, "        ttl {}", self.ttl)?;
        if !reverse {
            writeln!(f, "        no_reverse")?;
        }
        let nanos = reload.map_or(0, |reload| i64::try_from(reload.as_nanos()).unwrap_or(i64::MAX));
        writeln!(f, "        reload {}", duration::show(nanos))?;
        if let Some(zones) = &self.fallthrough {
            write!(f, "        fallthrough")?;
            write_zones(f, zones)?;
            writeln!(f)?;
        }
        if self.fallthrough_unsupported {
            writeln!(f, "        fallthrough_unsupported")?;
        }
        writeln!(f, "    }}")
    }
}
