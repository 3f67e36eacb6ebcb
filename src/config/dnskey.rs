//! Files of DNSSEC keys, as `dnssec-keygen` and `ldns-keygen` write them.
//!
//! A key is a pair of files: `Kname+algorithm+tag.key` with its DNSKEY record, and the same with
//! `.private` with the private key. Both are read with the configuration, and a change of them is a
//! change of the configuration. A pair that cannot sign is an error.

use super::context::Context;
use super::error::DirectiveError;
use super::{Name, Pem, record};
use crate::corefile::Token;
use crate::dnssec::{Algorithm, KeyPair, PublicKey, RsaSecret, Secret, SecretBytes};
use std::fmt;

/// TTL of a DNSKEY record in a file that has none.
const TTL: u32 = 3_600;
/// Suffixes of the two files.
const SUFFIXES: [&str; 2] = [".key", ".private"];

/// A key and its files.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SigningKey {
    /// Path of the files without suffix, as it is written.
    pub(crate) path: String,
    /// Owner of the DNSKEY record.
    pub(crate) owner: Name,
    /// TTL of the DNSKEY record.
    pub(crate) ttl: u32,
    /// The public key.
    pub public: PublicKey,
    /// The private key.
    pub(crate) secret: Secret,
    pub(crate) files: [Pem; 2],
}

impl SigningKey {
    /// The pair that signs.
    ///
    /// # Errors
    /// Never for a key that was read.
    pub(crate) fn pair(&self) -> Result<KeyPair, String> {
        KeyPair::new(&self.public, &self.secret)
    }
}

impl fmt::Display for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.public.is_entry_point() { "KSK" } else { "ZSK" };
        let (name, tag) = (self.public.algorithm.name(), self.public.tag());
        write!(f, "{} {name} {kind} {tag}", self.owner)
    }
}

/// Reads the files of the key that `path` names, relative to `root`.
///
/// # Errors
/// The files cannot be read, or are no key that signs.
pub(super) fn read(
    directive: &str,
    path: &Token,
    context: &mut Context<'_>,
) -> Result<SigningKey, DirectiveError> {
    let base = SUFFIXES.iter().find_map(|suffix| path.text.strip_suffix(suffix));
    let base = base.unwrap_or(&path.text);
    let sources = &context.host.sources;
    let root = sources.working_directory.join(context.root.unwrap_or_default());
    let open = |suffix: &str| {
        let name = format!("{base}{suffix}");
        let place = root.join(&name);
        let bytes = (sources.read)(&place)
            .map_err(|error| DirectiveError::host(path, format!("open {name}: {error}")))?;
        Ok::<_, DirectiveError>(Pem { path: name, place, bytes: bytes.into() })
    };
    let files = [open(SUFFIXES[0])?, open(SUFFIXES[1])?];
    let wrong = |file: &Pem, message: String| {
        DirectiveError::value(path, format!("{}: {message}", file.path))
    };
    let (owner, ttl, public) =
        public_key(&files[0].bytes).map_err(|message| wrong(&files[0], message))?;
    let secret =
        private_key(&files[1].bytes, public.algorithm).map_err(|why| wrong(&files[1], why))?;
    let key = SigningKey { path: base.to_owned(), owner, ttl, public, secret, files };
    key.pair().map_err(|message| wrong(&key.files[1], message))?;
    let secret = &key.files[1];
    if (context.host.sources.is_exposed)(&secret.place) {
        let message = format!(
            "plugin/{directive}: {} can be read by others than its owner: chmod 600",
            secret.path
        );
        context.warn(&path.place, message);
    }
    Ok(key)
}

/// The owner, the TTL and the key of the DNSKEY record in a `.key` file.
fn public_key(text: &[u8]) -> Result<(Name, u32, PublicKey), String> {
    let text = std::str::from_utf8(text).map_err(|_| "no public key found")?;
    let lines = text.lines().map(|line| line.split(';').next().unwrap_or_default());
    let mut words = Vec::new();
    let mut depth = 0_i32;
    for line in lines.filter(|line| !line.trim().is_empty()) {
        let count = |sign| line.matches(sign).count() as i32;
        depth += count('(') - count(')');
        let of_line = line.split(|c: char| c.is_ascii_whitespace() || matches!(c, '(' | ')'));
        words.extend(of_line.filter(|word| !word.is_empty()));
        if depth <= 0 {
            break;
        }
    }
    let mut words = words.into_iter();
    let owner = words.next().ok_or("no public key found")?;
    let owner = Name::parse(owner).map_err(|error| format!("invalid name '{owner}': {error}"))?;
    let mut ttl = TTL;
    for word in words.by_ref() {
        match word {
            _ if word.eq_ignore_ascii_case("IN") => {}
            _ if word.eq_ignore_ascii_case("DNSKEY") => break,
            _ => {
                let expected = || format!("expected a DNSKEY record, found '{word}'");
                ttl = word.parse().map_err(|_| expected())?;
            }
        }
    }
    let mut number = |what: &str, max: u16| {
        let word = words.next().ok_or_else(|| format!("the record ends before its {what}"))?;
        let number = word.parse::<u16>().ok().filter(|number| *number <= max);
        number.ok_or_else(|| format!("invalid {what} '{word}'"))
    };
    let (flags, protocol) = (number("flags", u16::MAX)?, number("protocol", 255)?);
    let algorithm = number("algorithm", 255)?;
    if protocol != 3 {
        return Err(format!("invalid protocol '{protocol}': expected 3"));
    }
    let algorithm = Algorithm::of(algorithm as u8).ok_or_else(|| {
        let known = Algorithm::ALL.map(|known| format!("{} ({})", known as u8, known.name()));
        let known = known.join(", ");
        format!("dns: bad algorithm {algorithm}: expected one of {known}; replace the key")
    })?;
    let key = record::decode_base64(&words.collect::<String>());
    let key = key.filter(|key| !key.is_empty()).ok_or("the public key is not base64")?;
    let public = PublicKey { flags, algorithm, key: key.into() };
    if !public.is_zone_key() {
        return Err(format!("flags {flags}: not a key of a zone: expected 256 or 257"));
    }
    if public.is_revoked() {
        let text =
            "the key is revoked (RFC 5011): no resolver trusts what it signs; use another key";
        return Err(format!("flags {flags}: {text}"));
    }
    Ok((owner, ttl, public))
}

/// The private key in a `.private` file.
fn private_key(text: &[u8], algorithm: Algorithm) -> Result<Secret, String> {
    let text = std::str::from_utf8(text).map_err(|_| "not a private key")?;
    let field = |name: &str| {
        let mut values = text.lines().filter_map(|line| line.split_once(':'));
        values.find(|(found, _)| *found == name).map(|(_, value)| value.trim())
    };
    let format = field("Private-key-format").ok_or("no line 'Private-key-format'")?;
    if !format.starts_with("v1.") {
        return Err(format!("unknown format '{format}': expected v1.3"));
    }
    let written = field("Algorithm").and_then(|value| value.split_whitespace().next());
    if written.and_then(|number| number.parse().ok()) != Some(algorithm as u8) {
        let written = written.unwrap_or("none");
        return Err(format!("algorithm {written}: the public key has {}", algorithm as u8));
    }
    let bytes = |name: &str| {
        let value = field(name).ok_or_else(|| format!("no line '{name}'"))?;
        let bytes = record::decode_base64(value).filter(|bytes| !bytes.is_empty());
        bytes.map(SecretBytes::from).ok_or_else(|| format!("'{name}' is not base64"))
    };
    Ok(match algorithm {
        Algorithm::RsaSha256 | Algorithm::RsaSha512 => Secret::Rsa(Box::new(RsaSecret {
            n: bytes("Modulus")?,
            e: bytes("PublicExponent")?,
            d: bytes("PrivateExponent")?,
            primes: [bytes("Prime1")?, bytes("Prime2")?],
            exponents: [bytes("Exponent1")?, bytes("Exponent2")?],
            coefficient: bytes("Coefficient")?,
        })),
        _ => Secret::Scalar(bytes("PrivateKey")?),
    })
}

#[cfg(test)]
mod tests;
