//! TLS of DNS: certificates of our own servers, and verification of servers by clients.
//!
//! An upstream generates an authority and a certificate at each start, in memory only; a client
//! that should trust it reads the authority's certificate from a file. TLS sessions come from the
//! forwarder's module `tls`, which is independent of its engine.

use onward::config::{ClientTls, Pem, Protocol, ServerTls};
use onward::tls::Server;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// The name in certificates, besides the addresses.
pub const NAME: &str = "localhost";

/// Creates a server of `protocol` for `addresses` and [`NAME`]; returns it and its authority's
/// certificate.
///
/// # Errors
/// A key or a certificate cannot be generated.
pub fn server(addresses: &[IpAddr], protocol: Protocol) -> io::Result<(Server, String)> {
    let (tls, authority) = identity(addresses).map_err(io::Error::other)?;
    Ok((Server::new(&tls, protocol).map_err(io::Error::other)?, authority))
}

fn identity(addresses: &[IpAddr]) -> Result<(ServerTls, String), rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    // Must differ from the certificate's own name, otherwise OpenSSL takes the certificate for
    // self-signed.
    params.distinguished_name.push(DnType::CommonName, "loadgen's authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let names = addresses.iter().map(ToString::to_string).chain([NAME.to_owned()]);
    let key = KeyPair::generate()?;
    let own = CertificateParams::new(names.collect::<Vec<_>>())?.signed_by(&key, &authority)?;
    let file = |what: &str, text: String| Pem {
        path: what.into(),
        place: PathBuf::new(),
        bytes: text.into_bytes().into(),
    };
    let tls = ServerTls {
        certificate: file("certificate", own.pem()),
        key: file("key", key.serialize_pem()),
        authorities: None,
        client_auth: onward::config::ClientAuth::default(),
    };
    Ok((tls, authority.pem()))
}

/// Returns the settings that verify a server by `name` or, without a name, by its address. Trusted
/// authorities are those in `file` or, without a file, those of the system.
///
/// # Errors
/// The file cannot be read.
pub fn client(name: Option<&str>, file: Option<&Path>) -> io::Result<ClientTls> {
    let read = |path: &Path| {
        let bytes = std::fs::read(path).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        })?;
        let place = path.to_owned();
        Ok::<_, io::Error>(Pem { path: path.display().to_string(), place, bytes: bytes.into() })
    };
    let authorities = file.map(read).transpose()?;
    Ok(ClientTls { name: name.map(str::to_owned), authorities, ..ClientTls::default() })
}
