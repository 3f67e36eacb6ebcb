//! Zones generated from a seed, and questions about them.
//!
//! Names are drawn from few labels, so that they interact: names below empty non-terminals,
//! wildcards above and beside them, aliases between any names, also to missing ones. Aliases, zone
//! cuts and DNAME records have labels of their own, because other servers reject a zone where they
//! are at or above other records. All zones are valid for all three servers.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::collections::BTreeSet;
use std::fmt::Write;

/// Number of zones of a seed. The last one is delegated by the one before.
pub(super) const ZONES: usize = 12;
/// Types of the questions.
const RTYPES: [u16; 10] = [A, AAAA, TXT, MX, NS, SOA, CNAME, DNAME, DS, ANY];
/// Further types of the questions about signed zones.
const OF_SIGNED: [u16; 3] = [RRSIG, NSEC, DNSKEY];
pub(super) const A: u16 = 1;
pub(super) const NS: u16 = 2;
pub(super) const CNAME: u16 = 5;
pub(super) const SOA: u16 = 6;
pub(super) const MX: u16 = 15;
pub(super) const TXT: u16 = 16;
pub(super) const AAAA: u16 = 28;
pub(super) const DNAME: u16 = 39;
pub(super) const DS: u16 = 43;
pub(super) const RRSIG: u16 = 46;
pub(super) const NSEC: u16 = 47;
const DNSKEY: u16 = 48;
pub(super) const ANY: u16 = 255;

pub(super) struct Dice(ChaCha8Rng);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.0.next_u64() % bound as u64) as usize
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

/// A zone.
pub(super) struct Zone {
    /// Name without a trailing dot.
    pub(super) name: String,
    /// Contents of the zone file.
    pub(super) text: String,
    /// Owners of its records, without a trailing dot.
    pub(super) owners: Vec<String>,
    /// True if the zone has signatures.
    pub(super) is_signed: bool,
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Question {
    pub(super) name: String,
    pub(super) rtype: u16,
    pub(super) dnssec_ok: bool,
}

/// The zones of a seed.
pub(super) fn zones(dice: &mut Dice) -> Vec<Zone> {
    let names: Vec<String> = (0..ZONES - 1).map(|number| format!("z{number}.test")).collect();
    let child = format!("kid.{}", names[ZONES - 2]);
    let mut zones: Vec<Zone> =
        names.iter().enumerate().map(|(number, name)| zone(dice, number, name)).collect();
    let parent = zones.last_mut().unwrap();
    parent.text += "kid NS ns.kid\nns.kid A 192.0.2.77\n";
    parent.text += &format!("kid DS 7 13 2 {:064}\n", 7);
    zones.push(zone(dice, 1, &child));
    zones
}

/// A zone under construction.
struct Making<'a> {
    dice: &'a mut Dice,
    zone: &'a str,
    text: String,
    owners: BTreeSet<String>,
}

fn zone(dice: &mut Dice, number: usize, name: &str) -> Zone {
    let mut making = Making { dice, zone: name, text: String::new(), owners: BTreeSet::new() };
    let minimum = 60 + making.dice.below(800);
    writeln!(making.text, "$ORIGIN {name}.\n$TTL 3600").unwrap();
    making.add("@", &format!("SOA ns1 h 7 7200 3600 1209600 {minimum}"));
    making.add("@", "NS ns1");
    making.add("@", "NS ns.far.example.");
    making.add("@", "MX 10 mail");
    making.add("ns1", "A 192.0.2.1");
    making.add("mail", "A 192.0.2.25");
    making.add("mail", "AAAA 2001:db8::25");
    making.hosts();
    making.wildcards();
    making.cuts();
    making.large();
    making.aliases();
    let Making { text, owners, .. } = making;
    let owners = owners.into_iter().map(|owner| full(&owner, name)).collect();
    Zone { name: name.to_owned(), text, owners, is_signed: number.is_multiple_of(2) }
}

fn full(owner: &str, zone: &str) -> String {
    if owner == "@" { zone.to_owned() } else { format!("{owner}.{zone}") }
}

impl Making<'_> {
    fn add(&mut self, owner: &str, record: &str) {
        writeln!(self.text, "{owner} {record}").unwrap();
        self.owners.insert(owner.to_owned());
    }

    /// A random name of one to four labels.
    fn name(&mut self) -> String {
        let labels = 1 + self.dice.below(4);
        let label = |dice: &mut Dice| *dice.pick(&["a", "b", "c", "d", "Ee"]);
        let labels: Vec<&str> = (0..labels).map(|_| label(self.dice)).collect();
        labels.join(".")
    }

    fn hosts(&mut self) {
        for _ in 0..18 {
            let name = self.name();
            self.data(&name);
        }
    }

    /// Adds records of one to three types; a name may occur several times.
    fn data(&mut self, name: &str) {
        for _ in 0..1 + self.dice.below(3) {
            let number = self.dice.below(250);
            let record = match self.dice.below(6) {
                0 | 1 => format!("A 192.0.2.{number}"),
                2 => format!("AAAA 2001:db8::{number:x}"),
                3 => format!("TXT \"t{number}\""),
                4 => format!("SRV 0 {number} 53 mail"),
                _ => format!("MX {number} mail"),
            };
            self.add(name, &record);
        }
    }

    fn wildcards(&mut self) {
        for _ in 0..4 {
            let name = format!("*.{}", self.name());
            self.data(&name);
        }
        let target = self.name();
        self.add("*.alias", &format!("CNAME {target}"));
        self.add("under.alias", "TXT \"hides the wildcard\"");
        self.add("x.ent.alias", "TXT \"makes one that is empty\"");
        self.add("*.circle", "CNAME x.circle");
    }

    fn cuts(&mut self) {
        self.add("cut0", "NS ns.cut0");
        self.add("cut0", "NS ns2.cut0");
        self.add("ns.cut0", "A 192.0.2.50");
        self.add("ns2.cut0", "AAAA 2001:db8::50");
        self.add("occluded.cut0", "TXT \"o\"");
        self.add("*.cut0", "A 192.0.2.66");
        self.add("cut1", "NS ns.far.example.");
        self.add("cut2", "NS ns.cut2");
        self.add("ns.cut2", "A 192.0.2.51");
        self.add("cut2", &format!("DS 12345 8 2 {:064}", 1));
        self.add("x.y.cut3", "NS ns.cut0");
        for number in 0..9 {
            self.add("wide", &format!("NS n{number}.wide"));
            self.add(&format!("n{number}.wide"), &format!("A 192.0.2.{number}"));
        }
    }

    fn large(&mut self) {
        for number in 0..20 {
            self.add("long", &format!("TXT \"{number:0>100}\""));
            self.add("many", &format!("MX {number} n{number}.many"));
            self.add(&format!("n{number}.many"), &format!("A 192.0.2.{number}"));
        }
        for number in 0..100 {
            self.add("addresses", &format!("A 192.0.2.{number}"));
        }
    }

    fn aliases(&mut self) {
        for number in 0..2 {
            let target = self.target();
            self.add(&format!("dn{number}"), &format!("DNAME {target}"));
        }
        self.add("dn2", "TXT \"beside a DNAME\"");
        self.add("dn2", "DNAME dn0");
        let label = "l".repeat(60);
        self.add("far", &format!("DNAME {label}.{label}.{label}"));
        for number in 0..14 {
            let target = self.target();
            self.add(&format!("c{number}"), &format!("CNAME {target}"));
        }
        for number in 0..8 {
            self.add(&format!("k{number}"), &format!("CNAME k{}", number + 1));
        }
        self.add("k8", "A 192.0.2.8");
        self.add("loop", "CNAME loop2");
        self.add("loop2", "CNAME loop");
    }

    /// The target of an alias: any name.
    fn target(&mut self) -> String {
        let owners: Vec<&String> = self.owners.iter().collect();
        let some = (*self.dice.pick(&owners)).clone();
        let name = self.name();
        let zone = self.dice.below(ZONES - 1);
        match self.dice.below(9) {
            0..=2 => some,
            3 => name,
            4 => format!("x.{}", some.trim_start_matches("*.").trim_start_matches('@')),
            5 => format!("{name}.dn0"),
            6 => format!("x{}.alias", self.dice.below(9)),
            7 if !self.zone.starts_with("kid") => format!("{name}.z{zone}.test."),
            7 => "nowhere".to_owned(),
            _ => format!("{name}.unserved.example."),
        }
        .trim_end_matches("x.")
        .to_owned()
    }
}

/// Questions about existing names, and about names above, below and beside them.
pub(super) fn questions(dice: &mut Dice, zones: &[Zone]) -> Vec<Question> {
    let mut names = BTreeSet::new();
    for zone in zones {
        for owner in &zone.owners {
            names.insert((owner.clone(), zone.is_signed));
            let mut above = owner.as_str();
            while let Some((_, rest)) = above.split_once('.').filter(|_| above != zone.name) {
                names.insert((rest.to_owned(), zone.is_signed));
                above = rest;
            }
            let below = owner.replace("*.", "");
            for more in ["x", "a", "x.y", "*", "a.b"] {
                if dice.below(2) == 0 {
                    names.insert((format!("{more}.{below}"), zone.is_signed));
                }
            }
        }
        let long = ["m".repeat(50), "n".repeat(50)].join(".");
        names.insert((format!("{long}.far.{}", zone.name), zone.is_signed));
    }
    names.retain(|(name, _)| name.len() < 250 && name.ends_with(".test"));
    let mut questions = BTreeSet::new();
    for (name, is_signed) in names {
        for _ in 0..5 {
            let is_odd = is_signed && dice.below(8) == 0;
            let rtype = *dice.pick(if is_odd { &OF_SIGNED[..] } else { &RTYPES });
            let dnssec_ok = is_signed && dice.below(3) > 0;
            questions.insert(Question { name: name.clone(), rtype, dnssec_ok });
        }
    }
    questions.into_iter().collect()
}
