//! `loadgen incident`: replays the incident, reports, and judges whether `max_age` cures it.
//!
//! The command makes a plan from its arguments, reports requirements that this host lacks, and
//! writes the reports; [`crate::incident`] does the work.

use super::{exit_code, invalid};
use crate::incident::course::Forwarder;
use crate::incident::plan::{Plan, Transport, Variant, seconds};
use crate::incident::{self, Fault, Incident, lab, report};
use crate::units;
use clap::Args;
use onward::sys::{cpu, limits, signals::Signals};
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Time when the first backend fails: the forwarder has opened all its flows by then.
const AT: Duration = Duration::from_secs(15);
const AT_QUICK: Duration = Duration::from_secs(4);
/// Default duration of the outage.
const OUTAGE: Duration = Duration::from_secs(10);
const OUTAGE_QUICK: Duration = Duration::from_secs(3);
/// Default time until the outage is detected, if the outage is not shorter.
const NOTICE: Duration = Duration::from_secs(3);
const NOTICE_QUICK: Duration = Duration::from_secs(1);
/// The age limit.
const MAX_AGE: Duration = Duration::from_secs(30);
const MAX_AGE_QUICK: Duration = Duration::from_secs(5);

const EXAMPLES: &str = "\
All runs have the same variant: a constant load on the forwarder, whose upstream is a virtual
address. Conntrack maps each source port to a random backend. The first backend fails, is removed
from the map with all its conntrack entries when the failure is detected, and is restored when it
has recovered. Later, a backend is added. The test uses two network namespaces of its own and
removes them at the end.

Examples:
  loadgen incident --html incident.html
      Four runs of 2.5 minutes: max_age off, max_age 30s, max_age 30s without jitter, and distrust
      alone.
  loadgen incident --quick
      The first three runs with a max_age of 5 s, in two minutes; too short to judge latency.
  loadgen incident --max-age 60s --failure refusing --outage 20s
  loadgen incident --transport tcp
      With force_tcp and the same number of connections. No query waits for a handshake when
      connections are replaced.
  loadgen incident --forwarder 'coredns -conf {corefile}'
      Another forwarder. It must listen on 127.0.0.1:5300 as its generated Corefile says, which
      uses only CoreDNS options; the last two runs are left out.

Exit codes:
  0  all claims hold
  1  a claim does not hold
  2  usage error or a missing tool";

/// Options of `loadgen incident`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Short run: short max_age and short outage
    #[arg(long)]
    quick: bool,
    /// Number of backends at the start; one is added later
    #[arg(long, value_name = "N", default_value_t = 3)]
    backends: usize,
    /// Queries per second
    #[arg(long, value_name = "RATE", default_value = "2000", value_parser = units::rate)]
    rate: f64,
    /// Failure mode of the first backend
    #[arg(long, value_enum, default_value_t = Fault::Silent)]
    failure: Fault,
    /// Start of the failure [default: 15s, quick 4s]
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    at: Option<Duration>,
    /// Duration of the failure [default: 10s, quick 3s]
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    outage: Option<Duration>,
    /// Time until the load balancer detects the failure [default: 3s, quick 1s, at most the outage]
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    notice: Option<Duration>,
    /// max_age of the runs that use it [default: 30s, quick 5s]
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    max_age: Option<Duration>,
    /// Source ports or connections that onward keeps (`spread`, `stream_spread`); with another
    /// forwarder, the number it keeps, to compute the expected random deviation of shares
    #[arg(long, value_name = "N", default_value_t = 2048)]
    flows: usize,
    /// Transport from the forwarder to the backends
    #[arg(long, value_enum, default_value_t = Transport::Udp)]
    transport: Transport,
    /// Path of onward [default: in the directory of loadgen]
    #[arg(long, value_name = "PATH", conflicts_with = "forwarder")]
    onward: Option<PathBuf>,
    /// Command of another forwarder; {corefile} is replaced by the path of its Corefile
    #[arg(long, value_name = "COMMAND")]
    forwarder: Option<String>,
    /// Write the result as JSON
    #[arg(long, value_name = "FILE", help_heading = "Reports")]
    json: Option<PathBuf>,
    /// Write an HTML report with plots
    #[arg(long, value_name = "FILE", help_heading = "Reports")]
    html: Option<PathBuf>,
    /// Write the plot of queries per backend as SVG
    #[arg(long, value_name = "FILE", help_heading = "Reports")]
    svg: Option<PathBuf>,
}

/// Runs the courses and reports.
pub(super) fn main(arguments: &Arguments) -> io::Result<ExitCode> {
    let plan = arguments.plan();
    if let Some(fault) = plan.why_invalid() {
        return Err(invalid(fault));
    }
    if let Some(missing) = lab::missing() {
        return Err(invalid(missing));
    }
    // Blocked before any thread starts, so that all threads inherit the mask.
    let signals = Signals::block()?;
    limits::raise_open_files()?;
    let forwarder = arguments.forwarder()?;
    let variants = match forwarder.own {
        true if arguments.quick => {
            &[Variant::Unlimited, Variant::Limited, Variant::WithoutJitter][..]
        }
        true => {
            &[Variant::Unlimited, Variant::Limited, Variant::WithoutJitter, Variant::Distrusting]
        }
        false => &[Variant::Unlimited, Variant::Limited],
    };
    let tell = |text: &str| eprintln!("loadgen: {text}");
    let mut incident = incident::run(&plan, variants, &forwarder, &signals, tell)?;
    incident.settings = arguments.settings(&plan, &forwarder);
    print!("{}", report::text(&incident));
    arguments.write(&incident)?;
    Ok(exit_code(&incident.faults()))
}

impl Arguments {
    fn plan(&self) -> Plan {
        let of = |given: Option<Duration>, long, quick| {
            given.unwrap_or(if self.quick { quick } else { long })
        };
        let (at, outage) = (of(self.at, AT, AT_QUICK), of(self.outage, OUTAGE, OUTAGE_QUICK));
        let max_age = of(self.max_age, MAX_AGE, MAX_AGE_QUICK);
        // Time to see that a share stays: half a life each, and two lives for the added backend.
        let added = whole(at + outage + max_age * 3 / 2 + Duration::from_secs(1));
        Plan {
            backends: self.backends,
            rate: self.rate,
            fault: self.failure,
            at,
            outage,
            notice: of(self.notice, NOTICE, NOTICE_QUICK).min(outage),
            added,
            length: whole(added + max_age * 5 / 2),
            max_age,
            flows: self.flows.max(1),
            transport: self.transport,
        }
    }

    fn forwarder(&self) -> io::Result<Forwarder> {
        if let Some(command) = &self.forwarder {
            let command: Vec<String> = command.split_whitespace().map(Into::into).collect();
            if !command.iter().any(|word| word.contains("{corefile}")) {
                return Err(invalid(
                    "--forwarder: the command must contain {corefile} in place of \
                                    the path of its Corefile",
                ));
            }
            return Ok(Forwarder { command, own: false });
        }
        let beside = std::env::current_exe()?.with_file_name("onward");
        let path = self.onward.clone().unwrap_or(beside);
        if !path.is_file() {
            let path = path.display();
            return Err(invalid(format!(
                "{path} does not exist: build onward, or give its path \
                                        with --onward"
            )));
        }
        let path = path.display().to_string();
        let words = [&path, "--conf", "{corefile}", "--workers", "1"];
        Ok(Forwarder { command: words.map(Into::into).into(), own: true })
    }

    fn settings(&self, plan: &Plan, forwarder: &Forwarder) -> Vec<(&'static str, String)> {
        let typed: Vec<String> = std::env::args().skip(1).collect();
        let host = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let failure = format!(
            "{:?}, from {} to {}, detected after {}",
            plan.fault,
            seconds(plan.at),
            seconds(plan.recovery()),
            seconds(plan.notice)
        );
        let program = forwarder.command[0].rsplit('/').next().unwrap_or_default();
        let arguments = forwarder.command[1..].join(" ");
        vec![
            ("command", format!("loadgen {}", typed.join(" "))),
            ("date", incident::today()),
            ("host", format!("Linux {}, {} cores", host.trim(), cpu::cores().len())),
            ("forwarder", format!("{program} {arguments}")),
            ("transport", format!("{:?}", plan.transport).to_uppercase()),
            ("load", format!("{} queries per second", plan.rate)),
            (
                "backends",
                format!("{}, and one more from {} on", plan.backends, seconds(plan.added)),
            ),
            ("failure of the first", failure),
            ("flows", plan.flows.to_string()),
            ("conntrack removes an idle flow after", seconds(plan.max_age)),
        ]
    }

    fn write(&self, incident: &Incident) -> io::Result<()> {
        let write = |path: &Option<PathBuf>, draw: fn(&Incident) -> String| {
            let Some(path) = path else { return Ok(()) };
            std::fs::write(path, draw(incident)).map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            })
        };
        write(&self.json, report::json)?;
        write(&self.html, report::html)?;
        write(&self.svg, report::svg)
    }
}

/// Rounds up to whole seconds, the resolution of the plots.
fn whole(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_millis().div_ceil(1_000) as u64)
}

#[cfg(test)]
mod tests {
    use super::Arguments;
    use clap::{Args, Command, FromArgMatches};
    use std::time::Duration;

    fn typed(words: &[&str]) -> Arguments {
        let command = Arguments::augment_args(Command::new("incident").no_binary_name(true));
        Arguments::from_arg_matches(&command.get_matches_from(words)).unwrap()
    }

    #[test]
    fn the_defaults_make_a_course_that_can_be_judged() {
        for words in [&[][..], &["--quick"], &["--max-age", "60s", "--outage", "500ms"]] {
            let plan = typed(words).plan();
            assert_eq!(plan.why_invalid(), None, "{words:?}");
            assert!(plan.notice <= plan.outage, "{words:?}");
        }
        let length = typed(&[]).plan().length;
        assert!(length <= Duration::from_secs(150), "{length:?}");
        let quick = typed(&["--quick"]).plan().length;
        assert!(3 * quick < Duration::from_secs(110), "under two minutes with all around it");
    }

    #[test]
    fn a_forwarder_command_must_contain_its_corefile() {
        let other = typed(&["--forwarder", "coredns -conf {corefile}"]).forwarder().unwrap();
        assert_eq!((other.command.len(), other.own), (3, false));
        assert!(typed(&["--forwarder", "coredns"]).forwarder().is_err());
        assert!(typed(&["--onward", "/nowhere/onward"]).forwarder().is_err());
    }
}
