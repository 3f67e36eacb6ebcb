//! A configuration, and all that it takes from files and from the kernel before it can hold.
//!
//! Certificates and the authorities that the system trusts are read here, addresses are tried and
//! local data are loaded, so that [`Server`](super::Server) itself, which the first thread calls,
//! reads no file and waits for nothing. At the first start, which no watchdog watches, the server
//! loads local data itself, as the account that it has become. An address of IPv6 that was added
//! just now cannot be bound until the kernel has looked for a duplicate of it on its link (RFC 4862
//! §5.4), which takes a second or two: that is waited for, as a boot or a reload right behind `ip
//! address add` would fail otherwise.

use super::StartError;
use super::sources::{Loaders, Plan};
use crate::blocking::Steps;
use crate::clock::Clock;
use crate::config::Config;
use crate::sys::interfaces::{self, Detection};
use crate::sys::socket;
use crate::tls::Setup;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

/// Maximum time that addresses may stay tentative; one probe takes a second, and begins within
/// another.
const DETECTION_MAX: Duration = Duration::from_secs(5);
/// Interval of checks of tentative addresses.
const DETECTION_PERIOD: Duration = Duration::from_millis(100);

/// A configuration that can hold at once.
pub struct Prepared {
    /// The configuration.
    pub config: Config,
    /// Certificates and keys, parsed.
    pub tls: Arc<Setup>,
    /// Its sources of local data; `None`: no configuration has held before, and whatever loads them
    /// begins with the server.
    pub(super) data: Option<Plan>,
}

/// Inputs to preparing the next configuration: the certificates and the loaders of the one that
/// holds.
#[derive(Clone)]
pub struct Before {
    pub(super) tls: Arc<Setup>,
    pub(super) loaders: Loaders,
}

impl Prepared {
    /// Makes `config` ready, where `before` has held until now. Says what it does to `steps`.
    ///
    /// # Errors
    /// [`StartError::Source`], [`StartError::Tentative`], [`StartError::Tls`] or
    /// [`StartError::Loader`].
    pub fn new(config: Config, before: Option<&Before>, steps: &Steps) -> Result<Self, StartError> {
        await_detection(&config, steps);
        check_sources(&config)?;
        steps.begin("reading the certificates that the system trusts");
        let setup = Setup::new(&config, before.map(|before| &*before.tls));
        let tls = Arc::new(setup.map_err(StartError::Tls)?);
        steps.begin("loading local data");
        let data = before.map(|before| before.loaders.plan(&config)).transpose()?;
        steps.begin("handing the configuration over");
        Ok(Self { config, tls, data })
    }
}

/// Refuses addresses to ask upstreams from that this host lacks. The reference would start and then
/// fail every query.
fn check_sources(config: &Config) -> Result<(), StartError> {
    for forward in config.forwards() {
        let Some(source) = forward.source_address else { continue };
        for upstream in &forward.upstreams {
            socket::check_source(upstream.address, source)
                .map_err(|error| StartError::source(source, error))?;
        }
    }
    Ok(())
}

/// Waits until no address of `config` is tentative, or for long enough.
fn await_detection(config: &Config, steps: &Steps) {
    let clock = Clock::start();
    let until = clock.now().plus(DETECTION_MAX);
    let (_open, nothing) = crossbeam_channel::bounded::<()>(0);
    let addresses: Vec<Ipv6Addr> = wanted(config).collect();
    while clock.now() < until {
        let is_tentative = |ip: &&Ipv6Addr| interfaces::detection(**ip) == Some(Detection::Running);
        let Some(tentative) = addresses.iter().find(is_tentative) else { return };
        steps.begin(format!("waiting for duplicate address detection of {tentative}"));
        let _ = nothing.recv_timeout(DETECTION_PERIOD);
    }
}

/// The addresses of IPv6 that `config` needs on this host.
fn wanted(config: &Config) -> impl Iterator<Item = Ipv6Addr> {
    let listeners = config.listeners.iter().map(|listener| listener.address.ip());
    let sources = config.forwards().filter_map(|forward| forward.source_address);
    let pages = config.http().into_iter().map(|listener| listener.address.ip());
    listeners.chain(sources).chain(pages).filter_map(|ip| match ip {
        IpAddr::V6(ip) if !ip.is_unspecified() => Some(ip),
        _ => None,
    })
}
