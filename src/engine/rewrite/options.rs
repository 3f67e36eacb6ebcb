//! Rules for the EDNS options of the query that goes to the upstream.
//!
//! They edit a list that begins with the client's subnet, which passes anyway, and with the
//! client's options that a rule uses. No other option of a client passes, and no upstream's option
//! is returned, because EDNS is hop by hop (RFC 6891 §6); so `revert` needs no action.

use super::Way;
use crate::config::{
    EDNS_OPTIONS_MAX, EdnsAction, EdnsData, EdnsOption, EdnsRule, PRESENTATION, ServerBlock,
    TEXT_LEN_MAX, spell_as_asked,
};
use crate::engine::key::Transport;
use crate::engine::message::query::{OPTIONS_LEN_MAX, Query, options};
use crate::engine::message::{option, put_u16};
use std::net::{IpAddr, SocketAddr};

/// Maximum length of a client's options used by rules; further ones are omitted.
const OF_CLIENT_MAX: usize = 64;
const _: () = assert!(EDNS_OPTIONS_MAX == OPTIONS_LEN_MAX, "the reader knows what has room");

/// A rule for one option.
pub(super) struct Editing {
    code: u16,
    action: EdnsAction,
    value: Value,
}

/// Value of the option that a rule adds.
enum Value {
    Fixed(Box<[u8]>),
    Subnet {
        v4: u8,
        v6: u8,
    },
    /// `None`: it is empty, so the rule never matches.
    Label(Option<Label>),
    Of(EdnsData),
}

/// A label of `metadata`, which is set for names at or below `zones`.
struct Label {
    zones: Vec<Box<[u8]>>,
    text: Box<[u8]>,
}

/// Sender of a query, as input of the rules.
#[derive(Clone, Copy)]
pub(crate) struct Sender {
    /// The client's address.
    pub(crate) peer: SocketAddr,
    /// Destination address of the query.
    pub(crate) server: SocketAddr,
    /// Transport of the query.
    pub(crate) transport: Transport,
}

/// The options of a query, codes and lengths included.
pub(crate) struct Options {
    bytes: [u8; OPTIONS_LEN_MAX],
    len: usize,
    /// An option did not fit.
    pub(super) is_full: bool,
    /// The list has the client's own subnet.
    has_own_subnet: bool,
}

impl Options {
    /// Options of `query` that pass if no rule changes them; `codes`: those used by rules.
    pub(super) fn of(query: &Query<'_>, codes: &[u16]) -> Self {
        let subnet = query.subnet();
        let mut list = Self {
            bytes: [0; OPTIONS_LEN_MAX],
            len: 0,
            is_full: false,
            has_own_subnet: !subnet.is_empty(),
        };
        list.push_whole(subnet);
        let mut room = OF_CLIENT_MAX;
        if !codes.is_empty() && query.asked.edns.is_some() {
            let named = |(code, _): &(u16, &[u8])| *code != option::ECS && codes.contains(code);
            for (_, whole) in query.client_options().filter(named) {
                if whole.len() <= room {
                    room -= whole.len();
                    list.push_whole(whole);
                }
            }
        }
        list
    }

    /// The options in the order in which they are sent.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Returns true if an answer depends on these options alone, not on the client's own subnet.
    pub(crate) fn is_keyed(&self) -> bool {
        !self.has_own_subnet
    }

    fn has(&self, code: u16) -> bool {
        options(self.as_bytes()).any(|(other, _)| other == code)
    }

    fn push_whole(&mut self, whole: &[u8]) {
        let end = self.len + whole.len();
        match self.bytes.get_mut(self.len..end) {
            Some(room) => {
                room.copy_from_slice(whole);
                self.len = end;
            }
            None => self.is_full = true,
        }
    }

    fn push(&mut self, code: u16, value: &[u8]) {
        let mut head = [0; 4];
        put_u16(&mut head, 0, code);
        put_u16(&mut head, 2, value.len() as u16);
        self.push_whole(&head);
        self.push_whole(value);
    }

    fn remove(&mut self, code: u16) {
        let (mut place, mut kept) = (0, 0);
        loop {
            let next = options(&self.bytes[place..self.len]).next();
            let Some((other, len)) = next.map(|(other, whole)| (other, whole.len())) else { break };
            if other != code {
                self.bytes.copy_within(place..place + len, kept);
                kept += len;
            }
            place += len;
        }
        self.len = kept;
        self.has_own_subnet &= code != option::ECS;
    }
}

impl Editing {
    pub(super) fn new(rule: &EdnsRule, block: &ServerBlock) -> Self {
        let (code, value) = match &rule.option {
            EdnsOption::Nsid => (option::NSID, Value::Fixed(Box::default())),
            EdnsOption::Subnet { v4, v6 } => (option::ECS, Value::Subnet { v4: *v4, v6: *v6 }),
            EdnsOption::Local { code, data: EdnsData::Fixed(bytes) } => {
                (*code, Value::Fixed(bytes[..].into()))
            }
            EdnsOption::Local { code, data: EdnsData::Label(label) } => {
                (*code, Value::Label(Label::new(label, block)))
            }
            EdnsOption::Local { code, data } => (*code, Value::Of(data.clone())),
        };
        Self { code, action: rule.action, value }
    }

    pub(super) fn code(&self) -> u16 {
        self.code
    }

    /// Changes the options of a query on its `way` if the rule matches. Returns true if it does.
    pub(super) fn apply(&self, way: &Way, sender: &Sender, list: &mut Options) -> bool {
        let is_there = list.has(self.code);
        match self.action {
            EdnsAction::Unset => {
                list.remove(self.code);
                return is_there;
            }
            EdnsAction::Replace if !is_there => return false,
            // In the reference, only a literal is added if the code is present.
            EdnsAction::Append if is_there && !self.is_literal() => return false,
            EdnsAction::Append | EdnsAction::Replace | EdnsAction::Set => {}
        }
        let mut room = [0; TEXT_LEN_MAX];
        let Some(value) = self.value.bytes(way, sender, &mut room) else { return false };
        if self.action != EdnsAction::Append {
            list.remove(self.code);
        }
        list.push(self.code, value);
        true
    }

    fn is_literal(&self) -> bool {
        matches!(self.value, Value::Fixed(_)) && self.code != option::NSID
    }
}

impl Value {
    /// Returns the bytes of the value; `None` if it is empty, so that there is no option.
    fn bytes<'a>(
        &'a self,
        way: &Way,
        sender: &Sender,
        room: &'a mut [u8; TEXT_LEN_MAX],
    ) -> Option<&'a [u8]> {
        let Sender { peer, server, transport, .. } = sender;
        let word = |word: u16, room: &'a mut [u8; TEXT_LEN_MAX]| {
            put_u16(room, 0, word);
            &room[..2]
        };
        Some(match self {
            Self::Fixed(bytes) => bytes,
            Self::Subnet { v4, v6 } => subnet(peer.ip().to_canonical(), (*v4, *v6), room),
            Self::Label(label) => {
                let name = way.now.name.as_bytes();
                &label.as_ref().filter(|label| label.has(name))?.text
            }
            Self::Of(EdnsData::Name) => {
                spell_as_asked(way.now.name.as_bytes(), &PRESENTATION, room).as_bytes()
            }
            Self::Of(EdnsData::Type) => word(way.now.rtype, room),
            Self::Of(EdnsData::ClientPort) => word(peer.port(), room),
            Self::Of(EdnsData::ServerPort) => word(server.port(), room),
            Self::Of(EdnsData::ClientAddress) => octets(peer.ip().to_canonical(), room),
            Self::Of(EdnsData::ServerAddress) => octets(server.ip().to_canonical(), room),
            Self::Of(EdnsData::Protocol) => match transport {
                Transport::Udp => b"udp",
                Transport::Tcp => b"tcp",
            },
            Self::Of(EdnsData::Fixed(_) | EdnsData::Label(_)) => return None,
        })
    }
}

impl Label {
    /// `None`: the label is never set before a query is rewritten.
    fn new(label: &str, block: &ServerBlock) -> Option<Self> {
        let metadata = block.stages.metadata.as_ref()?;
        let view = block.stages.view.as_ref().filter(|_| label == "view/name")?;
        let zones = match &metadata.zones {
            Some(zones) => zones.iter().map(|zone| zone.as_wire().into()).collect(),
            None => block.zones().map(|zone| zone.as_wire().into()).collect(),
        };
        let text = view.name.as_bytes();
        (!text.is_empty()).then(|| Self { zones, text: text.into() })
    }

    fn has(&self, name: &[u8]) -> bool {
        self.zones.iter().any(|zone| super::names::suffix_start(name, zone).is_some())
    }
}

fn octets(address: IpAddr, room: &mut [u8; TEXT_LEN_MAX]) -> &[u8] {
    match address {
        IpAddr::V4(ip) => {
            room[..4].copy_from_slice(&ip.octets());
            &room[..4]
        }
        IpAddr::V6(ip) => {
            room[..16].copy_from_slice(&ip.octets());
            &room[..16]
        }
    }
}

/// Writes the value of a client-subnet option (RFC 7871 §6): family, prefix length, scope zero, and
/// the prefix of the address, whose unused bits are zero.
fn subnet(address: IpAddr, bits: (u8, u8), room: &mut [u8; TEXT_LEN_MAX]) -> &[u8] {
    let (family, bits) = match address {
        IpAddr::V4(_) => (1, bits.0),
        IpAddr::V6(_) => (2, bits.1),
    };
    let len = usize::from(bits).div_ceil(8);
    let mut whole = [0; TEXT_LEN_MAX];
    let octets = octets(address, &mut whole);
    put_u16(room, 0, family);
    (room[2], room[3]) = (bits, 0);
    room[4..4 + len].copy_from_slice(&octets[..len]);
    if !bits.is_multiple_of(8) {
        room[3 + len] &= 0xff << (8 - bits % 8);
    }
    &room[..4 + len]
}
