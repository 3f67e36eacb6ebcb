//! Command line.
//!
//! [`parse`] turns arguments into a [`Cli`] without looking at the host, after it has rewritten
//! the single-dash spellings that operators' unit files contain. Options are plain data
//! ([`crate::options`]). `--listen` and `--forward` are written as a Corefile, which is read like
//! any other.

mod arguments;
mod values;

pub(crate) use values::Endpoint;

#[cfg(feature = "demo")]
use crate::demo::DemoOptions;
use crate::options::{Check, CliError, DEV_STDIN, DoctorOptions, Format, Placement, Serve, Source};
#[cfg(feature = "top")]
use crate::top::TopOptions;
use crate::worker::IoOptions;
use arguments::{Arguments, CommandArguments, WhatArguments};
use clap::{CommandFactory, Parser};
use std::ffi::OsString;
use std::time::Duration;
use values::CoreList;
#[cfg(feature = "top")]
use values::Interval;

/// The file name of standard input.
const STDIN: &str = "stdin";

/// A parsed command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cli {
    /// Forward queries.
    Serve(Serve),
    /// Check the configuration without serving.
    Check(Check),
    /// Run a demonstration.
    #[cfg(feature = "demo")]
    Demo(DemoOptions),
    /// Show the live state of a server.
    #[cfg(feature = "top")]
    Top(TopOptions),
    /// Check the host.
    Doctor(DoctorOptions),
}

/// Use of UDP GSO.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Gso {
    /// On, if the kernel and the route allow it.
    Auto,
    /// Never, whatever the Corefile says.
    Off,
}

/// The command line as `clap` knows it, for manual pages and completions.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Parses a command line, the first argument of which is the program's name.
///
/// # Errors
/// [`CliError::Asked`] for help and version, [`CliError::Usage`] for invalid arguments.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, CliError> {
    let typed = Arguments::try_parse_from(normalise(arguments)).map_err(|error| {
        let text = error.render().to_string();
        if error.use_stderr() { CliError::Usage(text) } else { CliError::Asked(text) }
    })?;
    Ok(match typed.command {
        #[cfg(feature = "demo")]
        Some(CommandArguments::Demo { seconds, keep, workers }) => {
            let seconds = Duration::from_secs(seconds.into());
            Cli::Demo(DemoOptions { seconds, keep, workers: workers.map(usize::from) })
        }
        #[cfg(feature = "top")]
        Some(CommandArguments::Top { address, interval: Interval(interval), once }) => {
            Cli::Top(TopOptions { address, interval, once })
        }
        Some(CommandArguments::Check { what, format }) => {
            Cli::Check(Check { serve: what.serve(), format })
        }
        Some(CommandArguments::Doctor { what, format, seconds, root }) => {
            let (serve, seconds) = (what.serve(), Duration::from_secs(seconds.into()));
            Cli::Doctor(DoctorOptions { serve, format, seconds, root })
        }
        None => {
            let (quiet, pidfile, log_format) = (typed.quiet, typed.pidfile, typed.log_format);
            let (user, sandbox) = (typed.user, !typed.no_sandbox);
            let serve = typed.what.serve();
            Cli::Serve(Serve { quiet, pidfile, log_format, user, sandbox, ..serve })
        }
    })
}

impl WhatArguments {
    /// Converts the options to plain data.
    fn serve(self) -> Serve {
        let source = match self.conf {
            _ if !self.forward.is_empty() => {
                Source::Flags(corefile_text(&self.listen, &self.forward, self.dns_port))
            }
            Some(file) if [STDIN, "-", DEV_STDIN].iter().any(|name| file == *name) => Source::Stdin,
            Some(file) if !file.is_empty() => Source::File(file.into()),
            _ => Source::WorkingDirectory,
        };
        let placement = match (self.cores, self.workers) {
            (Some(CoreList(cores)), _) => Placement::Cores(cores),
            (None, Some(workers)) => Placement::Unpinned(workers.into()),
            (None, None) => Placement::EveryCore,
        };
        let (quiet, pidfile, log_format) = (false, None, Format::Text);
        let (steer, dns_port) = (self.steer, self.dns_port);
        let busy_poll = Duration::from_micros(self.busy_poll.into());
        let io_options = IoOptions { busy_poll, gso: self.gso == Gso::Auto };
        let (user, sandbox) = (None, true);
        Serve {
            source,
            placement,
            steer,
            io_options,
            dns_port,
            quiet,
            pidfile,
            log_format,
            user,
            sandbox,
        }
    }
}

/// Rewrites Go-style flags (`-conf X`, `-conf=X`, `-dns.port 53`, `-quiet=true`) as long options;
/// unknown words, and all words after `--`, stay as they are.
fn normalise(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    const VALUES: [&str; 13] = [
        "conf",
        "cores",
        "workers",
        "steer",
        "busy-poll",
        "gso",
        "listen",
        "forward",
        "dns.port",
        "pidfile",
        "format",
        "log-format",
        "user",
    ];
    const SWITCHES: [&str; 4] = ["quiet", "no-sandbox", "version", "help"];
    let mut literal = false;
    let mut normal = Vec::new();
    for argument in arguments {
        literal |= argument == "--";
        let text = argument.to_str().filter(|_| !literal).unwrap_or_default();
        let flag = text.strip_prefix('-').unwrap_or_default();
        let flag = flag.strip_prefix('-').unwrap_or(flag);
        let (name, value) =
            flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value)));
        let (takes_value, switches) = (VALUES.contains(&name), SWITCHES.contains(&name));
        let long = format!("--{}", name.replace('.', "-"));
        match value {
            Some(value) if takes_value => normal.push(format!("{long}={value}").into()),
            None if takes_value || switches => normal.push(long.into()),
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") if switches => {
                normal.push(long.into());
            }
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") if switches => {}
            _ => normal.push(argument),
        }
    }
    normal
}

/// Returns the Corefile that listens on `listen` (everywhere if empty) and forwards everything to
/// `forward`. Addresses without a port listen on `dns_port`; those of one port share a block.
fn corefile_text(listen: &[Endpoint], forward: &[Endpoint], dns_port: u16) -> String {
    let port_of = |endpoint: &Endpoint| endpoint.port.unwrap_or(dns_port);
    let mut ports: Vec<u16> = listen.iter().map(port_of).collect();
    if ports.is_empty() {
        ports.push(dns_port);
    }
    ports.sort_unstable();
    ports.dedup();
    let upstreams: String = forward.iter().map(|upstream| format!(" {upstream}")).collect();
    let block = |port: u16| {
        let here = listen.iter().filter(|endpoint| port_of(endpoint) == port);
        let addresses: String = here.map(|endpoint| format!(" {}", endpoint.ip)).collect();
        let bind = if addresses.is_empty() { addresses } else { format!("    bind{addresses}\n") };
        format!(".:{port} {{\n{bind}    forward .{upstreams}\n}}\n")
    };
    ports.into_iter().map(block).collect()
}

#[cfg(test)]
mod tests {
    use super::{Cli, corefile_text, normalise, parse};
    use crate::blocking::{STEP_MAX, Steps};
    use crate::clock::Clock;
    use crate::options::{Check, CheckFormat, CliError, Exit, Format, Placement, Serve, Source};
    use crate::server::Steer;
    #[cfg(feature = "top")]
    use crate::top::TopOptions;
    use crate::worker::IoOptions;
    use std::ffi::OsString;
    use std::path::PathBuf;
    use std::time::Duration;

    fn words(line: &str) -> impl Iterator<Item = OsString> {
        std::iter::once("onward").chain(line.split_whitespace()).map(OsString::from)
    }

    fn serve(line: &str) -> Serve {
        match parse(words(line)) {
            Ok(Cli::Serve(serve)) => serve,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn usage(line: &str) -> String {
        match parse(words(line)) {
            Err(CliError::Usage(text)) => text,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn without_arguments_the_local_corefile_is_served_on_every_core() {
        let expected = Serve {
            source: Source::WorkingDirectory,
            placement: Placement::EveryCore,
            steer: Steer::Flow,
            io_options: IoOptions::default(),
            dns_port: 53,
            quiet: false,
            log_format: Format::Text,
            user: None,
            sandbox: true,
            pidfile: None,
        };
        assert_eq!(serve(""), expected);
        assert_eq!(serve("-conf="), expected);
    }

    #[test]
    fn top_watches_this_host_by_default() {
        let top = |line: &str| match parse(words(line)) {
            Ok(Cli::Top(options)) => options,
            other => panic!("{line}: {other:?}"),
        };
        let second = Duration::from_secs(1);
        let here = TopOptions { address: "127.0.0.1:8053".into(), interval: second, once: false };
        assert_eq!(top("top"), here);
        let there = top("top [2001:db8::1]:80 --interval 250ms --once");
        let interval = Duration::from_millis(250);
        let expected = TopOptions { address: "[2001:db8::1]:80".into(), interval, once: true };
        assert_eq!(there, expected);
        for line in ["top --interval 1", "top --interval 10ms", "top --interval 2h", "top a b"] {
            usage(line);
        }
    }

    #[test]
    fn single_dashes_are_long_options() {
        for (typed, normal) in [
            ("-conf X", "--conf X"),
            ("-conf=X", "--conf=X"),
            ("--conf X", "--conf X"),
            ("-dns.port=1053", "--dns-port=1053"),
            ("-dns.port 1053", "--dns-port 1053"),
            ("--dns.port 1053", "--dns-port 1053"),
            ("--dns-port 1053", "--dns-port 1053"),
            ("-p 1053", "-p 1053"),
            ("-quiet -quiet=true -quiet=0", "--quiet --quiet"),
            ("-version", "--version"),
            ("-unknown -- -conf", "-unknown -- -conf"),
            ("demo --seconds 3", "demo --seconds 3"),
        ] {
            assert!(words(normal).eq(normalise(words(typed))), "{typed}");
        }
    }

    #[test]
    fn go_style_command_lines_are_understood() {
        let typed = serve("-conf /etc/Corefile -dns.port=1053 -p 1054 -quiet -quiet=true");
        assert_eq!(typed.source, Source::File(PathBuf::from("/etc/Corefile")));
        assert_eq!((typed.dns_port, typed.quiet), (1054, true), "the last one wins");
        assert_eq!(serve("-conf stdin").source, Source::Stdin);
    }

    #[test]
    fn cores_are_listed_or_workers_counted() {
        assert_eq!(serve("--busy-poll 50").io_options.busy_poll, Duration::from_micros(50));
        assert_eq!(serve("--cores 0-3,6").placement, Placement::Cores(vec![0, 1, 2, 3, 6]));
        assert_eq!(serve("--workers 4").placement, Placement::Unpinned(4));
        assert!(usage("--cores 0 --workers 2").contains("cannot be used with"));
        assert!(usage("--cores 3-1").contains("greater than the last"));
        usage("--workers 0");
    }

    #[test]
    fn gso_is_automatic_by_default() {
        assert!(serve("").io_options.gso && serve("-gso=off --gso auto").io_options.gso);
        assert!(!serve("--gso off").io_options.gso);
        assert!(usage("--gso on").contains("auto, off"));
    }

    #[test]
    fn datagrams_are_steered_in_one_of_three_ways() {
        assert_eq!(serve("").steer, Steer::Flow);
        assert_eq!(serve("--steer name").steer, Steer::Name);
        assert_eq!(serve("-steer flow -steer=cpu").steer, Steer::Cpu, "the last one wins");
        let text = usage("--steer names");
        assert!(["'names'", "name, cpu, flow"].iter().all(|part| text.contains(part)), "{text}");
    }

    #[test]
    fn flags_are_written_as_a_corefile() {
        let typed = serve(
            "--listen 127.0.0.1 [::1]:5300 192.0.2.1:5300 --forward 192.0.2.53 [2001:db8::53]:99",
        );
        let text = "\
.:53 {
    bind 127.0.0.1
    forward . 192.0.2.53 [2001:db8::53]:99
}
.:5300 {
    bind ::1 192.0.2.1
    forward . 192.0.2.53 [2001:db8::53]:99
}
";
        assert_eq!(typed.source, Source::Flags(text.into()));
        assert_eq!(typed.source.load(&steps()).unwrap().1, text.as_bytes());
    }

    #[test]
    fn forward_alone_listens_everywhere_on_the_default_port() {
        let upstream = ["2001:db8::53".parse().unwrap()];
        let text = ".:1053 {\n    forward . 2001:db8::53\n}\n";
        assert_eq!(corefile_text(&[], &upstream, 1053), text);
    }

    #[test]
    fn flags_that_make_no_sense_are_refused() {
        usage("--listen 127.0.0.1");
        usage("--forward 192.0.2.1 --conf Corefile");
        assert!(usage("--forward name").contains("expected an address as"));
        usage("--what");
        usage("positional");
        usage("--quiet demo");
    }

    #[test]
    fn a_check_takes_what_serving_takes_and_a_format() {
        let check = |line: &str| match parse(words(line)) {
            Ok(Cli::Check(check)) => check,
            other => panic!("{line}: {other:?}"),
        };
        let typed = check("check -conf - --cores 1,3 -dns.port 1053");
        assert_eq!(
            typed,
            Check { serve: serve("-conf - --cores 1,3 -p 1053"), format: CheckFormat::Text }
        );
        assert_eq!(typed.serve.source, Source::Stdin);
        assert_eq!(check("check --format json --workers 2").format, CheckFormat::Json);
        assert_eq!(check("check").serve, serve(""));
        assert!(usage("check --format xml").contains("json"));
        usage("check --listen 127.0.0.1");
        usage("check --quiet");
    }

    #[cfg(feature = "demo")]
    #[test]
    fn the_demonstration_has_its_own_options() {
        let Ok(Cli::Demo(demo)) = parse(words("demo --seconds 3 --keep --workers 4")) else {
            panic!("demo");
        };
        assert_eq!((demo.seconds, demo.keep), (Duration::from_secs(3), true));
        assert_eq!(demo.workers, Some(4));
        usage("demo --seconds 0");
    }

    #[test]
    fn help_has_examples_and_is_no_failure() {
        for line in ["--help", "-h", "-help", "-version", "demo --help"] {
            let error = parse(words(line)).unwrap_err();
            assert!(matches!(error, CliError::Asked(_)), "{line}");
            assert_eq!(error.exit(), Exit::Clean);
        }
        let help = parse(words("--help")).unwrap_err().to_string();
        for topic in ["onward demo", "onward check", "--cores", "Exit codes:"] {
            assert!(help.contains(topic), "{topic}");
        }
    }

    fn steps() -> Steps {
        Steps::new(Clock::start(), STEP_MAX)
    }
}
