//! HTTP endpoints by path, and their contents.
//!
//! Each response is made on request, by the thread that owns its data. An endpoint that the
//! listener does not serve is 404. The status page shows the names that clients query, so it is
//! protected against DNS rebinding: on a connection to a loopback address the `Host` must be an
//! address or `localhost`.

use super::gather::Gatherer;
use super::page;
use super::readiness::Readiness;
use super::request::{Refusal, Request};
use super::response::Response;
use crate::config::{Config, Endpoint};
use crate::engine::health::HealthStates;
use crate::log::{Event, Level, Log};
use std::net::IpAddr;
use std::sync::Arc;

/// Source of the log lines about readiness.
const READY: &str = "plugin/ready";
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";
/// Prometheus' text format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
/// The page loads nothing from elsewhere, and no other page may frame it.
const HTML_HEADERS: [(&str, &str); 1] = [(
    "Content-Security-Policy",
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; \
     connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
)];

/// Data for the endpoints.
pub(super) struct Endpoints {
    /// Collector of the workers' counters.
    pub(super) gatherer: Gatherer,
    readiness: Readiness,
    health_states: Option<Arc<HealthStates>>,
    /// The process is about to stop.
    pub(super) stopping: bool,
    log: Log,
}

impl Endpoints {
    /// Creates endpoints without a configuration. `log` gets a line when readiness changes.
    pub(super) fn new(gatherer: Gatherer, log: Log) -> Self {
        let readiness = Readiness::default();
        Self { gatherer, readiness, health_states: None, stopping: false, log }
    }

    /// Switches to this configuration.
    pub(super) fn reload(&mut self, config: &Config, health_states: Arc<HealthStates>) {
        self.readiness.reload(config);
        self.health_states = Some(health_states);
    }

    /// Returns the response of a listener with these `pages`. `is_local`: at a loopback address.
    pub(super) fn answer(
        &mut self,
        pages: &[Endpoint],
        is_local: bool,
        request: &Request<'_>,
    ) -> Response {
        let asked = pages.iter().find(|page| page.paths().contains(&request.path));
        match asked {
            None => Response::text(404, "not found\n"),
            Some(Endpoint::Health) => Response::text(200, "OK"),
            Some(Endpoint::Ready) => self.ready(),
            Some(Endpoint::Metrics) => {
                Response { content_type: METRICS, ..Response::text(200, self.gatherer.metrics()) }
            }
            Some(Endpoint::Status) if is_local && !request.host.is_none_or(names_this_host) => {
                Response::text(
                    421,
                    "use an IP address or localhost as the host name of this page\n",
                )
            }
            Some(Endpoint::Status) if request.path == "/" => Response {
                content_type: HTML,
                headers: &HTML_HEADERS,
                ..Response::text(200, page::page(&self.gatherer.status()))
            },
            Some(Endpoint::Status) => {
                let json = serde_json::to_vec(&self.gatherer.status());
                let json = json.expect("numbers and texts can be written as JSON");
                Response { content_type: JSON, ..Response::text(200, json) }
            }
        }
    }

    fn ready(&mut self) -> Response {
        let Some(health_states) = &self.health_states else {
            return Response::text(503, "starting");
        };
        let loads = Arc::clone(self.gatherer.loads());
        let silent = self.gatherer.silent();
        let (missing, is_news) =
            self.readiness.missing(health_states, &loads, silent, self.stopping);
        if is_news && missing.is_empty() {
            self.log.event(&Event::new(Level::Info, READY, &"ready"));
        } else if is_news {
            let text = format_args!("not ready: {missing}");
            self.log.event(&Event::new(Level::Info, READY, &text));
        }
        match missing {
            "" => Response::text(200, "OK"),
            missing => Response::text(503, missing),
        }
    }
}

/// Returns the response to a refused request.
pub(super) fn refuse(refusal: Refusal) -> Response {
    match refusal {
        Refusal::Malformed => Response::text(400, "invalid HTTP request\n"),
        Refusal::Method => Response {
            headers: &[("Allow", "GET, HEAD")],
            ..Response::text(405, "only GET and HEAD are supported\n")
        },
        Refusal::TooLarge => Response::text(431, "the head of the request is too large\n"),
    }
}

/// Returns true if `host`, perhaps with a port, is an address or `localhost`: any other name may be
/// an attacker's that resolves to this host.
fn names_this_host(host: &str) -> bool {
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let bare = match bracketed {
        Some((bare, _)) => bare,
        None => host.rsplit_once(':').map_or(host, |(bare, _)| bare),
    };
    let bare = bare.strip_suffix('.').unwrap_or(bare);
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::{Endpoints, names_this_host};
    use crate::admin::Gatherer;
    use crate::admin::request::Request;
    use crate::clock::Clock;
    use crate::config::{Config, Endpoint, Host};
    use crate::engine::health::HealthStates;
    use crate::log::{Format, Log};
    use crate::status::Status;
    use std::sync::Arc;

    fn endpoints() -> (Endpoints, Arc<HealthStates>) {
        let mut endpoints = Endpoints::new(
            Gatherer::new(Clock::start(), &[], Arc::default(), Arc::default()),
            Log::new(Format::Text, |_| {}),
        );
        let text = ". {\n ready {\n monitor continuously\n}\n forward . ::1\n}\n";
        let (config, _) = Config::load(text.as_bytes(), "f", &Host::plain()).unwrap();
        let health_states = Arc::new(HealthStates::new(&config));
        endpoints.reload(&config, Arc::clone(&health_states));
        (endpoints, health_states)
    }

    fn asked<'a>(path: &'a str, host: Option<&'a str>) -> Request<'a> {
        Request { path, host, head_only: false, keep: true }
    }

    #[test]
    fn a_listener_has_its_configured_endpoints_only() {
        let (mut endpoints, _) = endpoints();
        let all = [Endpoint::Health, Endpoint::Ready, Endpoint::Metrics, Endpoint::Status];
        for page in all {
            for path in page.paths() {
                let served = endpoints.answer(&[page], false, &asked(path, None));
                assert_eq!(served.status, 200, "{path}");
                let others: Vec<_> = all.into_iter().filter(|other| *other != page).collect();
                assert_eq!(
                    endpoints.answer(&others, false, &asked(path, None)).status,
                    404,
                    "{path}"
                );
            }
        }
        assert_eq!(endpoints.answer(&all, false, &asked("/health/", None)).status, 404);
    }

    #[test]
    fn readiness_follows_the_health_states_and_ends_with_the_process() {
        let (mut endpoints, health_states) = endpoints();
        let ready = |endpoints: &mut Endpoints| {
            let response = endpoints.answer(&[Endpoint::Ready], false, &asked("/ready", None));
            (response.status, String::from_utf8(response.body).unwrap())
        };
        assert_eq!(ready(&mut endpoints), (200, "OK".into()));
        health_states.set(0, true, true);
        assert_eq!(ready(&mut endpoints), (503, "forward .".into()));
        health_states.set(0, false, false);
        assert_eq!(ready(&mut endpoints), (200, "OK".into()));
        endpoints.stopping = true;
        assert_eq!(ready(&mut endpoints), (503, "stopping".into()));
    }

    #[test]
    fn the_status_page_is_refused_under_a_rebound_name() {
        for host in ["127.0.0.1", "127.0.0.1:8053", "localhost:8053", "LOCALHOST.", "[::1]:8053"] {
            assert!(names_this_host(host), "{host}");
        }
        for host in ["evil.test", "evil.test:8053", "localhost.evil.test", "", "[evil]:1", "::1"] {
            assert!(!names_this_host(host), "{host}");
        }
        let (mut endpoints, _) = endpoints();
        for path in Endpoint::Status.paths() {
            let mut status = |is_local| {
                let request = asked(path, Some("evil.test:8053"));
                endpoints.answer(&[Endpoint::Status], is_local, &request).status
            };
            assert_eq!([status(true), status(false)], [421, 200], "{path}");
        }
    }

    #[test]
    fn the_status_json_is_parsed_by_its_own_type() {
        let (mut endpoints, _) = endpoints();
        let json = endpoints.answer(&[Endpoint::Status], true, &asked("/status.json", None));
        let status: Status = serde_json::from_slice(&json.body).unwrap();
        assert_eq!(status.version, env!("CARGO_PKG_VERSION"));
    }
}
