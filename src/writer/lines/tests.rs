//! Lines of queries: every placeholder, and text that only looks like one.
//!
//! The formats of single fields are tested with the fields.

use super::{Interfaces, Pattern, push_json, push_text};
use crate::config::{Config, Host, Protocol, Stages};
use crate::engine::journal::kinds::ResponseType;
use crate::engine::journal::{Event, Labels, LoggedQuery, Record, Replied, Span};
use crate::engine::key::Transport;
use crate::engine::message::query::{Asked, Edns};
use crate::moment::Moment;
use std::time::Duration;

const NAME: &[u8] = b"\x01b\x04TeSt\0";

fn record() -> Record {
    let asking = LoggedQuery {
        peer: Some("127.0.0.1:51833".parse().unwrap()),
        local: "::1".parse().unwrap(),
        transport: Transport::Udp,
        protocol: Protocol::Dns,
        since: Moment::from_nanos(5),
        size: 24,
        asked: Asked { id: 29_970, flags: 0x0100, edns: None },
        rtype: 1,
        class: 1,
    };
    let reply = Some(Replied { flags: 0x8180, rcode: 0, size: 46 });
    let (name, message) = (Span::default(), Span::default());
    let (event, at) = (Event::Ended(0), Moment::from_nanos(906_050));
    Record { event, block: 0, at, asking, upstream: None, reply, labels: None, name, message }
}

fn interfaces() -> Interfaces {
    Interfaces::asking(|index| Some(format!("eth{index}")))
}

fn said(format: &str, record: &Record) -> String {
    let mut out = String::new();
    Pattern::new(format, &Stages::default()).push(&mut out, record, NAME, &mut interfaces());
    out
}

#[test]
fn the_common_line_is_that_of_the_reference() {
    let mut line = String::new();
    push_text(
        &mut line,
        &Pattern::new("{common}", &Stages::default()),
        &record(),
        NAME,
        &mut interfaces(),
    );
    let expected = "[INFO] 127.0.0.1:51833 - 29970 \"A IN b.test. udp 24 false 512\" NOERROR \
                    qr,rd,ra 46 0.000906045s\n";
    assert_eq!(line, expected);
    let combined = said("<{combined}>", &record());
    assert_eq!(combined, format!("<{} \"0\">", &expected[7..expected.len() - 1]));
}

#[test]
fn every_placeholder_has_its_value() {
    let mut record = record();
    record.asking.asked.edns = Some(Edns {
        udp_size: 1_400,
        dnssec_ok: true,
        compact_ok: false,
        keepalive: false,
        nsid: false,
        padding: false,
        cookie: None,
    });
    record.asking.asked.flags |= 0x2000;
    for (placeholder, expected) in [
        ("type", "A"),
        ("name", "b.test."),
        ("class", "IN"),
        ("proto", "udp"),
        ("remote", "127.0.0.1"),
        ("local", "[::1]"),
        ("port", "51833"),
        ("size", "24"),
        ("rcode", "NOERROR"),
        ("rsize", "46"),
        ("duration", "0.000906045s"),
        (">id", "29970"),
        (">opcode", "4"),
        (">do", "true"),
        (">bufsize", "1400"),
        (">rflags", "qr,rd,ra"),
        ("/forward/upstream", "-"),
    ] {
        assert_eq!(said(&format!("{{{placeholder}}}"), &record), expected, "{placeholder}");
    }
    record.asking.transport = Transport::Tcp;
    record.asking.peer = Some("[2001:db8::1]:53".parse().unwrap());
    assert_eq!(said("{remote} {proto} {>bufsize}", &record), "[2001:db8::1] tcp 65535");
    record.asking.peer = Some("[fe80::1%3]:53".parse().unwrap());
    assert_eq!(said("{remote}:{port}", &record), "[fe80::1%eth3]:53");
    record.asking.transport = Transport::Udp;
    record.asking.asked.edns.as_mut().unwrap().udp_size = 1;
    assert_eq!(said("{>bufsize}", &record), "512");
}

#[test]
fn text_that_is_no_placeholder_is_literal() {
    for (format, expected) in [
        ("", ""),
        ("plain", "plain"),
        ("{x} {TYPE} {}", "{x} {TYPE} {}"),
        ("{type", "{type"),
        ("type}", "type}"),
        ("{{type}}", "{A}"),
        ("{a {type} b}", "{a A b}"),
        ("}{{>id}", "}{29970"),
        ("\u{e9}{class}\u{e9}", "\u{e9}IN\u{e9}"),
    ] {
        assert_eq!(said(format, &record()), expected);
    }
}

#[test]
fn a_query_without_reply_has_none() {
    let record = Record { reply: None, ..record() };
    let said = said("{rcode} {>rflags} {rsize} {duration}", &record);
    assert_eq!(said, "- - 0 0.000906045s");
    let mut line = String::new();
    push_json(&mut line, Duration::ZERO, &record, NAME, &mut interfaces());
    let object: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&object["rcode"], &object["rsize"]), (&serde_json::Value::Null, &0.into()));
}

#[test]
fn a_query_in_progress_has_no_outcome_yet() {
    let record = Record { event: Event::ClientResponse, ..record() };
    assert_eq!(said("{rcode} {>rflags} {rsize} {duration} {name}", &record), "- - - - b.test.");
}

#[test]
fn an_object_has_all_fields_and_any_name() {
    let mut wire = vec![20];
    wire.extend((0..20).map(|byte| b"\"\\\n.{}a\x7f\xff\0"[byte % 10]));
    wire.push(0);
    let mut line = String::new();
    push_json(&mut line, Duration::from_secs(1), &record(), &wire, &mut interfaces());
    assert_eq!(line.matches('\n').count(), 1);
    let object: serde_json::Value = serde_json::from_str(&line).unwrap();
    let name = "\\\"\\\\\\010\\.{}a\\127\\255\\000".repeat(2) + ".";
    assert_eq!(object["name"], name);
    let expected = serde_json::json!({
        "time": "1970-01-01T00:00:01.000Z", "level": "info", "source": "plugin/log",
        "message": "query", "client": "127.0.0.1", "port": 51_833, "id": 29_970, "type": "A",
        "class": "IN", "name": name, "proto": "udp", "size": 24, "do": false, "bufsize": 512,
        "rcode": "NOERROR", "flags": "qr,rd,ra", "rsize": 46, "duration_s": 0.000_906_045,
    });
    assert_eq!(object, expected);
}

/// A server block with `metadata` and a view.
fn labelled(metadata: &str) -> Stages {
    let text = format!(". {{\n {metadata}\n view alpha\n any\n log\n}}\n");
    let loaded = Config::load(text.as_bytes(), "Corefile", &Host::plain());
    loaded.unwrap().0.blocks[0].stages.clone()
}

#[test]
fn labels_have_values_where_there_is_metadata() {
    let format = "{/view/name} {/forward/upstream} {/log/class} {/log/type} {/x/y}";
    let line = |stages: &Stages, record: &Record| {
        let mut out = String::new();
        Pattern::new(format, stages).push(&mut out, record, NAME, &mut interfaces());
        out
    };
    let mut record = record();
    assert_eq!(line(&labelled("metadata"), &record), "alpha - - - -", "nothing is known");
    let upstream = "192.0.2.1:53".parse().ok();
    record.labels = Some(Labels { upstream, outcome: ResponseType::NoName });
    let said = "192.0.2.1:53 denial NXDOMAIN -";
    assert_eq!(line(&labelled("metadata"), &record), format!("alpha {said}"));
    assert_eq!(line(&labelled("metadata u Test"), &record), format!("alpha {said}"));
    assert_eq!(line(&labelled("metadata u"), &record), format!("- {said}"));
    assert_eq!(line(&labelled("debug"), &record), "- - - - -");
    record.labels =
        Some(Labels { upstream: "[2001:db8::1]:5353".parse().ok(), outcome: ResponseType::Answer });
    assert_eq!(line(&labelled("metadata"), &record), "alpha [2001:db8::1]:5353 success NOERROR -");
}
