//! Evaluation of compiled expressions. PURE.
//!
//! Texts are appended to a buffer that is reused for the next query; constant ones are not copied.
//! `None` means that the expression fails, so that it is false as a whole.

use super::Facts;
use super::items::{Item, Items};
use crate::config::view::{Number, Order, Place, Real, Test, Text};
use crate::config::{Net, PRESENTATION, RecordType, TEXT_LEN_MAX, class_mnemonic, spell};
use crate::engine::key::Transport;
use crate::engine::message::flags;
use memchr::memmem;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

/// Maximum length of all texts of one expression; it fails beyond that.
const SCRATCH_MAX: usize = 65_536;
/// Cost of a byte of a text that is split or spelled, with many short parts.
pub(super) const SPLIT: usize = 8;
/// Cost of a byte of a text that a pattern is compared with.
const MATCH: usize = 16;
/// Maximum length of a UDP reply to a client without EDNS.
const PLAIN: u16 = 512;

/// Memory for texts.
#[derive(Default)]
pub(super) struct Scratch {
    bytes: Vec<u8>,
    /// Place of the QNAME, once it was written.
    name: Option<(usize, usize)>,
    pub(super) items: Items,
}

impl Scratch {
    /// Releases the memory; `steps`: steps that the query has left.
    pub(super) fn clear(&mut self, steps: usize) {
        self.bytes.clear();
        self.name = None;
        self.items.clear(steps);
    }

    pub(super) fn text(&self, start: usize, end: usize) -> &[u8] {
        &self.bytes[start..end]
    }

    /// Returns the place of the next text, if there is room for `len` bytes; takes the steps of
    /// writing them.
    pub(super) fn room(&mut self, len: usize) -> Option<usize> {
        let place = self.bytes.len();
        place.checked_add(len).filter(|end| *end <= SCRATCH_MAX)?;
        self.items.charge(len)?;
        Some(place)
    }

    /// Appends a copy of the bytes from `start` to `end`.
    pub(super) fn append(&mut self, start: usize, end: usize) {
        self.bytes.extend_from_within(start..end);
    }

    pub(super) fn items_and_bytes(&mut self) -> (&mut [Item], &[u8]) {
        (&mut self.items.items, &self.bytes)
    }

    /// Returns the current end of the memory in use.
    pub(super) fn mark(&self) -> (usize, usize) {
        (self.bytes.len(), self.items.items.len())
    }

    /// Releases the memory used since `mark`.
    pub(super) fn release(&mut self, (bytes, items): (usize, usize)) {
        self.bytes.truncate(bytes);
        self.items.items.truncate(items);
        self.name = self.name.filter(|(_, end)| *end <= bytes);
    }
}

/// Evaluation for one query.
pub(super) struct Run<'a> {
    pub(super) facts: &'a Facts<'a>,
    /// Configured address of the listener.
    pub(super) local: SocketAddr,
    pub(super) scratch: &'a mut Scratch,
}

/// A text: constant, or a range of the buffer.
#[derive(Clone, Copy)]
enum Found<'p> {
    Fixed(&'p [u8]),
    Written(usize, usize),
}

impl Run<'_> {
    /// Takes the steps of work on `bytes` bytes of text.
    pub(super) fn charge(&mut self, bytes: usize) -> Option<()> {
        self.scratch.items.charge(bytes)
    }

    pub(super) fn test(&mut self, test: &Test) -> Option<bool> {
        Some(match test {
            Test::Always(truth) => *truth,
            Test::Not(test) => !self.test(test)?,
            Test::All(tests) => {
                for test in tests {
                    if !self.test(test)? {
                        return Some(false);
                    }
                }
                true
            }
            Test::Any(tests) => {
                for test in tests {
                    if self.test(test)? {
                        return Some(true);
                    }
                }
                false
            }
            Test::If(parts) => {
                let [test, one, other] = &**parts;
                let which = if self.test(test)? { one } else { other };
                self.test(which)?
            }
            Test::DnssecOk => self.facts.asked.edns.is_some_and(|edns| edns.dnssec_ok),
            Test::ClientIn(nets) => nets.contains(self.facts.client.peer.ip().to_canonical()),
            Test::AddressIn(text, nets) => nets.contains(self.address(text)?),
            Test::AddressInText(text, net) => {
                let address = self.address(text)?;
                let net = self.text(net)?;
                self.charge(net.len())?;
                let net = std::str::from_utf8(self.bytes(&net)).ok()?;
                Net::parse(net).filter(|_| net.contains('/'))?.contains(address)
            }
            Test::TypeIn(kinds) => kinds.contains(&self.facts.rtype),
            Test::Same(tests) => self.test(&tests[0])? == self.test(&tests[1])?,
            Test::Numbers(order, one, other) => {
                order.holds(self.number(one)?.cmp(&self.number(other)?))
            }
            Test::Fractions(order, one, other) => {
                order.holds_of(self.real(one)?, self.real(other)?)
            }
            Test::NumberIn(number, numbers) => numbers.contains(&self.number(number)?),
            Test::NumberWithin(number, first, last) => {
                (*first..=*last).contains(&self.number(number)?)
            }
            Test::Alike(terms) => {
                let (one, other) = (self.item(&terms[0])?, self.item(&terms[1])?);
                self.are_alike(one, other)?
            }
            Test::Member(terms) => {
                let (item, of) = (self.item(&terms[0])?, self.item(&terms[1])?);
                self.is_member(item, of)?
            }
            Test::Of(term) => match self.item(term)? {
                Item::Truth(truth) => truth,
                _ => return None,
            },
            _ => self.text_test(test)?,
        })
    }

    /// Tests of texts alone.
    fn text_test(&mut self, test: &Test) -> Option<bool> {
        Some(match test {
            Test::Texts(order, one, other) => {
                let (one, other) = (self.text(one)?, self.text(other)?);
                self.charge(one.len().min(other.len()))?;
                let (one, other) = (self.bytes(&one), self.bytes(&other));
                match order {
                    Order::Equal => one == other,
                    Order::Unequal => one != other,
                    order => order.holds(one.cmp(other)),
                }
            }
            Test::TextIn(text, texts) => {
                let text = self.text(text)?;
                for other in texts {
                    let other = self.text(other)?;
                    self.charge(text.len().min(other.len()))?;
                    if self.bytes(&text) == self.bytes(&other) {
                        return Some(true);
                    }
                }
                false
            }
            Test::PartOf(text, whole, separator) => {
                let (text, whole) = (self.text(text)?, self.text(whole)?);
                self.charge(SPLIT * whole.len() + separator.len())?;
                let mut parts = parts(self.bytes(&whole), separator.as_bytes());
                parts.any(|part| part == self.bytes(&text))
            }
            Test::Has(place, one, other) => {
                let (one, other) = (self.text(one)?, self.text(other)?);
                let within = if *place == Place::Within { one.len() } else { 0 };
                self.charge(within + other.len())?;
                let (one, other) = (self.bytes(&one), self.bytes(&other));
                match place {
                    Place::Within => memmem::find(one, other).is_some(),
                    Place::AtStart => one.starts_with(other),
                    Place::AtEnd => one.ends_with(other),
                }
            }
            Test::Matches(text, pattern) => {
                let text = self.text(text)?;
                self.charge(MATCH * text.len())?;
                pattern.regex.is_match(self.bytes(&text))
            }
            _ => return None,
        })
    }

    pub(super) fn number(&mut self, number: &Number) -> Option<i64> {
        let Facts { client, asked, size, .. } = *self.facts;
        Some(match number {
            Number::Fixed(number) => *number,
            Number::Size => size.into(),
            Number::Id => asked.id.into(),
            Number::Opcode => ((asked.flags & flags::OPCODE) >> 11).into(),
            Number::BufferSize => match client.transport() {
                Transport::Tcp => u16::MAX.into(),
                Transport::Udp => asked.edns.map_or(PLAIN, |edns| edns.udp_size.max(PLAIN)).into(),
            },
            Number::Len(text) => {
                let text = self.text(text)?;
                self.bytes(&text).len() as i64
            }
            Number::Parts(text, separator) => {
                let text = self.text(text)?;
                self.charge(SPLIT * text.len() + separator.len())?;
                parts(self.bytes(&text), separator.as_bytes()).count() as i64
            }
            Number::IndexOf(text, part, from_end) => {
                let (text, part) = (self.text(text)?, self.text(part)?);
                self.charge(text.len() + part.len())?;
                let (text, part) = (self.bytes(&text), self.bytes(&part));
                let found =
                    if *from_end { memmem::rfind(text, part) } else { memmem::find(text, part) };
                found.map_or(-1, |place| place as i64)
            }
            Number::Calculated(what, numbers) => {
                let [one, other] = &**numbers;
                what.of(self.number(one)?, self.number(other)?)?
            }
            Number::If(parts) => {
                let (test, one, other) = &**parts;
                let which = if self.test(test)? { one } else { other };
                self.number(which)?
            }
            Number::Of(term) => match self.item(term)? {
                Item::Whole(number) => number,
                _ => return None,
            },
        })
    }

    pub(super) fn real(&mut self, number: &Real) -> Option<f64> {
        Some(match number {
            Real::Fixed(number) => number.get(),
            Real::Whole(number) => self.number(number)? as f64,
            Real::Calculated(what, numbers) => {
                let [one, other] = &**numbers;
                what.of(self.real(one)?, self.real(other)?)
            }
            Real::If(parts) => {
                let (test, one, other) = &**parts;
                let which = if self.test(test)? { one } else { other };
                self.real(which)?
            }
            Real::Of(term) => self.item(term)?.real()?,
        })
    }

    fn text<'p>(&mut self, text: &'p Text) -> Option<Found<'p>> {
        let Facts { client, rtype, class, .. } = *self.facts;
        Some(match text {
            Text::Fixed(text) => Found::Fixed(text.as_bytes()),
            Text::Name => self.name()?,
            Text::Type => match RecordType(rtype).mnemonic() {
                Some(mnemonic) => Found::Fixed(mnemonic.as_bytes()),
                None => self.write(format_args!("TYPE{rtype}"))?,
            },
            Text::Class => match class_mnemonic(class) {
                Some(mnemonic) => Found::Fixed(mnemonic.as_bytes()),
                None => self.write(format_args!("CLASS{class}"))?,
            },
            Text::Protocol => match client.transport() {
                Transport::Udp => Found::Fixed(b"udp"),
                Transport::Tcp => Found::Fixed(b"tcp"),
            },
            Text::ClientAddress => {
                self.write(format_args!("{}", client.peer.ip().to_canonical()))?
            }
            Text::ClientPort => self.write(format_args!("{}", client.peer.port()))?,
            Text::ServerAddress => {
                let local = client.local.map_or(self.local.ip(), |local| local.0);
                self.write(format_args!("{}", local.to_canonical()))?
            }
            Text::ServerPort => self.write(format_args!("{}", self.local.port()))?,
            Text::Label(zones, label) => {
                let name = self.facts.name;
                let is_set = zones.iter().any(|zone| name.is_within(zone.as_wire()));
                Found::Fixed(if is_set { label.as_bytes() } else { b"" })
            }
            Text::If(parts) => {
                let (test, one, other) = &**parts;
                let which = if self.test(test)? { one } else { other };
                self.text(which)?
            }
            _ => self.changed(text)?,
        })
    }

    /// Returns a text in the buffer, copied if it is constant.
    pub(super) fn written(&mut self, text: &Text) -> Option<Item> {
        let (start, end) = match self.text(text)? {
            Found::Written(start, end) => (start, end),
            fixed => {
                let start = self.scratch.bytes.len();
                self.copy(&fixed)?;
                (start, self.scratch.bytes.len())
            }
        };
        Some(Item::Text(start, end))
    }

    /// Returns the bytes of a text.
    pub(super) fn text_of(&self, item: Item) -> Option<&[u8]> {
        match item {
            Item::Text(start, end) => Some(&self.scratch.bytes[start..end]),
            _ => None,
        }
    }

    pub(super) fn formatted(&mut self, text: std::fmt::Arguments<'_>) -> Option<Item> {
        match self.write(text)? {
            Found::Written(start, end) => Some(Item::Text(start, end)),
            Found::Fixed(_) => None,
        }
    }

    /// Evaluates a text that is made of others.
    fn changed<'p>(&mut self, text: &'p Text) -> Option<Found<'p>> {
        Some(match text {
            Text::Cased(text, upper) => {
                let found = self.text(text)?;
                let start = self.scratch.bytes.len();
                self.copy(&found)?;
                let copied = &mut self.scratch.bytes[start..];
                if *upper {
                    copied.make_ascii_uppercase()
                } else {
                    copied.make_ascii_lowercase()
                }
                Found::Written(start, self.scratch.bytes.len())
            }
            Text::Trimmed(text) => {
                let found = self.text(text)?;
                self.charge(found.len())?;
                let bytes = self.bytes(&found);
                let (start, len) = (bytes.trim_ascii_start().len(), bytes.trim_ascii().len());
                let start = bytes.len() - start;
                found.part(start, start + len)
            }
            Text::Without(place, texts) => {
                let (found, other) = (self.text(&texts[0])?, self.text(&texts[1])?);
                self.charge(other.len())?;
                let (bytes, other) = (self.bytes(&found), self.bytes(&other));
                match place {
                    Place::AtStart if bytes.starts_with(other) => {
                        found.part(other.len(), bytes.len())
                    }
                    Place::AtEnd if bytes.ends_with(other) => {
                        found.part(0, bytes.len() - other.len())
                    }
                    _ => found,
                }
            }
            Text::Joined(texts) => {
                let (one, other) = (self.text(&texts[0])?, self.text(&texts[1])?);
                let start = self.scratch.bytes.len();
                self.copy(&one)?;
                self.copy(&other)?;
                Found::Written(start, self.scratch.bytes.len())
            }
            Text::Part(text, separator, number) => {
                let found = self.text(text)?;
                self.charge(SPLIT * found.len() + separator.len())?;
                let bytes = self.bytes(&found);
                let separator = separator.as_bytes();
                let number = match usize::try_from(*number) {
                    Ok(number) => number,
                    Err(_) => {
                        let count = parts(bytes, separator).count();
                        count.checked_sub(usize::try_from(number.unsigned_abs()).ok()?)?
                    }
                };
                let part = parts(bytes, separator).nth(number)?;
                let start = part.as_ptr().addr() - bytes.as_ptr().addr();
                found.part(start, start + part.len())
            }
            Text::Of(term) => match self.item(term)? {
                Item::Text(start, end) => Found::Written(start, end),
                _ => return None,
            },
            _ => return None,
        })
    }

    fn name(&mut self) -> Option<Found<'static>> {
        let Scratch { bytes, name, items } = &mut *self.scratch;
        let (start, end) = match *name {
            Some(place) => place,
            None => {
                items.charge(SPLIT * self.facts.name.as_bytes().len())?;
                let mut room = [0; TEXT_LEN_MAX];
                let start = bytes.len();
                let text = spell(self.facts.name.as_bytes(), &PRESENTATION, &mut room);
                bytes.extend_from_slice(text.as_bytes());
                *name.insert((start, bytes.len()))
            }
        };
        Some(Found::Written(start, end))
    }

    fn address(&mut self, text: &Text) -> Option<IpAddr> {
        let text = self.text(text)?;
        self.charge(text.len())?;
        let address: IpAddr = std::str::from_utf8(self.bytes(&text)).ok()?.parse().ok()?;
        Some(address.to_canonical())
    }

    fn bytes<'s>(&'s self, found: &Found<'s>) -> &'s [u8] {
        match *found {
            Found::Fixed(bytes) => bytes,
            Found::Written(start, end) => &self.scratch.bytes[start..end],
        }
    }

    /// Appends a copy of a text to the buffer.
    fn copy(&mut self, found: &Found<'_>) -> Option<()> {
        self.scratch.room(found.len())?;
        let bytes = &mut self.scratch.bytes;
        match *found {
            Found::Fixed(text) => bytes.extend_from_slice(text),
            Found::Written(start, end) => bytes.extend_from_within(start..end),
        }
        Some(())
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) -> Option<Found<'static>> {
        let start = self.scratch.bytes.len();
        self.scratch.bytes.write_fmt(text).ok()?;
        let end = self.scratch.bytes.len();
        (end <= SCRATCH_MAX).then_some(Found::Written(start, end))
    }
}

impl Found<'_> {
    fn len(&self) -> usize {
        match *self {
            Self::Fixed(bytes) => bytes.len(),
            Self::Written(start, end) => end - start,
        }
    }

    fn part(self, start: usize, end: usize) -> Self {
        match self {
            Self::Fixed(bytes) => Self::Fixed(&bytes[start..end]),
            Self::Written(first, _) => Self::Written(first + start, first + end),
        }
    }
}

/// Splits `text` at a separator, which is not empty.
pub(super) fn parts<'s>(text: &'s [u8], separator: &'s [u8]) -> impl Iterator<Item = &'s [u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = memmem::find(text, separator) else { return rest.take() };
        rest = Some(&text[end + separator.len()..]);
        Some(&text[..end])
    })
}
