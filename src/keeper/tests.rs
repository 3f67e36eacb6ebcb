//! The keeper over real sockets on loopback: behaviour of upstreams, and the resulting states.
//!
//! The test plays the upstream and the worker. It waits for events with a deadline: a probe that
//! arrives, a line in the log, a message to the worker. If an upstream must come back on its old
//! port, the test has a loopback address of its own, so that no other test gets the port meanwhile.

use super::{Keeper, MAILBOX};
use crate::clock::Clock;
use crate::config::{Config, Host};
use crate::control::{KeeperMailbox, Mailbox, ToKeeper, ToWorker};
use crate::engine::Sweep;
use crate::engine::health::{HealthStates, PLAIN_FOR};
use crate::log::Log;
use crate::moment::Moment;
use crate::tls::Setup;
use crossbeam_channel::{Receiver, Sender};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(20);
/// Probes follow one another quickly, and two failures mark an upstream as down.
const QUICK: &str = "health_check 10ms\nmax_fails 2";

/// A keeper with one worker, which is the test.
struct Scene {
    clock: Clock,
    keeper: KeeperMailbox,
    health_states: Arc<HealthStates>,
    worker: Mailbox,
    mail: Receiver<ToWorker>,
    lines: Receiver<String>,
    thread: JoinHandle<()>,
    _poll: mio::Poll,
}

fn config(upstreams: &[SocketAddr], options: &str) -> Config {
    let upstreams: Vec<_> = upstreams.iter().map(SocketAddr::to_string).collect();
    let text = format!(". {{\n forward . {} {{\n{options}\n}}\n}}\n", upstreams.join(" "));
    Config::load(text.as_bytes(), "Corefile", &Host::plain()).unwrap().0
}

thread_local! {
    /// Receiver of the messages of a keeper's thread.
    static SAID: Cell<Option<Sender<String>>> = const { Cell::new(None) };
}

fn pass_on(line: &str) {
    let log = SAID.take().expect("the thread has been told where to");
    log.send(line.to_owned()).expect("somebody reads");
    SAID.set(Some(log));
}

impl Scene {
    fn new(upstreams: &[SocketAddr], options: &str) -> Self {
        let config = config(upstreams, options);
        let health_states = Arc::new(HealthStates::new(&config));
        let clock = Clock::start();
        let (keeper, mailbox) =
            Keeper::new(clock, &config, Arc::clone(&health_states), &Setup::default()).unwrap();
        let poll = mio::Poll::new().unwrap();
        let waker = mio::Waker::new(poll.registry(), MAILBOX).unwrap();
        let (worker, mail) = Mailbox::new(1, waker);
        let (log, lines) = crossbeam_channel::unbounded();
        let workers = vec![worker.clone()];
        let thread = std::thread::spawn(move || {
            SAID.set(Some(log));
            keeper.run(workers, Log::text(pass_on));
        });
        Self { clock, keeper: mailbox, health_states, worker, mail, lines, thread, _poll: poll }
    }

    /// Reports that a worker's exchange failed.
    fn fail(&self, upstream: usize) {
        assert!(self.health_states.report(upstream));
        self.keeper.try_send(ToKeeper::Failed { upstream }).unwrap();
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(TIMEOUT).unwrap()
    }

    /// Waits until no probe of the upstream is in progress or planned.
    fn wait_until_idle(&self, upstream: usize) {
        let until = self.clock.now().plus(TIMEOUT);
        while self.health_states.is_probing(upstream) {
            assert!(self.clock.now() < until, "upstream {upstream} is still being probed");
            std::thread::yield_now();
        }
    }

    /// Answers a probe of `upstream` and returns the log line that follows.
    fn line_of_answered(&self, upstream: &UdpSocket) -> String {
        loop {
            let (query, from) = probe(upstream);
            upstream.send_to(&answer(&query), from).unwrap();
            // On a busy machine the answer may have been too late; then there is another probe.
            if let Ok(line) = self.lines.recv_timeout(Duration::from_millis(500)) {
                return line;
            }
        }
    }

    fn stop(self) {
        self.keeper.send(ToKeeper::Stop).unwrap();
        assert!(matches!(self.mail.recv_timeout(TIMEOUT).unwrap(), ToWorker::Drain));
        self.keeper.send(ToKeeper::Left).unwrap();
        self.thread.join().unwrap();
        assert_eq!(self.lines.try_iter().collect::<Vec<_>>(), Vec::<String>::new());
    }
}

fn udp(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    socket
}

/// Receives the next probe; returns it and its source.
fn probe(upstream: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut packet = [0; 512];
    let (len, from) = upstream.recv_from(&mut packet).unwrap();
    (packet[..len].to_vec(), from)
}

/// Builds a REFUSED response, which counts as an answer.
fn answer(query: &[u8]) -> Vec<u8> {
    let mut answer = query.to_vec();
    (answer[2], answer[3]) = (query[2] | 0x80, 5);
    answer
}

fn accept(upstream: &TcpListener) -> TcpStream {
    let (stream, _) = upstream.accept().unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream
}

fn framed_probe(stream: &mut TcpStream) -> Vec<u8> {
    let mut len = [0; 2];
    stream.read_exact(&mut len).unwrap();
    let mut query = vec![0; u16::from_be_bytes(len).into()];
    stream.read_exact(&mut query).unwrap();
    query
}

fn framed(message: &[u8]) -> Vec<u8> {
    let len = u16::try_from(message.len()).unwrap();
    [&len.to_be_bytes(), message].concat()
}

/// The OPT of probes.
const OPT: [u8; 11] = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];

#[test]
fn an_upstream_that_answers_with_any_rcode_is_up() {
    let upstream = udp("127.0.0.1:0");
    let scene = Scene::new(&[upstream.local_addr().unwrap()], "");
    let (mut ids, mut ports) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..8 {
        scene.fail(0);
        let (query, from) = probe(&upstream);
        assert!(scene.health_states.is_probing(0) && !scene.health_states.is_down(0));
        // RD, one question, the root's NS in class IN, an OPT, and nothing more.
        assert_eq!(query[2..17], [1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 2, 0, 1]);
        assert_eq!(query[17..], OPT);
        ids.insert([query[0], query[1]]);
        ports.insert(from.port());
        upstream.send_to(&answer(&query), from).unwrap();
        scene.wait_until_idle(0);
        assert!(!scene.health_states.is_down(0));
    }
    assert!(ids.len() > 4 && ports.len() > 4, "{ids:?} {ports:?}");
    scene.stop();
}

#[test]
fn probes_have_the_configured_question() {
    let upstream = udp("127.0.0.1:0");
    let options = "health_check 1s no_rec domain A.b";
    let scene = Scene::new(&[upstream.local_addr().unwrap()], options);
    scene.fail(0);
    let (query, from) = probe(&upstream);
    assert_eq!(query[2..12], [0, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
    assert_eq!(query[12..], [&b"\x01a\x01b\0\0\x02\0\x01"[..], &OPT].concat());
    upstream.send_to(&answer(&query), from).unwrap();
    scene.wait_until_idle(0);
    // As long as queries are sent without EDNS, so are probes.
    assert!(scene.health_states.note_no_edns(0, Moment::FOREVER.minus(PLAIN_FOR)));
    scene.fail(0);
    let (query, from) = probe(&upstream);
    assert_eq!(query[2..12], [0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(query[12..], *b"\x01a\x01b\0\0\x02\0\x01");
    upstream.send_to(&answer(&query), from).unwrap();
    scene.wait_until_idle(0);
    scene.stop();
}

#[test]
fn a_refusing_upstream_is_down_at_once_and_up_when_it_is_back() {
    let upstream = udp("127.0.41.1:0");
    let address = upstream.local_addr().unwrap();
    drop(upstream);
    let scene = Scene::new(&[address], QUICK);
    scene.fail(0);
    let expected = format!("[ERROR] upstream {address} is down: 2 probes failed (last: refused)");
    assert_eq!(scene.line(), expected);
    assert!(scene.health_states.is_down(0) && scene.health_states.is_probing(0));
    assert!(!scene.health_states.report(0), "the keeper knows");
    let upstream = udp(&address.to_string());
    let line = scene.line_of_answered(&upstream);
    assert!(line.starts_with(&format!("[INFO] upstream {address} is up again after 0.")), "{line}");
    assert!(!scene.health_states.is_down(0) && !scene.health_states.is_probing(0));
    scene.stop();
}

#[test]
fn a_silent_upstream_is_down_and_forgeries_do_not_revive_it() {
    let upstream = udp("127.0.0.1:0");
    let address = upstream.local_addr().unwrap();
    let scene = Scene::new(&[address], "health_check 10ms\nmax_fails 1");
    scene.fail(0);
    let (late, _) = probe(&upstream);
    let expected = format!("[ERROR] upstream {address} is down: 1 probe failed (last: timed out)");
    assert_eq!(scene.line(), expected);
    assert!(scene.health_states.is_down(0));
    let (query, from) = probe(&upstream);
    let right = answer(&query);
    // With another ID, without QR, with another question, too short; and the late answer.
    for (place, bit) in [(0, 1), (2, 0x80), (14, 1)] {
        let mut forged = right.clone();
        forged[place] ^= bit;
        upstream.send_to(&forged, from).unwrap();
    }
    upstream.send_to(&answer(&late), from).unwrap();
    upstream.send_to(&right[..11], from).unwrap();
    assert!(scene.health_states.is_down(0));
    assert!(scene.lines.is_empty());
    let line = scene.line_of_answered(&upstream);
    assert!(line.starts_with(&format!("[INFO] upstream {address} is up again after ")), "{line}");
    assert!(!scene.health_states.is_down(0));
    scene.stop();
}

#[test]
fn a_flood_of_forgeries_ends_the_probe() {
    let upstream = udp("127.0.0.1:0");
    let address = upstream.local_addr().unwrap();
    let scene = Scene::new(&[address], "health_check 10ms\nmax_fails 1");
    scene.fail(0);
    let (query, from) = probe(&upstream);
    for _ in 0..super::wire::STRAYS_MAX {
        upstream.send_to(&query, from).unwrap();
    }
    assert!(
        scene.line().ends_with("1 probe failed (last: only messages that do not match the probe)")
    );
    assert!(scene.line_of_answered(&upstream).contains(" is up again after "));
    scene.stop();
}

#[test]
fn probes_leave_from_the_source_address() {
    let upstream = udp("127.0.0.1:0");
    let scene = Scene::new(&[upstream.local_addr().unwrap()], "source_address 127.0.0.5");
    scene.fail(0);
    let (query, from) = probe(&upstream);
    assert_eq!(from.ip().to_string(), "127.0.0.5");
    upstream.send_to(&answer(&query), from).unwrap();
    scene.wait_until_idle(0);
    scene.stop();
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let options = "force_tcp\nsource_address 127.0.0.5";
    let scene = Scene::new(&[upstream.local_addr().unwrap()], options);
    scene.fail(0);
    let mut stream = accept(&upstream);
    assert_eq!(stream.peer_addr().unwrap().ip().to_string(), "127.0.0.5");
    let query = framed_probe(&mut stream);
    stream.write_all(&framed(&answer(&query))).unwrap();
    scene.wait_until_idle(0);
    assert!(!scene.health_states.is_down(0));
    scene.stop();
}

/// The reference's probes have no limit of time once they leave from an address of their own.
#[test]
fn a_silent_connection_fails_the_probe_from_a_source_address_too() {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let options = "health_check 1m\nmax_fails 1\nforce_tcp\nsource_address 127.0.0.5";
    let scene = Scene::new(&[upstream.local_addr().unwrap()], options);
    scene.fail(0);
    let _open = accept(&upstream);
    assert!(scene.line().ends_with(" is down: 1 probe failed (last: timed out)"));
    scene.stop();
}

#[test]
fn over_tcp_an_answer_may_come_in_pieces() {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let scene = Scene::new(&[upstream.local_addr().unwrap()], "force_tcp");
    scene.fail(0);
    let mut stream = accept(&upstream);
    let query = framed_probe(&mut stream);
    assert_eq!(query[2..17], [1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 2, 0, 1]);
    let stray = framed(&query);
    let bytes = [stray, framed(&answer(&query))].concat();
    stream.set_nodelay(true).unwrap();
    for byte in &bytes {
        assert!(scene.health_states.is_probing(0));
        stream.write_all(&[*byte]).unwrap();
    }
    scene.wait_until_idle(0);
    assert!(!scene.health_states.is_down(0));
    scene.stop();
}

#[test]
fn over_tcp_a_refusing_upstream_is_down_and_up_when_it_is_back() {
    let upstream = TcpListener::bind("127.0.41.2:0").unwrap();
    let address = upstream.local_addr().unwrap();
    drop(upstream);
    let scene = Scene::new(&[address], &format!("{QUICK}\nforce_tcp"));
    scene.fail(0);
    let expected = format!("[ERROR] upstream {address} is down: 2 probes failed (last: refused)");
    assert_eq!(scene.line(), expected);
    assert!(scene.health_states.is_down(0));
    let upstream = TcpListener::bind(address).unwrap();
    let mut stream = accept(&upstream);
    let query = framed_probe(&mut stream);
    stream.write_all(&framed(&answer(&query))).unwrap();
    assert!(scene.line().starts_with(&format!("[INFO] upstream {address} is up again after ")));
    assert!(!scene.health_states.is_down(0) && !scene.health_states.is_probing(0));
    scene.stop();
}

#[test]
fn over_tcp_an_upstream_that_closes_or_is_silent_is_down() {
    let [closing, silent] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let addresses = [closing.local_addr().unwrap(), silent.local_addr().unwrap()];
    let scene = Scene::new(&addresses, "health_check 1m\nmax_fails 1\nforce_tcp");
    scene.fail(0);
    framed_probe(&mut accept(&closing));
    let expected = format!(
        "[ERROR] upstream {} is down: 1 probe failed (last: connection closed)",
        addresses[0]
    );
    assert_eq!(scene.line(), expected);
    assert!(scene.health_states.is_down(0) && !scene.health_states.is_down(1));
    scene.fail(1);
    let _open = accept(&silent);
    let expected =
        format!("[ERROR] upstream {} is down: 1 probe failed (last: timed out)", addresses[1]);
    assert_eq!(scene.line(), expected);
    assert!(scene.health_states.is_down(0) && scene.health_states.is_down(1));
    scene.stop();
}

#[test]
fn upstreams_without_health_checks_are_never_probed() {
    let upstream = udp("127.0.0.1:0");
    let scene = Scene::new(&[upstream.local_addr().unwrap()], "max_fails 0");
    assert!(!scene.health_states.report(0));
    // A report for it is ignored.
    scene.keeper.send(ToKeeper::Failed { upstream: 0 }).unwrap();
    scene.stop();
    upstream.set_nonblocking(true).unwrap();
    assert!(upstream.recv_from(&mut [0; 512]).is_err());
}

#[test]
fn a_report_lost_by_a_panic_is_repeated() {
    let upstream = udp("127.0.0.1:0");
    let scene = Scene::new(&[upstream.local_addr().unwrap()], "");
    assert!(scene.health_states.report(0));
    assert!(!scene.health_states.report(0));
    let panicked = ToKeeper::Panicked { worker: 0, message: "oh".into() };
    scene.keeper.try_send(panicked).unwrap();
    assert_eq!(scene.line(), "[ERROR] worker 0 panicked and was restarted: oh");
    scene.fail(0);
    probe(&upstream);
    scene.stop();
}

#[test]
fn a_sweep_comes_when_it_is_due_and_waits_for_room() {
    let scene = Scene::new(&["127.0.0.1:1".parse().unwrap()], "");
    // The mailbox holds one message: the other sweep is tried again until there is room.
    let now = scene.clock.now();
    for sweep in [7, 8].map(Sweep::Cache) {
        let later = now.plus(Duration::from_secs(3_600));
        scene.keeper.send(ToKeeper::Wake { worker: 0, sweep, at: later }).unwrap();
        scene.keeper.send(ToKeeper::Wake { worker: 0, sweep, at: now }).unwrap();
    }
    let mut swept = BTreeSet::new();
    for _ in 0..2 {
        match scene.mail.recv_timeout(TIMEOUT).unwrap() {
            ToWorker::Sweep(sweep) => swept.insert(sweep),
            other => panic!("{other:?}"),
        };
    }
    assert_eq!(swept, [7, 8].map(Sweep::Cache).into());
    // So is the order to drain.
    scene.worker.send(ToWorker::Sweep(Sweep::Cache(9))).unwrap();
    scene.keeper.send(ToKeeper::Stop).unwrap();
    assert!(matches!(scene.mail.recv_timeout(TIMEOUT).unwrap(), ToWorker::Sweep(Sweep::Cache(9))));
    assert!(matches!(scene.mail.recv_timeout(TIMEOUT).unwrap(), ToWorker::Drain));
    scene.keeper.send(ToKeeper::Left).unwrap();
    scene.thread.join().unwrap();
}

/// Design: no thread wakes when nothing is due.
#[test]
fn connections_closed_for_max_age_are_logged() {
    let upstream = udp("127.0.0.1:0").local_addr().unwrap();
    let scene = Scene::new(&[upstream], "");
    for upstream in [1, 0] {
        scene.keeper.try_send(ToKeeper::Retired { upstream, count: 2 }).unwrap();
    }
    let expected = "[INFO] plugin/forward: connections closed: max_age reached";
    assert_eq!(scene.line(), format!("{expected} upstream={upstream} connections=2"));
    // The next line is a minute away.
    scene.keeper.try_send(ToKeeper::Retired { upstream: 0, count: 1 }).unwrap();
    scene.stop();
}

#[test]
fn between_outages_nothing_is_due() {
    let upstream = udp("127.0.0.1:0");
    let config = config(&[upstream.local_addr().unwrap()], "");
    let health_states = Arc::new(HealthStates::new(&config));
    let (mut keeper, mailbox) =
        Keeper::new(Clock::start(), &config, Arc::clone(&health_states), &Setup::default())
            .unwrap();
    assert_eq!(keeper.timers.next_deadline(), None);
    mailbox.try_send(ToKeeper::Failed { upstream: 0 }).unwrap();
    keeper.turn(Log::text(|_| ())).unwrap();
    assert!(keeper.timers.next_deadline().is_some(), "the probe's own");
    let (query, from) = probe(&upstream);
    upstream.send_to(&answer(&query), from).unwrap();
    keeper.turn(Log::text(|_| ())).unwrap();
    assert!(!health_states.is_probing(0));
    assert_eq!((keeper.timers.next_deadline(), keeper.behind), (None, false));
}

#[test]
fn an_upstream_that_refuses_edns_is_known_after_a_reload() {
    let upstreams =
        [udp("127.0.0.1:0"), udp("127.0.0.1:0")].map(|socket| socket.local_addr().unwrap());
    let scene = Scene::new(&upstreams, "");
    assert!(scene.health_states.note_no_edns(1, scene.clock.now()));
    let config = config(&[upstreams[1], upstreams[0]], "");
    let health_states = Arc::new(HealthStates::new(&config));
    let (done, reloaded) = crossbeam_channel::bounded(1);
    let (new, tls) = (Arc::clone(&health_states), Arc::default());
    let reload = ToKeeper::Reload { config: Arc::new(config), health_states: new, tls, done };
    scene.keeper.send(reload).unwrap();
    reloaded.recv_timeout(TIMEOUT).unwrap();
    let now = scene.clock.now();
    assert_eq!([0, 1].map(|upstream| health_states.is_asked_plainly(upstream, now)), [true, false]);
    scene.stop();
}

#[test]
fn a_stop_ends_the_probing() {
    let upstream = udp("127.0.0.1:0");
    let config = config(&[upstream.local_addr().unwrap()], "");
    let health_states = Arc::new(HealthStates::new(&config));
    let (mut keeper, mailbox) =
        Keeper::new(Clock::start(), &config, Arc::clone(&health_states), &Setup::default())
            .unwrap();
    mailbox.try_send(ToKeeper::Failed { upstream: 0 }).unwrap();
    keeper.turn(Log::text(|_| ())).unwrap();
    probe(&upstream);
    mailbox.try_send(ToKeeper::Stop).unwrap();
    mailbox.try_send(ToKeeper::Failed { upstream: 0 }).unwrap();
    keeper.turn(Log::text(|_| ())).unwrap();
    assert_eq!(keeper.probing.wake_at(0), None);
    drop(mailbox);
    while keeper.turn(Log::text(|_| ())).is_ok() {}
}
