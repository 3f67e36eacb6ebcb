//! A configuration, and everything it needs from files and the kernel before it can take effect.
//!
//! Certificates and the system's authorities are read here, addresses are tried and local data are
//! loaded, so that [`Server`](super::Server) itself, which the first thread calls, reads no file
//! and waits for nothing. At the first start, which no watchdog watches, the server loads local
//! data itself, after it has switched accounts. A new IPv6 address cannot be bound until the kernel
//! has finished duplicate address detection (RFC 4862 §5.4), which takes a second or two: this is
//! waited for here, because otherwise a boot or a reload just after `ip address add` would fail.

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

/// A configuration that can take effect at once.
pub struct Prepared {
    /// The configuration.
    pub(crate) config: Config,
    /// Certificates and keys, parsed.
    pub(crate) tls: Arc<Setup>,
    /// Local data sources; `None` at the first start, when the server itself starts the
    /// loaders.
    pub(super) data: Option<Plan>,
}

/// Inputs for preparing the next configuration: the certificates and the loaders of the current
/// one.
#[derive(Clone)]
pub struct Before {
    pub(super) tls: Arc<Setup>,
    pub(super) loaders: Loaders,
}

impl Prepared {
    /// Prepares `config`, to follow `before`. Reports its steps to `steps`.
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
        steps.begin("passing the configuration to the workers");
        Ok(Self { config, tls, data })
    }
}

/// Refuses source addresses of upstream queries that this host lacks. The reference would start and
/// then fail every query.
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

/// Waits until no address of `config` is tentative, up to the maximum time.
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

/// Returns the IPv6 addresses that `config` needs on this host.
fn wanted(config: &Config) -> impl Iterator<Item = Ipv6Addr> {
    let listeners = config.listeners.iter().map(|listener| listener.address.ip());
    let sources = config.forwards().filter_map(|forward| forward.source_address);
    let pages = config.http().into_iter().map(|listener| listener.address.ip());
    listeners.chain(sources).chain(pages).filter_map(|ip| match ip {
        IpAddr::V6(ip) if !ip.is_unspecified() => Some(ip),
        _ => None,
    })
}
