//! The certificates in a configuration's files, and their expiry.
//!
//! An expired server certificate takes the service with it, without any sign before: so each
//! certificate outside its validity is reported at the start and by `check`, and its end is a
//! metric. The system's authorities are not included.

use super::certificate::{Certificate, Shown};
use super::{SetupError, identity};
use crate::config::{Config, Listener, Pem};
use std::collections::HashSet;
use std::time::Duration;

/// Maximum number of listed certificates of one file: more than a chain or a site's own authorities
/// have. Of a longer file those that expire first are listed.
const ENTRIES_MAX: usize = 32;

/// Use of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Use {
    /// Listeners send it to clients.
    Server,
    /// Sent to upstreams.
    Client,
    /// Trusted authority.
    Authority,
}

impl Use {
    /// Returns the name in the metric's label.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
            Self::Authority => "authority",
        }
    }

    /// Consequence of a certificate that is out of its validity period.
    fn effect(self) -> &'static str {
        match self {
            Self::Server => "clients will reject it",
            Self::Client => "upstreams that request it will reject it",
            Self::Authority => "certificates it has issued are rejected",
        }
    }
}

/// A certificate in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Use of the certificate.
    pub(crate) used: Use,
    /// The file, as in the Corefile.
    pub(crate) file: String,
    /// Position in the file, from 1.
    pub(crate) number: usize,
    /// Subject, printable.
    pub(crate) subject: String,
    /// Valid from this time since 1970.
    pub(crate) not_before: Duration,
    /// Valid up to this time since 1970.
    pub(crate) not_after: Duration,
}

impl Entry {
    /// Returns the problem of the certificate at `now`, as text.
    pub(crate) fn trouble(&self, now: Duration) -> Option<String> {
        let Self { file, subject, number, .. } = self;
        let effect = self.used.effect();
        if now > self.not_after {
            let days = (now - self.not_after).as_secs() / 86_400;
            let end = Shown(self.not_after);
            return Some(format!(
                "TLS: {file}: certificate {number} ('{subject}') expired at {end}, {days} days \
                 ago: {effect}"
            ));
        }
        let begin = Shown(self.not_before);
        (now < self.not_before).then(|| {
            format!(
                "TLS: {file}: certificate {number} ('{subject}') is not valid before {begin}: \
                 {effect} until then"
            )
        })
    }
}

/// Returns the certificates in the files of `config`, each once for each use.
pub(super) fn of(config: &Config) -> Result<Vec<Entry>, SetupError> {
    let mut files: Vec<(Use, &Pem)> = Vec::new();
    for tls in config.listeners.iter().flat_map(Listener::certificates) {
        files.push((Use::Server, &tls.certificate));
        files.extend(tls.authorities.iter().map(|file| (Use::Authority, file)));
    }
    for tls in config.upstreams().filter_map(|(_, upstream)| upstream.tls.as_ref()) {
        files.extend(tls.identity.iter().map(|(certificate, _)| (Use::Client, certificate)));
        files.extend(tls.authorities.iter().map(|file| (Use::Authority, file)));
    }
    let mut entries = Vec::new();
    let mut seen = HashSet::new();
    for (used, file) in files {
        if seen.insert((used, &*file.place)) {
            entries.extend(of_file(used, file)?);
        }
    }
    Ok(entries)
}

fn of_file(used: Use, file: &Pem) -> Result<Vec<Entry>, SetupError> {
    let mut entries = Vec::new();
    for (place, der) in identity::certificates(file)?.iter().enumerate() {
        // Certificates that nothing can parse were refused before; those that only rustls can parse
        // have no dates here.
        let Some(certificate) = Certificate::read(der) else { continue };
        let (not_before, not_after) = certificate.validity();
        let (file, number) = (file.path.clone(), place + 1);
        let subject = certificate.subject();
        entries.push(Entry { used, file, number, subject, not_before, not_after });
    }
    entries.sort_by_key(|entry| entry.not_after);
    entries.truncate(ENTRIES_MAX);
    entries.sort_by_key(|entry| entry.number);
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::{Entry, Use};
    use std::time::Duration;

    #[test]
    fn a_certificate_outside_its_validity_is_reported() {
        let day = |number: u64| Duration::from_secs(number * 86_400);
        let (file, subject) = ("a.pem".to_owned(), "CN=a".to_owned());
        let (not_before, not_after) = (day(10), day(20));
        let entry = Entry { used: Use::Server, file, number: 2, subject, not_before, not_after };
        for now in [day(10), day(15), day(20)] {
            assert_eq!(entry.trouble(now), None);
        }
        let early = entry.trouble(day(9)).unwrap();
        assert!(early.contains("is not valid before 1970-01-11T00:00:00Z"), "{early}");
        let late = entry.trouble(day(23)).unwrap();
        let head = "TLS: a.pem: certificate 2 ('CN=a') expired at 1970-01-21T00:00:00Z, 3 days";
        assert!(late.starts_with(head) && late.ends_with("clients will reject it"), "{late}");
    }
}
