//! The zones that are signed into files, of all server blocks.
//!
//! Blocks may name the same zones, as those that import a snippet do; each is signed once. Two
//! stanzas that would write one file with different contents are refused.

use super::{ConfigError, FileSource, Name, Plugin, ServerBlock, Sign, SigningKey};
use crate::corefile::Place;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A zone that is signed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SignedSource {
    /// The zone and its unsigned file.
    pub(crate) file: FileSource,
    /// Its keys; at least one is a key-signing key.
    pub(crate) keys: Arc<[SigningKey]>,
    /// Path of the signed file.
    pub(crate) output: PathBuf,
    /// The signed file as errors name it.
    pub(crate) label: String,
}

impl Sign {
    /// The zones that are signed, in a block that serves `served`.
    ///
    /// # Errors
    /// The keys do not fit the zones; the text for the operator.
    pub(super) fn sources(&self, served: &[Name]) -> Result<Vec<SignedSource>, String> {
        if self.keys.is_empty() {
            return Ok(Vec::new());
        }
        let zones = self.zones.as_deref().unwrap_or(served);
        if let Some(key) = self.keys.iter().find(|key| !zones.contains(&key.owner)) {
            let (owner, tag) = (&key.owner, key.public.tag());
            let message = "can not sign any of the zones: expected a key of one of them";
            return Err(format!("key {owner} (keyid: {tag}) {message}"));
        }
        zones.iter().map(|zone| self.source(zone)).collect()
    }

    fn source(&self, zone: &Name) -> Result<SignedSource, String> {
        let keys: Vec<_> = self.keys.iter().filter(|key| key.owner == *zone).cloned().collect();
        let Some(first) = keys.first() else {
            return Err(format!("zone '{zone}' has no key: add one with 'key file'"));
        };
        if !keys.iter().any(|key| key.public.is_entry_point()) {
            return Err(format!(
                "DNSKEY in \"{}.key\" is not a CSK/KSK: zone '{zone}' needs a key with flags 257",
                first.path
            ));
        }
        let identity = |key: &SigningKey| (key.public.algorithm, key.public.tag());
        let mut others = keys.iter().enumerate();
        let twin = others.find(|(place, key)| {
            keys[..*place].iter().any(|other| identity(other) == identity(key))
        });
        if let Some((_, key)) = twin {
            return Err(format!("two keys have the key tag of '{key}': make another key"));
        }
        let base = file_name(zone);
        let output = self.directory.place.join(&base);
        if output == self.place {
            let label = &self.label;
            return Err(format!("the signed zone would replace {label}: use another 'directory'"));
        }
        Ok(SignedSource {
            file: FileSource {
                zone: zone.clone(),
                stanza: 0,
                label: self.label.clone(),
                place: self.place.clone(),
                reload: self.reload,
                written: self.written.clone(),
            },
            keys: keys.into(),
            label: Path::new(&self.directory.label).join(&base).to_string_lossy().into_owned(),
            output,
        })
    }
}

/// The base name of the signed file of a zone; bytes that are unusual in names of files are
/// escaped.
fn file_name(zone: &Name) -> String {
    let mut name = String::from("db.");
    for byte in zone.to_string().bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' => name.push(byte.into()),
            _ => name.push_str(&format!("%{byte:02x}")),
        }
    }
    name + "signed"
}

/// Returns the zones that a server block signs.
pub(super) fn of_block(block: &ServerBlock) -> impl Iterator<Item = SignedSource> {
    let served: Vec<_> = block.keys.iter().map(|key| key.zone.clone()).collect();
    // Errors have refused the configuration.
    block.stages.sign.iter().flat_map(move |sign| sign.sources(&served).unwrap_or_default())
}

/// Returns the different ones of `all`, in their order.
pub(super) fn distinct(all: impl Iterator<Item = SignedSource>) -> Vec<SignedSource> {
    let mut known = HashSet::new();
    all.filter(|source| known.insert(source.clone())).collect()
}

/// Checks that no two of the different `sources` write one file. `place`: of the first
/// `sign`.
///
/// # Errors
/// [`ConfigError`].
pub(super) fn check(sources: &[SignedSource], place: Option<&Place>) -> Result<(), ConfigError> {
    let mut known = HashMap::new();
    for source in sources {
        let Some(other) = known.insert(&source.output, source) else { continue };
        let Some(place) = place.cloned() else { continue };
        let (label, zone) = (&source.label, &source.file.zone);
        let (one, two) = (&other.file.written.0, &source.file.written.0);
        let message = format!(
            "zone {zone} is signed into {label} by {one} and in another way by {two}: leave one \
             out, or use different directories"
        );
        return Err(ConfigError::Value { directive: Plugin::sign.name(), place, message });
    }
    Ok(())
}
