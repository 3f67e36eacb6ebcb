//! The limits of a configuration, as a drop-in for its systemd unit.
//!
//! Twice the maximum of one process, because during an upgrade two run side by side for a moment.
//! The numbers are those of the report, with a named allowance for the program itself and its
//! libraries. A Corefile that grows needs a new drop-in, which the text says.

use super::Report;
use std::fmt::Write;

/// The program, its libraries, the stacks of its threads and occasional reads of files.
const PROCESS_BYTES: usize = 64 << 20;
/// Memory of each thread's stack and allocator.
const THREAD_BYTES: usize = 2 << 20;
/// Threads besides the workers: the first, keeper, admin and writer, and some for receivers of
/// dnstap.
const OTHER_THREADS: usize = 16;
/// The serving process and the one that takes over.
const PROCESSES: usize = 2;

/// Returns the drop-in for `report`.
pub(super) fn limits(report: &Report) -> String {
    let workers = report.workers();
    let threads = workers + OTHER_THREADS;
    let (clients, upstreams) = report.connections_max();
    let each = report.memory.most() + clients + upstreams;
    let bytes = PROCESSES * (PROCESS_BYTES + threads * THREAD_BYTES + each * workers);
    let descriptors = report.descriptors.all(workers);
    let mut text = String::from(
        "# Twice the maximum that the Corefile can use: an upgrade runs two processes at a time.\n\
         # Made by `onward check --format systemd`; to be made again when the Corefile, the\n\
         # workers or the version change. For /etc/systemd/system/onward.service.d/limits.conf\n\
         [Service]\n",
    );
    let _ = writeln!(text, "# {workers} workers with full tables, caches and connection buffers");
    let _ = writeln!(text, "MemoryMax={}M", bytes.div_ceil(1 << 20));
    let _ = writeln!(text, "# {threads} threads");
    let _ = writeln!(text, "TasksMax={}", PROCESSES * threads);
    let _ = writeln!(text, "# per process; connection pools are sized by this limit");
    let _ = writeln!(text, "LimitNOFILE={}", descriptors.next_power_of_two().max(1 << 16));
    text
}
