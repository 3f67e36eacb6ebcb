//! `cache [TTL] [ZONES…] [{ OPTION… }]`: how it is read.
//!
//! One stanza a server block. Of an option written twice the last holds, with a warning;
//! so they are of zones that look like times, of numbers that look like others, and of times that
//! do harm. `lru` is a mode of its own and stands alone. Single words are read by `values`, and
//! what has to do with asking again by `refresh`.

use super::super::super::context::Context;
use super::super::super::error::DirectiveError;
use super::super::super::{Name, duration, keys, lints, numbers};
use super::super::once;
use super::values::{
    BYTES_MIN, CLASSES, read_bytes, read_capacity, read_class_name, read_seconds, read_ttl,
};
use super::{CACHED_BYTES, Cache, CacheClass, ServeStale, refresh};
use crate::corefile::{Cursor, DIRECTIVES, ParseError, Place, Token, did_you_mean};

const OPTIONS: [&str; 10] = [
    "success",
    "denial",
    "capacity_bytes",
    "prefetch",
    "serve_stale",
    "serve_stale_policy",
    "servfail",
    "disable",
    "keepttl",
    "lru",
];
/// Minimum that the reference keeps of a class: what a CAPACITY of nothing or less stands for.
const CAPACITY_LEAST: usize = 1_024;
/// A longer TTL is of no use (RFC 8767 §4), and a denial's does harm (RFC 2308 §5).
const TTL_USEFUL: [(u32, &str); 2] = [
    (604_800, "a TTL above 604800 (a week) has no effect (RFC 8767 section 4)"),
    (
        86_400,
        "with a TTL above 86400 (a day), new names stay unknown for a long time (RFC 2308 section \
         5)",
    ),
];
/// The simple mode's.
const SIMPLE: (usize, u32) = (10_000, 5);

/// Reads the `cache` stanza of one server block.
pub(in super::super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Option<Cache>, DirectiveError> {
    let Some(stanza) = cursor.stanza() else { return Ok(None) };
    let mut options = Options::new(stanza);
    let words = cursor.rest();
    let zones = options.read_arguments(&words)?;
    let names = read_zones(zones, options.ttl_written, context)?;
    while let Some(property) = cursor.block() {
        options.exclude(property)?;
        options.read(property, cursor, context)?;
    }
    once(cursor)?;
    let cache = options.finish(context)?;
    if names.is_empty() && !zones.is_empty() {
        context.warn(&stanza.place, "plugin/cache: all zones are ignored: nothing is cached");
        return Ok(None);
    }
    Ok(Some(Cache { zones: names, ..cache }))
}

/// Returns the zones that `words` name. Invalid ones are ignored with a warning.
fn read_zones(
    words: &[&Token],
    ttl_written: bool,
    context: &mut Context<'_>,
) -> Result<Vec<Name>, DirectiveError> {
    let mut names = Vec::new();
    for word in words {
        match keys::parse(&word.text) {
            Ok(zone) => {
                if let Some(hint) = hint(&word.text, ttl_written) {
                    let message = format!("plugin/cache: zone '{}': {hint}", word.text);
                    context.warn(&word.place, message);
                }
                names.extend(counted(word, zone.names, context)?);
            }
            Err(reason) => {
                context.warn(&word.place, format!("plugin/cache: zone is ignored: {reason}"));
            }
        }
    }
    Ok(names)
}

fn counted(
    word: &Token,
    names: Vec<Name>,
    context: &mut Context<'_>,
) -> Result<Vec<Name>, DirectiveError> {
    context.count_zones(names.len()).map_err(|message| DirectiveError::value(word, message))?;
    Ok(names)
}

/// Returns a zone's probable meaning.
fn hint(text: &str, ttl_written: bool) -> Option<String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let unit = &text[digits..];
    let is_time = digits > 0 && unit.bytes().all(|byte| byte.is_ascii_alphabetic());
    if ttl_written && is_time {
        return Some("only the first argument can be a TTL, this is read as a zone".into());
    }
    if let Ok(nanos @ 1..) = duration::parse(text) {
        let seconds = nanos.unsigned_abs().div_ceil(1_000_000_000);
        return Some(format!("a TTL has no unit: write {seconds}"));
    }
    if is_time {
        let what = if unit.is_empty() { "this is too large" } else { "a TTL has no unit" };
        return Some(format!("{what}, so it is read as a zone: write a TTL in seconds"));
    }
    if OPTIONS.contains(&text) {
        return Some("options must be on lines of their own, between braces".into());
    }
    if DIRECTIVES.contains(&text) {
        return Some("this directive is read as a zone: start a new line before it".into());
    }
    lints::of_from(text)
}

/// A stanza as far as it is read.
struct Options<'a> {
    cache: Cache,
    /// True if the stanza began with a TTL.
    ttl_written: bool,
    bytes: [Option<usize>; 2],
    /// Place of each class's TTLs, and whether the lower one is written.
    ttls: [(Place, bool); 2],
    stale: Option<(ServeStale, Place)>,
    policy: Option<&'a Token>,
    /// The first option that is not `lru`.
    other: Option<&'a Token>,
    /// Options that are written, with their class.
    seen: Vec<String>,
}

impl<'a> Options<'a> {
    fn new(stanza: &Token) -> Self {
        Self {
            cache: Cache::default(),
            ttl_written: false,
            bytes: [None; 2],
            ttls: [(); 2].map(|()| (stanza.place.clone(), false)),
            stale: None,
            policy: None,
            other: None,
            seen: Vec::new(),
        }
    }

    fn class(&mut self, class: usize) -> &mut CacheClass {
        if class == 0 { &mut self.cache.success } else { &mut self.cache.denial }
    }

    /// The TTL, if there is one; returns the zones behind it.
    fn read_arguments<'b, 'c>(
        &mut self,
        words: &'b [&'c Token],
    ) -> Result<&'b [&'c Token], DirectiveError> {
        let Some((first, zones)) = words.split_first() else { return Ok(words) };
        if numbers::signed(&first.text).is_err() {
            return Ok(words);
        }
        let ttl = read_ttl(first, 1)?;
        (self.cache.success.ttl_max, self.cache.denial.ttl_max) = (ttl, ttl);
        self.ttl_written = true;
        Ok(zones)
    }

    /// `lru` stands alone.
    fn exclude(&mut self, property: &'a Token) -> Result<(), DirectiveError> {
        let text = &*property.text;
        if text != "lru" {
            self.other.get_or_insert(property);
        } else if self.ttl_written {
            let message = "lru has its own TTL after its capacity: remove the TTL after 'cache'";
            return Err(DirectiveError::value(property, message));
        } else {
            self.cache.simple = true;
        }
        match self.other {
            Some(other) if self.cache.simple && OPTIONS.contains(&&*other.text) => {
                let message = format!("lru cannot be combined with '{}'", other.text);
                Err(DirectiveError::value(property, message))
            }
            _ => Ok(()),
        }
    }

    fn read(
        &mut self,
        property: &'a Token,
        cursor: &mut Cursor<'_>,
        context: &mut Context<'_>,
    ) -> Result<(), DirectiveError> {
        let mut what = property.text.to_string();
        match &*property.text {
            "success" => self.read_class(0, property, cursor, context)?,
            "denial" => self.read_class(1, property, cursor, context)?,
            "capacity_bytes" => {
                let words = cursor.expect_rest()?;
                let [class, bytes] = words[..] else { return Err(cursor.argument_error().into()) };
                let number = read_class_name(class)?;
                self.bytes[number] = Some(read_bytes(bytes)?);
                what += &format!(" {}", class.text);
            }
            "prefetch" => self.cache.prefetch = refresh::read_prefetch(cursor, context)?,
            "serve_stale" => {
                let stale = refresh::read_stale(cursor, context)?;
                self.stale = Some((stale, property.place.clone()));
            }
            "serve_stale_policy" => {
                refresh::read_policy(cursor)?;
                if self.policy.replace(property).is_some() {
                    return Err(DirectiveError::value(
                        property,
                        "serve_stale_policy is written twice",
                    ));
                }
            }
            "servfail" => self.cache.servfail = refresh::read_servfail(cursor, context)?,
            "disable" => {
                let words = cursor.expect_rest()?;
                let number = read_class_name(words[0])?;
                self.class(number).disabled = read_disabled(&words[1..], context)?;
                what += &format!(" {}", words[0].text);
            }
            "keepttl" => {
                cursor.expect_no_arg()?;
                self.cache.keep_ttl = true;
            }
            "lru" => self.read_simple(cursor)?,
            other => {
                // The reference's message about an unknown property.
                let suggestion = did_you_mean(other, OPTIONS);
                let message = format!(
                    "Wrong argument count or unexpected line ending after '{other}'{suggestion}"
                );
                return Err(ParseError::at(property, message).into());
            }
        }
        if self.seen.contains(&what) {
            let message = format!("plugin/cache: {what} is written twice: the last one applies");
            context.warn(&property.place, message);
        } else {
            self.seen.push(what);
        }
        Ok(())
    }

    /// `CAPACITY [TTL [MINTTL]]`.
    fn read_class(
        &mut self,
        number: usize,
        property: &Token,
        cursor: &mut Cursor<'_>,
        context: &mut Context<'_>,
    ) -> Result<(), DirectiveError> {
        let words = cursor.expect_rest()?;
        let [written, ttls @ ..] = &words[..] else { return Ok(()) };
        let (ttls, surplus) = ttls.split_at(ttls.len().min(2));
        if let Some(word) = surplus.first() {
            let message = format!(
                "plugin/cache: '{}' is ignored: {} takes CAPACITY, TTL and MINTTL",
                word.text, property.text
            );
            context.warn(&word.place, message);
        }
        let capacity = read_capacity(written, i64::MIN)?;
        let class = self.class(number);
        class.capacity = usize::try_from(capacity).unwrap_or(0);
        let (name, text) = (&property.text, &written.text);
        if class.capacity == 0 {
            class.capacity = CAPACITY_LEAST;
            let message = format!(
                "plugin/cache: {name} {text} is raised to {CAPACITY_LEAST}: to cache nothing, \
                 write 'disable {name}'"
            );
            context.warn(&written.place, message);
        } else if class.capacity < CAPACITY_LEAST {
            let message = format!(
                "plugin/cache: {name} {text} keeps no more than {text} answers: the first number \
                 is the capacity, the second the TTL"
            );
            context.warn(&written.place, message);
        }
        if let Some(ttl) = ttls.first() {
            class.ttl_max = read_ttl(ttl, 1)?;
            if let Some(ttl) = ttls.get(1) {
                class.ttl_min = read_ttl(ttl, 0)?;
            }
            self.ttls[number] = (ttl.place.clone(), self.ttls[number].1 || ttls.len() > 1);
        }
        Ok(())
    }

    /// `[CAPACITY [TTL]]`.
    fn read_simple(&mut self, cursor: &mut Cursor<'_>) -> Result<(), DirectiveError> {
        let words = cursor.rest();
        if words.len() > 2 {
            return Err(cursor.argument_error().into());
        }
        let class = &mut self.cache.success;
        (class.capacity, class.ttl_max) = SIMPLE;
        if let Some(word) = words.first() {
            class.capacity = usize::try_from(read_capacity(word, 1)?).unwrap_or(0);
        }
        if let Some(word) = words.get(1) {
            class.ttl_max = read_seconds(word)?;
        }
        Ok(())
    }

    /// Returns the settings that follow from all options together.
    fn finish(mut self, context: &mut Context<'_>) -> Result<Cache, DirectiveError> {
        if let (Some(policy), None) = (self.policy, &self.stale) {
            return Err(DirectiveError::value(policy, "serve_stale_policy needs serve_stale"));
        }
        for number in [0, 1] {
            let bytes = self.bytes[number];
            let class = self.class(number);
            let usual = class.capacity.saturating_mul(CACHED_BYTES).max(BYTES_MIN);
            class.capacity_bytes = bytes.unwrap_or(usual);
            self.warn_of_ttls(number, context);
        }
        if let Some((stale, place)) = self.stale.take().filter(|(stale, _)| !stale.window.is_zero())
        {
            let (ttl, ttl_max) = (stale.ttl, self.cache.success.ttl_max);
            if ttl > ttl_max {
                let message = format!(
                    "plugin/cache: expired answers have a TTL of {ttl}, fresh ones of at most \
                     {ttl_max}"
                );
                context.warn(&place, message);
            }
            let prefer_positive = self.policy.is_some();
            self.cache.serve_stale = Some(ServeStale { prefer_positive, ..stale });
        }
        Ok(self.cache)
    }

    fn warn_of_ttls(&mut self, number: usize, context: &mut Context<'_>) {
        let (place, written) = self.ttls[number].clone();
        let CacheClass { ttl_max, ttl_min, .. } = *self.class(number);
        let (name, (useful, why)) = (CLASSES[number], TTL_USEFUL[number]);
        if ttl_max > useful {
            context.warn(&place, format!("plugin/cache: {name}: {why}"));
        }
        if written && ttl_min > ttl_max {
            let message = format!(
                "plugin/cache: {name}: the lowest TTL {ttl_min} is above the highest TTL, which \
                 applies: \
                 {ttl_max}"
            );
            context.warn(&place, message);
        }
    }
}

/// The zones of `disable`; all names without any.
fn read_disabled(words: &[&Token], context: &mut Context<'_>) -> Result<Vec<Name>, DirectiveError> {
    if words.is_empty() {
        return Ok(vec![Name::root()]);
    }
    let mut names = Vec::new();
    for word in words {
        let zone = keys::parse(&word.text).map_err(|reason| DirectiveError::value(word, reason))?;
        let is_option = OPTIONS.contains(&&*word.text);
        if let Some(hint) = lints::of_exception(&word.text, &zone, is_option) {
            let message = format!("plugin/cache: disable '{}': {hint}", word.text);
            context.warn(&word.place, message);
        }
        names.extend(counted(word, zone.names, context)?);
    }
    Ok(names)
}
