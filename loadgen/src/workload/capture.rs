//! Queries from captures: classic pcap and pcapng.
//!
//! Only a few facts of a capture matter: the time of each packet, and for a whole UDP datagram with
//! a query to the DNS port, its sender and payload. So this parses the two containers and the few
//! headers itself; a crate for all of it would be larger than this file. Other packets are left out
//! and counted; an error about a file that is truncated or no capture has the number of the block
//! and the byte in the file. A client is an address, because stubs change their port with each
//! query. Pure.

use super::BadInput;
use onward::traffic::wire::{HEADER_LEN, QR, u16_at};
use onward::traffic::workload::Recorded;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

/// Link types of packets in captures.
const LINK_NULL: u16 = 0;
const LINK_ETHERNET: u16 = 1;
const LINK_RAW: [u16; 5] = [12, 14, 101, 228, 229];
const LINK_SLL: u16 = 113;
const LINK_SLL2: u16 = 276;

/// Reads the queries to `port` in the capture `bytes`.
///
/// # Errors
/// The file is no capture, or truncated, or has no query.
pub fn read(bytes: &[u8], port: u16) -> Result<Recorded, BadInput> {
    let mut taker = Taker { port, ..Taker::default() };
    let magic = bytes.first_chunk::<4>().copied().unwrap_or_default();
    match u32::from_be_bytes(magic) {
        0xa1b2_c3d4 => classic(bytes, true, 1_000, &mut taker)?,
        0xd4c3_b2a1 => classic(bytes, false, 1_000, &mut taker)?,
        0xa1b2_3c4d => classic(bytes, true, 1, &mut taker)?,
        0x4d3c_b2a1 => classic(bytes, false, 1, &mut taker)?,
        0x0a0d_0d0a => next_generation(bytes, &mut taker)?,
        _ => return Err(bad(1, 0, "not a capture: expected pcap or pcapng")),
    }
    if taker.recorded.is_empty() {
        let text = format!("the capture has no UDP query to port {port}");
        return Err(bad(1, 0, text));
    }
    taker.recorded.left_out = taker.left_out;
    Ok(taker.recorded)
}

fn bad(block: usize, at: usize, text: impl Into<String>) -> BadInput {
    BadInput { line: block, column: at + 1, text: text.into() }
}

/// Numbers in the byte order of the file.
#[derive(Clone, Copy)]
struct Order {
    big: bool,
}

impl Order {
    fn u16(self, bytes: &[u8], at: usize) -> Option<u16> {
        let chunk = *bytes.get(at..)?.first_chunk()?;
        Some(if self.big { u16::from_be_bytes(chunk) } else { u16::from_le_bytes(chunk) })
    }

    fn u32(self, bytes: &[u8], at: usize) -> Option<u32> {
        let chunk = *bytes.get(at..)?.first_chunk()?;
        Some(if self.big { u32::from_be_bytes(chunk) } else { u32::from_le_bytes(chunk) })
    }
}

/// Reads a classic file: a file header, and packets, each after a header of its own.
fn classic(bytes: &[u8], big: bool, unit: u32, taker: &mut Taker) -> Result<(), BadInput> {
    const FILE_HEADER: usize = 24;
    const RECORD_HEADER: usize = 16;
    let order = Order { big };
    let cut = |block, at| bad(block, at, "the capture is truncated");
    let link = order.u32(bytes, 20).ok_or_else(|| cut(1, bytes.len()))? as u16;
    let mut at = FILE_HEADER;
    for block in 1.. {
        if at == bytes.len() {
            break;
        }
        let field = |number: usize| order.u32(bytes, at + 4 * number).ok_or_else(|| cut(block, at));
        let (seconds, fraction, kept, whole) = (field(0)?, field(1)?, field(2)?, field(3)?);
        let start = at + RECORD_HEADER;
        let packet = bytes.get(start..start.saturating_add(kept as usize));
        let packet = packet.ok_or_else(|| cut(block, start))?;
        let nanos = u64::from(fraction) * u64::from(unit);
        let time = Duration::from_secs(seconds.into()) + Duration::from_nanos(nanos);
        taker.take(link, packet, kept == whole, time);
        at = start + packet.len();
    }
    Ok(())
}

/// An interface of pcapng: its link layer and the length of its ticks.
#[derive(Clone, Copy)]
struct Interface {
    link: u16,
    ticks_a_second: u64,
}

/// Reads pcapng: sections of blocks, each after its type and its length.
fn next_generation(bytes: &[u8], taker: &mut Taker) -> Result<(), BadInput> {
    const SECTION: u32 = 0x0a0d_0d0a;
    const INTERFACE: u32 = 1;
    const PACKET: u32 = 6;
    let mut order = Order { big: true };
    let mut interfaces: Vec<Interface> = Vec::new();
    let mut at = 0;
    for block in 1.. {
        if at == bytes.len() {
            break;
        }
        let cut = || bad(block, at, "the capture is truncated");
        let rtype = order.u32(bytes, at).ok_or_else(cut)?;
        if rtype == SECTION {
            order.big = match bytes.get(at + 8..at + 12).ok_or_else(cut)? {
                [0x1a, 0x2b, 0x3c, 0x4d] => true,
                [0x4d, 0x3c, 0x2b, 0x1a] => false,
                _ => return Err(bad(block, at + 8, "invalid byte order")),
            };
            interfaces.clear();
        }
        let length = order.u32(bytes, at + 4).ok_or_else(cut)? as usize;
        if length < 12 || !length.is_multiple_of(4) {
            return Err(bad(block, at + 4, format!("invalid block length of {length} bytes")));
        }
        let body = bytes.get(at + 8..at.saturating_add(length - 4)).ok_or_else(cut)?;
        match rtype {
            INTERFACE => interfaces.push(interface(order, body).ok_or_else(cut)?),
            PACKET => {
                let number = order.u32(body, 0).ok_or_else(cut)?;
                let &Interface { link, ticks_a_second } = interfaces
                    .get(number as usize)
                    .ok_or_else(|| bad(block, at + 8, format!("no interface {number}")))?;
                let high = u64::from(order.u32(body, 4).ok_or_else(cut)?);
                let low = u64::from(order.u32(body, 8).ok_or_else(cut)?);
                let kept = order.u32(body, 12).ok_or_else(cut)?;
                let whole = order.u32(body, 16).ok_or_else(cut)?;
                let packet = body.get(20..20usize.saturating_add(kept as usize));
                let time = since_epoch(high << 32 | low, ticks_a_second);
                taker.take(link, packet.ok_or_else(cut)?, kept == whole, time);
            }
            _ => {}
        }
        at += length;
    }
    Ok(())
}

fn since_epoch(ticks: u64, ticks_a_second: u64) -> Duration {
    let rest = u128::from(ticks % ticks_a_second) * 1_000_000_000 / u128::from(ticks_a_second);
    Duration::from_secs(ticks / ticks_a_second) + Duration::from_nanos(rest as u64)
}

/// Reads an interface description; its option `if_tsresol` is the resolution of its time.
fn interface(order: Order, body: &[u8]) -> Option<Interface> {
    const RESOLUTION: u16 = 9;
    let link = order.u16(body, 0)?;
    let mut ticks_a_second = 1_000_000;
    let mut at = 8;
    while let (Some(code), Some(length)) = (order.u16(body, at), order.u16(body, at + 2)) {
        if code == 0 {
            break;
        }
        if code == RESOLUTION {
            let value = *body.get(at + 4)?;
            let exponent = u32::from(value & 0x7f);
            let base: u64 = if value & 0x80 != 0 { 2 } else { 10 };
            ticks_a_second = base.checked_pow(exponent)?;
        }
        at += 4 + usize::from(length).next_multiple_of(4);
    }
    Some(Interface { link, ticks_a_second })
}

/// Extracts the queries from packets.
#[derive(Default)]
struct Taker {
    port: u16,
    recorded: Recorded,
    clients: HashMap<IpAddr, u32>,
    first: Option<Duration>,
    left_out: u64,
}

impl Taker {
    /// Takes a packet captured at `time`, since the epoch.
    fn take(&mut self, link: u16, packet: &[u8], is_whole: bool, time: Duration) {
        let found = network(link, packet).and_then(datagram);
        let query = found.filter(|(_, port, query)| {
            let asks = query.get(2).is_some_and(|flags| flags & QR == 0);
            *port == self.port && query.len() >= HEADER_LEN && asks
        });
        let Some((client, _, query)) = query.filter(|_| is_whole) else {
            self.left_out += 1;
            return;
        };
        let known = self.clients.len() as u32;
        let client = *self.clients.entry(client).or_insert(known);
        let first = *self.first.get_or_insert(time);
        // Packets of several interfaces may be a little out of order.
        let instant = time.saturating_sub(first).max(self.recorded.last_instant());
        self.recorded.push(query, client, instant);
    }
}

/// Returns the IP packet in a frame of this link layer.
fn network(link: u16, frame: &[u8]) -> Option<&[u8]> {
    match link {
        LINK_NULL => frame.get(4..),
        LINK_ETHERNET => {
            let mut at = 12;
            // VLAN tags, possibly nested.
            while matches!(u16_at(frame, at)?, 0x8100 | 0x88a8) {
                at += 4;
            }
            matches!(u16_at(frame, at)?, 0x0800 | 0x86dd).then(|| frame.get(at + 2..))?
        }
        LINK_SLL => frame.get(16..),
        LINK_SLL2 => frame.get(20..),
        raw if LINK_RAW.contains(&raw) => Some(frame),
        _ => None,
    }
}

/// Returns the sender, the destination port and the payload of the UDP datagram in an IP packet.
fn datagram(packet: &[u8]) -> Option<(IpAddr, u16, &[u8])> {
    const UDP: u8 = 17;
    let (client, protocol, payload) = match packet.first()? >> 4 {
        4 => {
            let header = usize::from(packet[0] & 0x0f) * 4;
            let length = usize::from(u16_at(packet, 2)?);
            let is_fragment = u16_at(packet, 6)? & 0x3fff != 0;
            let source: [u8; 4] = *packet.get(12..)?.first_chunk()?;
            let payload = packet.get(header..length)?;
            (IpAddr::from(source), *packet.get(9)?, Some(payload).filter(|_| !is_fragment)?)
        }
        6 => {
            let source: [u8; 16] = *packet.get(8..)?.first_chunk()?;
            let (mut next, mut at) = (*packet.get(6)?, 40);
            let end = at + usize::from(u16_at(packet, 4)?);
            // Hop-by-hop options, routing and destination options: at least eight bytes each.
            while matches!(next, 0 | 43 | 60) {
                next = *packet.get(at)?;
                at += 8 + 8 * usize::from(*packet.get(at + 1)?);
            }
            (IpAddr::from(source), next, packet.get(at..end)?)
        }
        _ => return None,
    };
    let port = u16_at(payload, 2)?;
    let query = payload.get(8..usize::from(u16_at(payload, 4)?))?;
    (protocol == UDP).then_some((client, port, query))
}

#[cfg(test)]
mod tests;
