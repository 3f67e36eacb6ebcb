//! Plan of an incident: failure, configuration of the forwarder, and the courses that are compared.
//! Pure.
//!
//! Times are counted from the first query of the load. Each course has its own Corefile. For
//! onward, it sets the number of flows, so that there are enough for meaningful shares; for another
//! forwarder it has only common options.

use super::lab::{FORWARDER, VIRTUAL};
use super::nft::Fault;
use std::fmt::Write;
use std::time::Duration;

/// Transport between the forwarder and the backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Transport {
    /// A pool of datagram sockets
    Udp,
    /// Connections: `force_tcp`
    Tcp,
}

/// Settings and event times that all courses share.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Number of backends at the start; one more is added later.
    pub backends: usize,
    /// Queries per second.
    pub rate: f64,
    /// Failure mode of the first backend.
    pub fault: Fault,
    /// Time of the failure.
    pub at: Duration,
    /// Duration of the failure.
    pub outage: Duration,
    /// Time from the failure until the backend is removed from the map.
    pub notice: Duration,
    /// Time when another backend is added.
    pub added: Duration,
    /// Duration of the course.
    pub length: Duration,
    /// The age limit of the courses that have one.
    pub max_age: Duration,
    /// Number of flows that the forwarder keeps.
    pub flows: usize,
    /// Transport between the forwarder and the backends.
    pub transport: Transport,
}

impl Plan {
    /// Returns the time at which the failed backend is in the map again.
    pub fn recovery(&self) -> Duration {
        self.at + self.outage
    }

    /// Returns the time from which the failed backend should have its share again.
    pub fn recovered(&self) -> Duration {
        self.recovery() + self.max_age + MARGIN
    }

    /// Returns the time from which the added backend should have its share.
    pub fn settled(&self) -> Duration {
        self.added + self.max_age + MARGIN
    }

    /// Returns a message if the plan cannot give a meaningful result.
    pub fn why_invalid(&self) -> Option<String> {
        let told = |text: &str| Some(text.to_owned());
        if !(2..=BACKENDS_MAX).contains(&self.backends) {
            return Some(format!("the number of backends must be 2 to {BACKENDS_MAX}"));
        }
        if self.max_age < MAX_AGE_MIN {
            return told(
                "--max-age must be at least 3s, so that all connections are used in turn \
                         within it",
            );
        }
        if self.notice > self.outage {
            return told("--notice cannot be longer than --outage");
        }
        if self.added < self.recovered() || self.length < self.settled() + MARGIN {
            return told("the times are too short: the run would end before its last event");
        }
        let turn = self.flows as f64 / self.rate;
        if turn > self.max_age.as_secs_f64() / 2.0 {
            return told(
                "--rate is too low: each connection must be used several times before \
                         max_age",
            );
        }
        None
    }
}

/// Maximum time beyond `max_age` until a share is back.
pub const MARGIN: Duration = Duration::from_secs(1);
/// Maximum number of backends: the third octet of their addresses is their number.
const BACKENDS_MAX: usize = 64;
/// The shortest age limit.
const MAX_AGE_MIN: Duration = Duration::from_secs(3);

/// One configuration of the forwarder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// No `max_age`.
    Unlimited,
    /// With `max_age`.
    Limited,
    /// With `max_age` and without jitter; onward only.
    WithoutJitter,
    /// No `max_age`, but `distrust on`; onward only.
    Distrusting,
}

impl Variant {
    /// Returns the name in reports.
    pub fn name(self, max_age: Duration) -> String {
        let age = seconds(max_age);
        match self {
            Self::Unlimited => "max_age off".into(),
            Self::Limited => format!("max_age {age}"),
            Self::WithoutJitter => format!("max_age {age}, jitter off"),
            Self::Distrusting => "max_age off, distrust on".into(),
        }
    }

    /// Returns the short name, which is part of file names and namespace names.
    pub fn key(self) -> &'static str {
        match self {
            Self::Unlimited => "off",
            Self::Limited => "on",
            Self::WithoutJitter => "plain",
            Self::Distrusting => "distrust",
        }
    }

    /// Returns the forwarder's Corefile. `own`: the forwarder is onward and gets its own options.
    pub fn corefile(self, plan: &Plan, own: bool) -> String {
        let (host, port) = FORWARDER.split_once(':').expect("it has a port");
        let mut text = format!(
            ".:{port} {{\n    bind {host}\n    forward . {VIRTUAL}:53 {{\n        expire {}\n",
            seconds(plan.max_age.min(EXPIRE))
        );
        let age = seconds(plan.max_age);
        let _ = match self {
            Self::Unlimited | Self::Distrusting => Ok(()),
            Self::Limited => writeln!(text, "        max_age {age}"),
            Self::WithoutJitter => writeln!(text, "        max_age {age} jitter 0"),
        };
        if own {
            let (flows, most) = (plan.flows, 2 * plan.flows);
            let _ = match plan.transport {
                Transport::Udp => writeln!(text, "        spread {flows}"),
                Transport::Tcp => writeln!(text, "        stream_spread {flows}"),
            };
            let _ = writeln!(text, "        max_conns {most}");
            let distrust = if self == Self::Distrusting { "on" } else { "off" };
            let _ = writeln!(text, "        distrust {distrust}");
        }
        if plan.transport == Transport::Tcp {
            text.push_str("        force_tcp\n");
        }
        text.push_str("    }\n}\n");
        text
    }
}

/// Maximum `expire`, the default of CoreDNS: under a steady load no flow is idle for this long.
const EXPIRE: Duration = Duration::from_secs(10);

/// Formats a duration for a Corefile.
pub fn seconds(duration: Duration) -> String {
    match duration.subsec_millis() {
        0 => format!("{}s", duration.as_secs()),
        _ => format!("{}ms", duration.as_millis()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::{Plan, Transport, Variant};
    use crate::incident::nft::Fault;
    use std::time::Duration;

    /// An outage from 10 to 15 s, a backend added at 40 s, the end at 65 s.
    pub(crate) fn plan() -> Plan {
        let seconds = Duration::from_secs;
        Plan {
            backends: 3,
            rate: 1_000.0,
            fault: Fault::Silent,
            at: seconds(10),
            outage: seconds(5),
            notice: seconds(2),
            added: seconds(40),
            length: seconds(65),
            max_age: seconds(20),
            flows: 2_048,
            transport: Transport::Udp,
        }
    }

    #[test]
    fn plans_without_a_meaningful_result_are_refused() {
        assert_eq!(plan().why_invalid(), None);
        let seconds = Duration::from_secs;
        let refused = |plan: Plan, word: &str| {
            let fault = plan.why_invalid().unwrap_or_default();
            assert!(fault.contains(word), "{word}: {fault}");
        };
        refused(Plan { backends: 1, ..plan() }, "backends");
        refused(Plan { notice: seconds(6), ..plan() }, "--notice");
        refused(Plan { added: seconds(35), ..plan() }, "too short");
        refused(Plan { length: seconds(61), ..plan() }, "too short");
        refused(Plan { rate: 100.0, ..plan() }, "--rate");
        refused(Plan { max_age: seconds(2), ..plan() }, "--max-age");
    }

    #[test]
    fn a_corefile_has_the_options_of_its_course() {
        let text = |variant: Variant, own| variant.corefile(&plan(), own);
        assert!(!text(Variant::Unlimited, true).contains("max_age"));
        assert!(text(Variant::Limited, true).contains("max_age 20s\n        spread 2048\n"));
        assert!(text(Variant::WithoutJitter, true).contains("max_age 20s jitter 0\n"));
        assert!(!text(Variant::Limited, false).contains("spread"));
        assert!(text(Variant::Limited, true).contains("distrust off\n"));
        assert!(text(Variant::Distrusting, true).contains("distrust on\n"));
        assert!(!text(Variant::Distrusting, true).contains("max_age"));
        let tcp = Plan { transport: Transport::Tcp, ..plan() };
        assert!(Variant::Limited.corefile(&tcp, false).contains("force_tcp\n"));
    }
}
