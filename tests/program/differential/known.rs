//! Known differences, each with its reason.
//!
//! A difference concerns one aspect of an answer. The first row of the table that matches it is its
//! explanation.

use super::ask::{Answer, Record};
use super::zones::{A, AAAA, ANY, CNAME, DNAME, NS, NSEC, Question, RRSIG};

const SERVFAIL: u8 = 2;
const NOERROR: u8 = 0;

/// The other server's software.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Maker {
    Nsd,
    Named,
}

/// A part of an answer that is compared separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aspect {
    Code,
    Authoritative,
    Answer,
    Authority,
    Additional,
}

/// A question with both answers.
pub(super) struct Case<'a> {
    pub(super) question: &'a Question,
    pub(super) maker: Maker,
    pub(super) ours: &'a Answer,
    pub(super) theirs: &'a Answer,
}

/// A row of the table.
pub(super) struct Known {
    aspects: &'static [Aspect],
    pub(super) what: &'static str,
    pub(super) why: &'static str,
    explains: fn(&Case<'_>) -> bool,
}

use Aspect::{Additional, Answer as Answers, Authoritative, Authority, Code};

pub(super) const TABLE: [Known; 8] = [
    Known {
        aspects: &[Code, Answers, Authority, Authoritative, Additional],
        what: "aliases in a circle are SERVFAIL here, and NOERROR at nsd",
        why: "RFC 1034 3.6.2: loops are an error; named does the same",
        explains: |case| {
            case.maker == Maker::Nsd
                && (case.ours.rcode, case.theirs.rcode) == (SERVFAIL, NOERROR)
                && is_circle(case.ours)
        },
    },
    Known {
        aspects: &[Code, Answers, Authority, Authoritative, Additional],
        what: "named stops at an alias that leaves the zone",
        why: "the other zone is one of this server's, too; nsd does the same",
        explains: |case| {
            case.maker == Maker::Named
                && has_chain(case.theirs)
                && is_beginning(&case.theirs.sections[0], &case.ours.sections[0])
                && leaves_zone(case.theirs)
        },
    },
    Known {
        aspects: &[Answers, Authority, Additional],
        what: "one RRset for QTYPE ANY, all of them at named, another one at nsd",
        why: "RFC 8482 4.1: any subset may be chosen",
        explains: |case| {
            let sections = [&case.ours.sections[0], &case.theirs.sections[0]];
            let is_set = |records: &Vec<Record>| {
                let data = records.iter().filter(|record| record.rtype != RRSIG);
                data.clone()
                    .all(|record| Some(record.rtype) == data.clone().next().map(|one| one.rtype))
            };
            case.question.rtype == ANY
                && case.ours.rcode == case.theirs.rcode
                && is_set(sections[0])
                && (case.maker == Maker::Nsd || is_beginning(sections[0], sections[1]))
        },
    },
    Known {
        aspects: &[Authority],
        what: "NS records of the apex beside an answer",
        why: "they are optional, and answers at the end of a chain, for NS or DS have none",
        explains: |case| {
            let without = |answer: &Answer| {
                let servers = |record: &&Record| record.rtype != NS && !signs(record, "ns ");
                answer.sections[1].iter().filter(servers).cloned().collect::<Vec<_>>()
            };
            !case.ours.sections[0].is_empty() && without(case.ours) == without(case.theirs)
        },
    },
    Known {
        aspects: &[Additional],
        what: "addresses beside an answer",
        why: "they are optional; those below a zone cut are not given here",
        explains: |case| {
            !is_referral(case.ours)
                && case.ours.sections[2].iter().all(|record| is_address(record, case.question))
        },
    },
    Known {
        aspects: &[Answers, Authority, Code],
        what: "QTYPE CNAME or ANY below a DNAME: nsd follows the alias for ANY, and has no NS",
        why: "the alias is the answer",
        explains: |case| {
            matches!(case.question.rtype, CNAME | ANY)
                && case.ours.sections[0].iter().any(|record| record.rtype == DNAME)
                && is_beginning(&case.ours.sections[0], &case.theirs.sections[0])
        },
    },
    Known {
        aspects: &[Answers, Authority, Authoritative, Additional],
        what: "named answers NSEC of a zone cut itself, and from the zone of the parent",
        why: "RFC 4035 3.1.4.1: only DS is asked of the parent, others get a referral; as nsd does",
        explains: |case| {
            let is_asked = case.maker == Maker::Named && case.question.rtype == NSEC;
            let at_cut = |record: &Record| is_at(record, &case.question.name);
            let theirs = &case.theirs.sections[0];
            let has_own = !theirs.is_empty() && theirs.iter().all(at_cut);
            is_asked && is_referral(case.ours) && has_own
        },
    },
    Known {
        aspects: &[Authority],
        what: "nsd leaves out proofs at the negative end of a chain",
        why: "RFC 4035 3.1.3.2 wants both NSEC records; named has them",
        explains: |case| {
            let is_proof = |record: &&Record| record.rtype == NSEC || signs(record, "nsec ");
            let surplus: Vec<_> = case.ours.sections[1]
                .iter()
                .filter(|record| !case.theirs.sections[1].contains(record))
                .collect();
            case.maker == Maker::Nsd
                && has_chain(case.ours)
                && surplus.iter().all(is_proof)
                && is_beginning(&case.theirs.sections[1], &case.ours.sections[1])
        },
    },
];

/// The aspects in which two answers differ.
pub(super) fn differences(case: &Case<'_>) -> Vec<Aspect> {
    let (ours, theirs) = (case.ours, case.theirs);
    let differs = |aspect: &Aspect| match aspect {
        Code => ours.rcode != theirs.rcode,
        Authoritative => ours.is_authoritative != theirs.is_authoritative,
        Answers => ours.sections[0] != theirs.sections[0],
        Authority => ours.sections[1] != theirs.sections[1],
        Additional => ours.sections[2] != theirs.sections[2],
    };
    let all = [Code, Authoritative, Answers, Authority, Additional];
    all.into_iter().filter(differs).collect()
}

/// The number of the row that explains a difference.
pub(super) fn explained(case: &Case<'_>, aspect: Aspect) -> Option<usize> {
    let explains = |known: &Known| known.aspects.contains(&aspect) && (known.explains)(case);
    TABLE.iter().position(explains)
}

fn signs(record: &Record, rtype: &str) -> bool {
    record.rtype == RRSIG && record.data.starts_with(rtype)
}

fn has_chain(answer: &Answer) -> bool {
    answer.sections[0].iter().any(|record| record.rtype == CNAME)
}

/// Returns true if the answer's aliases form a loop.
fn is_circle(answer: &Answer) -> bool {
    let aliases = answer.sections[0].iter().filter(|record| record.rtype == CNAME);
    let is_owner = |target: &str| answer.sections[0].iter().any(|record| is_at(record, target));
    let count = aliases.clone().count();
    count > 0 && aliases.clone().filter(|alias| is_owner(&alias.data)).count() == count
        || count >= 16
}

fn is_at(record: &Record, target: &str) -> bool {
    record.owner.trim_end_matches('.') == target.trim_end_matches('.')
}

/// Returns true if `whole` contains all of `part`.
fn is_beginning(part: &[Record], whole: &[Record]) -> bool {
    part.iter().all(|record| whole.contains(record))
}

/// Returns true if the last target of a chain is in another zone than its first owner.
fn leaves_zone(answer: &Answer) -> bool {
    let zone = |name: &str| {
        let labels: Vec<&str> = name.trim_end_matches('.').rsplitn(4, '.').collect();
        let has_kid = labels.get(2) == Some(&"kid");
        (
            labels.first().map(|label| label.to_string()),
            labels.get(1).map(|label| label.to_string()),
            has_kid,
        )
    };
    let aliases = answer.sections[0].iter().filter(|record| record.rtype == CNAME);
    aliases.clone().any(|alias| zone(&alias.owner) != zone(&alias.data))
}

/// Returns true if the authority section has the name servers of a zone cut.
fn is_referral(answer: &Answer) -> bool {
    let is_apex = |owner: &str| owner.matches('.').count() == 1 || owner.starts_with("kid.");
    answer.sections[1].iter().any(|record| record.rtype == NS && !is_apex(&record.owner))
}

fn is_address(record: &Record, question: &Question) -> bool {
    matches!(record.rtype, A | AAAA) || question.dnssec_ok && record.rtype == RRSIG
}
