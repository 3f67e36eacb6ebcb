//! HTTP endpoints of the process, collected from all server blocks.
//!
//! Four directives name an address each. Equal addresses are one listener, whichever directives and
//! server blocks name them, and an endpoint is served once at each address: it reports on the whole
//! process.

use super::{Config, Stages};
use std::net::SocketAddr;
use std::time::Duration;

/// Connections that are open at once; a further one replaces one that is idle. Readers
/// of such pages come seldom, stay short, and are few.
pub const HTTP_CONNECTIONS_MAX: usize = 64;

/// Something that is served over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Endpoint {
    /// Liveness of the process.
    Health,
    /// Readiness for clients.
    Ready,
    /// Counters, for Prometheus.
    Metrics,
    /// Status, for people and for `onward top`.
    Status,
}

impl Endpoint {
    /// Paths, the first for people.
    pub(crate) fn paths(self) -> &'static [&'static str] {
        match self {
            Self::Health => &["/health"],
            Self::Ready => &["/ready"],
            Self::Metrics => &["/metrics"],
            Self::Status => &["/", "/status.json"],
        }
    }

    /// The directive that asks for it.
    pub(crate) fn directive(self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::Ready => "ready",
            Self::Metrics => "prometheus",
            Self::Status => "status",
        }
    }
}

/// One address that pages are served on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HttpListener {
    /// Address. The unspecified address of IPv6 stands for both families.
    pub(crate) address: SocketAddr,
    /// Endpoints, in the order of [`Endpoint`].
    pub(crate) pages: Vec<Endpoint>,
}

impl Config {
    /// The addresses that pages are served on, in the order of the file.
    pub(crate) fn http(&self) -> Vec<HttpListener> {
        of_blocks(self.blocks.iter().map(|block| &block.stages))
    }

    /// Returns the time for which it goes on serving after a stop: the longest that any block asks
    /// for.
    pub(crate) fn lameduck(&self) -> Duration {
        let healths = self.blocks.iter().filter_map(|block| block.stages.health.as_ref());
        healths.map(|health| health.lameduck).max().unwrap_or_default()
    }
}

/// The addresses that these blocks name.
pub(super) fn of_blocks<'a>(blocks: impl Iterator<Item = &'a Stages>) -> Vec<HttpListener> {
    let mut found: Vec<HttpListener> = Vec::new();
    for stages in blocks {
        let named = [
            (Endpoint::Ready, stages.ready.as_ref().map(|ready| ready.address)),
            (Endpoint::Health, stages.health.as_ref().map(|health| health.address)),
            (Endpoint::Metrics, stages.prometheus.as_ref().map(|metrics| metrics.address)),
            (Endpoint::Status, stages.status),
        ];
        for (page, address) in named {
            let Some(address) = address else { continue };
            let known = found.iter().position(|listener| listener.address == address);
            let place = known.unwrap_or_else(|| {
                found.push(HttpListener { address, pages: Vec::new() });
                found.len() - 1
            });
            let pages = &mut found[place].pages;
            pages.push(page);
            pages.sort_unstable();
            pages.dedup();
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::Endpoint;
    use crate::config::http::show;
    use crate::config::{Config, Host};
    use std::time::Duration;

    fn load(text: &str) -> Config {
        Config::load(text.as_bytes(), "f", &Host::plain()).unwrap().0
    }

    #[test]
    fn equal_addresses_are_one_and_the_longest_lameduck_holds() {
        let config = load(
            "a {\n prometheus :9153\n health :9153 {\n lameduck 2s\n}\n}\n\
             b {\n prometheus [::]:9153\n health {\n lameduck 5s\n}\n status\n}\nc {\n health\n}\n",
        );
        let found: Vec<_> = config
            .http()
            .into_iter()
            .map(|listener| (show(listener.address), listener.pages))
            .collect();
        assert_eq!(
            found,
            [
                (":9153".to_owned(), vec![Endpoint::Health, Endpoint::Metrics]),
                (":8080".to_owned(), vec![Endpoint::Health]),
                ("127.0.0.1:8053".to_owned(), vec![Endpoint::Status]),
            ]
        );
        assert_eq!(config.lameduck(), Duration::from_secs(5));
        assert_eq!(load(". {\n status\n}").lameduck(), Duration::ZERO);
    }
}
