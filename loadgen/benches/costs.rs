//! Costs of the client and the upstream, compared with loops that only move packets.
//!
//! `cargo bench -p loadgen --bench costs` starts an upstream and a bare responder on one core, and
//! queries them from another, in rounds: the client queries the upstream, a bare loop queries the
//! upstream, and the same loop queries the responder. Each role is a process of its own, so that
//! the kernel counts its CPU time. The CPU times per answer of one round are compared; the ratios
//! of all rounds are printed with their mean and confidence interval. The bare loops use the same
//! batches, poll, number of sockets and outstanding queries, but neither count nor verify. With
//! `-- hits`, the bare loop compares onward's cache with the responder; it repeats [`BATCH`]
//! questions, so that all but the first query for each are hits.

use loadgen::process::processor_time;
use loadgen::stats::Interval;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use onward::clock::Clock;
use onward::config::{Config, Host};
use onward::moment::Moment;
use onward::server::Server;
use onward::sys::mmsg::{QueryBatch, RecvBatch, ReplyBatch};
use onward::sys::{cpu, socket};
use onward::traffic::client::{self, Load, Options};
use onward::traffic::upstream::{self, Service, Upstream};
use onward::traffic::verify::Verify;
use onward::traffic::workload::names::Names;
use onward::traffic::workload::style::{Style, TypeShares};
use onward::traffic::workload::{Source, Workload};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const ROUNDS: usize = 12;
const ROUND: Duration = Duration::from_millis(1_500);
const SOCKETS: usize = 8;
const OUTSTANDING: usize = 512;
const BATCH: usize = 64;
const TICK: Duration = Duration::from_millis(10);

fn main() {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["upstream"] => serve(),
        ["responder"] => respond_bare(),
        ["client", server] => report(ask(server.parse().unwrap())),
        ["loop", server] => report(ask_bare(server.parse().unwrap())),
        ["cache", upstream] => remember(upstream),
        ["hits"] => compare_hits(),
        _ => compare(),
    }
}

/// Runs all rounds and prints the ratios.
fn compare() {
    let (upstream, server) = start(&["upstream"]);
    let (responder, bare) = start(&["responder"]);
    let (mut clients, mut upstreams) = (Vec::new(), Vec::new());
    println!("  round   client    loop   ratio   upstream   responder   ratio   (µs an answer)");
    for round in 1..=ROUNDS {
        let (client, _) = measure("client", &server, &upstream);
        let (idle, ours) = measure("loop", &server, &upstream);
        let (_, theirs) = measure("loop", &bare, &responder);
        println!(
            "  {round:>5}   {client:>6.3}   {idle:>5.3}   {:>5.3}   {ours:>8.3}   {theirs:>9.3}   \
             {:>5.3}",
            client / idle,
            ours / theirs
        );
        clients.push(client / idle);
        upstreams.push(ours / theirs);
    }
    conclude("client / loop", &clients);
    conclude("upstream / responder", &upstreams);
    end([upstream, responder]);
}

/// Compares onward's cache with the responder, and prints the ratios.
fn compare_hits() {
    let (upstream, source) = start(&["upstream"]);
    let (cache, server) = start(&["cache", &source]);
    let (responder, bare) = start(&["responder"]);
    measure("loop", &server, &cache);
    let mut ratios = Vec::new();
    println!("  round    cache   responder   ratio   (µs an answer)");
    for round in 1..=ROUNDS {
        let (_, ours) = measure("loop", &server, &cache);
        let (_, theirs) = measure("loop", &bare, &responder);
        ratios.push(ours / theirs);
        println!("  {round:>5}   {ours:>6.3}   {theirs:>9.3}   {:>5.3}", ours / theirs);
    }
    conclude("cache / responder", &ratios);
    end([cache, responder, upstream]);
}

/// Prints the mean of the ratios and its confidence interval.
fn conclude(name: &str, ratios: &[f64]) {
    let Interval { low, mean, high } = Interval::of_ratios(ratios).expect("many rounds");
    println!("  {name}: {mean:.3} ({low:.3} … {high:.3})");
}

fn end<const N: usize>(processes: [Child; N]) {
    for mut child in processes {
        child.kill().and_then(|()| child.wait()).expect("it was running");
    }
}

/// Queries `server` in the role `role`; returns the CPU time per answer in microseconds, of this
/// role's process and of `answering`.
fn measure(role: &str, server: &str, answering: &Child) -> (f64, f64) {
    let before = processor_time(answering.id()).unwrap();
    let (mut child, line) = start(&[role, server]);
    child.wait().unwrap();
    let used = processor_time(answering.id()).unwrap() - before;
    let numbers: Vec<f64> = line.split(' ').map(|word| word.parse().unwrap()).collect();
    (numbers[1] / numbers[0] / 1e3, used.as_nanos() as f64 / numbers[0] / 1e3)
}

/// Starts this program in a role, and returns its first line.
fn start(arguments: &[&str]) -> (Child, String) {
    let program = std::env::current_exe().unwrap();
    let mut child = Command::new(program).args(arguments).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (child, line.trim_end().to_owned())
}

/// Prints the number of answers and the CPU time that they took, in nanoseconds.
fn report((answers, since): (u64, Duration)) {
    let used = processor_time(std::process::id()).unwrap() - since;
    println!("{answers} {}", used.as_nanos());
}

/// Returns the core of the servers and the core of the clients.
fn cores() -> (usize, usize) {
    let cores = cpu::cores();
    (cores[0], cores[cores.len() - 1])
}

fn serve() {
    let address = "127.0.0.1:0".parse().unwrap();
    let services = vec![Service { address, script: Arc::default() }];
    let cores = vec![cores().0];
    let options = upstream::Options { services, cores, seed: 1, ..upstream::Options::default() };
    let upstream = Upstream::start(&options).unwrap();
    println!("{}", upstream.addresses()[0]);
    loop {
        std::thread::park();
    }
}

/// Runs onward with a cache in front of `upstream`.
fn remember(upstream: &str) {
    let text = format!(".:0 {{\n bind 127.0.0.1\n cache\n forward . {upstream}\n}}\n");
    let (config, _) = Config::load(text.as_bytes(), "this bench", &Host::plain()).unwrap();
    let server = Server::start(
        config,
        &[Some(cores().0)],
        onward::log::Log::text(|line| eprintln!("{line}")),
    )
    .unwrap();
    println!("{}", server.addresses()[0]);
    loop {
        std::thread::park();
    }
}

fn ask(server: SocketAddr) -> (u64, Duration) {
    let source = Source::Made {
        names: Names::Unique,
        hit_ratio: None,
        zone: b"\x04demo\x07example\0".to_vec(),
        types: TypeShares::default(),
        style: Style::default(),
    };
    let load = Load::Closed { outstanding: OUTSTANDING, duration: Some(ROUND) };
    let mut options = Options::new(vec![server], source, load, 1);
    options.cores = vec![cores().1];
    options.sockets = SOCKETS;
    options.verify = Verify::Derived;
    let since = processor_time(std::process::id()).unwrap();
    let counts = client::run(&options).unwrap().join().unwrap().counts;
    assert_eq!(counts.answered, counts.sent, "{counts:?}");
    (counts.answered, since)
}

/// A poll that watches `sockets`.
fn watch(sockets: &[UdpSocket]) -> Poll {
    let poll = Poll::new().unwrap();
    for (number, socket) in sockets.iter().enumerate() {
        let fd = socket.as_raw_fd();
        poll.registry().register(&mut SourceFd(&fd), Token(number), Interest::READABLE).unwrap();
    }
    poll
}

/// Sends the same packets repeatedly, one for each response.
fn ask_bare(server: SocketAddr) -> (u64, Duration) {
    cpu::pin(cores().1).unwrap();
    let since = processor_time(std::process::id()).unwrap();
    let sockets: Vec<UdpSocket> =
        (0..SOCKETS).map(|_| socket::udp_connected(server, None).unwrap()).collect();
    let mut poll = watch(&sockets);
    let mut events = Events::with_capacity(256);
    let mut inbox = RecvBatch::new(BATCH, 1232, false);
    let mut outbox = QueryBatch::new(BATCH);
    let packets: Vec<Vec<u8>> = (0..BATCH as u16)
        .map(|number| {
            let mut packet = [0; 128];
            let seed = number.into();
            let length = Workload::new(Source::unique(), seed, 0, 1, None, true).write(&mut packet);
            packet[..2].copy_from_slice(&number.to_be_bytes());
            packet[..length].to_vec()
        })
        .collect();
    let clock = Clock::start();
    let mut answers = 0;
    for socket in &sockets {
        for chunk in [&packets[..]].repeat(OUTSTANDING / SOCKETS / BATCH) {
            outbox.send(socket.as_fd(), chunk.iter().map(Vec::as_slice), false).unwrap();
        }
    }
    while clock.now().since(Moment::ZERO) < ROUND {
        poll.poll(&mut events, Some(TICK)).unwrap();
        for event in &events {
            let socket = &sockets[event.token().0];
            while let Ok(received) = inbox.recv(socket.as_fd()) {
                answers += received as u64;
                let again = packets[..received].iter().map(Vec::as_slice);
                outbox.send(socket.as_fd(), again, false).unwrap();
                if received < BATCH {
                    break;
                }
            }
        }
    }
    (answers, since)
}

/// Sends each datagram back as a response, without parsing it.
fn respond_bare() {
    cpu::pin(cores().0).unwrap();
    let socket = socket::udp_listener("127.0.0.1:0".parse().unwrap(), false).unwrap();
    println!("{}", socket.local_addr().unwrap());
    let mut poll = watch(std::slice::from_ref(&socket));
    let mut events = Events::with_capacity(256);
    let mut inbox = RecvBatch::new(BATCH, 4096, true);
    let mut replies = ReplyBatch::new(BATCH, 512, false);
    loop {
        poll.poll(&mut events, None).unwrap();
        while let Ok(received) = inbox.recv(socket.as_fd()) {
            for number in 0..received {
                let datagram = inbox.datagram(number);
                // As long as a correct answer, so that both servers send the same number of bytes.
                let length = answer(datagram.bytes, replies.buffer());
                replies.commit(length, 0, &datagram.peer.unwrap(), datagram.local);
            }
            replies.flush(|_| socket.as_fd());
            if received < BATCH {
                break;
            }
        }
    }
}

/// Copies the query, sets QR, and returns a length that is 16 bytes longer.
fn answer(query: &[u8], response: &mut [u8]) -> usize {
    response[..query.len()].copy_from_slice(query);
    response[2] |= 0x80;
    query.len() + 16
}
