//! Admission to the cache: decides which responses are cached, as which class, and for how long.
//!
//! [`judge`] sees a validated response and nothing of the stored entries. A response is cached
//! whole and under its question alone: no part of it answers another question (RFC 2181 §5.4.1). It
//! must reach the type that was asked for at the end of its aliases, or deny it with an SOA that
//! limits the time (RFC 2308 §5). A response that does neither lives for five seconds; failures as
//! long as configured (RFC 9520). A response that may differ the next time (truncated, refused,
//! signatures outside their validity, obtained without recursion) is not cached.

use super::aliases;
use crate::config::CacheClass;
use crate::engine::message::lifetime::{negative_ttl, ttl_at};
use crate::engine::message::response::Response;
use crate::engine::message::{Question, Rcode, Record, flags, put_u32, rtype, u16_at, u32_at};
use std::time::Duration;

/// Lifetime in seconds of a reply that neither answers nor denies.
const EMPTY_SECS: u32 = 5;
/// Maximum number of records of a response: each costs two extra bytes and a write per hit.
pub(super) const RECORDS_MAX: usize = 1_024;

/// Class of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum AnswerClass {
    /// An answer to the question.
    Positive,
    /// NOERROR, but neither an answer nor a denial: a referral, or nothing at all.
    Empty,
    /// There are no records of this type.
    NoData,
    /// There is no such name.
    NxDomain,
    /// No answer could be obtained.
    Failure,
}

impl AnswerClass {
    /// Returns the class with this number in the order above.
    #[inline(always)]
    pub(super) fn from_number(number: u8) -> Option<Self> {
        use AnswerClass::{Empty, Failure, NoData, NxDomain, Positive};
        [Positive, Empty, NoData, NxDomain, Failure].get(usize::from(number)).copied()
    }

    /// Returns true if it counts as a denial.
    pub fn is_denial(self) -> bool {
        !matches!(self, Self::Positive | Self::Empty)
    }
}

/// Decision on how a response is cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Class of the response.
    pub answer_class: AnswerClass,
    /// Time that it is cached.
    pub lifetime: Duration,
}

/// Reason why a response is not cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Refusal {
    /// Part of it is missing (TC).
    Truncated,
    /// A zone transfer.
    Transfer,
    /// The client asked without recursion, so another client might get more.
    NoRecursion,
    /// A code that says nothing about the name, or a failure together with an answer.
    Rcode,
    /// A chain of aliases without an end, or a denial, without an SOA.
    NoSoa,
    /// A signature in it has expired or is not valid yet.
    Signature,
    /// The TTL is zero.
    NoLifetime,
    /// A failure, and failures are not cached.
    Failure,
    /// The class is not cached for this name.
    Disabled,
    /// More records or bytes than one entry may have.
    TooLarge,
    /// A better stored answer is usable.
    Outranked,
}

impl Refusal {
    /// Returns true if a client is better served with an expired answer.
    pub(crate) fn is_no_answer(self) -> bool {
        use Refusal::{Failure, NoSoa, Outranked, Rcode, Signature};
        matches!(self, Failure | NoSoa | Outranked | Rcode | Signature)
    }
}

/// A validated response and its query's parameters.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// The upstream's packet.
    pub packet: &'a [u8],
    /// Layout of the response.
    pub response: &'a Response,
    /// True if our query asked for recursion.
    pub recursion: bool,
    /// Calendar time in seconds, for signatures.
    pub unix: u32,
}

/// Limits of lifetimes.
#[derive(Clone, Copy, Debug)]
pub struct Limits<'a> {
    /// Class settings of answers.
    pub(crate) success: &'a CacheClass,
    /// Class settings of denials.
    pub(crate) denial: &'a CacheClass,
    /// Lifetime of failures.
    pub(crate) servfail: Duration,
    /// Only answers are cached, for the maximum time whatever their TTLs.
    pub(crate) simple: bool,
}

impl Limits<'_> {
    /// The highest and lowest TTL: `(max, min)`.
    pub(super) fn ttls(&self, answer_class: AnswerClass) -> (u32, u32) {
        let class = if answer_class.is_denial() { self.denial } else { self.success };
        (class.ttl_max, if self.simple { 0 } else { class.ttl_min })
    }
}

/// Clamps a TTL to the bounds of its class; the upper one wins.
pub(super) fn clamp((max, min): (u32, u32), ttl: u32) -> u32 {
    ttl.max(min).min(max)
}

/// Decides whether a response is cached, as which class and for how long.
///
/// # Errors
/// The reason why it is not cached.
pub fn judge(received: &Received<'_>, limits: &Limits<'_>) -> Result<Admission, Refusal> {
    let Received { packet, response, recursion, unix } = *received;
    let question = Question::parse(packet).ok_or(Refusal::Rcode)?;
    if response.flags & flags::TC != 0 {
        return Err(Refusal::Truncated);
    }
    if [rtype::AXFR, rtype::IXFR].contains(&question.rtype) {
        return Err(Refusal::Transfer);
    }
    if !recursion {
        return Err(Refusal::NoRecursion);
    }
    if response.counts.iter().map(|count| usize::from(*count)).sum::<usize>() > RECORDS_MAX {
        return Err(Refusal::TooLarge);
    }
    let walked = Walked::over(packet, response, unix).ok_or(Refusal::Rcode)?;
    let answer_class = nature_of(packet, response, &question, &walked)?;
    let signed_for = walked.signed_for.ok_or(Refusal::Signature)?;
    let shortest = match answer_class {
        AnswerClass::Failure => {
            let lifetime = limits.servfail;
            let remembered = !lifetime.is_zero();
            return remembered
                .then_some(Admission { answer_class, lifetime })
                .ok_or(Refusal::Failure);
        }
        AnswerClass::Positive if limits.simple => limits.success.ttl_max,
        _ if limits.simple => return Err(Refusal::Disabled),
        AnswerClass::Empty => walked.ttl.min(EMPTY_SECS),
        AnswerClass::Positive => walked.ttl,
        AnswerClass::NoData | AnswerClass::NxDomain => walked.negative_ttl,
    };
    let secs = clamp(limits.ttls(answer_class), shortest).min(signed_for);
    if secs == 0 {
        return Err(Refusal::NoLifetime);
    }
    Ok(Admission { answer_class, lifetime: Duration::from_secs(secs.into()) })
}

/// Returns the class of a response by its code, its answer and its authority section.
fn nature_of(
    packet: &[u8],
    response: &Response,
    question: &Question,
    walked: &Walked,
) -> Result<AnswerClass, Refusal> {
    const NO_ERROR: u16 = Rcode::NoError as u16;
    const NX_DOMAIN: u16 = Rcode::NxDomain as u16;
    const SERV_FAIL: u16 = Rcode::ServFail as u16;
    const NOT_IMP: u16 = Rcode::NotImp as u16;
    let answers = response.counts[0];
    match response.rcode() {
        NO_ERROR if answers > 0 && aliases::reach(packet, response, question) => {
            Ok(AnswerClass::Positive)
        }
        NO_ERROR if walked.soa => Ok(AnswerClass::NoData),
        NO_ERROR if answers == 0 => Ok(AnswerClass::Empty),
        NX_DOMAIN if walked.soa => Ok(AnswerClass::NxDomain),
        NO_ERROR | NX_DOMAIN => Err(Refusal::NoSoa),
        SERV_FAIL | NOT_IMP if answers == 0 => Ok(AnswerClass::Failure),
        _ => Err(Refusal::Rcode),
    }
}

/// Result of one walk over all records.
struct Walked {
    /// The shortest TTL; without records the maximum.
    ttl: u32,
    /// The same, with the MINIMUM of SOA records.
    negative_ttl: u32,
    /// True if there is an SOA in the authority section.
    soa: bool,
    /// Seconds until the first signature expires; `None`: one is not valid now.
    signed_for: Option<u32>,
}

impl Walked {
    fn over(packet: &[u8], response: &Response, unix: u32) -> Option<Self> {
        let longest = u32::MAX;
        let mut walked =
            Self { ttl: longest, negative_ttl: longest, soa: false, signed_for: Some(longest) };
        let mut place = response.start;
        for (section, count) in response.counts.into_iter().enumerate() {
            for _ in 0..count {
                let record = Record::parse(packet, place)?;
                place = record.end;
                walked.ttl = walked.ttl.min(ttl_at(packet, record.fixed));
                walked.negative_ttl = walked.negative_ttl.min(negative_ttl(packet, &record));
                walked.soa |= section == 1 && record.rtype == rtype::SOA;
                if record.rtype == rtype::RRSIG {
                    let holds_for = signature_holds_for(&packet[record.data..record.end], unix);
                    let both = walked.signed_for.zip(holds_for);
                    walked.signed_for = both.map(|(one, other)| one.min(other));
                }
            }
        }
        Some(walked)
    }
}

/// Returns the remaining validity of a signature in seconds; `None`: it is not valid. The times are
/// compared as serial numbers (RFC 4034 §3.1.5).
fn signature_holds_for(data: &[u8], unix: u32) -> Option<u32> {
    let (expires, begins) = (u32_at(data, 8)?, u32_at(data, 12)?);
    let distance = |from: u32, to: u32| u32::try_from(to.wrapping_sub(from) as i32).ok();
    distance(begins, unix).and_then(|_| distance(unix, expires))
}

/// Bounds the TTLs of a reply that was not taken from the cache as if it was. `answer_class`: the
/// class by [`judge`], or `None` if it refused; then only the upper bound of answers applies.
pub(crate) fn bound_ttls(reply: &mut [u8], limits: &Limits<'_>, answer_class: Option<AnswerClass>) {
    let bounds =
        answer_class.map_or((limits.success.ttl_max, 0), |answer_class| limits.ttls(answer_class));
    let Some(question) = Question::parse(reply) else { return };
    let mut place = question.end();
    let count = |section: usize| u16_at(reply, 6 + 2 * section).map_or(0, u32::from);
    for _ in 0..(0..3).map(count).sum() {
        let Some(record) = Record::parse(reply, place) else { return };
        place = record.end;
        if record.rtype == rtype::OPT {
            continue;
        }
        let ttl = match answer_class {
            Some(answer_class) if answer_class.is_denial() => negative_ttl(reply, &record),
            _ => ttl_at(reply, record.fixed),
        };
        put_u32(reply, record.fixed + 4, clamp(bounds, ttl));
    }
}

#[cfg(test)]
mod tests {
    use super::{AnswerClass, Limits, Received, Refusal, bound_ttls, judge};
    use crate::config::Cache;
    use crate::engine::cache::tests::messages::{
        A, Made, PLAIN, UNIX, Written, a, cname, name, ns, rrsig, soa,
    };
    use crate::engine::message::lifetime::ttl_at;
    use crate::engine::message::{Record, flags, rtype};

    const NXDOMAIN: u16 = PLAIN | 3;

    /// AnswerClass and seconds of life.
    fn judged(settings: &Cache, made: &Made) -> Result<(AnswerClass, u64), Refusal> {
        let admission = judge(&made.received(), &limits(settings))?;
        Ok((admission.answer_class, admission.lifetime.as_secs()))
    }

    fn limits(settings: &Cache) -> Limits<'_> {
        let Cache { success, denial, servfail, .. } = settings;
        Limits { success, denial, servfail: *servfail, simple: settings.simple }
    }

    /// Judges a response to a question for the address of `w.test`, with the defaults.
    fn of(header: u16, records: &[Written]) -> Result<(AnswerClass, u64), Refusal> {
        judged(&Cache::default(), &Made::new("w.test", A, header, records))
    }

    /// Settings with these bounds for both classes.
    fn bounds(ttl_max: u32, ttl_min: u32) -> Cache {
        let mut settings = Cache::default();
        for class in [&mut settings.success, &mut settings.denial] {
            (class.ttl_max, class.ttl_min) = (ttl_max, ttl_min);
        }
        settings
    }

    #[test]
    fn an_answer_lives_as_long_as_its_shortest_ttl_in_any_section() {
        assert_eq!(of(PLAIN, &[a("w.test", 300)]), Ok((AnswerClass::Positive, 300)));
        let glue = (2, name("ns.test"), A, 60, vec![192, 0, 2, 9]);
        let all = [a("w.test", 900), ns("test", 70), glue];
        assert_eq!(of(PLAIN, &all), Ok((AnswerClass::Positive, 60)));
        assert_eq!(of(PLAIN, &[a("w.test", 900), ns("test", 40)]), Ok((AnswerClass::Positive, 40)));
    }

    #[test]
    fn the_bounds_raise_and_cut_and_the_upper_one_wins() {
        assert_eq!(of(PLAIN, &[a("w.test", 0)]), Ok((AnswerClass::Positive, 5)));
        assert_eq!(of(PLAIN, &[a("w.test", 1)]), Ok((AnswerClass::Positive, 5)));
        assert_eq!(of(PLAIN, &[a("w.test", 86_400)]), Ok((AnswerClass::Positive, 3_600)));
        let day = Made::new("w.test", A, PLAIN, &[a("w.test", 86_400)]);
        assert_eq!(judged(&bounds(86_400, 5), &day), Ok((AnswerClass::Positive, 86_400)));
        let none = Made::new("w.test", A, PLAIN, &[a("w.test", 0)]);
        assert_eq!(judged(&bounds(3, 5), &none), Ok((AnswerClass::Positive, 3)));
        assert_eq!(judged(&bounds(3_600, 0), &none), Err(Refusal::NoLifetime));
    }

    #[test]
    fn a_ttl_with_the_highest_bit_counts_as_zero() {
        assert_eq!(of(PLAIN, &[a("w.test", 1 << 31)]), Ok((AnswerClass::Positive, 5)));
        let longest = Made::new("w.test", A, PLAIN, &[a("w.test", i32::MAX as u32)]);
        let whole = judged(&bounds(u32::MAX, 0), &longest);
        assert_eq!(whole, Ok((AnswerClass::Positive, i32::MAX as u64)));
    }

    #[test]
    fn an_answer_reaches_its_type_at_the_end_of_its_aliases() {
        let chain = [cname("w.test", "X.test", 60), cname("x.TEST", "y.org", 50), a("Y.org", 40)];
        assert_eq!(of(PLAIN, &chain), Ok((AnswerClass::Positive, 40)));
        let mut turned = chain.clone();
        turned.reverse();
        assert_eq!(of(PLAIN, &turned), Ok((AnswerClass::Positive, 40)));
        let alias = Made::new("w.test", rtype::CNAME, PLAIN, &chain[..1]);
        assert_eq!(judged(&Cache::default(), &alias), Ok((AnswerClass::Positive, 60)));
        let any = Made::new("w.test", rtype::ANY, PLAIN, &chain[..1]);
        assert_eq!(judged(&Cache::default(), &any), Ok((AnswerClass::Positive, 60)));
    }

    #[test]
    fn aliases_without_a_target_are_a_denial_only_with_an_soa() {
        let broken = vec![cname("w.test", "x.test", 60), a("y.test", 60)];
        let looping = vec![cname("w.test", "x.test", 60), cname("x.test", "w.test", 60)];
        let two = vec![
            cname("w.test", "x.test", 60),
            cname("w.test", "y.test", 60),
            a("x.test", 60),
            a("y.test", 60),
        ];
        let alone = vec![cname("w.test", "x.test", 60)];
        let foreign = vec![a("v.test", 60)];
        for chain in [broken, looping, two, alone, foreign] {
            assert_eq!(of(PLAIN, &chain), Err(Refusal::NoSoa), "{chain:?}");
            let denied = [chain, vec![soa("test", 90, 90)]].concat();
            assert_eq!(of(PLAIN, &denied), Ok((AnswerClass::NoData, 60)), "{denied:?}");
        }
    }

    #[test]
    fn a_chain_longer_than_resolvers_follow_is_no_answer() {
        let chain = |len: usize| {
            let alias = |step| cname(&format!("n{step}.test"), &format!("n{}.test", step + 1), 60);
            let mut chain: Vec<_> = (0..len).map(alias).collect();
            chain.push(a(&format!("n{len}.test"), 60));
            chain.reverse();
            judged(&Cache::default(), &Made::new("n0.test", A, PLAIN, &chain))
        };
        assert_eq!(chain(16), Ok((AnswerClass::Positive, 60)));
        assert_eq!(chain(17), Err(Refusal::NoSoa));
    }

    #[test]
    fn a_denial_lives_as_long_as_its_soa_says_in_both_places() {
        for header in [PLAIN, NXDOMAIN] {
            let answer_class =
                if header == PLAIN { AnswerClass::NoData } else { AnswerClass::NxDomain };
            assert_eq!(of(header, &[soa("test", 3_600, 60)]), Ok((answer_class, 60)));
            assert_eq!(of(header, &[soa("test", 70, 900)]), Ok((answer_class, 70)));
            assert_eq!(of(header, &[soa("test", 9_000, 9_000)]), Ok((answer_class, 1_800)));
            assert_eq!(of(header, &[soa("test", 0, 0)]), Ok((answer_class, 5)));
        }
    }

    #[test]
    fn an_soa_beside_an_answer_does_not_limit_the_answer() {
        let records = [a("w.test", 300), soa("test", 600, 60)];
        assert_eq!(of(PLAIN, &records), Ok((AnswerClass::Positive, 300)));
    }

    #[test]
    fn a_name_that_does_not_exist_needs_an_soa() {
        assert_eq!(of(NXDOMAIN, &[]), Err(Refusal::NoSoa));
        assert_eq!(of(NXDOMAIN, &[ns("test", 60)]), Err(Refusal::NoSoa));
        let in_answer = (0, name("test"), rtype::SOA, 60, soa("test", 60, 60).4);
        assert_eq!(of(NXDOMAIN, &[in_answer]), Err(Refusal::NoSoa));
    }

    #[test]
    fn the_last_name_of_a_chain_may_not_exist() {
        let chain = [cname("w.test", "x.test", 40), soa("test", 60, 60)];
        assert_eq!(of(NXDOMAIN, &chain), Ok((AnswerClass::NxDomain, 40)));
    }

    #[test]
    fn referrals_and_empty_replies_live_for_five_seconds_within_the_bounds() {
        assert_eq!(of(PLAIN, &[ns("test", 900)]), Ok((AnswerClass::Empty, 5)));
        assert_eq!(of(PLAIN, &[]), Ok((AnswerClass::Empty, 5)));
        let empty = Made::new("w.test", A, PLAIN, &[]);
        assert_eq!(judged(&bounds(3, 0), &empty), Ok((AnswerClass::Empty, 3)));
        assert_eq!(judged(&bounds(60, 0), &empty), Ok((AnswerClass::Empty, 5)));
        assert_eq!(judged(&bounds(60, 20), &empty), Ok((AnswerClass::Empty, 20)));
    }

    #[test]
    fn failures_live_as_long_as_configured_whatever_the_bounds() {
        for code in [2, 4] {
            assert_eq!(of(PLAIN | code, &[]), Ok((AnswerClass::Failure, 5)));
            assert_eq!(of(PLAIN | code, &[a("w.test", 60)]), Err(Refusal::Rcode));
        }
        let mut settings = bounds(3, 1);
        settings.servfail = std::time::Duration::from_secs(300);
        let failed = Made::new("w.test", A, PLAIN | 2, &[]);
        assert_eq!(judged(&settings, &failed), Ok((AnswerClass::Failure, 300)));
        settings.servfail = std::time::Duration::ZERO;
        assert_eq!(judged(&settings, &failed), Err(Refusal::Failure));
    }

    #[test]
    fn other_codes_are_not_cached() {
        for code in [1, 5, 6, 9, 10] {
            assert_eq!(of(PLAIN | code, &[soa("test", 60, 60)]), Err(Refusal::Rcode));
        }
        let bad_cookie = Made::new("w.test", A, PLAIN | 7, &[]).with_opt(1, &[]);
        assert_eq!(judged(&Cache::default(), &bad_cookie), Err(Refusal::Rcode));
        // Extended codes: their lower bits alone would read as NOERROR.
        let bad_version = Made::new("w.test", A, PLAIN, &[a("w.test", 60)]).with_opt(1, &[]);
        assert_eq!(judged(&Cache::default(), &bad_version), Err(Refusal::Rcode));
    }

    #[test]
    fn truncated_responses_are_not_cached() {
        assert_eq!(of(PLAIN | flags::TC, &[a("w.test", 60)]), Err(Refusal::Truncated));
        assert_eq!(of(NXDOMAIN | flags::TC, &[soa("test", 60, 60)]), Err(Refusal::Truncated));
        assert_eq!(of(PLAIN | flags::TC | 2, &[]), Err(Refusal::Truncated));
    }

    #[test]
    fn zone_transfers_are_not_cached() {
        for transfer in [rtype::AXFR, rtype::IXFR] {
            let made = Made::new("w.test", transfer, PLAIN, &[soa("test", 60, 60)]);
            assert_eq!(judged(&Cache::default(), &made), Err(Refusal::Transfer));
        }
    }

    #[test]
    fn responses_without_recursion_are_not_cached() {
        let made = Made::new("w.test", A, PLAIN, &[a("w.test", 60)]);
        let received = Received { recursion: false, ..made.received() };
        let refused = judge(&received, &limits(&Cache::default()));
        assert_eq!(refused, Err(Refusal::NoRecursion));
    }

    #[test]
    fn a_signature_out_of_its_time_is_not_remembered() {
        let with =
            |begins, ends| of(PLAIN, &[a("w.test", 300), rrsig("w.test", 300, begins, ends)]);
        assert_eq!(with(UNIX - 10, UNIX + 1_000), Ok((AnswerClass::Positive, 300)));
        assert_eq!(with(UNIX + 1, UNIX + 1_000), Err(Refusal::Signature));
        assert_eq!(with(UNIX - 10, UNIX - 1), Err(Refusal::Signature));
        assert_eq!(with(UNIX - 10, UNIX), Err(Refusal::NoLifetime));
        assert_eq!(with(UNIX.wrapping_sub(1 << 30), UNIX.wrapping_add(1 << 30)).unwrap().1, 300);
    }

    #[test]
    fn an_answer_outlives_none_of_its_signatures() {
        let signature = rrsig("w.test", 300, UNIX - 10, UNIX + 20);
        assert_eq!(of(PLAIN, &[a("w.test", 300), signature]), Ok((AnswerClass::Positive, 20)));
    }

    #[test]
    fn responses_with_too_many_records_are_not_cached() {
        let many = vec![(0, vec![0xc0, 12], A, 60, vec![192, 0, 2, 1]); 1_025];
        assert_eq!(of(PLAIN, &many), Err(Refusal::TooLarge));
        assert_eq!(of(PLAIN, &many[1..]), Ok((AnswerClass::Positive, 60)));
    }

    #[test]
    fn replies_beside_the_cache_have_its_ttls() {
        let ttls = |header, records: &[Written], settings: &Cache, answer_class| {
            let mut reply = Made::new("w.test", A, header, records).with_opt(0x80, &[]).packet;
            bound_ttls(&mut reply, &limits(settings), answer_class);
            let made = Made::read(reply);
            let mut place = made.response.start;
            let next = |_| {
                let record = Record::parse(&made.packet, place).unwrap();
                place = record.end;
                ttl_at(&made.packet, record.fixed)
            };
            assert_eq!(made.response.opt.unwrap().rcode_high, 0x80, "the OPT is left alone");
            records.iter().map(next).collect::<Vec<_>>()
        };
        let settings = bounds(600, 5);
        let records = [a("w.test", 900), a("w.test", 2), ns("test", 60)];
        assert_eq!(ttls(PLAIN, &records, &settings, Some(AnswerClass::Positive)), [600, 5, 60]);
        assert_eq!(ttls(PLAIN, &records, &settings, None), [600, 2, 60]);
        let denial = [soa("test", 300, 30)];
        assert_eq!(ttls(NXDOMAIN, &denial, &settings, Some(AnswerClass::NxDomain)), [30]);
    }
}
