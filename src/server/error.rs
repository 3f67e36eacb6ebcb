//! Errors of a start or a reload.
//!
//! Each names the address, thread or file and a remedy. All but one lie with the host, where the
//! missing resource may be available later ([`StartError::cause`]).

use crate::config::{Cause, Protocol};
use crate::sys::interfaces::{self, Detection};
use crate::tls::SetupError;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

/// Reason why onward could not start.
#[derive(Debug)]
pub enum StartError {
    /// A listener's address could not be bound.
    Bind(SocketAddr, io::Error),
    /// Packets for a listener's address cannot be steered to workers.
    Steer(SocketAddr, io::Error),
    /// An IPv6 address cannot be bound because duplicate address detection has not finished.
    Tentative(IpAddr, Detection),
    /// The configuration names no address to listen on.
    NoListener,
    /// The host has no address family for the listeners without a `bind`.
    NoFamily,
    /// An address changes from the first protocol to the second, and its sockets are still open.
    Scheme(SocketAddr, (Protocol, Protocol)),
    /// Certificates or keys cannot be used.
    Tls(SetupError),
    /// The source address of upstream queries cannot be used.
    Source(IpAddr, io::Error),
    /// No descriptor is left for the listeners.
    Descriptors(io::Error),
    /// The process could not become the account of this name.
    Account(String, io::Error),
    /// The memory of full caches cannot be reserved.
    Caches(io::Error),
    /// A worker could not be pinned or started.
    Worker(usize, io::Error),
    /// The keeper could not be started.
    Keeper(io::Error),
    /// A loader could not be started.
    Loader(io::Error),
    /// A zone cannot be served, because of this error in its file.
    Zone(String),
    /// The writer could not be started.
    Writer(io::Error),
    /// The thread of zone transfers could not be started.
    Transfers(io::Error),
    /// The admin could not be started.
    Admin(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(address, error) => fmt_bind(f, *address, error),
            Self::Steer(address, error) if error.kind() == io::ErrorKind::OutOfMemory => write!(
                f,
                "cannot steer packets for {address} to workers: net.core.optmem_max is too small \
                 (20480 is enough); raise it or choose --steer flow"
            ),
            Self::Steer(address, error) => write!(
                f,
                "cannot steer packets for {address} to workers: {error} (a socket passed by a \
                 service manager needs ReusePort=yes); choose --steer flow"
            ),
            Self::Scheme(address, (before, now)) => write!(
                f,
                "cannot switch {address} from {before}:// to {now}:// in a reload: restart, or use \
                 another port"
            ),
            Self::Tls(error) => error.fmt(f),
            Self::Tentative(ip, Detection::Running) => write!(
                f,
                "cannot use {ip}: the address is still tentative (duplicate address detection has \
                 not finished); check that the link is up and 'ip -6 address show tentative'"
            ),
            Self::Tentative(ip, Detection::Failed) => write!(
                f,
                "cannot use {ip}: duplicate address detection failed, another host on the link has \
                 it ('ip -6 address show dadfailed')"
            ),
            Self::NoListener => {
                write!(f, "no address to listen on: add a server block or an address to 'bind'")
            }
            Self::NoFamily => {
                write!(f, "no address to listen on: this host has neither IPv4 nor IPv6")
            }
            Self::Source(source, error) => match error.kind() {
                io::ErrorKind::AddrNotAvailable => write!(
                    f,
                    "cannot send queries from source_address {source}: this host has no such \
                     address ('ip address' lists its addresses); correct or remove the option"
                ),
                _ => write!(f, "cannot send queries from source_address {source}: {error}"),
            },
            Self::Worker(number, error) => write!(
                f,
                "cannot start worker {number}: {error}; check that its core is online and allowed, \
                 and the limit of open files"
            ),
            Self::Caches(error) => fmt_caches(f, error),
            Self::Account(name, error) if error.kind() == io::ErrorKind::PermissionDenied => {
                write!(f, "--user {name}: only root can switch to another user: {error}")
            }
            Self::Account(name, error) => write!(f, "--user {name}: {error}"),
            Self::Descriptors(error) => {
                write!(f, "cannot listen: {error}; raise the limit of open files")
            }
            Self::Keeper(error) => {
                write!(f, "cannot start the keeper thread: {error}; raise the limit of open files")
            }
            Self::Loader(error) => {
                write!(f, "cannot start a loader thread for a file: {error}")
            }
            Self::Zone(error) => write!(f, "{error}"),
            Self::Writer(error) => write!(f, "cannot start the log writer thread: {error}"),
            Self::Transfers(error) => {
                write!(f, "cannot start the thread of zone transfers: {error}")
            }
            Self::Admin(error) => {
                write!(f, "cannot start the HTTP thread: {error}; raise the limit of open files")
            }
        }
    }
}

/// Writes the error that the memory of caches cannot be reserved.
fn fmt_caches(f: &mut fmt::Formatter<'_>, error: &io::Error) -> fmt::Result {
    write!(
        f,
        "cannot reserve the memory of the caches: {error}; lower CAPACITY or capacity_bytes of \
         cache, or allow more address space (ulimit -v, vm.overcommit_memory)"
    )
}

impl std::error::Error for StartError {}

impl StartError {
    /// Creates the error that `address` could not be bound.
    pub(crate) fn bind(address: SocketAddr, error: io::Error) -> Self {
        let tentative = Self::tentative(address.ip(), &error);
        tentative.unwrap_or(Self::Bind(address, error))
    }

    /// Creates the error that upstream queries cannot be sent from `source`.
    pub(crate) fn source(source: IpAddr, error: io::Error) -> Self {
        Self::tentative(source, &error).unwrap_or(Self::Source(source, error))
    }

    /// Returns the error, if the address is unavailable only because of duplicate address
    /// detection.
    fn tentative(ip: IpAddr, error: &io::Error) -> Option<Self> {
        let IpAddr::V6(wanted) = ip else { return None };
        let is_lacking = error.kind() == io::ErrorKind::AddrNotAvailable;
        let detection = interfaces::detection(wanted).filter(|_| is_lacking)?;
        Some(Self::Tentative(ip, detection))
    }

    /// Returns the party that has to change: the host, unless the Corefile has no address to listen
    /// on.
    pub(crate) fn cause(&self) -> Cause {
        match self {
            Self::NoListener => Cause::Text,
            _ => Cause::Host,
        }
    }
}

/// Writes the reason why `address` cannot be listened on, with advice.
fn fmt_bind(f: &mut fmt::Formatter<'_>, address: SocketAddr, error: &io::Error) -> fmt::Result {
    match error.kind() {
        io::ErrorKind::AddrInUse => write!(
            f,
            "cannot listen on {address}: the address is in use by another program \
             (shown by: ss -tulnp 'sport = {}'); stop it or choose another port",
            address.port()
        ),
        io::ErrorKind::PermissionDenied => write!(
            f,
            "cannot listen on {address}: no permission for ports below 1024; run as root, \
             grant CAP_NET_BIND_SERVICE, or choose another port"
        ),
        io::ErrorKind::AddrNotAvailable => write!(
            f,
            "cannot listen on {address}: this host has no such address ('ip address' lists its \
             addresses)"
        ),
        _ => write!(f, "cannot listen on {address}: {error}"),
    }
}
