//! Parser of scenarios.
//!
//! A scenario begins with comment lines about its lesson, followed by a `corefile` and the steps,
//! one per line. Blocks are indented: the Corefile, the steps `in one turn`, and steps repeated
//! `for n from 1 to 9`, where `{n}` is the number. Every error has its line.

use super::ask::{Ask, Heard, Names};
use super::keeper::Manner;
use super::say::{LengthMax, Lints, Said};
use super::words::{Problem, bytes_of, duration, number, parts, unknown};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) corefile: String,
    pub(crate) lines: Vec<Line>,
}

/// A step and its line.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) number: usize,
    pub(crate) step: Step,
}

/// An error and its line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) line: usize,
    pub(crate) problem: Problem,
}

/// An action or an expectation.
#[derive(Debug)]
pub(crate) enum Step {
    Asks { client: usize, ask: Box<Ask> },
    Sends { client: usize, packet: Vec<u8> },
    Told { client: usize, said: Said, length_max: LengthMax },
    ToldNothing { client: usize },
    ClosesConnection { client: usize },
    ConnectionIs { client: usize, open: bool },
    Gets { whom: Whom, heard: Heard, names: Names },
    Answers { query: String, said: Said, odd: Lints },
    Garbage { query: String, packet: Vec<u8> },
    Refuses { query: String },
    EndsConnection { query: String },
    Becomes { upstream: SocketAddr, mode: Mode },
    Probed { upstream: SocketAddr, manner: Manner },
    HasProbes { upstream: SocketAddr, count: u64 },
    IsDown { upstream: SocketAddr, down: bool },
    HasGot { upstream: SocketAddr, count: RangeInclusive<u64> },
    After(Duration),
    Within(Duration),
    NothingFor(Duration),
    Pool { upstream: SocketAddr, tcp: bool, counts: Counts<PoolCount> },
    Counted(Counts<Count>),
    InOneTurn(Vec<Line>),
    Stop,
}

/// Expected ranges of counters.
pub(crate) type Counts<T> = Vec<(RangeInclusive<u64>, T)>;

/// The upstream that receives a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    This(SocketAddr),
    Any,
    /// Any but that of the last such step.
    Another,
}

/// Result of dials to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Connections are established at once.
    Connects,
    /// Dials get no reply.
    DoesNotConnect,
    /// Dials are refused.
    RefusesToConnect,
    /// No TCP or UDP socket can be opened.
    CannotBeReached,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PoolCount {
    Connections,
    Opened,
    Reused,
    Shared,
    Expired,
    Aged,
    Surplus,
    Broken,
    Renewed,
    Moved,
    Unmoved,
    AskedAgain,
    Limited,
}

/// Counters other than those of replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    TooShort,
    NoQuery,
    PortZero,
    ReplyNotSent,
    Malformed,
    Unmatched,
    Repeated,
    WrongQuestion,
    Coalesced,
    Overloaded,
    Rejected,
    AllDown,
}

const POOL_COUNTS: [(&str, PoolCount); 13] = [
    ("connections", PoolCount::Connections),
    ("opened", PoolCount::Opened),
    ("reused", PoolCount::Reused),
    ("shared", PoolCount::Shared),
    ("expired", PoolCount::Expired),
    ("aged", PoolCount::Aged),
    ("surplus", PoolCount::Surplus),
    ("broken", PoolCount::Broken),
    ("renewed", PoolCount::Renewed),
    ("moved", PoolCount::Moved),
    ("unmoved", PoolCount::Unmoved),
    ("asked again", PoolCount::AskedAgain),
    ("limited", PoolCount::Limited),
];

pub(crate) const COUNTS: [(&str, Count); 12] = [
    ("queries too short", Count::TooShort),
    ("queries that are responses", Count::NoQuery),
    ("queries from port 0", Count::PortZero),
    ("replies not sent", Count::ReplyNotSent),
    ("responses malformed", Count::Malformed),
    ("responses unmatched", Count::Unmatched),
    ("responses repeated", Count::Repeated),
    ("responses to another question", Count::WrongQuestion),
    ("queries coalesced", Count::Coalesced),
    ("queries turned away", Count::Overloaded),
    ("queries over max_concurrent", Count::Rejected),
    ("times all upstreams down", Count::AllDown),
];

impl Script {
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let fail = |line, problem: &str| Failure { line, problem: problem.into() };
        if !text.starts_with("# ") {
            return Err(fail(1, "the scenario does not begin with what it shows"));
        }
        let raw: Vec<Raw> = text.lines().zip(1..).filter_map(Raw::of).collect();
        let Some((head, rest)) = raw.split_first().filter(|(head, _)| head.text == "corefile")
        else {
            return Err(fail(1, "the first step is not `corefile`"));
        };
        let (body, rest) = split_block(head, rest)?;
        let corefile = body.iter().fold(String::new(), |text, line| text + &line.text + "\n");
        let lines = steps(rest)?;
        Ok(Self { corefile, lines })
    }
}

/// A line that is not empty, without its comment.
#[derive(Clone, Debug)]
struct Raw {
    number: usize,
    indent: usize,
    text: String,
}

impl Raw {
    fn of((line, number): (&str, usize)) -> Option<Self> {
        let line = if line.starts_with('#') { "" } else { line };
        let line = line.split_once(" #").map_or(line, |(line, _)| line);
        let text = line.trim();
        let indent = line.len() - line.trim_start().len();
        (!text.is_empty()).then(|| Self { number, indent, text: text.to_owned() })
    }

    fn fail(&self, problem: impl Into<Problem>) -> Failure {
        Failure { line: self.number, problem: problem.into() }
    }
}

/// The lines of a head's block, and the lines after it.
fn split_block<'r>(head: &Raw, rest: &'r [Raw]) -> Result<(&'r [Raw], &'r [Raw]), Failure> {
    let len = rest.iter().take_while(|line| line.indent > head.indent).count();
    if len == 0 {
        return Err(head.fail(format!("nothing is indented below `{}`", head.text)));
    }
    Ok(rest.split_at(len))
}

fn steps(mut rest: &[Raw]) -> Result<Vec<Line>, Failure> {
    let mut lines = Vec::new();
    while let Some((head, behind)) = rest.split_first() {
        let words: Vec<&str> = head.text.split_whitespace().collect();
        rest = behind;
        match words[..] {
            ["in", "one", "turn"] => {
                let (body, behind) = split_block(head, behind)?;
                lines.push(Line { number: head.number, step: Step::InOneTurn(steps(body)?) });
                rest = behind;
            }
            ["for", name, "from", first, "to", last] => {
                let (body, behind) = split_block(head, behind)?;
                let number = |word| number::<usize>(word).map_err(|wrong| head.fail(wrong));
                for value in number(first)?..=number(last)? {
                    lines.extend(steps(&with_value(body, name, value))?);
                }
                rest = behind;
            }
            _ => {
                let step = step(&head.text, &words).map_err(|wrong| head.fail(wrong))?;
                lines.push(Line { number: head.number, step });
            }
        }
    }
    Ok(lines)
}

fn with_value(body: &[Raw], name: &str, value: usize) -> Vec<Raw> {
    let place = format!("{{{name}}}");
    let text = |line: &Raw| line.text.replace(&place, &value.to_string());
    body.iter().map(|line| Raw { text: text(line), ..line.clone() }).collect()
}

fn step(text: &str, words: &[&str]) -> Result<Step, Problem> {
    Ok(match words {
        ["client", client, verb, ..] => {
            client_step(number(client)?, verb, behind(text, 3), &words[3..])?
        }
        ["upstream", "answers", query, ..] => {
            let (said, odd) = Said::by_upstream(behind(text, 3))?;
            Step::Answers { query: (*query).to_owned(), said, odd }
        }
        ["upstream", "sends", packet, "to", query] => {
            Step::Garbage { query: (*query).to_owned(), packet: bytes_of(packet)? }
        }
        ["upstream", "refuses", query] => Step::Refuses { query: (*query).to_owned() },
        ["upstream", "closes" | "resets", "the", "connection", "of", query] => {
            Step::EndsConnection { query: (*query).to_owned() }
        }
        ["upstream", address, "gets", ..] => {
            let (heard, names) = Heard::parse(behind(text, 3))?;
            Step::Gets { whom: Whom::This(upstream(address)?), heard, names }
        }
        [whom @ ("some" | "another"), "upstream", "gets", ..] => {
            let (heard, names) = Heard::parse(behind(text, 3))?;
            let whom = if *whom == "some" { Whom::Any } else { Whom::Another };
            Step::Gets { whom, heard, names }
        }
        ["upstream", address, verb @ ..] => {
            upstream_step(upstream(address)?, verb)?.ok_or_else(|| unknown(words))?
        }
        ["after", time] => Step::After(duration(time)?),
        ["within", time] => Step::Within(duration(time)?),
        ["nothing", "happens", "for", time] => Step::NothingFor(duration(time)?),
        ["the", "pool", "of", address, "over", transport @ ("udp" | "tcp"), "has", ..] => {
            let counts = counts(behind(text, 7), &POOL_COUNTS)?;
            Step::Pool { upstream: upstream(address)?, tcp: *transport == "tcp", counts }
        }
        ["the", "connection", "of", "client", client, "is", state @ ("open" | "closed")] => {
            Step::ConnectionIs { client: number(client)?, open: *state == "open" }
        }
        ["counted:", ..] => Step::Counted(counts(behind(text, 1), &COUNTS)?),
        ["stop"] => Step::Stop,
        words => return Err(unknown(words)),
    })
}

fn client_step(client: usize, verb: &str, phrase: &str, words: &[&str]) -> Result<Step, Problem> {
    Ok(match (verb, words) {
        ("asks", _) => Step::Asks { client, ask: Box::new(Ask::parse(phrase)?) },
        ("sends", [packet]) => Step::Sends { client, packet: bytes_of(packet)? },
        ("gets", ["nothing"]) => Step::ToldNothing { client },
        ("gets", _) => {
            let (said, length_max) = Said::to_client(phrase)?;
            Step::Told { client, said, length_max }
        }
        ("closes", ["its", "connection"]) => Step::ClosesConnection { client },
        _ => return Err(format!("a client cannot `{verb} {phrase}`")),
    })
}

/// Returns the new state of an upstream; `None` if the word is unknown.
fn upstream_step(upstream: SocketAddr, words: &[&str]) -> Result<Option<Step>, Problem> {
    let becomes = |mode| Step::Becomes { upstream, mode };
    let probed = |manner| Step::Probed { upstream, manner };
    Ok(Some(match words {
        ["connects"] => becomes(Mode::Connects),
        ["does", "not", "connect"] => becomes(Mode::DoesNotConnect),
        ["refuses", "to", "connect"] => becomes(Mode::RefusesToConnect),
        ["cannot", "be", "reached"] => becomes(Mode::CannotBeReached),
        ["answers", "probes"] => probed(Manner::Answered),
        ["ignores", "probes"] => probed(Manner::Ignored),
        ["refuses", "probes"] => probed(Manner::Refused),
        ["is", state @ ("up" | "down")] => Step::IsDown { upstream, down: *state == "down" },
        ["has", "had", count, "probe" | "probes"] => {
            Step::HasProbes { upstream, count: number(count)? }
        }
        ["has", "got", count, "query" | "queries"] => {
            Step::HasGot { upstream, count: number(count)?..=number(count)? }
        }
        ["has", "got", least, "to", most, "queries"] => {
            Step::HasGot { upstream, count: number(least)?..=number(most)? }
        }
        _ => return Ok(None),
    }))
}

/// `COUNT NAME, LEAST to MOST NAME…`
fn counts<T: Copy>(phrase: &str, known: &[(&str, T)]) -> Result<Counts<T>, Problem> {
    let count = |part: &[&str]| {
        let (least, most, name) = match part {
            [least, "to", most, name @ ..] => (number(least)?, number(most)?, name.join(" ")),
            [count, name @ ..] => (number(count)?, number(count)?, name.join(" ")),
            [] => return Err("nothing is counted".into()),
        };
        let singular = |known: &str| {
            let one = known.replacen("ies ", "y ", 1).replacen("s ", " ", 1);
            one.replacen("that are responses", "that is a response", 1)
        };
        let is = |known: &str| {
            known == name || most == 1 && (singular(known) == name || known == format!("{name}s"))
        };
        let found = known.iter().find(|(known, _)| is(known));
        found
            .map(|(_, what)| (least..=most, *what))
            .ok_or_else(|| format!("nobody counts `{name}`"))
    };
    parts(phrase).iter().map(|part| count(part)).collect()
}

/// The text after this number of words.
fn behind(text: &str, words: usize) -> &str {
    let mut rest = text;
    for _ in 0..words {
        rest = rest.trim_start();
        rest = rest.find(char::is_whitespace).map_or("", |end| &rest[end..]);
    }
    rest.trim()
}

/// `IP` or `IP:PORT`
fn upstream(word: &str) -> Result<SocketAddr, Problem> {
    let address = word.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53));
    address.or_else(|_| word.parse()).map_err(|_| format!("`{word}` is no address"))
}
