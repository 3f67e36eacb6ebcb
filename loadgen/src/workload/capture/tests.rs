//! Captures written byte by byte, and read.
//!
//! Both containers in both byte orders, each link layer, and packets that are left out or refused.

use super::read;
use proptest::prelude::{any, proptest};
use std::time::Duration;

const QUERY: &[u8] = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01a\x04test\0\0\x01\0\x01";

/// A UDP datagram with `payload` to `port` from the client with this number.
fn ipv4(client: u8, port: u16, payload: &[u8]) -> Vec<u8> {
    let length = 20 + 8 + payload.len() as u16;
    let mut packet = vec![0x45, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0, 0, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, client, 198, 51, 100, 1]);
    packet.extend(udp(port, payload));
    packet
}

fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0xc0, 0x00];
    datagram.extend(port.to_be_bytes());
    datagram.extend((8 + payload.len() as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    datagram
}

/// The same over IPv6, after a header of hop-by-hop options.
fn ipv6(payload: &[u8]) -> Vec<u8> {
    let datagram = udp(53, payload);
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((8 + datagram.len() as u16).to_be_bytes());
    packet.extend([0, 64]);
    packet.extend([0x20; 16]);
    packet.extend([0x30; 16]);
    packet.extend([17, 0, 1, 4, 0, 0, 0, 0]);
    packet.extend(datagram);
    packet
}

/// A packet after the header of a link layer.
fn framed(link: u16, packet: &[u8]) -> Vec<u8> {
    let rtype: [u8; 2] = if packet[0] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] };
    let header: Vec<u8> = match link {
        0 => vec![2, 0, 0, 0],
        1 => [&[0; 12][..], &[0x81, 0, 0, 7], &rtype].concat(),
        113 => [&[0; 14][..], &rtype].concat(),
        276 => [&rtype[..], &[0; 18]].concat(),
        _ => Vec::new(),
    };
    [&header, packet].concat()
}

struct Writer {
    big: bool,
    bytes: Vec<u8>,
}

impl Writer {
    fn u16(&mut self, value: u16) {
        self.bytes.extend(if self.big { value.to_be_bytes() } else { value.to_le_bytes() });
    }

    fn u32(&mut self, value: u32) {
        self.bytes.extend(if self.big { value.to_be_bytes() } else { value.to_le_bytes() });
    }
}

/// A classic file of packets with their times in nanoseconds.
fn classic(big: bool, fine: bool, link: u16, packets: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let mut file = Writer { big, bytes: Vec::new() };
    file.u32(if fine { 0xa1b2_3c4d } else { 0xa1b2_c3d4 });
    file.u16(2);
    file.u16(4);
    for field in [0, 0, 65_535, link.into()] {
        file.u32(field);
    }
    for (nanos, packet) in packets {
        let fraction = nanos % 1_000_000_000 / if fine { 1 } else { 1_000 };
        let length = packet.len() as u32;
        for field in
            [1_700_000_000 + (nanos / 1_000_000_000) as u32, fraction as u32, length, length]
        {
            file.u32(field);
        }
        file.bytes.extend(packet);
    }
    file.bytes
}

/// A pcapng file of packets, whose time has `resolution`.
fn next_generation(big: bool, resolution: u8, packets: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let mut file = Writer { big, bytes: Vec::new() };
    for field in [0x0a0d_0d0a, 28, 0x1a2b_3c4d] {
        file.u32(field);
    }
    file.u16(1);
    file.u16(0);
    for field in [u32::MAX, u32::MAX, 28] {
        file.u32(field);
    }
    for field in [1, 32] {
        file.u32(field);
    }
    for field in [101, 0] {
        file.u16(field);
    }
    file.u32(0);
    for field in [9, 1] {
        file.u16(field);
    }
    file.bytes.extend([resolution, 0, 0, 0]);
    for field in [0, 0] {
        file.u16(field);
    }
    file.u32(32);
    // A statistics block, which is ignored.
    for field in [5, 12, 12] {
        file.u32(field);
    }
    for (nanos, packet) in packets {
        let ticks = match resolution {
            9 => *nanos,
            6 => nanos / 1_000,
            _ => (u128::from(*nanos) * (1 << 20) / 1_000_000_000) as u64,
        };
        let padded = packet.len().next_multiple_of(4);
        let length = 32 + padded as u32;
        let kept = packet.len() as u32;
        for field in [6, length, 0, (ticks >> 32) as u32, ticks as u32, kept, kept] {
            file.u32(field);
        }
        file.bytes.extend(packet);
        file.bytes.resize(file.bytes.len() + padded - packet.len(), 0);
        file.u32(length);
    }
    file.bytes
}

fn packets(link: u16) -> Vec<(u64, Vec<u8>)> {
    let mut response = QUERY.to_vec();
    response[2] |= 0x80;
    let mut fragment = ipv4(3, 53, QUERY);
    fragment[6] = 0x20;
    let mut stream = ipv4(3, 53, QUERY);
    stream[9] = 6;
    let packets = [
        (7_000_000, ipv4(1, 53, QUERY)),
        (8_000_000, ipv4(3, 53, &response)),
        (8_000_000, ipv4(3, 5353, QUERY)),
        (8_000_000, ipv4(3, 53, &QUERY[..11])),
        (8_000_000, fragment),
        (8_000_000, stream),
        (9_500_000, ipv6(QUERY)),
        (1_007_000_000, ipv4(1, 53, QUERY)),
    ];
    packets.map(|(nanos, packet)| (nanos, framed(link, &packet))).into()
}

fn check(file: &[u8], tolerance: Duration) {
    let recorded = read(file, 53).unwrap();
    assert_eq!((recorded.len(), recorded.clients, recorded.left_out), (3, 2, 5));
    let expected = [(0, 0), (1, 2_500), (0, 1_000_000)];
    for (number, (client, micros)) in expected.into_iter().enumerate() {
        assert_eq!(recorded.packet(number), QUERY);
        let (who, when) = recorded.origin(number);
        assert_eq!(who, client);
        assert!(when.abs_diff(Duration::from_micros(micros)) <= tolerance, "{when:?}");
    }
}

#[test]
fn both_containers_are_read_in_both_byte_orders() {
    for big in [false, true] {
        for fine in [false, true] {
            check(&classic(big, fine, 101, &packets(101)), Duration::ZERO);
        }
        for resolution in [6, 9] {
            check(&next_generation(big, resolution, &packets(101)), Duration::ZERO);
        }
        check(&next_generation(big, 0x80 | 20, &packets(101)), Duration::from_micros(2));
    }
}

#[test]
fn packets_are_found_on_any_link_layer() {
    for link in [0, 1, 12, 101, 113, 228, 276] {
        check(&classic(true, false, link, &packets(link)), Duration::ZERO);
    }
}

#[test]
fn other_ports_can_be_chosen() {
    let recorded = read(&classic(true, false, 101, &packets(101)), 5353).unwrap();
    assert_eq!((recorded.len(), recorded.left_out), (1, 7));
}

#[test]
fn a_packet_that_was_cut_when_captured_is_left_out() {
    let mut file = classic(true, false, 101, &packets(101));
    let whole = 24 + 12;
    file[whole + 3] += 1;
    assert_eq!(read(&file, 53).unwrap().left_out, 6);
}

#[test]
fn malformed_captures_are_errors_with_their_place() {
    let good = classic(true, false, 101, &packets(101));
    let cases = [
        (Vec::new(), "1:1: not a capture"),
        (b"; a text\n".to_vec(), "1:1: not a capture"),
        (good[..20].to_vec(), "1:21: the capture is truncated"),
        (good[..30].to_vec(), "1:25: the capture is truncated"),
        (good[..good.len() - 1].to_vec(), "8:"),
        (good[..24].to_vec(), "1:1: the capture has no UDP query to port 53"),
        (next_generation(true, 6, &[])[..40].to_vec(), "2:29: the capture is truncated"),
    ];
    for (file, expected) in cases {
        let error = read(&file, 53).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    let mut block = next_generation(true, 6, &packets(101));
    block[28 + 7] = 13;
    assert!(read(&block, 53).unwrap_err().to_string().contains("invalid block length of 13 bytes"));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(at in any::<u16>(), value in any::<u8>(), noise in any::<Vec<u8>>()) {
        for mut file in [
            classic(false, true, 1, &packets(1)),
            next_generation(true, 6, &packets(101)),
            [&b"\x0a\x0d\x0d\x0a"[..], &noise].concat(),
        ] {
            let place = usize::from(at) % file.len();
            file[place] = value;
            let _ = read(&file, 53);
        }
    }
}
