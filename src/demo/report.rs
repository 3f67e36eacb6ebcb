//! Report of the demonstration.
//!
//! [`Report`] holds the counters of client, upstreams and workers, unchanged; its text and its
//! verdict are pure functions of it. [`Screen`] prints: a moving line on a terminal, elsewhere one
//! line a second.

use super::tables;
use crate::engine::stats::{PoolStats, Stats};
use crate::traffic::report::{aligned, grouped, header, line};
use crate::traffic::tally::{Counts, Tally};
use crate::traffic::upstream::live::SoFar;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

/// Counters of all parts.
pub(super) struct Report {
    /// The client's outcome.
    pub(super) client: Tally,
    /// Addresses of the upstreams.
    pub(super) addresses: Vec<SocketAddr>,
    /// Counters of each upstream.
    pub(super) upstreams: Vec<SoFar>,
    /// Counters of each worker.
    pub(super) workers: Vec<Stats>,
}

impl Report {
    /// Returns the failure in a sentence; `None` if every query got its right answer.
    pub(super) fn fault(&self) -> Option<String> {
        tables::fault(&self.client.counts)
    }

    /// Returns the report as tables.
    pub(super) fn text(&self) -> String {
        let mut text = [
            tables::summary(&self.client),
            tables::services(&self.addresses, &self.upstreams),
            aligned(&self.worker_table()),
            aligned(&self.connection_table()),
        ]
        .join("\n");
        if self.fault().is_none() {
            let answered = grouped(self.client.counts.answered);
            text.push_str(&format!("\nAll {answered} queries got the right answer.\n"));
        }
        text
    }

    fn worker_table(&self) -> Vec<Vec<String>> {
        let mut rows = vec![header(["worker", "queries", "replies", "timed out"])];
        rows.extend(self.workers.iter().enumerate().map(|(number, stats)| {
            let timed_out = stats.upstreams.iter().map(|upstream| upstream.timed_out).sum();
            line(number, [stats.queries, stats.replied(), timed_out].map(grouped))
        }));
        rows
    }

    fn connection_table(&self) -> Vec<Vec<String>> {
        let mut rows = vec![header(["connections", "opened", "reused", "expired", "aged out"])];
        rows.extend(self.workers.iter().enumerate().map(|(number, stats)| {
            let sum = |field: fn(&PoolStats) -> u64| {
                stats.upstreams.iter().map(|upstream| field(&upstream.pool)).sum()
            };
            let numbers = [
                sum(|pool| pool.opened),
                sum(|pool| pool.reused),
                sum(|pool| pool.expired),
                sum(|pool| pool.aged),
            ];
            line(format!("of worker {number}"), numbers.map(grouped))
        }));
        rows
    }
}

/// Prints progress and report.
pub(super) struct Screen<W> {
    out: W,
    live: bool,
    seconds_told: u64,
}

impl<W: Write> Screen<W> {
    /// Creates a screen that prints to `out`; `live`: a terminal.
    pub(super) fn new(out: W, live: bool) -> Self {
        Self { out, live, seconds_told: 0 }
    }

    /// Prints the configuration of the demonstration.
    pub(super) fn opening(
        &mut self,
        address: SocketAddr,
        workers: usize,
        corefile: &str,
    ) -> io::Result<()> {
        let plural = if workers == 1 { "" } else { "s" };
        let head = format!("onward on {address}, {workers} worker{plural}, with this Corefile:");
        writeln!(self.out, "{head}")?;
        corefile.lines().try_for_each(|line| writeln!(self.out, "  {line}"))?;
        writeln!(self.out)
    }

    /// Prints the client's progress.
    pub(super) fn progress(&mut self, elapsed: Duration, counts: &Counts) -> io::Result<()> {
        let text = tables::progress(elapsed, counts);
        if self.live {
            write!(self.out, "\r{text}")?;
        } else if elapsed.as_secs() > self.seconds_told {
            self.seconds_told = elapsed.as_secs();
            writeln!(self.out, "{text}")?;
        }
        self.out.flush()
    }

    /// Prints the report.
    pub(super) fn closing(&mut self, report: &Report) -> io::Result<()> {
        if self.live {
            writeln!(self.out)?;
        }
        write!(self.out, "\n{}", report.text())?;
        self.out.flush()
    }

    /// Prints a command to try by hand.
    pub(super) fn keeping(&mut self, address: SocketAddr) -> io::Result<()> {
        let (ip, port) = (address.ip(), address.port());
        writeln!(self.out, "\nStill serving, until Ctrl-C. Try:")?;
        writeln!(self.out, "  dig @{ip} -p {port} hello.demo.example")?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::{Report, Screen};
    use crate::engine::stats::{PoolStats, Stats, UpstreamStats};
    use crate::moment::Moment;
    use crate::traffic::tally::{Counts, Tally};
    use crate::traffic::upstream::live::SoFar;
    use std::time::Duration;

    fn report() -> Report {
        let mut client = Tally::new(Duration::from_secs(1), Duration::from_secs(5));
        for nanos in [250_000, 300_000, 1_500_000] {
            client.latency.record(nanos).unwrap();
        }
        client.counts =
            Counts { sent: 1_234_567, answered: 1_234_567, late: 1, ..Counts::default() };
        client.sending = Some((Moment::ZERO, Moment::ZERO));
        client.last_response = Moment::ZERO.plus(Duration::from_secs(5));
        let pool =
            PoolStats { opened: 40, reused: 5_000, aged: 7, expired: 2, ..Default::default() };
        let upstream = UpstreamStats { timed_out: 1, pool, ..Default::default() };
        let mut worker = Stats { queries: 600_000, ..Stats::default() };
        worker.replies[0] = 599_999;
        worker.upstreams = vec![upstream; 2];
        let addresses = vec!["127.0.0.1:5301".parse().unwrap()];
        let counts = SoFar { queries: 9, responses: 8, ports: 4, connections: 2, flows: 6 };
        Report { client, addresses, upstreams: vec![counts], workers: vec![worker] }
    }

    #[test]
    fn the_report_is_aligned_and_says_what_was_counted() {
        let expected = "             \
       queries     answers   lost   wrong   late        rate
  client   1,234,567   1,234,567      0       0      1   246,913/s

               p50       p90       p99     p99.9       max
  latency   300 µs   1.50 ms   1.50 ms   1.50 ms   1.50 ms

  upstream         queries   responses   source ports   connections
  127.0.0.1:5301         9           8              4             2

  worker   queries   replies   timed out
  0        600,000   599,999           2

  connections   opened   reused   expired   aged out
  of worker 0       80   10,000         4         14

All 1,234,567 queries got the right answer.
";
        assert_eq!(report().text(), expected);
    }

    #[test]
    fn a_faulty_run_is_reported_as_such() {
        let mut faulty = report();
        assert_eq!(faulty.fault(), None);
        faulty.client.counts.lost = 2;
        assert!(faulty.fault().is_some() && !faulty.text().contains("All"));
    }

    #[test]
    fn a_terminal_gets_a_line_that_moves_and_a_file_one_a_second() {
        let printed = |live| {
            let mut screen = Screen::new(Vec::new(), live);
            for millis in [500, 1_000, 1_500, 2_100] {
                let elapsed = Duration::from_millis(millis);
                let counts = Counts { answered: millis, ..Counts::default() };
                screen.progress(elapsed, &counts).unwrap();
            }
            String::from_utf8(screen.out).unwrap()
        };
        assert_eq!((printed(true).matches('\r').count(), printed(true).lines().count()), (4, 1));
        let lines = "    1.0 s         1,000 answers       1,000/s   0 lost   0 wrong
    2.1 s         2,100 answers       1,000/s   0 lost   0 wrong\n";
        assert_eq!(printed(false), lines);
    }

    #[test]
    fn the_command_to_try_can_be_copied() {
        let mut screen = Screen::new(Vec::new(), false);
        screen.keeping("127.0.0.1:5300".parse().unwrap()).unwrap();
        let text = String::from_utf8(screen.out).unwrap();
        assert!(text.contains("\n  dig @127.0.0.1 -p 5300 hello.demo.example\n"));
    }
}
