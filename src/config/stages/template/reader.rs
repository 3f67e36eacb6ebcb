//! The stanzas `template`, word by word.
//!
//! What cannot be answered at all is an error here: a text that is no template, a group that no
//! pattern has, a record that is none whatever is asked. What only surprises is a warning.

use super::super::super::context::Context;
use super::super::super::error::DirectiveError;
use super::super::super::record::{self, RecordError};
use super::super::super::{Name, Rcodes, RecordType, keys, lints, numbers, rcodes};
use super::super::metadata::LABELS;
use super::{
    CLASSES, ERROR_TEXT_MAX, FixedRecord, Part, Pattern, Template, TemplateRecord, Text, Value,
};
use crate::corefile::{Cursor, ParseError, Token, did_you_mean};

const PROPERTIES: [&str; 7] =
    ["match", "answer", "additional", "authority", "rcode", "ederror", "fallthrough"];
/// Types whose records answer a query for any other: CNAME and DNAME.
const ALIASES: [u16; 2] = [5, 39];

/// Reads all `template` stanzas of one server block.
pub(in super::super) fn read(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<Vec<Template>, DirectiveError> {
    let mut templates = Vec::new();
    while let Some(stanza) = context.stanza("template", cursor) {
        let class = cursor.expect_arg()?;
        let rtype = cursor.expect_arg()?;
        let mut template = head(class, rtype)?;
        let written = cursor.rest();
        template.zones = match &written[..] {
            [] => None,
            words => Some(zones(words, context)?),
        };
        let mut texts = Vec::new();
        while let Some(property) = cursor.block() {
            option(property, cursor, context, &mut template, &mut texts)?;
        }
        for (property, word, text) in texts {
            look_at_labels(word, &text, context);
            let record = record(property, word, text, &template, context)?;
            match &*property.text {
                "answer" => template.answers.push(record),
                "additional" => template.additionals.push(record),
                _ => template.authorities.push(record),
            }
        }
        warn_of_patterns(stanza, &template, context);
        if template.zones.as_ref().is_some_and(Vec::is_empty) {
            let message = "plugin/template: all zones are ignored: the template is never used";
            context.warn(&stanza.place, message);
            continue;
        }
        templates.push(template);
    }
    Ok(templates)
}

/// A template for this class and type.
fn head(class: &Token, rtype: &Token) -> Result<Template, DirectiveError> {
    let known = CLASSES.iter().find(|(_, mnemonic)| *mnemonic == &*class.text);
    let Some((number, _)) = known else {
        let suggestion = suggestion(&class.text, CLASSES.map(|(_, mnemonic)| mnemonic));
        let message = format!("invalid query class {}{suggestion}", class.text);
        return Err(ParseError::at(class, message).into());
    };
    let Some(found) = RecordType::parse(&rtype.text) else {
        let suggestion = suggestion(&rtype.text, RecordType::mnemonics());
        let message = format!("invalid RR class {}{suggestion}", rtype.text);
        return Err(ParseError::at(rtype, message).into());
    };
    Ok(Template {
        zones: None,
        class: (*number != 255).then_some(*number),
        rtype: (found.0 != 255).then_some(found),
        patterns: Vec::new(),
        answers: Vec::new(),
        authorities: Vec::new(),
        additionals: Vec::new(),
        rcode: 0,
        error: None,
        fallthrough: Vec::new(),
    })
}

/// Returns the mnemonic that was probably meant: mnemonics are upper case.
fn suggestion<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    did_you_mean(&word.to_ascii_uppercase(), known)
}

/// Returns the zones of a list. Invalid ones are ignored with a warning.
fn zones(words: &[&Token], context: &mut Context<'_>) -> Result<Vec<Name>, DirectiveError> {
    let mut zones = Vec::new();
    for word in words {
        match keys::parse(&word.text) {
            Ok(zone) => {
                let counted = context.count_zones(zone.names.len());
                counted.map_err(|message| DirectiveError::value(word, message))?;
                let is_option = PROPERTIES.contains(&&*word.text);
                if let Some(hint) = lints::of_exception(&word.text, &zone, is_option) {
                    let message = format!("plugin/template: zone '{}': {hint}", word.text);
                    context.warn(&word.place, message);
                }
                zones.extend(zone.names);
            }
            Err(reason) => {
                let message = format!("plugin/template: zone is ignored: {reason}");
                context.warn(&word.place, message);
            }
        }
    }
    Ok(zones)
}

/// Texts wait for the patterns of the whole stanza: property, word and what it says.
type Texts<'a> = Vec<(&'a Token, &'a Token, Text)>;

fn option<'a>(
    property: &'a Token,
    cursor: &mut Cursor<'a>,
    context: &mut Context<'_>,
    template: &mut Template,
    texts: &mut Texts<'a>,
) -> Result<(), DirectiveError> {
    match &*property.text {
        "match" => {
            for word in cursor.expect_rest()? {
                let pattern = Pattern::parse(&word.text);
                let pattern = pattern.map_err(|message| ParseError::at(word, message))?;
                template.patterns.push(pattern);
                if template.patterns.last().is_some_and(Pattern::has_capitals) {
                    let message = format!(
                        "plugin/template: '{}' has a capital letter, but names are compared in \
                         lower case: the pattern may never match",
                        word.text
                    );
                    context.warn(&word.place, message);
                }
            }
        }
        "answer" | "additional" | "authority" => {
            for word in cursor.expect_rest()? {
                texts.push((property, word, text(property, word)?));
            }
        }
        "rcode" => {
            let word = cursor.expect_arg()?;
            cursor.expect_no_arg()?;
            template.rcode = rcode(word)?;
        }
        "ederror" => template.error = Some(extended_error(cursor, context)?),
        "fallthrough" => {
            let words = cursor.rest();
            let zones = zones(&words, context)?;
            template.fallthrough = if words.is_empty() { vec![Name::root()] } else { zones };
        }
        "upstream" => {
            cursor.rest();
            let message = "plugin/template: 'upstream' has no effect: remove it";
            context.warn(&property.place, message);
        }
        later @ ("var" | "expr") => {
            context.lacks(property, format!("'{later}' of template"));
            cursor.rest();
        }
        other => {
            let suggestion = did_you_mean(other, PROPERTIES);
            let message = format!(
                "Wrong argument count or unexpected line ending after '{other}'{suggestion}"
            );
            return Err(ParseError::at(property, message).into());
        }
    }
    Ok(())
}

fn rcode(word: &Token) -> Result<u16, DirectiveError> {
    let found = Rcodes::parse(&word.text);
    if let Some(found) = found.filter(|_| !word.text.contains(|c: char| c.is_ascii_lowercase())) {
        return Ok(found);
    }
    let suggestion = suggestion(&word.text, rcodes::mnemonics());
    let message = format!("unknown rcode {}{suggestion}", word.text);
    Err(ParseError::at(word, message).into())
}

/// `CODE [TEXT]`.
fn extended_error(
    cursor: &mut Cursor<'_>,
    context: &mut Context<'_>,
) -> Result<(u16, String), DirectiveError> {
    let words = cursor.expect_rest()?;
    let [code, rest @ ..] = &words[..] else { return Err(cursor.argument_error().into()) };
    let number = numbers::unsigned(&code.text).and_then(|number| {
        let range = || format!("strconv.ParseUint: parsing \"{number}\": value out of range");
        u16::try_from(number).map_err(|_| range())
    });
    let number = number.map_err(|reason| {
        let text = &code.text;
        let message =
            format!("error parsing extended DNS error code {text}, {reason}: expected 0 to 65535");
        ParseError::at(code, message)
    })?;
    let text = match rest {
        [] => String::new(),
        [text] => {
            let mut cut = text.text.len().min(ERROR_TEXT_MAX);
            while !text.text.is_char_boundary(cut) {
                cut -= 1;
            }
            if cut < text.text.len() {
                let message = format!(
                    "plugin/template: the text of ederror is cut to {cut} bytes to fit into a reply"
                );
                context.warn(&text.place, message);
            }
            text.text[..cut].to_owned()
        }
        _ => return Err(cursor.argument_error().into()),
    };
    Ok((number, text))
}

/// Reads the text of a record of this section.
fn text(section: &Token, word: &Token) -> Result<Text, DirectiveError> {
    Text::parse(&word.text).map_err(|error| {
        let mut error_at = ParseError::at(
            word,
            format!(
                "could not compile template: {}, {}:{}:{}: {}",
                word.text,
                section.text,
                error.line + 1,
                error.column,
                error.what
            ),
        );
        error_at.place.line += error.line;
        error_at.into()
    })
}

/// Notes labels of a text that are not set when the query is answered.
fn look_at_labels(word: &Token, text: &Text, context: &mut Context<'_>) {
    for value in text.values() {
        let Value::Meta(label) = value else { continue };
        let why = match (&**label, context.labelled) {
            ("view/name", Some(_)) => {
                context.read_label();
                continue;
            }
            ("view/name", None) => "is set only with the directive 'metadata'".to_owned(),
            (label, _) if LABELS.contains(&label) => {
                "is set only after the template has answered".to_owned()
            }
            _ => format!("is set by no directive{}", did_you_mean(label, LABELS)),
        };
        let message = format!("plugin/template: label '{label}' {why}: it is empty");
        context.warn(&word.place, message);
    }
}

/// Returns the record that a text makes of each query.
fn record(
    section: &Token,
    word: &Token,
    text: Text,
    template: &Template,
    context: &mut Context<'_>,
) -> Result<TemplateRecord, DirectiveError> {
    let groups = template.patterns.iter().map(|pattern| pattern.regex.captures_len());
    let groups = groups.max().unwrap_or(1);
    for value in text.values() {
        let missing = match value {
            Value::Match(number) if *number >= groups => format!("number {number}"),
            Value::Group(name)
                if !template.patterns.iter().any(|pattern| pattern.group(name).is_some())
                    && (name != "0" || !template.patterns.is_empty()) =>
            {
                format!("named '{name}'")
            }
            _ => continue,
        };
        let message = format!("no pattern of 'match' has a group {missing}: {}", text.source);
        return Err(ParseError::at(word, message).into());
    }
    let refused = |error: RecordError| {
        let message = format!("{} '{}' is not a valid record: {error}", section.text, text.source);
        DirectiveError::from(ParseError::at(word, message))
    };
    let fixed = fixed(&text, template.zones.as_deref()).map_err(refused)?;
    if let Some((record, more)) = &fixed {
        let others = || template.rtype.filter(|rtype| rtype.0 != record.rtype);
        let answers = &*section.text == "answer" && !ALIASES.contains(&record.rtype);
        if let Some(rtype) = others().filter(|_| answers) {
            let message = format!(
                "plugin/template: a query for {rtype} is answered with a record of type {}",
                RecordType(record.rtype)
            );
            context.warn(&word.place, message);
        }
        if *more {
            let message = "plugin/template: only the first record of a text is used: write one \
                           text per record";
            context.warn(&word.place, message);
        }
    }
    Ok(TemplateRecord { fixed: fixed.map(|(record, _)| record), text })
}

/// A query to try a text with.
struct Sample<'a> {
    name: &'a str,
    zone: &'a str,
    class: &'a str,
}

/// Two queries that have nothing in common but what all queries of one zone have.
const SAMPLES: [Sample<'_>; 2] = [
    Sample { name: "a.", zone: "a.", class: "IN" },
    Sample { name: "b.c.", zone: "c.", class: "CH" },
];

/// Returns the record if a text is the same record for all queries, and true if the text continues
/// behind it; `None` if it depends on the query. An owner or class taken from the query is `None`
/// in the record.
fn fixed(text: &Text, zones: Option<&[Name]>) -> Result<Option<(FixedRecord, bool)>, RecordError> {
    let zone = match zones {
        Some([zone]) => Some(zone.to_string()),
        _ => None,
    };
    let mut read = Vec::new();
    for sample in &SAMPLES {
        let zone = zone.as_deref().unwrap_or(sample.zone);
        let Some(text) = rendered(text, &Sample { zone, ..*sample }) else { return Ok(None) };
        let mut out = Vec::new();
        let record = record::read(text.as_bytes(), &mut out)?;
        let data = out.split_off(record.owner_len);
        read.push((record, out, data));
    }
    let [(one, owner, data), (other, other_owner, other_data)] = &read[..] else {
        return Ok(None);
    };
    let owner = match (&owner[..], &other_owner[..]) {
        (one, other) if one == other => Some(one.into()),
        (b"\x01a\0", b"\x01b\x01c\0") => None,
        _ => return Ok(None),
    };
    let class = match (one.class, other.class) {
        (one, other) if one == other => Some(one),
        (1, 3) => None,
        _ => return Ok(None),
    };
    if (one.rtype, one.ttl, data) != (other.rtype, other.ttl, other_data) {
        return Ok(None);
    }
    let data = data[..].into();
    Ok(Some((FixedRecord { owner, class, rtype: one.rtype, ttl: one.ttl, data }, one.more)))
}

/// The text for a sample; `None` if it depends on more than that knows.
fn rendered(text: &Text, sample: &Sample<'_>) -> Option<String> {
    let part = |part: &Part| match part {
        Part::Text(text) => Some(text.clone()),
        Part::Value(Value::Name) => Some(sample.name.to_owned()),
        Part::Value(Value::Zone) => Some(sample.zone.to_owned()),
        Part::Value(Value::Class) => Some(sample.class.to_owned()),
        Part::Value(_) => None,
    };
    text.parts.iter().map(part).collect()
}

/// Notes names that get an error because no pattern matches them.
fn warn_of_patterns(stanza: &Token, template: &Template, context: &mut Context<'_>) {
    let matches_all = |pattern: &Pattern| [".*", ""].contains(&&*pattern.source);
    let partial = !template.patterns.is_empty() && !template.patterns.iter().any(matches_all);
    if partial && template.fallthrough.is_empty() {
        let rtype =
            template.rtype.map_or_else(|| "any type".into(), |rtype| format!("type {rtype}"));
        let message = format!(
            "plugin/template: queries for {rtype} that no 'match' matches get SERVFAIL: add \
             'fallthrough' to pass them to the next directive"
        );
        context.warn(&stanza.place, message);
    }
}
