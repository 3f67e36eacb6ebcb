//! `template`: answers generated from the query.
//!
//! Templates are tried in their order. Class, type and zone select one; then a pattern must match
//! the name, which is skipped for a trivial one. A record that does not depend on the query was
//! parsed with the configuration and is copied; any other is rendered as text and parsed here, in
//! memory of a fixed size. A record that cannot be rendered or parsed fails the query and is
//! counted. The forwarder follows an alias in the answer to a query for addresses. A query for ANY
//! matches templates of other types only if they have an answer or a response code: an empty reply
//! would deny existing data.

mod render;

use self::render::{Piece, Query, Rendered};
use super::{QueryContext, Settings, Stage, Step};
use crate::config::{
    FixedRecord, Name, Pattern, RECORD_MAX, ServerBlock, TEXT_MAX, Template, TemplateRecord,
    read_record,
};
use crate::engine::message::QNAME;
use crate::engine::message::compose::{Composer, NewRecord, Section};
use crate::engine::message::{HEADER_LEN, Question, Rcode, class, flags, rtype};
use crate::engine::zones::{LowercaseName, Zones};
use ahash::RandomState;
use regex::bytes::CaptureLocations;
use std::cell::{Cell, RefCell};

/// Types with separate counters of matches; all others share one at the end.
pub(crate) const COUNTED_RTYPES: [u16; 12] = [
    rtype::A,
    rtype::NS,
    rtype::CNAME,
    rtype::SOA,
    rtype::PTR,
    rtype::MX,
    rtype::TXT,
    rtype::AAAA,
    rtype::SRV,
    rtype::SVCB,
    rtype::HTTPS,
    rtype::ANY,
];
/// Maximum number of zones of one template with separate counters; all further ones share the last.
pub(crate) const COUNTED_ZONES_MAX: usize = 64;
/// Maximum length of a name in presentation format: each byte may be an escape of four.
const NAME_TEXT_MAX: usize = 4 * 255;

/// Matches of one zone, by type.
pub(crate) type Matches = [u64; COUNTED_RTYPES.len() + 1];

/// Counters of one template.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TemplateStats {
    /// Matches by zone.
    pub matches: Vec<Matches>,
    /// For each record, those of the answer section first, then authority and additional: number of
    /// texts that could not be rendered, and of texts that were no record.
    pub failures: Vec<[u64; 2]>,
}

impl TemplateStats {
    /// Adds the counters of an identical template.
    pub(crate) fn add(&mut self, other: &Self) {
        let own = self.matches.as_flattened_mut().iter_mut();
        own.zip(other.matches.as_flattened()).for_each(|(own, other)| *own += other);
        let own = self.failures.as_flattened_mut().iter_mut();
        own.zip(other.failures.as_flattened()).for_each(|(own, other)| *own += other);
    }
}

/// The templates of a server block, in their order.
pub(crate) struct Templates {
    all: Box<[One]>,
    view: ViewLabel,
    scratch: RefCell<Scratch>,
}

/// The label `view/name`.
struct ViewLabel {
    text: Box<[u8]>,
    /// Names at or below these have the label.
    zones: Zones<()>,
}

impl ViewLabel {
    fn new(block: &ServerBlock, hasher: &RandomState) -> Self {
        let zones = block.stages.metadata.as_ref().map(|metadata| metadata.zones.as_deref());
        let served: Vec<Name> = block.zones().cloned().collect();
        let zones = zones.map_or(&[][..], |zones| zones.unwrap_or(&served));
        let text = block.stages.view.as_ref().map_or("", |view| &view.name);
        Self {
            text: text.as_bytes().into(),
            zones: Zones::new(hasher.clone(), zones.iter().map(|zone| (zone, ()))),
        }
    }

    /// Returns the text of the label for `name`; empty if it is not set.
    fn of(&self, name: &LowercaseName) -> &[u8] {
        let is_set = !self.text.is_empty() && self.zones.longest(name).is_some();
        if is_set { &self.text } else { &[] }
    }
}

/// Buffers that are reused for each query.
struct Scratch {
    /// QNAME as text.
    name: Vec<u8>,
    /// Text of a record.
    text: Vec<u8>,
    /// Owner and data of a record.
    wire: Vec<u8>,
}

struct One {
    class: Option<u16>,
    rtype: Option<u16>,
    /// The template has neither an answer nor an error.
    is_empty: bool,
    /// Number of each zone. `None`: all names belong to the first.
    zones: Option<Zones<usize>>,
    /// The zones as text.
    zone_names: Box<[Box<str>]>,
    patterns: Box<[OnePattern]>,
    sections: [Box<[OneRecord]>; 3],
    rcode: u16,
    error: Option<(u16, Box<[u8]>)>,
    /// Zones whose names fall through if no pattern matches.
    fallthrough: Zones<()>,
    matches: Box<[[Cell<u64>; COUNTED_RTYPES.len() + 1]]>,
}

struct OnePattern {
    pattern: Pattern,
    /// Positions of the groups, if a record uses one.
    groups: Option<RefCell<CaptureLocations>>,
    /// The pattern matches every name, and no record uses a group.
    is_trivial: bool,
}

struct OneRecord {
    shape: Shape,
    failures: [Cell<u64>; 2],
}

enum Shape {
    Fixed(FixedRecord),
    Varies(Box<[Piece]>),
}

impl Stage for Templates {
    const REARRANGED: bool = true;

    fn new(block: &ServerBlock, hasher: &RandomState, _: &mut Settings) -> Option<Self> {
        let written = &block.stages.template;
        let served: Vec<_> = block.zones().cloned().collect();
        let all: Box<[One]> =
            written.iter().map(|template| One::new(template, &served, hasher)).collect();
        let scratch = RefCell::new(Scratch {
            name: Vec::with_capacity(NAME_TEXT_MAX),
            text: Vec::with_capacity(TEXT_MAX),
            wire: Vec::with_capacity(RECORD_MAX),
        });
        let view = ViewLabel::new(block, hasher);
        (!written.is_empty()).then_some(Self { all, view, scratch })
    }

    fn on_query(&self, context: &mut QueryContext<'_, '_>) -> Option<Step> {
        let (name, question) = (context.name, context.query.question);
        let mut has_text = false;
        for template in &self.all {
            let Some(zone) = template.zone_of(name, &question) else { continue };
            let mut scratch = self.scratch.borrow_mut();
            if template.wants_text() && !has_text {
                render::write_name(name.as_bytes(), &mut scratch.name);
                has_text = true;
            }
            match template.pattern_of(&scratch.name) {
                Some(pattern) => {
                    template.count(zone, question.rtype);
                    let answer =
                        template.answer(context, zone, pattern, (&self.view, &mut scratch));
                    return Some(answer.unwrap_or(Step::Refused(Rcode::ServFail, None)));
                }
                None if template.fallthrough.longest(name).is_some() => {}
                None => return Some(Step::Refused(Rcode::ServFail, None)),
            }
        }
        None
    }
}

impl Templates {
    /// Returns true if an answer may have an alias that is followed.
    pub(crate) fn may_leave_aliases(&self) -> bool {
        self.all.iter().flat_map(|one| &one.sections[0]).any(|record| match &record.shape {
            Shape::Fixed(fixed) => fixed.rtype == rtype::CNAME,
            Shape::Varies(_) => true,
        })
    }

    /// Returns the counters of each template.
    pub(crate) fn stats(&self) -> impl Iterator<Item = TemplateStats> {
        self.all.iter().map(|template| TemplateStats {
            matches: template.matches.iter().map(|zone| zone.each_ref().map(Cell::get)).collect(),
            failures: template
                .sections
                .iter()
                .flatten()
                .map(|record| record.failures.each_ref().map(Cell::get))
                .collect(),
        })
    }
}

impl One {
    fn new(written: &Template, served: &[Name], hasher: &RandomState) -> Self {
        let zones = written.zones.as_deref().unwrap_or(served);
        // A block only receives names of its zones.
        let is_all = zones.len() == 1 && (written.zones.is_none() || zones[0] == Name::root());
        let numbered = zones.iter().enumerate().map(|(number, zone)| (zone, number));
        let sections = [&written.answers, &written.authorities, &written.additionals];
        let wants_groups = sections
            .into_iter()
            .flatten()
            .any(|record| record.fixed.is_none() && record.text.values().any(render::is_group));
        let pattern = |pattern: &Pattern| OnePattern {
            is_trivial: !wants_groups && [".*", ""].contains(&&*pattern.source),
            groups: wants_groups.then(|| RefCell::new(pattern.regex.capture_locations())),
            pattern: pattern.clone(),
        };
        let record = |record: &TemplateRecord| OneRecord {
            shape: match &record.fixed {
                Some(fixed) => Shape::Fixed(fixed.clone()),
                None => Shape::Varies(render::pieces(&record.text, &written.patterns)),
            },
            failures: Default::default(),
        };
        let counted = zones.len().min(COUNTED_ZONES_MAX);
        Self {
            class: written.class,
            rtype: written.rtype.map(|rtype| rtype.0),
            is_empty: written.answers.is_empty() && written.rcode == Rcode::NoError as u16,
            zones: (!is_all).then(|| Zones::new(hasher.clone(), numbered)),
            zone_names: zones.iter().map(|zone| zone.to_string().into()).collect(),
            patterns: written.patterns.iter().map(pattern).collect(),
            sections: sections.map(|records| records.iter().map(record).collect()),
            rcode: written.rcode,
            error: written.error.as_ref().map(|(code, text)| (*code, text.as_bytes().into())),
            fallthrough: Zones::new(
                hasher.clone(),
                written.fallthrough.iter().map(|zone| (zone, ())),
            ),
            matches: (0..counted).map(|_| Default::default()).collect(),
        }
    }

    /// Returns the number of the question's zone, if the template applies to it.
    #[inline]
    fn zone_of(&self, name: &LowercaseName, question: &Question) -> Option<usize> {
        let any = rtype::ANY;
        if self.class.is_some_and(|class| class != question.class && question.class != any) {
            return None;
        }
        if self.rtype.is_some_and(|rtype| {
            rtype != question.rtype && (question.rtype != any || self.is_empty)
        }) {
            return None;
        }
        self.zones.as_ref().map_or(Some(0), |zones| zones.longest(name))
    }

    /// Returns true if the name is needed as text.
    fn wants_text(&self) -> bool {
        self.patterns.iter().any(|pattern| !pattern.is_trivial)
            || self.sections.iter().flatten().any(|record| matches!(record.shape, Shape::Varies(_)))
    }

    /// Returns the number of the pattern that matches; 0 if the template has none.
    fn pattern_of(&self, name: &[u8]) -> Option<usize> {
        if self.patterns.is_empty() {
            return Some(0);
        }
        self.patterns.iter().position(|one| match &one.groups {
            _ if one.is_trivial => true,
            Some(groups) => {
                one.pattern.regex.captures_read(&mut groups.borrow_mut(), name).is_some()
            }
            None => one.pattern.regex.is_match(name),
        })
    }

    fn count(&self, zone: usize, rtype: u16) {
        let place = COUNTED_RTYPES.iter().position(|counted| *counted == rtype);
        if let Some(zone) = self.matches.get(zone).or(self.matches.last()) {
            let count = &zone[place.unwrap_or(COUNTED_RTYPES.len())];
            count.set(count.get() + 1);
        }
    }

    /// Writes the reply; returns `None` if it fails.
    fn answer(
        &self,
        context: &mut QueryContext<'_, '_>,
        zone: usize,
        pattern: usize,
        (view, scratch): (&ViewLabel, &mut Scratch),
    ) -> Option<Step> {
        let fails = self.rcode == Rcode::ServFail as u16;
        if fails && self.error.is_none() {
            return None;
        }
        let (name, question, peer) = (context.name, context.query.question, context.peer.ip());
        let groups = self.patterns.get(pattern).and_then(|one| one.groups.as_ref());
        let groups = groups.map(|groups| groups.borrow());
        let minimal = context.settings.minimal;
        let mut reply = if fails { context.reply() } else { context.answer() };
        if let Some((code, text)) = &self.error {
            reply.explain(*code, text);
        }
        if fails {
            return Some(Step::Replied(reply.end_as(flags::RA, self.rcode)));
        }
        let Scratch { name: text, text: rendered, wire } = scratch;
        let query = Query {
            name: text,
            zone: self.zone_names.get(zone).map_or("", |zone| zone),
            class: question.class,
            rtype: question.rtype,
            peer,
            view: view.of(name),
            pattern,
            groups: groups.as_deref(),
        };
        let mut answer =
            Answer { name, class: question.class, query, rendered, wire, has_alias: false };
        let [answers, authorities, additionals] = &self.sections;
        let positive = self.rcode == Rcode::NoError as u16 && !answers.is_empty();
        answer.write(&mut reply, Section::Answer, answers)?;
        let denial_or_whole = !(positive && minimal);
        if denial_or_whole {
            let mark = reply.mark();
            answer.write(&mut reply, Section::Authority, authorities)?;
            if positive {
                reply.keep_whole(&mark);
            }
            let mark = reply.mark();
            answer.write(&mut reply, Section::Additional, additionals)?;
            reply.keep_whole(&mark);
        }
        // The target of an alias is resolved for clients that ask for addresses.
        let is_open =
            positive && answer.has_alias && matches!(question.rtype, rtype::A | rtype::AAAA);
        let len = reply.end_as(flags::AA, self.rcode);
        Some(if is_open { Step::Open(len) } else { Step::Replied(len) })
    }
}

/// Records of a reply that is being written.
struct Answer<'a> {
    name: &'a LowercaseName,
    class: u16,
    query: Query<'a>,
    rendered: &'a mut Vec<u8>,
    wire: &'a mut Vec<u8>,
    /// True if an alias is among the answers.
    has_alias: bool,
}

impl Answer<'_> {
    /// Writes the records of a section; returns `None` if one fails.
    fn write(
        &mut self,
        reply: &mut Composer<'_>,
        section: Section,
        records: &[OneRecord],
    ) -> Option<()> {
        for OneRecord { shape, failures } in records {
            let fail = |place: usize| failures[place].set(failures[place].get() + 1);
            let mut pointer = QNAME;
            match shape {
                Shape::Fixed(fixed) => {
                    let owner = fixed.owner.as_deref();
                    let owner =
                        owner.map_or(&QNAME[..], |owner| shortened(self.name, owner, &mut pointer));
                    let asked = if self.class == rtype::ANY { class::IN } else { self.class };
                    let class = fixed.class.unwrap_or(asked);
                    let (rtype, ttl, data) = (fixed.rtype, fixed.ttl, &[&*fixed.data]);
                    self.has_alias |= section == Section::Answer && rtype == rtype::CNAME;
                    reply.record(section, &NewRecord { owner, rtype, class, ttl, data });
                }
                Shape::Varies(pieces) => {
                    if render::write(pieces, &self.query, self.rendered) == Rendered::Failed {
                        fail(0);
                        return None;
                    }
                    let Ok(record) = read_record(self.rendered, self.wire) else {
                        fail(1);
                        return None;
                    };
                    let (owner, data) = self.wire.split_at(record.owner_len);
                    let owner = shortened(self.name, owner, &mut pointer);
                    let (rtype, class, ttl) = (record.rtype, record.class, record.ttl);
                    self.has_alias |= section == Section::Answer && rtype == rtype::CNAME;
                    reply.record(section, &NewRecord { owner, rtype, class, ttl, data: &[data] });
                }
            }
        }
        Some(())
    }
}

/// Returns a pointer into the question instead of `owner`, if that is the QNAME or above it, so
/// that the client gets its own spelling.
fn shortened<'a>(name: &LowercaseName, owner: &'a [u8], pointer: &'a mut [u8; 2]) -> &'a [u8] {
    let name = name.as_bytes();
    let start = name.len().checked_sub(owner.len());
    let start = start.filter(|start| owner.len() > 1 && name[*start..].eq_ignore_ascii_case(owner));
    let Some(start) = start else { return owner };
    let mut label = 0;
    while label < start {
        label += 1 + usize::from(name[label]);
    }
    if label > start {
        return owner;
    }
    *pointer = (0xc000 | (HEADER_LEN + start) as u16).to_be_bytes();
    pointer
}
