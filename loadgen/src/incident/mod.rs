//! The incident, replayed: a backend behind a virtual address starves after an outage, or does not.
//!
//! A forwarder queries a virtual address; connection tracking pins each of its source ports to one
//! of several backends. One backend fails for seconds and recovers, and later another is added. A
//! forwarder that keeps its busy ports sends queries to neither of them, because no new port is
//! used. `max_age` ends that. [`run`] plays a [`plan`] once for each [`plan::Variant`] in a [`lab`]
//! of network namespaces, with the kernel's own DNAT and conntrack; [`measure`] brings the counters
//! of backends and client onto one time axis, [`judge`] compares them with the claims, and
//! [`report`] prints the result. `course` owns the programs, `nft` has the rules. Plan, rules,
//! measures, judgement and reports are pure.

pub mod course;
pub mod judge;
pub mod lab;
pub mod measure;
mod nft;
pub mod plan;
pub mod report;

pub use nft::Fault;

use course::{Forwarder, Setup};
use judge::Judged;
use measure::Second;
use onward::clock::Clock;
use onward::moment::date;
use onward::sys::signals::Signals;
use plan::{Plan, Variant};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One course that was run.
#[derive(Clone, Debug, PartialEq)]
pub struct Played {
    /// The course.
    pub variant: Variant,
    /// Corefile of the forwarder.
    pub corefile: String,
    /// Measurements.
    pub seconds: Vec<Second>,
    /// Judgement.
    pub judged: Judged,
}

/// All variants that were run.
#[derive(Clone, Debug, PartialEq)]
pub struct Incident {
    /// The planned events of each course.
    pub plan: Plan,
    /// Command, host, forwarder and other settings for the reader.
    pub settings: Vec<(&'static str, String)>,
    /// Variants in the order in which they ran.
    pub played: Vec<Played>,
}

impl Incident {
    /// Returns the claims that do not hold, a sentence each.
    pub fn faults(&self) -> Vec<String> {
        let of = |played: &Played| {
            let name = played.variant.name(self.plan.max_age);
            let broken = played.judged.findings.iter().filter(|one| one.holds == Some(false));
            let tell = |one: &judge::Finding| format!("{name}: {}: {}", one.claim, one.seen);
            broken.map(tell).collect::<Vec<_>>()
        };
        self.played.iter().flat_map(of).collect()
    }
}

/// Plays `plan` once for each of `variants`; `tell` gets the progress.
///
/// # Errors
/// `Interrupted`: a signal came. Otherwise a lab could not be built, or a program failed. The labs
/// are removed in any case.
pub fn run(
    plan: &Plan,
    variants: &[Variant],
    forwarder: &Forwarder,
    signals: &Signals,
    tell: impl Fn(&str),
) -> io::Result<Incident> {
    let directory = Directory::make()?;
    let setup = Setup { plan, forwarder, directory: &directory.0, signals };
    let mut played = Vec::new();
    for &variant in variants {
        let length = plan.length.as_secs();
        tell(&format!("{}, {length} s", variant.name(plan.max_age)));
        let seconds = setup.run(variant)?;
        let judged = judge::judge(plan, variant, &seconds);
        let corefile = variant.corefile(plan, forwarder.own);
        played.push(Played { variant, corefile, seconds, judged });
    }
    Ok(Incident { plan: plan.clone(), settings: Vec::new(), played })
}

/// Returns the current date, `YYYY-MM-DD`.
pub fn today() -> String {
    let days = Clock::calendar().as_secs() / DAY.as_secs();
    let (year, month, day) = date(days);
    format!("{year}-{month:02}-{day:02}")
}

const DAY: Duration = Duration::from_secs(86_400);

/// A directory for the programs' files. Dropping it removes it.
struct Directory(PathBuf);

impl Directory {
    fn make() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("incident-{}", std::process::id()));
        // Fails if it exists: another user who created it could redirect the files.
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let path: &Path = &self.0;
        let _ = std::fs::remove_dir_all(path);
    }
}
