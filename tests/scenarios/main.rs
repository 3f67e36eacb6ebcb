//! Scenarios: the whole engine in a scripted world, in words an operator can read.
//!
//! Each file in `cases` is a story: a Corefile, what clients ask, what upstreams do about it, how
//! much time passes, and what everybody gets. No socket and no sleep: time is a number that jumps
//! from deadline to deadline, so an hour costs nothing and every moment is exact. A story is told
//! three times with different random numbers, and must hold each time.
//!
//! `cargo test --test scenarios` plays all of them and names each line that fails and why.
//! `SCENARIO=failover cargo test --test scenarios` plays those whose file name contains the word.
//!
//! A story fails when anything happens that it does not speak of: a query that reached an
//! upstream, a reply, a dropped packet, a client that waits, a connection or timer that is left
//! when all time has passed. And when it says what does not happen, or what nobody understands.
//!
//! # The language
//!
//! A file begins with `# ` and what an operator learns from it; then comes the `corefile`, then
//! the steps, one a line. Details follow behind commas. `#` begins a comment.
//!
//! ```text
//! corefile                          the configuration, indented below
//! in one turn                       the steps indented below come before the worker sends anything
//! for X from 1 to 9                 the steps indented below for each number, written {X}
//!
//! client N asks NAME TYPE [CLASS]   a query, in a datagram unless a detail says not; N is a number
//! client N sends HEX                a datagram, byte by byte
//! client N gets RCODE [RECORDS]     its reply, which must be this one in every detail
//! client N gets nothing             it has no reply and will have none
//! client N closes its connection        without waiting for more
//! the connection of client N is open    or `closed`
//!
//! upstream A gets NAME TYPE [CLASS] [as Q]   exactly this query, called Q from now on
//! some upstream gets …              the same, whichever it is
//! another upstream gets …           the same, but not the one of the last such step
//! upstream answers Q RCODE [RECORDS]   with the id and question of Q, and an OPT
//! upstream sends HEX to Q           to the socket of Q, byte by byte
//! upstream refuses Q                the socket of Q hears that the port is closed (ICMP)
//! upstream closes the connection of Q   or `resets`
//! upstream A connects               as it does from the beginning; other words for new sockets:
//! upstream A does not connect       nothing answers the handshake
//! upstream A refuses to connect     a reset answers the handshake
//! upstream A cannot be reached      this host has no way to it, also for datagrams
//! upstream A answers probes         as it does from the beginning; or `ignores`, or `refuses`
//! upstream A is up                  or `down`: what the probes say
//! upstream A has had 3 probes       since the beginning
//! upstream A has got 3 queries      or `3 to 5 queries`, since the beginning
//!
//! after 2s                          so much time passes; nothing happens before its last moment
//! nothing happens for 2s            not in its last moment either
//! within 2s                         time passes until something happens, which it does
//! stop                              the worker stops: nothing is sent any more, nobody is probed
//! the pool of A over udp has …      `1 connection`, or `2 to 4 opened, 1 reused`: see POOL_COUNTS
//! counted: 1 response unmatched     since the beginning; COUNTS lists what must be told of
//! ```
//!
//! `A` is `IP` or `IP:PORT`. The details of a client's query:
//!
//! ```text
//! over tcp                          on a connection of its own
//! on the connection of client N         on that one's
//! from IP:PORT, to IP:PORT          its own address, and the listener's; else it is the first one
//! id 7                              else it is 1000 and its number
//! no rd, ad, cd, do                 flags: RD is set unless it is taken away; `do` brings an OPT
//! edns, edns 4096, edns version 1   an OPT, its size and version, else 1232 and 0
//! 2 questions, 2 opts               how many, all alike
//! signed                            with a TSIG record
//! as a response, opcode 4           in the header
//! cut to 20 bytes                   the rest is missing
//! beyond the buffer                 longer than what the worker reads
//! ```
//!
//! The details of a query that an upstream gets; all that it has must be told:
//!
//! ```text
//! over tcp, no rd, ad, cd, do       as above; the OPT is always there, and is ours
//! from address IP                   our own address, if the configuration chooses it
//! from port P                       the same port for the same P, another one for another
//! on connection P                       the same of connections
//! ```
//!
//! The details of an answer, and of a reply where it makes sense:
//!
//! ```text
//! A 10.0.0.1 10.0.0.2               TYPE and data; hex unless A, AAAA, NS or CNAME; SOA alone
//! authority SOA, additional A …     in another section than the answer
//! 40 addresses                      so many A records, from 10.0.0.1 on
//! ttl 60                            of all records; else it is 300
//! aa, tc, ad, no ra                 flags: RA is set unless it is taken away
//! no question                       the question is missing
//! no edns                           no OPT; without a word a reply has one if the query had
//! in at most 512 bytes              the reply's length
//! wrong id, wrong name, wrong type, wrong class   than Q has
//! on the connection of R            comes on the socket of another query
//! to a closed port                  our socket is closed already, which is checked
//! as a query, opcode 4              in the header
//! 0 questions, 2 opts, do           how many, all alike; DO in the OPT
//! counting 2 more                   the header counts more answer records than there are
//! spelt NAME                        the question's name in other letters
//! cut to 20 bytes, beyond the buffer   as above
//! ```
//!
//! Options of EDNS, in all of them: `ecs 192.0.2.0/24`, `cookie`, `padding`, `keepalive`,
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

/// Each scenario is played with each of these.
const SEEDS: [u8; 3] = [1, 2, 3];

/// Plays the scenario `text`.
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
fn every_scenario_goes_as_it_is_told() {
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
/// When a file is no scenario: it would never be played.
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
