//! Zones in nsd, named and onward, whose answers must be alike.
//!
//! Zones and questions are generated from a seed. Every difference between an answer of onward and
//! of another server must match a row of the table [`known`]. Signed zones are signed by
//! `dnssec-signzone` and `ldns-signzone`; most questions about them ask for signatures and proofs.
//! Skipped, with a message, where a program is not installed (Debian: nsd, bind9, bind9-utils,
//! ldnsutils).

mod ask;
mod known;
mod zones;

use self::ask::{Answer, ask_all};
use self::known::{Case, Maker, TABLE, differences, explained};
use self::zones::{Dice, Question, Zone};
use super::process::{Program, TIMEOUT, directory, free_port, onward_in};
use crate::installed::is_installed;
use onward::clock::Clock;
use std::fmt::Write;
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const SEED: u64 = 20_261_130;
/// Maximum number of printed differences.
const SHOWN_MAX: usize = 12;

/// Writes the zone files, and signs them where possible, with BIND's tools and those of ldns in
/// turn.
fn write(directory: &Path, zones: &[Zone]) {
    let of_bind = "dnssec-keygen -q -a ECDSAP256SHA256 -f KSK ZONE > ZONE.key && \
                   dnssec-signzone -q -S -z -P -f ZONE.signed -o ZONE ZONE";
    let of_ldns = "key=$(ldns-keygen -a ED25519 -k ZONE) && \
                   ldns-signzone -f ZONE.signed -o ZONE ZONE $key";
    let mut signers = Vec::new();
    if is_installed("dnssec-signzone") && is_installed("dnssec-keygen") {
        signers.push(of_bind);
    }
    if is_installed("ldns-signzone") && is_installed("ldns-keygen") {
        signers.push(of_ldns);
    }
    let mut turns = signers.iter().cycle();
    let mut signing = Vec::new();
    for zone in zones {
        let file = directory.join(&zone.name);
        fs::write(&file, &zone.text).unwrap();
        if let Some(signer) = zone.is_signed.then(|| turns.next()).flatten() {
            let script = format!("{signer} && mv ZONE.signed ZONE").replace("ZONE", &zone.name);
            let mut command = Command::new("sh");
            command.args(["-c", &script]).current_dir(directory);
            signing.push(command.stdout(Stdio::null()).spawn().unwrap());
        }
    }
    for mut signing in signing {
        assert!(signing.wait().unwrap().success(), "a zone is not signed");
    }
}

fn nsd(directory: &Path, zones: &[Zone]) -> (Program, SocketAddr) {
    let (port, at) = (free_port(), directory.display());
    let mut text = format!(
        "server:\n  ip-address: 127.0.0.1@{port}\n  username: \"\"\n  chroot: \"\"\n  \
         zonesdir: \"{at}\"\n  pidfile: \"{at}/nsd.pid\"\n  zonelistfile: \"{at}/nsd.list\"\n  \
         xfrdfile: \"{at}/nsd.xfrd\"\n  database: \"\"\n  ipv4-edns-size: 1232\n  \
         server-count: 1\n  rrl-ratelimit: 0\nremote-control:\n  control-enable: no\n"
    );
    for Zone { name, .. } in zones {
        write!(text, "zone:\n  name: {name}\n  zonefile: {name}\n").unwrap();
    }
    let file = directory.join("nsd.conf");
    fs::write(&file, text).unwrap();
    let program = Program::start_silent(Command::new("nsd").arg("-d").arg("-c").arg(file));
    (program, SocketAddr::from(([127, 0, 0, 1], port)))
}

fn named(directory: &Path, zones: &[Zone]) -> (Program, SocketAddr) {
    let (port, at) = (free_port(), directory.display());
    let mut text = format!(
        "options {{ directory \"{at}\"; listen-on port {port} {{ 127.0.0.1; }}; \
         listen-on-v6 {{ none; }}; pid-file \"{at}/named.pid\"; recursion no; notify no; \
         session-keyfile none; minimal-responses no; max-udp-size 1232; edns-udp-size 1232; \
         allow-query {{ any; }}; dnssec-validation no; empty-zones-enable no; \
         check-names primary ignore; zero-no-soa-ttl no; }};\ncontrols {{ }};\n"
    );
    for Zone { name, .. } in zones {
        writeln!(text, "zone \"{name}\" {{ type primary; file \"{name}\"; }};").unwrap();
    }
    let file = directory.join("named.conf");
    fs::write(&file, text).unwrap();
    let mut command = Command::new("named");
    let program = Program::start_silent(command.args(["-g", "-n", "1", "-c"]).arg(file));
    (program, SocketAddr::from(([127, 0, 0, 1], port)))
}

fn ours(directory: &Path, zones: &[Zone]) -> (Program, SocketAddr) {
    let files = zones.iter().map(|Zone { name, .. }| format!(" file {name} {name}\n"));
    let text = format!(".:0 {{\n bind 127.0.0.1\n{}}}\n", files.collect::<String>());
    fs::write(directory.join("Corefile"), text).unwrap();
    onward_in(directory, &["--conf", "Corefile", "--workers", "1"])
}

/// Queries the last zone until the answer is authoritative.
fn wait_until_loaded(server: SocketAddr, zone: &str) {
    let question = Question { name: zone.to_owned(), rtype: zones::SOA, dnssec_ok: false };
    let clock = Clock::start();
    let begin = clock.now();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(server).unwrap();
    client.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let mut reply = [0; 4_096];
    loop {
        let sent = client.send(&ask::query(&question, 7));
        let is_loaded =
            sent.and_then(|_| client.recv(&mut reply)).is_ok_and(|_| reply[3] & 15 == 0);
        if is_loaded {
            return;
        }
        assert!(clock.now().since(begin) < TIMEOUT, "{server} does not answer for {zone}");
    }
}

/// Returns the differences between our answers and another server's that no row explains, as text,
/// and counts the explained ones.
fn compare(
    maker: Maker,
    (questions, ours, theirs): (&[Question], &[Answer], &[Answer]),
    counts: &mut [usize],
) -> Vec<String> {
    let mut unexplained = Vec::new();
    for ((question, ours), theirs) in questions.iter().zip(ours).zip(theirs) {
        let case = Case { question, maker, ours, theirs };
        for aspect in differences(&case) {
            match explained(&case, aspect) {
                Some(row) => counts[row] += 1,
                None => unexplained.push(format!(
                    "{maker:?}, {aspect:?}: {question:?}\n  ours   {ours:?}\n  theirs {theirs:?}"
                )),
            }
        }
    }
    unexplained
}

#[test]
fn answers_are_those_of_nsd_and_named() {
    let makers = [("nsd", Maker::Nsd), ("named", Maker::Named)];
    let makers: Vec<_> = makers.into_iter().filter(|(program, _)| is_installed(program)).collect();
    let directory = directory("differential");
    let mut dice = Dice::new(SEED);
    let zones = zones::zones(&mut dice);
    let questions = zones::questions(&mut dice, &zones);
    assert!(questions.len() > 4_000, "{} questions", questions.len());
    write(&directory, &zones);
    let last = &zones.last().unwrap().name;
    let mut others = Vec::new();
    for (_, maker) in makers {
        let (program, address) = match maker {
            Maker::Nsd => nsd(&directory, &zones),
            Maker::Named => named(&directory, &zones),
        };
        others.push((maker, program, address));
    }
    let (_onward, address) = ours(&directory, &zones);
    let ours = ask_all(address, &questions);
    let mut counts = [0; TABLE.len()];
    let mut unexplained = Vec::new();
    for (maker, _program, address) in &others {
        wait_until_loaded(*address, last);
        let theirs = ask_all(*address, &questions);
        unexplained.extend(compare(*maker, (&questions, &ours, &theirs), &mut counts));
    }
    for (row, count) in TABLE.iter().zip(counts) {
        println!("{count} differences: {}; {}", row.what, row.why);
    }
    let count = unexplained.len();
    let shown: Vec<_> = unexplained.into_iter().step_by(count.div_ceil(SHOWN_MAX).max(1)).collect();
    assert_eq!(count, 0, "seed {SEED}: {}", shown.join("\n"));
}
