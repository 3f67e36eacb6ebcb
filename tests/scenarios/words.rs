//! Vocabulary shared by queries and responses, with conversion in both directions.
//!
//! A phrase is a list of words separated by commas. This file holds the common parts of
//! [`super::ask`] and [`super::say`]: names of types, classes and response codes, EDNS options,
//! durations. An unknown word is an error that names the word.

use domain::base::iana::{Class, Rtype};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

/// An error in a scenario, or a deviation from it.
pub(crate) type Problem = String;

/// EDNS options that scenarios can mention.
pub(crate) const ECS: u16 = 8;
pub(crate) const COOKIE: u16 = 10;
pub(crate) const KEEPALIVE: u16 = 11;
pub(crate) const PADDING: u16 = 12;
pub(crate) const EDE: u16 = 15;

/// UDP size advertised to upstreams and clients.
pub(crate) const OUR_SIZE: u16 = 1232;

const RCODES: [(&str, u16); 12] = [
    ("NOERROR", 0),
    ("FORMERR", 1),
    ("SERVFAIL", 2),
    ("NXDOMAIN", 3),
    ("NOTIMP", 4),
    ("REFUSED", 5),
    ("YXDOMAIN", 6),
    ("NOTAUTH", 9),
    ("BADVERS", 16),
    ("BADKEY", 17),
    ("BADTIME", 18),
    ("BADCOOKIE", 23),
];

/// A question, as spelt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) name: String,
    pub(crate) rtype: u16,
    pub(crate) class: u16,
}

impl Question {
    /// `NAME TYPE [CLASS]`
    pub(crate) fn parse(words: &[&str]) -> Result<Self, Problem> {
        let (name, rtype, class) = match words {
            [name, rtype] => (name, rtype, "IN"),
            [name, rtype, class] => (name, rtype, *class),
            _ => return Err(format!("`{}` is not NAME TYPE [CLASS]", words.join(" "))),
        };
        if !name.ends_with('.') {
            return Err(format!("the name `{name}` does not end in a dot"));
        }
        let class = Class::from_str(class).map_err(|_| format!("`{class}` is no class"))?;
        Ok(Self { name: (*name).to_owned(), rtype: rtype_of(rtype)?, class: class.to_int() })
    }

    /// The question in wire format.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = super::common::wire::wire_name(&self.name);
        bytes.extend([self.rtype.to_be_bytes(), self.class.to_be_bytes()].concat());
        bytes
    }
}

impl std::fmt::Display for Question {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.name, kind_name(self.rtype))?;
        if self.class != 1 {
            write!(f, " {}", Class::from_int(self.class))?;
        }
        Ok(())
    }
}

/// The parts of a phrase.
pub(crate) fn parts(phrase: &str) -> Vec<Vec<&str>> {
    phrase.split(',').map(|part| part.split_whitespace().collect()).collect()
}

pub(crate) fn unknown(words: &[&str]) -> Problem {
    format!("`{}` is not understood", words.join(" "))
}

pub(crate) fn number<T: FromStr>(word: &str) -> Result<T, Problem> {
    word.parse().map_err(|_| format!("`{word}` is no number that fits"))
}

pub(crate) fn rtype_of(word: &str) -> Result<u16, Problem> {
    Rtype::from_str(word).map(Rtype::to_int).map_err(|_| format!("`{word}` is no type"))
}

pub(crate) fn kind_name(rtype: u16) -> String {
    Rtype::from_int(rtype).to_string()
}

pub(crate) fn rcode_of(word: &str) -> Result<u16, Problem> {
    let known = RCODES.iter().find(|(name, _)| *name == word);
    known.map(|(_, code)| *code).ok_or_else(|| format!("`{word}` is no response code"))
}

pub(crate) fn rcode_name(rcode: u16) -> String {
    let known = RCODES.iter().find(|(_, code)| *code == rcode);
    known.map_or_else(|| format!("RCODE{rcode}"), |(name, _)| (*name).to_owned())
}

/// `500us`, `200ms`, `1.5s`, `2m`, `1h`
pub(crate) fn duration(word: &str) -> Result<Duration, Problem> {
    let unit = word.find(|letter: char| letter.is_ascii_alphabetic()).unwrap_or(word.len());
    let (count, unit) = word.split_at(unit);
    let nanos = match unit {
        "ns" => 1.0,
        "us" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" => 60e9,
        "h" => 3600e9,
        _ => return Err(format!("`{word}` is no duration")),
    };
    let count: f64 = number(count)?;
    Ok(Duration::from_nanos((count * nanos).round() as u64))
}

/// Parses pairs of hexadecimal digits.
pub(crate) fn bytes_of(word: &str) -> Result<Vec<u8>, Problem> {
    let pair =
        |start| word.get(start..start + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let bytes: Option<Vec<u8>> = (0..word.len()).step_by(2).map(pair).collect();
    bytes.ok_or_else(|| format!("`{word}` is not hexadecimal"))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// An EDNS option: code and value.
pub(crate) type EdnsOption = (u16, Vec<u8>);

/// `ADDRESS/PREFIX` as the value of a client-subnet option.
pub(crate) fn subnet(word: &str) -> Result<EdnsOption, Problem> {
    let wrong = || format!("`{word}` is no ADDRESS/PREFIX");
    let (address, prefix) = word.split_once('/').ok_or_else(wrong)?;
    let prefix: u8 = number(prefix)?;
    let (family, address) = match address.parse().map_err(|_| wrong())? {
        IpAddr::V4(address) => (1, address.octets().to_vec()),
        IpAddr::V6(address) => (2, address.octets().to_vec()),
    };
    let kept = address.get(..usize::from(prefix).div_ceil(8)).ok_or_else(wrong)?;
    Ok((ECS, [&[0, family, prefix, 0], kept].concat()))
}

/// An option in words.
pub(crate) fn option_words((code, value): &EdnsOption) -> String {
    match (*code, &value[..]) {
        (ECS, [0, family @ 1..=2, prefix, 0, kept @ ..]) if kept.len() <= 16 => {
            let mut address = [0; 16];
            address[..kept.len()].copy_from_slice(kept);
            let short = *address.first_chunk::<4>().expect("four of sixteen");
            let address = if *family == 1 { IpAddr::from(short) } else { IpAddr::from(address) };
            format!("ecs {address}/{prefix}")
        }
        (COOKIE, _) => "cookie".to_owned(),
        (PADDING, _) => "padding".to_owned(),
        (KEEPALIVE, []) => "keepalive".to_owned(),
        (KEEPALIVE, [high, low]) => {
            let units = u16::from_be_bytes([*high, *low]);
            format!("keepalive {}s", f64::from(units) / 10.0)
        }
        (EDE, [high, low, text @ ..]) => {
            let code = u16::from_be_bytes([*high, *low]);
            format!("ede {code} {}", String::from_utf8_lossy(text)).trim_end().to_owned()
        }
        (code, value) => format!("option {code} {}", hex(value)),
    }
}

/// Parses an EDNS option; `None` if the words are something else.
pub(crate) fn option_of(words: &[&str]) -> Result<Option<EdnsOption>, Problem> {
    Ok(Some(match words {
        ["ecs", subnet_word] => subnet(subnet_word)?,
        ["cookie"] => (COOKIE, b"a cookie".to_vec()),
        ["padding"] => (PADDING, vec![0; 64]),
        ["keepalive"] => (KEEPALIVE, Vec::new()),
        ["keepalive", limit] => {
            let units = duration(limit)?.as_millis() / 100;
            let units = u16::try_from(units).map_err(|_| format!("`{limit}` is too long"))?;
            (KEEPALIVE, units.to_be_bytes().to_vec())
        }
        ["ede", code, text @ ..] => {
            let code = number::<u16>(code)?.to_be_bytes();
            (EDE, [&code, text.join(" ").as_bytes()].concat())
        }
        ["option", code, value @ ..] if value.len() < 2 => {
            (number(code)?, bytes_of(value.first().unwrap_or(&""))?)
        }
        _ => return Ok(None),
    }))
}

/// The options in wire format.
pub(crate) fn options_bytes(options: &[EdnsOption]) -> Vec<u8> {
    let option = |(code, value): &EdnsOption| {
        let len = value.len() as u16;
        [&code.to_be_bytes()[..], &len.to_be_bytes(), value].concat()
    };
    options.iter().flat_map(option).collect()
}
