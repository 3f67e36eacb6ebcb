//! Steering of datagrams to workers: BPF programs that the kernel runs for each datagram.
//!
//! Without one the kernel chooses by the hash of both addresses and ports. `cpu` keeps the datagram
//! on the core that received it. `name` hashes the QNAME as it stands in the packet, four bytes at
//! a time up to the first byte of zero, ignoring case. So each name belongs to one worker: its
//! answer is cached only there, and identical queries meet. The mapping of names to workers is not
//! secret and need not be: a client that wants to load one worker can always repeat one name.
//!
//! A datagram that is no query goes to the first worker if it ends before its name does, otherwise
//! to any. TCP connections are distributed by the kernel: all queries of one share a worker anyway.
//!
//! Packets of QUIC always go to the worker that the first byte of their connection ID names, modulo
//! the workers. A client chooses that of its first packet at random, and the worker those of all
//! others, so that a client whose address changes stays with its worker.
//!
//! Where datagrams may begin with a header of the PROXY protocol, the programs look behind it.

use crate::config::{Listener, Protocol};
use crate::quic;
use crate::sys::steer::Instruction::{
    self, Add, And, FromIndex, Jump, JumpIfEqual, Load, LoadAtIndex, LoadConstant, LoadCpu,
    LoadScratch, LoadScratchToIndex, Multiply, Or, OrIndex, Remainder, Return, ReturnAccumulator,
    ShiftRight, Store, ToIndex, XorIndex,
};
use crate::sys::steer::{attach, detach};
use std::io;
use std::net::UdpSocket;

/// Bytes before the name.
const HEADER_LEN: u32 = 12;
/// A name has 255 bytes at most, the zero at its end included.
const WORDS_MAX: u32 = 64;
/// Set in each letter of lower case and in none of upper case. Other bytes that become equal by it
/// only bring a few more names together.
const LOWER_CASE: u32 = 0x2020_2020;
/// The fraction of the golden ratio, odd: it spreads words that differ in few bits.
const MULTIPLIER: u32 = 0x9E37_79B1;
/// All bits but the highest of each byte.
const LOW_BITS: u32 = 0x7F7F_7F7F;
/// Maximum number of words of a name behind a header of the PROXY protocol, where each takes more
/// instructions. A longer name is left to the kernel's hash.
const WORDS_BEHIND_MAX: u32 = 60;
/// Scratch word of the hash.
const HASH: u32 = 0;
/// Scratch word of the length of the header of the PROXY protocol.
const BEHIND: u32 = 1;
/// First four bytes of a header of the PROXY protocol of version 2. No packet of QUIC begins with
/// them, and no query: its opcode would be one that has no use (RFC 3425).
const SIGNATURE: u32 = 0x0D0A_0D0A;
/// Offset of four bytes whose last two are the length of such a header behind its fixed part.
const HEADER_REST: u32 = 12;
/// Length of the fixed part.
const HEADER_FIXED: u32 = 16;
/// Bit of the first four bytes of a packet that has a long header.
const LONG_HEADER: u32 = 0x8000_0000;
/// Offset of the destination's connection ID in a long header.
const LONG_ID: u32 = 6;
/// Number of no socket: the kernel falls back to its own hash.
const NOBODY: u32 = u32::MAX;
/// Cores that are listed one by one; the others count modulo the workers. If `net.core.optmem_max`
/// is as low as 20480, the kernel accepts no program much larger than this or [`WORDS_MAX`] makes
/// it.
const CORES_MAX: usize = 512;

/// Rule by which the kernel chooses the worker that receives a datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Steer {
    /// By QNAME: all queries for a name go to one worker
    Name,
    /// By the core that received the packet
    Cpu,
    /// By the client's address and port (kernel default)
    #[default]
    Flow,
}

/// Programs for groups of sockets.
pub(super) struct Steering {
    program: Option<Vec<Instruction>>,
    /// The same, for datagrams behind headers of the PROXY protocol.
    program_behind: Option<Vec<Instruction>>,
    /// Program for packets of QUIC.
    by_connection: Option<Vec<Instruction>>,
    /// The same, for packets behind headers of the PROXY protocol.
    by_connection_behind: Option<Vec<Instruction>>,
}

/// Datagrams that a program is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arriving {
    /// Protocol of the clients.
    pub(super) protocol: Protocol,
    /// Datagrams may begin with headers of the PROXY protocol.
    pub(super) is_proxied: bool,
}

impl Arriving {
    /// Returns the datagrams that `listener` receives.
    pub(super) fn at(listener: &Listener) -> Self {
        Self { protocol: listener.protocol, is_proxied: listener.proxies.is_some() }
    }
}

impl Steering {
    /// Programs for workers on `cores`, in the order of the sockets of each group.
    pub(super) fn new(steer: Steer, cores: &[Option<usize>]) -> Self {
        let program = match (steer, cores) {
            (Steer::Flow, _) | (_, [] | [_]) => None,
            (Steer::Cpu, _) => Some(by_core(cores)),
            (Steer::Name, _) => Some(by_name(cores.len(), false)),
        };
        let is_by_name = steer == Steer::Name && cores.len() > 1;
        let program_behind = match is_by_name {
            true => Some(by_name(cores.len(), true)),
            false => program.clone(),
        };
        let named = quic::named(cores.len());
        let by_connection = (cores.len() > 1).then(|| by_connection(named, false));
        let by_connection_behind =
            by_connection.is_some().then(|| self::by_connection(named, true));
        Self { program, program_behind, by_connection, by_connection_behind }
    }

    /// Attaches the program for `arriving` to the group that `socket` belongs to.
    ///
    /// # Errors
    /// As [`attach`].
    pub(super) fn apply(&self, arriving: Arriving, socket: &UdpSocket) -> io::Result<()> {
        self.program_for(arriving).map_or(Ok(()), |program| attach(socket, program))
    }

    fn program_for(&self, arriving: Arriving) -> Option<&Vec<Instruction>> {
        let program = match (arriving.protocol.is_quic(), arriving.is_proxied) {
            (true, true) => &self.by_connection_behind,
            (true, false) => &self.by_connection,
            (false, true) => &self.program_behind,
            (false, false) => &self.program,
        };
        program.as_ref()
    }

    /// As [`Steering::apply`], for a group that another process may have steered in another way.
    ///
    /// # Errors
    /// As [`attach`].
    pub(super) fn apply_anew(&self, arriving: Arriving, socket: &UdpSocket) -> io::Result<()> {
        if self.program_for(arriving).is_none() {
            detach(socket);
        }
        self.apply(arriving, socket)
    }
}

/// Program that returns the worker that a connection ID of QUIC names. It is the destination's,
/// which begins in the second byte of a packet with a short header, and behind the version and its
/// own length in others (RFC 8999 §5). `is_behind`: there may be a header of the PROXY protocol
/// before.
fn by_connection(workers: usize, is_behind: bool) -> Vec<Instruction> {
    let load = if is_behind { LoadAtIndex } else { Load };
    let mut program = if is_behind { behind_header() } else { Vec::new() };
    program.extend([
        load(0),
        And(LONG_HEADER),
        JumpIfEqual { value: 0, then: 3, otherwise: 0 },
        load(LONG_ID - 3),
        And(0xFF),
        Jump(3),
        load(0),
        ShiftRight(16),
        And(0xFF),
        Remainder(workers as u32),
        ReturnAccumulator,
    ]);
    program
}

/// Leaves the length of the header of the PROXY protocol in the index register and in its scratch
/// word; 0 without one. The end of a header that is cut ends the program.
fn behind_header() -> Vec<Instruction> {
    vec![
        Load(0),
        JumpIfEqual { value: SIGNATURE, then: 2, otherwise: 0 },
        LoadConstant(0),
        Jump(3),
        Load(HEADER_REST),
        And(0xFFFF),
        Add(HEADER_FIXED),
        Store(BEHIND),
        ToIndex,
    ]
}

/// Program that returns the worker on the current core; a core without one counts modulo the
/// workers.
fn by_core(cores: &[Option<usize>]) -> Vec<Instruction> {
    let workers = cores.len();
    let pinned = cores.iter().enumerate().filter_map(|(worker, core)| Some((worker, (*core)?)));
    let pinned: Vec<_> = pinned.collect();
    let mut program = vec![LoadCpu];
    if pinned.iter().any(|(worker, core)| core % workers != *worker) {
        for (worker, core) in pinned.into_iter().take(CORES_MAX) {
            program.push(JumpIfEqual { value: core as u32, then: 0, otherwise: 1 });
            program.push(Return(worker as u32));
        }
    }
    program.extend([Remainder(workers as u32), ReturnAccumulator]);
    program
}

/// Program that returns the worker of the QNAME. `is_behind`: there may be a header of the PROXY
/// protocol before the message.
fn by_name(workers: usize, is_behind: bool) -> Vec<Instruction> {
    let end = end_of_name(workers as u32);
    let mut program = if is_behind { behind_header() } else { Vec::new() };
    program.extend([LoadConstant(0), Store(HASH)]);
    let words = if is_behind { WORDS_BEHIND_MAX } else { WORDS_MAX };
    let word_len = word_of_name(0, 0, is_behind).len() as u32;
    for word in 0..words {
        // From after this word's own jump, which is followed by the length of `mix`, to the end.
        let others = (words - 1 - word) * word_len;
        program.extend(word_of_name(word, mix().len() as u32 + others + 1, is_behind));
    }
    program.push(Return(NOBODY));
    program.extend(end);
    program
}

/// Reads one word; if it contains a zero, jumps `end` instructions past this.
fn word_of_name(word: u32, end: u32, is_behind: bool) -> Vec<Instruction> {
    let place = HEADER_LEN + 4 * word;
    let mut program = match is_behind {
        true => vec![LoadScratchToIndex(BEHIND), LoadAtIndex(place)],
        false => vec![Load(place)],
    };
    program.extend([
        ToIndex,
        // A byte's highest bit ends up set unless the byte is zero; the others are set anyway.
        And(LOW_BITS),
        Add(LOW_BITS),
        OrIndex,
        Or(LOW_BITS),
        JumpIfEqual { value: u32::MAX, then: 1, otherwise: 0 },
        Jump(end),
    ]);
    program.extend(mix());
    program
}

/// Mixes the word in the index register into the hash and leaves the hash in the accumulator.
fn mix() -> [Instruction; 9] {
    [
        FromIndex,
        Or(LOWER_CASE),
        LoadScratchToIndex(HASH),
        XorIndex,
        Multiply(MULTIPLIER),
        ToIndex,
        ShiftRight(15),
        XorIndex,
        Store(HASH),
    ]
}

/// Mixes in the bytes before the zero in the word in the index register, and ends.
fn end_of_name(workers: u32) -> Vec<Instruction> {
    let if_zero = |then| JumpIfEqual { value: 0, then, otherwise: 0 };
    let mut program = vec![
        FromIndex,
        And(0xFF00_0000),
        // No byte: skip the mixing.
        if_zero(15 + mix().len() as u8),
        FromIndex,
        And(0x00FF_0000),
        // One byte.
        if_zero(9),
        FromIndex,
        And(0x0000_FF00),
        // Two.
        if_zero(3),
        FromIndex,
        And(0xFFFF_FF00),
        Jump(5),
        FromIndex,
        And(0xFFFF_0000),
        Jump(2),
        FromIndex,
        And(0xFF00_0000),
        ToIndex,
    ];
    program.extend(mix());
    program.push(LoadScratch(HASH));
    for _ in 0..2 {
        program.extend([ToIndex, ShiftRight(16), XorIndex, Multiply(MULTIPLIER)]);
    }
    program.extend([ToIndex, ShiftRight(16), XorIndex, Remainder(workers), ReturnAccumulator]);
    program
}

#[cfg(test)]
mod tests {
    use super::{Arriving, Steer, Steering, by_core, by_name};
    use crate::config::Protocol;
    use crate::sys::steer::Instruction::{self, JumpIfEqual, LoadCpu, Remainder, Return};
    use crate::sys::{cpu, socket};
    use mio::unix::SourceFd;
    use mio::{Events, Interest, Poll, Token};
    use std::collections::HashMap;
    use std::net::UdpSocket;
    use std::os::fd::AsRawFd;
    use std::time::Duration;

    const TIMEOUT: Duration = Duration::from_secs(20);

    /// Sockets of workers on `cores` that share an address, steered.
    fn group_for(arriving: Arriving, steer: Steer, cores: &[Option<usize>]) -> Vec<UdpSocket> {
        let first = socket::udp_listener("127.0.0.1:0".parse().unwrap(), true).unwrap();
        let address = first.local_addr().unwrap();
        let others = (1..cores.len()).map(|_| socket::udp_listener(address, true).unwrap());
        let group: Vec<_> = std::iter::once(first).chain(others).collect();
        Steering::new(steer, cores).apply(arriving, &group[0]).unwrap();
        group
    }

    /// Sockets for plain DNS.
    fn group(steer: Steer, cores: &[Option<usize>]) -> Vec<UdpSocket> {
        group_for(arriving(Protocol::Dns, false), steer, cores)
    }

    fn arriving(protocol: Protocol, is_proxied: bool) -> Arriving {
        Arriving { protocol, is_proxied }
    }

    /// The packet behind a header of the PROXY protocol with this number of bytes behind its fixed
    /// part.
    fn behind(packet: &[u8], rest: u16) -> Vec<u8> {
        let fixed = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x12"[..], &rest.to_be_bytes()].concat();
        [&fixed[..], &vec![9; rest.into()], packet].concat()
    }

    /// Sends each of `packets` from a port of its own; returns the workers that received them.
    fn workers_of(group: &[UdpSocket], packets: &[Vec<u8>]) -> Vec<usize> {
        let mut poll = Poll::new().unwrap();
        for (number, socket) in group.iter().enumerate() {
            let (registry, fd) = (poll.registry(), socket.as_raw_fd());
            registry.register(&mut SourceFd(&fd), Token(number), Interest::READABLE).unwrap();
        }
        let (mut events, mut buffer) = (Events::with_capacity(64), [0; 2_048]);
        let arrived = packets.iter().map(|packet| {
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            client.send_to(packet, group[0].local_addr().unwrap()).unwrap();
            poll.poll(&mut events, Some(TIMEOUT)).unwrap();
            let number = events.iter().next().expect("it reaches somebody").token().0;
            let len = group[number].recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..len], &packet[..]);
            assert!(group[number].recv(&mut buffer).is_err());
            number
        });
        arrived.collect()
    }

    fn query(name: &[u8], rtype: u16) -> Vec<u8> {
        let mut packet = b"\xAB\xCD\x01\0\0\x01\0\0\0\0\0\0".to_vec();
        packet.extend(name);
        packet.extend(rtype.to_be_bytes());
        packet.extend([0, 1]);
        packet
    }

    fn name(text: &str) -> Vec<u8> {
        let label = |label: &str| [&[label.len() as u8], label.as_bytes()].concat();
        text.split('.').flat_map(label).chain([0]).collect()
    }

    /// The name, each letter in upper or lower case by the bits of `number`.
    fn in_random_case(name: &[u8], number: usize) -> Vec<u8> {
        let mut bits = number as u64;
        let flip = |byte: &u8| {
            bits = bits.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
            if bits >> 63 == 1 { byte.to_ascii_uppercase() } else { byte.to_ascii_lowercase() }
        };
        name.iter().map(flip).collect()
    }

    #[test]
    fn a_name_goes_to_one_worker_in_any_letter_case() {
        let group = group(Steer::Name, &[None; 4]);
        let mut counts = [0; 4];
        let mut spellings = 0;
        for number in 0..400 {
            // Names of any length, so that each position in a word is the last once.
            let text = format!("w{}{number}.Example-{}.org", "x".repeat(number % 40), number % 7);
            let plain = name(&text);
            let packets: Vec<_> = (0..4)
                .map(|time| query(&in_random_case(&plain, 4 * number + time), 1 + 27 * time as u16))
                .collect();
            spellings += usize::from(packets[0][12..] != packets[1][12..]);
            let workers = workers_of(&group, &packets);
            assert!(workers.iter().all(|worker| *worker == workers[0]), "{text}: {workers:?}");
            counts[workers[0]] += 1;
        }
        assert!(spellings > 390);
        assert!(counts.iter().all(|count| (70..=130).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_name_goes_to_the_same_worker_behind_a_header_of_the_proxy_protocol() {
        let plain = group(Steer::Name, &[None; 4]);
        let proxied = group_for(arriving(Protocol::Dns, true), Steer::Name, &[None; 4]);
        for number in 0..100_usize {
            let text = format!("w{}{number}.Example-{}.org", "x".repeat(number % 40), number % 7);
            let packet = query(&name(&text), 1);
            let packets = [12, 36, 0, 300].map(|rest| behind(&packet, rest));
            let expected = workers_of(&plain, std::slice::from_ref(&packet))[0];
            assert_eq!(workers_of(&proxied, &packets), [expected; 4], "{text}");
            assert_eq!(workers_of(&proxied, &[packet]), [expected], "{text}");
        }
        // Headers that are cut, or longer than their datagrams, reach a worker.
        let whole = behind(&query(&name("www.example.org"), 1), 12);
        let packets: Vec<Vec<u8>> = (0..whole.len()).map(|len| whole[..len].to_vec()).collect();
        assert_eq!(workers_of(&proxied, &packets).len(), packets.len());
        let longest = [vec![63; 64], vec![63; 64], vec![63; 64], vec![60; 61], vec![0]].concat();
        assert_eq!(workers_of(&proxied, &[behind(&query(&longest, 1), 12)]).len(), 1);
    }

    #[test]
    fn names_that_differ_in_one_letter_are_spread() {
        let group = group(Steer::Name, &[None; 4]);
        // The letter is the first, second, third and last of its four bytes in turn.
        for place in 0..8 {
            let text = |letter: char| format!("{}{letter}ccc.example", "b".repeat(place));
            let packets: Vec<_> =
                ('a'..='z').map(|letter| query(&name(&text(letter)), 1)).collect();
            let workers = workers_of(&group, &packets);
            let count = |worker| workers.iter().filter(|other| **other == worker).count();
            assert!((0..4).all(|worker| (1..=15).contains(&count(worker))), "{place}: {workers:?}");
        }
    }

    #[test]
    fn names_of_every_length_are_hashed_to_their_end_and_no_further() {
        let group = group(Steer::Name, &[None; 4]);
        let mut seen = HashMap::new();
        for len in 0..=253 {
            let labels: Vec<u8> = (0..len)
                .map(|at| if at % 64 == 0 { (len - at - 1).min(63) as u8 } else { b'q' })
                .collect();
            let name = [labels, vec![0]].concat();
            let packets =
                [query(&name, 1), query(&name, 0xFFFF), [query(&name, 28), vec![7; 99]].concat()];
            let workers = workers_of(&group, &packets);
            assert!(workers.iter().all(|worker| *worker == workers[0]), "{len}: {workers:?}");
            *seen.entry(workers[0]).or_insert(0) += 1;
        }
        assert!(seen.len() == 4 && seen.values().all(|count| *count > 30), "{seen:?}");
    }

    #[test]
    fn datagrams_that_are_no_query_reach_a_worker() {
        let group = group(Steer::Name, &[None; 4]);
        let whole = query(&name("www.example.org"), 1);
        let mut packets: Vec<Vec<u8>> = (0..whole.len()).map(|len| whole[..len].to_vec()).collect();
        // A pointer, labels without end, bytes of any kind, and a name that is too long.
        packets.push(query(b"\xC0\x0C", 1));
        packets.push(query(&[0x3F; 600], 1));
        packets.push(vec![0xFF; 1_400]);
        packets.push(vec![0; 13]);
        packets.push(query(&[1; 255], 1));
        packets.push(query(&[[1; 254].as_slice(), &[0]].concat(), 1));
        assert_eq!(workers_of(&group, &packets).len(), packets.len());
    }

    #[test]
    fn packets_of_quic_reach_the_worker_that_their_connection_id_names() {
        for workers in [2, 3, 5] {
            let group =
                group_for(arriving(Protocol::Quic, false), Steer::Flow, &vec![None; workers]);
            let packets: Vec<Vec<u8>> = (0..=255)
                .flat_map(|first| {
                    let long = [&[0xC3, 0, 0, 0, 1, 8, first][..], &[7; 40]].concat();
                    [[&[0x43, first][..], &[7; 40]].concat(), long]
                })
                .collect();
            let expected: Vec<_> =
                (0..=255).flat_map(|first| [first % workers, first % workers]).collect();
            assert_eq!(workers_of(&group, &packets), expected);
            let proxied = arriving(Protocol::Quic, true);
            let proxied = group_for(proxied, Steer::Name, &vec![None; workers]);
            let headed: Vec<_> = packets.iter().map(|packet| behind(packet, 12)).collect();
            assert_eq!(workers_of(&proxied, &headed), expected);
            assert_eq!(workers_of(&proxied, &packets), expected);
            // Too short to name one.
            assert_eq!(workers_of(&group, &[vec![], vec![0x43], vec![0xC3, 0, 0, 0]]), [0; 3]);
        }
        assert!(Steering::new(Steer::Flow, &[None]).by_connection.is_none());
    }

    #[test]
    fn without_steering_a_name_reaches_all_workers() {
        let group = group(Steer::Flow, &[None; 4]);
        let workers = workers_of(&group, &vec![query(&name("www.example.org"), 1); 100]);
        assert!((0..4).all(|worker| workers.contains(&worker)), "{workers:?}");
    }

    #[test]
    fn datagrams_stay_on_the_core_that_received_them() {
        let cores = cpu::cores();
        let pinned: Vec<_> = cores.iter().rev().copied().map(Some).collect();
        for (placement, same) in [(vec![None; 3], false), (pinned, true)] {
            let group = group(Steer::Cpu, &placement);
            for (place, core) in cores.iter().copied().enumerate() {
                let ask = || {
                    cpu::pin(core).unwrap();
                    workers_of(&group, &vec![query(&name("m"), 1); 20])
                };
                let workers = std::thread::scope(|scope| scope.spawn(ask).join().unwrap());
                let expected = if same { cores.len() - 1 - place } else { core % 3 };
                assert_eq!(workers, [expected; 20], "core {core}");
            }
        }
    }

    #[test]
    fn cores_are_listed_only_where_the_modulo_is_wrong() {
        let rest = |workers| [Remainder(workers), Instruction::ReturnAccumulator];
        assert_eq!(by_core(&[Some(0), Some(1)]), [&[LoadCpu][..], &rest(2)].concat());
        assert_eq!(by_core(&[Some(4), Some(3)]).len(), 3);
        let if_core = |value| JumpIfEqual { value, then: 0, otherwise: 1 };
        let told = [LoadCpu, if_core(3), Return(0), if_core(4), Return(1)];
        assert_eq!(by_core(&[Some(3), Some(4)]), [&told[..], &rest(2)].concat());
        let many: Vec<_> = (1..=8_000).map(Some).collect();
        assert!(by_core(&many).len() < 1_200);
    }

    #[test]
    fn a_single_worker_needs_no_program() {
        for steer in [Steer::Name, Steer::Cpu, Steer::Flow] {
            assert!(Steering::new(steer, &[Some(1)]).program.is_none());
        }
        assert!(Steering::new(Steer::Flow, &[None; 2]).program.is_none());
        assert!(by_name(1_024, false).len() < 1_200);
        assert!(by_name(1_024, true).len() < 1_200);
    }
}
