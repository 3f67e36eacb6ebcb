//! Certificates for loopback, made during the test: valid ones, and each kind of invalid one.
//!
//! An [`Authority`] issues certificates for names and addresses; defects are requested explicitly.
//! Files are passed to a configuration by name, without a file system.

#![allow(dead_code, reason = "each test binary uses its part of this")]

use onward::config::{Config, Host};
use onward::corefile::Sources;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// A certificate authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// Validity period of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dates {
    Now,
    Over,
    ToCome,
}

impl Dates {
    fn apply(self, params: &mut CertificateParams) {
        (params.not_before, params.not_after) = match self {
            Self::Now => (date_time_ymd(2020, 1, 1), date_time_ymd(2090, 1, 1)),
            Self::Over => (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1)),
            Self::ToCome => (date_time_ymd(2089, 1, 1), date_time_ymd(2090, 1, 1)),
        };
    }
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// The authority's own certificate, in PEM.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// Issues a certificate for these names and addresses.
    pub(crate) fn issue(&self, names: &[&str]) -> Identity {
        self.issue_for(names, Dates::Now)
    }

    pub(crate) fn issue_for(&self, names: &[&str], dates: Dates) -> Identity {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        dates.apply(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Identity { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// A self-signed server certificate that is its own authority, as `openssl req -x509` makes it.
    pub(crate) fn of_itself(names: &[&str], dates: Dates) -> Identity {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        dates.apply(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Identity { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    fn roots(&self) -> Arc<RootCertStore> {
        roots(&self.pem())
    }

    /// The configuration of a client that trusts this authority.
    pub(crate) fn client(&self) -> ClientConfig {
        Self::trusting(&self.pem())
    }

    /// The configuration of a client that trusts the authority with this certificate.
    pub(crate) fn trusting(pem: &str) -> ClientConfig {
        ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots(pem))
            .with_no_client_auth()
    }

    /// The configuration of a client that also presents a certificate.
    pub(crate) fn client_with(&self, own: &Identity) -> ClientConfig {
        ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots())
            .with_client_auth_cert(own.chain(), own.private_key())
            .unwrap()
    }

    /// The configuration of a server that requires client certificates of this authority.
    pub(crate) fn strict_server(&self, own: &Identity) -> ServerConfig {
        let verifier =
            WebPkiClientVerifier::builder_with_provider(self.roots(), provider()).build().unwrap();
        ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(own.chain(), own.private_key())
            .unwrap()
    }
}

fn roots(pem: &str) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    Arc::new(roots)
}

impl Identity {
    fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()]
    }

    fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap()
    }

    /// The pin of the certificate's key, as written in a Corefile.
    pub(crate) fn pin(&self) -> String {
        let pin = onward::tls::pin_of(&self.chain()[0]).unwrap();
        let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::from("sha256/");
        for chunk in pin.chunks(3) {
            let word = chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte));
            let word = word << (8 * (3 - chunk.len()));
            let digit = |place: usize| digits[(word >> (18 - 6 * place)) as usize & 63] as char;
            text.extend((0..=chunk.len()).map(digit));
        }
        text + "="
    }

    /// The configuration of a server that presents this certificate.
    pub(crate) fn server(&self) -> ServerConfig {
        self.server_speaking(rustls::ALL_VERSIONS)
    }

    /// The same, for this TLS version only.
    pub(crate) fn server_of(&self, version: &'static SupportedProtocolVersion) -> ServerConfig {
        self.server_speaking(&[version])
    }

    fn server_speaking(&self, versions: &[&'static SupportedProtocolVersion]) -> ServerConfig {
        ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(self.chain(), self.private_key())
            .unwrap()
    }
}

pub(crate) fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The configuration `text`, which may refer to `files`.
pub(crate) fn load(text: &str, files: &[(&str, &str)]) -> Config {
    let file = |(name, text): &(&str, &str)| (Path::new("/dir").join(name), text.as_bytes().into());
    let files: BTreeMap<_, Vec<u8>> = files.iter().map(file).collect();
    let host = Host { sources: Sources::fixed(files, BTreeMap::new()), ..Host::plain() };
    Config::load(text.as_bytes(), "Corefile", &host).unwrap().0
}
