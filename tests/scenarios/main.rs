//! Scenarios: the whole engine in a scripted world, in words an operator can read.
//!
//! Each file in `cases` has a Corefile and steps: queries of clients, behaviour of upstreams,
//! passing time, and the expected results. No socket and no sleep: time jumps from deadline to
//! deadline, so an hour costs nothing and every instant is exact. A scenario is run three times
//! with different random numbers, and must hold each time.
//!
//! `cargo test --test scenarios` runs all scenarios and prints each failing line with the reason.
//! `SCENARIO=failover cargo test --test scenarios` runs those whose file name contains the word.
//!
//! A scenario fails at any event it does not mention: an upstream query, a reply, a dropped packet,
//! a waiting client, or a connection or timer that remains after all time has passed. It also fails
//! if a mentioned event does not happen, or if a line cannot be parsed.
//!
//! # The language
//!
//! A file begins with `# ` and the lesson for an operator; then comes the `corefile`, then the
//! steps, one per line. Details follow after commas. `#` begins a comment.
//!
//! ```text
//! corefile                          the configuration, indented below
//! in one turn                       the steps indented below precede the worker's next send
//! for X from 1 to 9                 the steps indented below for each number, written {X}
//!
//! client N asks NAME TYPE [CLASS]   a query, over UDP by default; N is a number
//! client N sends HEX                a datagram, byte by byte
//! client N gets RCODE [RECORDS]     its reply, which must be this one in every detail
//! client N gets nothing             it has no reply and gets none later
//! client N closes its connection    without waiting for more
//! the connection of client N is open    or `closed`
//!
//! upstream A gets NAME TYPE [CLASS] [as Q]   exactly this query, named Q from now on
//! some upstream gets …              the same, at any upstream
//! another upstream gets …           the same, at another upstream than in the last such step
//! upstream answers Q RCODE [RECORDS]   with the id and question of Q, and an OPT
//! upstream sends HEX to Q           to the socket of Q, byte by byte
//! upstream refuses Q                the socket of Q gets ICMP port unreachable
//! upstream closes the connection of Q   or `resets`
//! upstream A connects               the initial state; for new sockets:
//! upstream A does not connect       nothing answers the handshake
//! upstream A refuses to connect     a reset answers the handshake
//! upstream A cannot be reached      this host has no route to it, also for datagrams
//! upstream A answers probes         the initial state; or `ignores`, or `refuses`
//! upstream A is up                  or `down`: its health state
//! upstream A has had 3 probes       since the beginning
//! upstream A has got 3 queries      or `3 to 5 queries`, since the beginning
//!
//! after 2s                          time passes; nothing happens before its last instant
//! nothing happens for 2s            not in its last instant either
//! within 2s                         time passes until something happens, which must happen
//! stop                              the worker stops: no more queries, no more probes
//! the pool of A over udp has …      `1 connection`, or `2 to 4 opened, 1 reused`: see POOL_COUNTS
//! counted: 1 response unmatched     since the beginning; COUNTS lists the mandatory counters
//! ```
//!
//! `A` is `IP` or `IP:PORT`. The details of a client's query:
//!
//! ```text
//! over tcp                          on a connection of its own
//! on the connection of client N     on that client's connection
//! from IP:PORT, to IP:PORT          addresses of client and listener; default: the first listener
//! id 7                              default: 1000 plus N
//! no rd, ad, cd, do                 flags: RD is the default; `do` adds an OPT
//! edns, edns 4096, edns version 1   an OPT, its size and version; default: 1232 and 0
//! 2 questions, 2 opts               that many equal ones
//! signed                            with a TSIG record
//! as a response, opcode 4           in the header
//! cut to 20 bytes                   the rest is missing
//! beyond the buffer                 longer than what the worker reads
//! ```
//!
//! Details of a query that an upstream receives; all of them must be given:
//!
//! ```text
//! over tcp, no rd, ad, cd, do       as above; the OPT is always there, and is ours
//! from address IP                   our own address, if the configuration chooses it
//! from port P                       equal names mean equal ports, different names different ports
//! on connection P                   the same for connections
//! ```
//!
//! Details of an answer, and of a reply where applicable:
//!
//! ```text
//! A 10.0.0.1 10.0.0.2               TYPE and data; hex unless A, AAAA, NS or CNAME; SOA alone
//! authority SOA, additional A …     in another section than the answer
//! 40 addresses                      that many A records, from 10.0.0.1 on
//! ttl 60                            of all records; default: 300
//! aa, tc, ad, no ra                 flags: RA is the default
//! no question                       the question is missing
//! no edns                           no OPT; by default a reply has one if the query had
//! in at most 512 bytes              the reply's length
//! wrong id, wrong name, wrong type, wrong class   differs from that of Q
//! on the connection of R            arrives on the socket of another query
//! to a closed port                  our socket is closed already, which is checked
//! as a query, opcode 4              in the header
//! 0 questions, 2 opts, do           that many equal ones; DO in the OPT
//! counting 2 more                   the header counts more answer records than exist
//! spelt NAME                        the question's name in another letter case
//! cut to 20 bytes, beyond the buffer   as above
//! ```
//!
//! EDNS options, in all of them: `ecs 192.0.2.0/24`, `cookie`, `padding`, `keepalive`,
//! `keepalive 5s`, `ede 22 TEXT`, `option 65001 HEX`.

mod ask;
#[path = "../common/mod.rs"]
mod common;
mod keeper;
mod play;
mod proofs;
mod say;
mod script;
mod words;
mod world;

use script::{Failure, Script};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Each scenario runs with each of these seeds.
const SEEDS: [u8; 3] = [1, 2, 3];

/// Runs the scenario `text`.
pub(crate) fn run(text: &str) -> Result<(), Failure> {
    let script = Script::parse(text)?;
    let line = Cell::new(1);
    for seed in SEEDS {
        let played = catch_unwind(AssertUnwindSafe(|| play::play(&script, seed, &line)));
        played.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<&str>().copied();
            let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
            let problem = format!("panic: {}", text.unwrap_or("without a word"));
            Err(Failure { line: line.get(), problem })
        })?;
    }
    Ok(())
}

#[test]
fn every_scenario_holds() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios/cases");
    let wanted = std::env::var("SCENARIO").unwrap_or_default();
    let names = chosen(&directory, &wanted);
    assert!(!names.is_empty(), "no scenario is called `{wanted}`");
    let mut failures = Vec::new();
    for name in &names {
        let text = std::fs::read_to_string(directory.join(name)).expect("a case is text");
        if let Err(Failure { line, problem }) = run(&text) {
            failures.push(format!("tests/scenarios/cases/{name}:{line}: {problem}"));
        }
    }
    let (failed, all) = (failures.len(), names.len());
    assert!(failures.is_empty(), "{failed} of {all} fail\n{}", failures.join("\n"));
}

/// The files in `directory` whose name contains `wanted`, in order.
///
/// # Panics
/// If a file is not a scenario, because it would never run.
fn chosen(directory: &Path, wanted: &str) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("the directory of cases");
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.expect("a case").file_name().to_string_lossy().into_owned();
        assert!(name.ends_with(".scenario"), "{name} is no scenario");
        names.extend(Some(name).filter(|name| name.contains(wanted)));
    }
    names.sort();
    names
}
