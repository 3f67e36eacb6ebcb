//! Findings about a host: its facts compared with the requirements. PURE.
//!
//! One function per topic, with its thresholds beside it. Unknown values are not judged. Commands
//! that fix a finding can be pasted; if making it permanent needs another command, that is named.

mod cores;
mod losses;
mod port;

use super::Verdict;
use super::facts::{Facts, Wanted};

/// Receive buffer that onward requests for each listening socket.
const RECEIVE_BUFFER: u64 = 4 << 20;
/// Send buffer for a batch of replies: 64 of 1232 bytes, each counted by the kernel with its
/// overhead.
const SEND_BATCH: u64 = 64 * 2_304;
/// Option memory (`optmem_max`) that the program of `--steer name` needs.
const STEERING_PROGRAM: u64 = 20_480;
/// Minimum listen backlog; below it clients are turned away.
const ACCEPT_QUEUE: u64 = 1_024;
/// Fill level of the conntrack table above which it has no room for a burst.
const TRACKING_FULL_PERCENT: u64 = 70;
/// Number of flows below which DNS does not pass through the table, or there are no queries.
const TRACKING_FEW: u64 = 256;
/// Descriptors for a Corefile of ordinary size.
const OPEN_FILES: u64 = 65_536;
/// Clock sources that are read without a system call, or nearly.
const GOOD_CLOCKS: [&str; 4] =
    ["tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page"];

/// Result of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// Severity.
    pub(crate) verdict: Verdict,
    /// Topic, one or two words.
    pub(crate) topic: &'static str,
    /// The finding.
    pub(crate) found: String,
    /// Consequence.
    pub(crate) why: String,
    /// Commands that fix it.
    pub(crate) mend: Vec<String>,
}

impl Finding {
    /// Creates a finding that all is well.
    pub(super) fn fine(topic: &'static str, found: impl Into<String>) -> Self {
        let (found, why, mend) = (found.into(), String::new(), Vec::new());
        Self { verdict: Verdict::Fine, topic, found, why, mend }
    }

    /// Creates a finding that costs performance or safety.
    pub(super) fn advice(topic: &'static str, found: impl Into<String>) -> Self {
        Self { verdict: Verdict::Advice, ..Self::fine(topic, found) }
    }

    /// Creates a finding that prevents service or loses packets.
    pub(super) fn broken(topic: &'static str, found: impl Into<String>) -> Self {
        Self { verdict: Verdict::Broken, ..Self::fine(topic, found) }
    }

    /// Sets the consequence.
    pub(super) fn because(self, why: impl Into<String>) -> Self {
        Self { why: why.into(), ..self }
    }

    /// Adds a command that fixes it; one line per call.
    pub(super) fn mend(mut self, command: impl Into<String>) -> Self {
        self.mend.push(command.into());
        self
    }

    /// Adds the `sysctl` command that fixes it.
    fn set(self, path: &str, value: impl std::fmt::Display) -> Self {
        self.mend(format!("sysctl -w {}={value}", path.replace('/', ".")))
            .mend("# to keep it: install tuning/90-onward.conf in /etc/sysctl.d/")
    }
}

/// Returns the findings, in the order in which a packet passes their topics.
pub(super) fn judge(facts: &Facts, wanted: Option<&Wanted>) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(port::judge(facts, wanted));
    findings.extend(buffers(facts));
    findings.extend(ports(facts, wanted));
    findings.extend(open_files(facts, wanted));
    findings.extend(locked(facts));
    findings.extend(tracking(facts));
    findings.extend(cores::judge(facts, wanted));
    findings.extend(kernel(facts));
    findings.extend(clock(facts));
    findings.extend(losses::judge(facts));
    findings
}

/// Minimum value of a setting.
struct Least {
    path: &'static str,
    least: u64,
    fine: &'static str,
    why: &'static str,
}

const BUFFERS: [Least; 4] = [
    Least {
        path: "net/core/rmem_max",
        least: RECEIVE_BUFFER,
        fine: "each listening socket gets a receive buffer of 4 MiB",
        why: "packets that arrive while a worker is busy wait in a receive buffer of at most this \
              size and are dropped when it is full; onward requests 4 MiB",
    },
    Least {
        path: "net/core/wmem_default",
        least: SEND_BATCH,
        fine: "a batch of replies fits into a send buffer",
        why: "a batch has 64 replies; replies that do not fit are dropped",
    },
    Least {
        path: "net/core/optmem_max",
        least: STEERING_PROGRAM,
        fine: "enough for --steer name",
        why: "onward cannot start with --steer name",
    },
    Least {
        path: "net/core/somaxconn",
        least: ACCEPT_QUEUE,
        fine: "the queue of new TCP connections holds a burst",
        why: "in a burst, new TCP connections beyond this number are refused",
    },
];

fn buffers(facts: &Facts) -> Vec<Finding> {
    let judged = |Least { path, least, fine, why }: &Least| {
        let value = facts.settings.get(path)?;
        let name = path.replace('/', ".");
        let finding = if value >= least {
            Finding::fine("kernel settings", format!("{name} is {value}: {fine}"))
        } else {
            let found = format!("{name} is {value}, expected at least {least}");
            Finding::advice("kernel settings", found).because(*why).set(path, least)
        };
        Some(finding)
    };
    BUFFERS.iter().filter_map(judged).collect()
}

fn ports(facts: &Facts, wanted: Option<&Wanted>) -> Option<Finding> {
    const TOPIC: &str = "source ports";
    let (low, high) = facts.ports?;
    let count = usize::from(high.saturating_sub(low)) + 1;
    let range = format!("{low} to {high}, {count} of them");
    let Some(wanted) = wanted else { return Some(Finding::fine(TOPIC, range)) };
    let most = wanted.ports;
    if most <= count / 2 {
        return Some(Finding::fine(TOPIC, format!("{range}; at most {most} are in use at once")));
    }
    let found = format!("{range}; up to {most} can be needed at once");
    let finding = if most > count {
        Finding::broken(TOPIC, found)
            .because("upstream connections cannot be opened when the range is used up")
    } else {
        Finding::advice(TOPIC, found).because(
            "when more than half of the ports are in use, the kernel takes long to find a free one \
             and other programs may find none",
        )
    };
    Some(
        finding
            .set("net/ipv4/ip_local_port_range", "\"16384 65535\"")
            .mend("# or lower max_conns and spread in the Corefile, or start fewer workers"),
    )
}

fn open_files(facts: &Facts, wanted: Option<&Wanted>) -> Option<Finding> {
    const TOPIC: &str = "open files";
    let limit = facts.open_files?;
    let least = wanted.map_or(OPEN_FILES, |wanted| wanted.descriptors as u64);
    let whose =
        if wanted.is_some() { "the Corefile can need" } else { "an ordinary Corefile needs" };
    if limit >= least {
        let found = format!("limit is {limit}; {whose} {least}");
        return Some(Finding::fine(TOPIC, found));
    }
    let found = format!("limit in this shell is {limit}; {whose} {least}");
    Some(
        Finding::advice(TOPIC, found)
            .because(
                "connection pools are made smaller to fit the limit, or onward refuses to start",
            )
            .mend("ulimit -Hn 65536   # in this shell; the systemd unit has LimitNOFILE=65536"),
    )
}

fn locked(facts: &Facts) -> Option<Finding> {
    let limit = match facts.locked_bytes? {
        u64::MAX => "without limit".to_owned(),
        bytes => format!("up to {bytes} bytes"),
    };
    let found = format!("limit is {limit}; onward locks no memory");
    Some(Finding::fine("locked memory", found))
}

fn tracking(facts: &Facts) -> Option<Finding> {
    const TOPIC: &str = "connection tracking";
    let count = facts.settings.get("net/netfilter/nf_conntrack_count");
    let most = facts.settings.get("net/netfilter/nf_conntrack_max");
    let (Some(&count), Some(&most)) = (count, most) else {
        return Some(Finding::fine(TOPIC, "not loaded"));
    };
    let found = format!("loaded, with {count} flows of at most {most}");
    if count <= TRACKING_FEW {
        return Some(Finding::fine(TOPIC, format!("{found}: little DNS traffic is tracked")));
    }
    let is_full = count * 100 > most * TRACKING_FULL_PERCENT;
    let finding = if is_full {
        Finding::broken(TOPIC, found)
            .because("packets of new flows are dropped when the table is full")
    } else {
        Finding::advice(TOPIC, found).because(
            "each query creates a flow that takes an entry, a lock and a timer for 30 s to \
             120 s; at 20,000 queries per second a table of 262,144 is full in 13 s",
        )
    };
    Some(
        finding
            .mend(
                "nft -f tuning/onward.nft   # NOTRACK for port 53; read the head of the file first",
            )
            .mend(format!(
                "sysctl -w net.netfilter.nf_conntrack_max={}   # if tracking is required",
                most * 4
            )),
    )
}

fn kernel(facts: &Facts) -> Option<Finding> {
    const TOPIC: &str = "kernel";
    let version = facts.kernel?;
    let shown = format!("Linux {}.{}", version.0, version.1);
    if facts.refused.is_empty() {
        let found = format!("{shown} has UDP GSO and GRO and SO_REUSEPORT with BPF");
        return Some(Finding::fine(TOPIC, found));
    }
    let found = format!("{shown} has no {}", facts.refused.join(", no "));
    let why = "onward uses slower system calls instead, or refuses the option that needs it";
    let mend = "# use a kernel of version 5.0 or later that allows it";
    Some(Finding::advice(TOPIC, found).because(why).mend(mend))
}

fn clock(facts: &Facts) -> Option<Finding> {
    const TOPIC: &str = "clock source";
    let source = facts.clock_source.as_deref()?;
    if GOOD_CLOCKS.contains(&source) {
        return Some(Finding::fine(
            TOPIC,
            format!("{source}: reading the time takes no system call"),
        ));
    }
    let path = "/sys/devices/system/clocksource/clocksource0";
    Some(
        Finding::advice(TOPIC, source)
            .because("workers read the time in each loop iteration; this clock needs a system call")
            .mend(format!("cat {path}/available_clocksource"))
            .mend(format!("echo tsc > {path}/current_clocksource   # if it is listed")),
    )
}

#[cfg(test)]
mod tests;
