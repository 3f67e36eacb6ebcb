//! `dnssec [ZONES...] { cache_capacity N; key file KEY... }`
//!
//! Replies that are signed when they are sent. The files of the keys are read with the
//! configuration. Without a key the directive is accepted and has no effect, because there is
//! nothing to sign with. The reference then turns denials into answers that resolvers reject.

use super::super::context::Context;
use super::super::error::DirectiveError;
use super::super::word::{self, Word};
use super::super::{Name, SigningKey, dnskey, numbers};
use super::{file, once};
use crate::corefile::{Cursor, ParseError, Token, did_you_mean};
use crate::dnssec::{Algorithm, is_split};
use std::fmt;

const OPTIONS: [&str; 2] = ["key", "cache_capacity"];
/// Default number of kept signatures.
const CAPACITY: u32 = 10_000;
/// Least number of kept signatures.
const CAPACITY_MIN: u32 = 1_024;
/// Maximum number of kept signatures, which bounds the memory of a worker.
const CAPACITY_MAX: u32 = 1_000_000;
/// Maximum number of keys: each of them signs every RRset.
pub(super) const KEYS_MAX: usize = 8;

/// Zones whose replies are signed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Dnssec {
    /// The zones. `None`: all that the server block serves.
    pub(crate) zones: Option<Vec<Name>>,
    /// The keys; if there are none, nothing is signed.
    pub keys: Vec<SigningKey>,
    /// Maximum number of signatures that each worker keeps.
    pub(crate) capacity: u32,
}

impl Dnssec {
    /// Returns the first key that belongs to none of its zones, in a block that serves `served`.
    pub(in crate::config) fn foreign_key<'a>(&'a self, served: &[Name]) -> Option<&'a SigningKey> {
        let zones = self.zones.as_deref().unwrap_or(served);
        self.keys.iter().find(|key| !zones.iter().any(|zone| zone.is_within(&key.owner)))
    }

    /// Returns true if keys of both kinds divide the work of an algorithm: key-signing keys sign
    /// the DNSKEY records, the others all else.
    pub(crate) fn is_split(&self, algorithm: Algorithm) -> bool {
        is_split(self.keys.iter().map(|key| &key.public), algorithm)
    }
}

/// Reads the `dnssec` stanza of one server block.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Option<Dnssec>, DirectiveError> {
    let Some(stanza) = context.stanza("dnssec", cursor) else { return Ok(None) };
    let words = cursor.rest();
    let zones = file::zones("dnssec", &words, context)?;
    let zones = (!words.is_empty()).then_some(zones);
    let mut dnssec = Dnssec { zones, keys: Vec::new(), capacity: CAPACITY };
    while let Some(property) = cursor.block() {
        match &*property.text {
            "key" => keys(cursor, context, &mut dnssec.keys)?,
            "cache_capacity" => {
                let word = cursor.expect_arg()?;
                let number = numbers::signed(&word.text)
                    .map_err(|message| DirectiveError::value(word, message))?;
                let capacity = number.clamp(CAPACITY_MIN.into(), CAPACITY_MAX.into());
                dnssec.capacity = capacity as u32;
                cursor.expect_no_arg()?;
            }
            other => {
                let suggestion = did_you_mean(other, OPTIONS);
                let message = format!("unknown property '{other}'{suggestion}");
                return Err(ParseError::at(property, message).into());
            }
        }
    }
    if dnssec.keys.is_empty() {
        let message = "plugin/dnssec: no effect: without 'key' nothing can be signed; leave it \
                       out, signatures of upstreams are passed on";
        context.warn(&stanza.place, message);
    }
    let is_of_none = |zone: &&Name| dnssec.keys.iter().all(|key| !zone.is_within(&key.owner));
    for zone in dnssec.zones.iter().flatten().filter(is_of_none) {
        if let Some(key) = dnssec.keys.first() {
            let message = format!(
                "plugin/dnssec: zone '{zone}' is signed with keys of other zones, such as '{}': \
                 its DS record has to be made of them",
                key.owner
            );
            context.warn(&stanza.place, message);
        }
    }
    once(cursor)?;
    Ok(Some(dnssec))
}

/// Reads `file KEY...` behind `key`.
fn keys(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
    keys: &mut Vec<SigningKey>,
) -> Result<(), DirectiveError> {
    let source = cursor.expect_arg()?;
    let words = if &*source.text == "file" { cursor.expect_rest()? } else { cursor.rest() };
    match &*source.text {
        "file" => {}
        "aws_secretsmanager" => {
            let names: Vec<_> = words.iter().map(|word| &*word.text).collect();
            let message = format!(
                "aws_secretsmanager: not compiled into this build: {}; write the keys into files \
                 and name them with 'key file'",
                names.join(" ")
            );
            return Err(DirectiveError::value(source, message));
        }
        other => {
            let suggestion = did_you_mean(other, ["file"]);
            let message = format!("unknown property '{other}'{suggestion}");
            return Err(ParseError::at(source, message).into());
        }
    }
    words.into_iter().try_for_each(|word| add(word, context, keys))
}

fn add(
    word: &Token,
    context: &mut Context<'_>,
    keys: &mut Vec<SigningKey>,
) -> Result<(), DirectiveError> {
    let key = dnskey::read("dnssec", word, context)?;
    if keys.iter().any(|other| other.public == key.public) {
        return Err(DirectiveError::value(word, format!("key '{key}' is written twice")));
    }
    if keys.len() >= KEYS_MAX {
        let message = format!("more than {KEYS_MAX} keys: each of them signs every RRset");
        return Err(DirectiveError::value(word, message));
    }
    keys.push(key);
    Ok(())
}

/// Writes the directive, if the server block has it.
pub(super) fn write(settings: &Option<Dnssec>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Some(Dnssec { zones, keys, capacity }) = settings else { return Ok(()) };
    write!(f, "    dnssec")?;
    zones.iter().try_for_each(|zones| word::names(f, zones))?;
    writeln!(f, " {{")?;
    keys.iter().try_for_each(|key| writeln!(f, "        key file {}", Word(&key.path)))?;
    writeln!(f, "        cache_capacity {capacity}")?;
    writeln!(f, "    }}")
}
