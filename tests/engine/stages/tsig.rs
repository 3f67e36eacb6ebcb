//! Signed queries: row 107 of the conformance rows, and replies that are sent later.
//!
//! The client is that of `domain`, which verifies each reply.

use super::file::world_with;
use crate::common::wire::{Ask, answer, word_at};
use crate::world::{World, client, corefile, shown, world};
use domain::base::iana::{Rtype, TsigRcode};
use domain::base::{Message, MessageBuilder, Name};
use domain::rdata::tsig::Time48;
use domain::tsig::{Algorithm, ClientTransaction, Key};
use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;

/// Unix time of the tests.
const NOW: u32 = 1_800_000_000;
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const DIRECTIVES: &str = "tsig {\n secret k.test. MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n \
                          require AAAA\n }\n";

type Transaction = ClientTransaction<Arc<Key>>;

fn key(name: &str, algorithm: Algorithm, secret: &[u8]) -> Arc<Key> {
    let name = Name::from_str(name).unwrap();
    Arc::new(Key::new(algorithm, secret, name, None, None).unwrap())
}

fn good() -> Arc<Key> {
    key("K.test.", Algorithm::Sha256, SECRET)
}

/// The query `ask`, signed with `key` at `NOW` plus `later` seconds.
fn signed(ask: &Ask, key: &Arc<Key>, later: i64) -> (Vec<u8>, Transaction) {
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(ask.id);
    builder.header_mut().set_rd(true);
    let mut builder = builder.question();
    let name = Name::<Vec<u8>>::from_str(&ask.name).unwrap();
    builder.push((name, Rtype::from_int(ask.rtype))).unwrap();
    let mut builder = builder.additional();
    if let Some((size, ..)) = ask.edns {
        builder
            .opt(|opt| {
                opt.set_udp_payload_size(size);
                Ok(())
            })
            .unwrap();
    }
    let at = Time48::from_u64((i64::from(NOW) + later) as u64);
    let transaction = Transaction::request(Arc::clone(key), &mut builder, at).unwrap();
    (builder.finish(), transaction)
}

/// The client's verdict on a reply, and the reply without its signature.
fn opened(transaction: &Transaction, reply: &[u8]) -> (String, Vec<u8>) {
    let mut message = Message::from_octets(reply.to_vec()).unwrap();
    let verified = transaction.answer(&mut message, Time48::from_u64(NOW.into()));
    let verified = match verified {
        Ok(()) => "verified".to_owned(),
        Err(error) => error.to_string(),
    };
    (verified, message.into_octets())
}

fn world_of(directives: &str) -> World {
    let mut world = world(directives);
    world.engine.on_calendar(NOW);
    world
}

/// A reply's response code, TSIG error and MAC length.
fn codes(reply: &[u8]) -> (u8, Option<TsigRcode>, usize) {
    let message = Message::from_octets(reply).unwrap();
    let mut records = message.additional().unwrap();
    let last = records.by_ref().last().map(Result::unwrap);
    let tsig =
        last.and_then(|record| record.to_record::<domain::rdata::tsig::Tsig<_, _>>().unwrap());
    let error = tsig.as_ref().map(|record| record.data().error());
    let mac_len = tsig.map_or(0, |record| record.data().mac_slice().len());
    (message.header().rcode().to_int(), error, mac_len)
}

/// The server's clock in a reply.
fn clock(reply: &[u8]) -> Option<u64> {
    let message = Message::from_octets(reply).unwrap();
    let last = message.additional().unwrap().last()?.unwrap();
    let record = last.to_record::<domain::rdata::tsig::Tsig<_, _>>().unwrap()?;
    record.data().other_time().map(u64::from)
}

#[test]
fn row_107() {
    let ask = Ask { rtype: 28, ..Ask::new(7, "a.test") };
    for (key, later, expected, outcome) in [
        (good(), 0, (0, Some(TsigRcode::NOERROR), 32), "verified"),
        (
            key("k.test.", Algorithm::Sha256, b"another"),
            0,
            (9, Some(TsigRcode::BADSIG), 0),
            "server failed to verify MAC",
        ),
        (
            key("other.", Algorithm::Sha256, SECRET),
            0,
            (9, Some(TsigRcode::BADKEY), 0),
            "unknown key on server",
        ),
        (good(), -1_000, (9, Some(TsigRcode::BADTIME), 32), "bad signature"),
    ] {
        let mut world = world_of(&format!("{DIRECTIVES} whoami"));
        let (packet, transaction) = signed(&ask, &key, later);
        world.packet(client(1), &packet);
        let reply = world.take_got().pop().unwrap().bytes;
        assert_eq!(codes(&reply), expected);
        let (verified, bytes) = opened(&transaction, &reply);
        // `domain` 0.12 signs the server's clock as eight octets where RFC 8945 §5.2.3 has six; the
        // unit tests verify this reply.
        assert_eq!(verified, outcome);
        assert_eq!(clock(&reply), (later != 0).then_some(NOW.into()));
        if outcome == "verified" {
            assert_eq!(crate::common::wire::question_of(&bytes), ask.question());
            assert_eq!(word_at(&bytes, 6), 0);
        }
        world.finish();
    }
    let mut world = world_of(&format!("{DIRECTIVES} whoami"));
    world.ask(1, &ask);
    assert_eq!(codes(&world.only_got().bytes), (5, None, 0), "unsigned where required");
    world.finish();
}

#[test]
fn each_algorithm_of_a_key_that_is_not_pinned_will_do() {
    for algorithm in [Algorithm::Sha1, Algorithm::Sha256, Algorithm::Sha384, Algorithm::Sha512] {
        let mut world = world_of(&format!("{DIRECTIVES} whoami"));
        let (packet, transaction) =
            signed(&Ask::new(7, "a.test"), &key("k.test.", algorithm, SECRET), 0);
        world.packet(client(1), &packet);
        let reply = world.take_got().pop().unwrap().bytes;
        assert_eq!(opened(&transaction, &reply).0, "verified", "{algorithm:?}");
        world.finish();
    }
}

/// Sends a signed query, plays the upstream with `play`, and returns the verified reply without its
/// signature.
fn exchanged(world: &mut World, ask: &Ask, play: impl FnOnce(&mut World)) -> Vec<u8> {
    let (packet, transaction) = signed(ask, &good(), 0);
    world.packet(client(1), &packet);
    world.settle();
    play(world);
    let got = world.take_got();
    let reply = &got.iter().find(|got| got.client == client(1)).expect("a reply").bytes;
    let (verified, bytes) = opened(&transaction, reply);
    assert_eq!(verified, "verified", "{:?}", codes(reply));
    bytes
}

/// Answers the upstream queries.
fn respond(world: &mut World) {
    let sent = world.only_sent();
    assert_eq!(word_at(&sent.bytes, 10), 1, "an OPT goes upstream, and no signature");
    assert!(world.respond(sent.connection, &answer(&sent.bytes)));
}

#[test]
fn a_reply_that_waits_for_an_upstream_is_signed_and_that_of_others_is_not() {
    let mut world = world_of(&format!("{DIRECTIVES} forward . 192.0.2.1\n cache"));
    let ask = Ask::new(7, "A.test");
    let bytes = exchanged(&mut world, &ask, |world| {
        world.ask(2, &Ask::new(8, "a.TEST"));
        respond(world);
    });
    assert_eq!(crate::common::wire::question_of(&bytes), ask.question());
    assert_eq!(word_at(&bytes, 6), 1);
    // The second reply comes from the cache.
    let bytes = exchanged(&mut world, &ask.with_edns(1_232), |_| ());
    assert_eq!((word_at(&bytes, 6), word_at(&bytes, 10)), (1, 1));
    world.ask(2, &Ask::new(8, "a.TEST"));
    assert_eq!(word_at(&world.only_got().bytes, 10), 0);
    assert_eq!(world.engine.stats().tsig, [2, 0, 0, 0, 0, 0]);
    world.finish();
}

#[test]
fn a_reply_without_an_answer_in_time_is_signed() {
    let mut world = world_of(&format!("{DIRECTIVES} forward . 192.0.2.1"));
    let bytes = exchanged(&mut world, &Ask::new(7, "a.test"), |world| {
        world.pass(6.0);
        world.take_sent();
    });
    assert_eq!(bytes[3] & 15, 2);
    world.finish();
}

#[test]
fn a_rewritten_query_has_a_signed_reply_under_its_own_name() {
    for rest in
        ["forward . 192.0.2.1", "dns64 2001:db8::/96 {\n allow_ipv4\n }\n forward . 192.0.2.1"]
    {
        let mut world = world_of(&format!("{DIRECTIVES} rewrite name a.test b.test\n {rest}"));
        let ask = Ask { rtype: 28, ..Ask::new(7, "a.test") };
        let bytes = exchanged(&mut world, &ask, |world| {
            while let [sent] = &world.take_sent()[..] {
                let mut response = answer(&sent.bytes);
                if word_at(&sent.bytes, sent.bytes.len() - 15) == 28 {
                    // An empty answer for the other address family.
                    response.truncate(12 + crate::common::wire::question_of(&sent.bytes).len());
                    (response[7], response[11]) = (0, 0);
                }
                world.respond(sent.connection, &response);
            }
        });
        assert_eq!(crate::common::wire::question_of(&bytes), ask.question());
        assert_eq!(word_at(&bytes, 6), u16::from(rest.starts_with("dns64")));
        world.finish();
    }
}

#[test]
fn a_reply_that_is_held_back_is_signed() {
    let mut world = world_of(&format!("{DIRECTIVES} erratic {{\n delay 1 1s\n drop 0\n }}"));
    exchanged(&mut world, &Ask::new(7, "a.test"), |world| world.pass(2.0));
    world.finish();
}

#[test]
fn a_reply_without_room_for_its_signature_is_truncated() {
    let mut world = world_of(&format!(
        "{DIRECTIVES} template IN TXT {{\n answer \"a.test. 1 TXT {0} {0}\"\n}}",
        "x".repeat(210)
    ));
    let ask = Ask { rtype: 16, ..Ask::new(7, "a.test") };
    let bytes = exchanged(&mut world, &ask, |_| ());
    assert_eq!((bytes[2] & 2, word_at(&bytes, 6)), (2, 0), "TC, no records");
    let bytes = exchanged(&mut world, &ask.with_edns(1_232), |_| ());
    assert_eq!((bytes[2] & 2, word_at(&bytes, 6)), (0, 1));
    world.finish();
}

#[test]
fn a_key_removed_by_a_reload_still_signs_pending_replies() {
    let mut world = world_of(&format!("{DIRECTIVES} forward . 192.0.2.1"));
    let ask = Ask::new(7, "a.test");
    exchanged(&mut world, &ask, |world| {
        world.reload(&corefile("forward . 192.0.2.1"));
        respond(world);
    });
    let (packet, _) = signed(&ask, &good(), 0);
    world.packet(client(1), &packet);
    assert_eq!(codes(&world.only_got().bytes), (5, None, 0));
    world.finish();
}

#[test]
fn signed_queries_without_tsig_are_refused() {
    let mut world = world_of(&DIRECTIVES.replace("tsig", "tsig b.test"));
    let (packet, _) = signed(&Ask::new(7, "a.test"), &good(), 0);
    world.packet(client(1), &packet);
    assert_eq!(codes(&world.only_got().bytes), (5, None, 0));
    assert_eq!(world.engine.stats().tsig, [0; 6]);
    world.finish();
}

#[test]
fn other_opcodes_are_refused_unsigned_where_required() {
    let mut world = world_of(&format!(
        "{} whoami",
        DIRECTIVES.replace("require AAAA", "require_opcode NOTIFY UPDATE")
    ));
    let notify = |world: &mut World, opcode: u16| {
        let ask = Ask { flags: opcode << 11, rtype: 6, ..Ask::new(7, "a.test") };
        world.packet(client(1), &ask.bytes());
        codes(&world.only_got().bytes).0
    };
    assert_eq!([4, 5, 2].map(|opcode| notify(&mut world, opcode)), [5, 5, 4]);
    let (mut packet, _) = signed(&Ask::new(7, "a.test"), &good(), 0);
    packet[2] = 4 << 3;
    world.packet(client(1), &packet);
    assert_eq!(codes(&world.only_got().bytes).0, 9, "the opcode is signed, too");
    world.finish();
}

#[test]
fn a_broken_tsig_is_a_format_error() {
    let mut world = world_of(&format!("{DIRECTIVES} whoami"));
    let (packet, _) = signed(&Ask::new(7, "a.test"), &good(), 0);
    for end in 12..packet.len() {
        world.packet(client(1), &packet[..end]);
        assert_eq!(codes_of_header(&world.only_got().bytes), 1, "cut at {end}");
    }
    // A MAC length beyond the record's end.
    let mut wrong = packet.clone();
    let place = wrong.len() - 6 - 32 - 1;
    wrong[place] = 33;
    world.packet(client(1), &wrong);
    assert_eq!(codes_of_header(&world.only_got().bytes), 1);
    assert_eq!(world.engine.stats().tsig[5], 1);
    world.finish();
}

fn codes_of_header(reply: &[u8]) -> u8 {
    reply[3] & 15
}

/// Server blocks `a.test`, whose alias is in `b.test`, and `b.test` with this option of `tsig`.
fn world_of_two(option: &str) -> World {
    const SOA: &str = "@ 60 SOA ns.test. h.test. 1 1 1 1 1\n@ 60 NS ns.test.\n";
    let tsig = DIRECTIVES.replace("require AAAA", option);
    let text = format!(
        "a.test {{\n bind 127.0.0.1\n file a\n}}\nb.test {{\n bind 127.0.0.1\n {tsig} file b\n}}\n"
    );
    let (a, b) = (format!("{SOA}x 60 CNAME y.b.test.\n"), format!("{SOA}y 60 A 192.0.2.9\n"));
    let mut world = world_with(&text, &[("a", &*a), ("b", &*b)].into());
    world.engine.on_calendar(NOW);
    world
}

#[test]
fn an_alias_does_not_lead_unsigned_into_a_block_that_requires_signatures() {
    for (option, is_shown) in [("require all", false), ("require none", true)] {
        let mut world = world_of_two(option);
        world.ask(1, &Ask::new(7, "x.a.test"));
        let reply = shown(&world.only_got());
        assert!(reply.contains("CNAME"), "{reply}");
        assert_eq!(reply.contains("192.0.2.9"), is_shown, "{option}: {reply}");
        let bytes = exchanged(&mut world, &Ask::new(7, "y.b.test"), |_| ());
        assert_eq!(word_at(&bytes, 6), 1, "a signed query is answered");
        world.finish();
    }
}

#[test]
fn keys_of_one_view_do_not_sign_for_another() {
    let view = |name: &str, expression: &str, option: &str, address: &str| {
        let tsig = DIRECTIVES.replace("require AAAA", option);
        format!(
            ". {{\n bind 127.0.0.1\n view {name} {{\n expr {expression}\n }}\n {tsig} \
             template IN A {{\n answer \"{{{{ .Name }}}} 1 A {address}\"\n }}\n}}\n"
        )
    };
    // The query is longer than 60 bytes with its signature only.
    let text = view("long", "size() > 60", "require none", "192.0.2.1")
        + &view("short", "size() <= 60", "require all", "192.0.2.2");
    let mut world = world_with(&text, &HashMap::new());
    world.engine.on_calendar(NOW);
    let (packet, _) = signed(&Ask::new(7, "a.test"), &good(), 0);
    world.packet(client(1), &packet);
    assert_eq!(codes(&world.only_got().bytes).0, 5);
    world.finish();
}

#[test]
fn an_error_reply_stays_within_the_limit_of_its_client() {
    let mut world = world_of(&format!("{DIRECTIVES} whoami"));
    let name = [["n"; 60].concat(), ["m"; 60].concat(), ["o"; 60].concat(), ["p"; 50].concat()];
    let unknown = key(&name.join("."), Algorithm::Sha512, SECRET);
    let (packet, _) = signed(&Ask::new(7, &name.join(".")), &unknown, 0);
    world.packet(client(1), &packet);
    let reply = world.only_got().bytes;
    assert!(reply.len() <= 512, "{}", reply.len());
    assert_eq!(codes(&reply), (9, None, 0));
    world.finish();
}

#[test]
fn a_tsig_without_a_question_is_not_read_as_one() {
    let mut world = world_of(&format!("{DIRECTIVES} whoami"));
    let (packet, _) = signed(&Ask::new(7, "a.test"), &good(), 0);
    let question = crate::common::wire::question_of(&packet).len();
    let mut packet = [&packet[..12], &packet[12 + question..]].concat();
    packet[5] = 0;
    world.packet(client(1), &packet);
    let reply = world.only_got().bytes;
    assert_eq!((reply.len(), word_at(&reply, 4), codes_of_header(&reply)), (12, 0, 1));
    world.finish();
}
