//! The cache of a server block, in virtual time: which queries are answered without the upstream.
//!
//! Clients ask for an address unless a test says otherwise, and upstreams answer as the test
//! determines. Cacheability and the form of cached answers are tested in `engine::cache`; here the
//! subject is the forwarder's use of it.

use crate::common::wire::{Ask, Writer, question_of, wire_name, word_at};
use crate::world::{Got, Sent, World, corefile, shown, world};
use std::net::SocketAddr;
use std::time::Duration;

const SOA: u16 = 6;
const AD: u16 = 0x0020;
const RD: u16 = 0x0100;
/// Extended error of an expired answer, as a client gets it.
const STALE: Option<u16> = Some(3);
const SERVFAIL: u16 = 2;

/// A cache with these options before one upstream.
pub(crate) fn caching(options: &str) -> World {
    world(&format!("cache {options}\n forward . 192.0.2.1 {{\n max_fails 0\n }}"))
}

fn ask(name: &str) -> Ask {
    Ask::new(7, name).with_edns(1_232)
}

/// A response with this rcode; its one record is of the requested type, or the SOA of a denial.
fn response(query: &[u8], rcode: u16, ttl: u32) -> Vec<u8> {
    let denies = rcode == 3;
    let fails = ![0, 3].contains(&rcode);
    let counts = if fails { [0, 0] } else { [u16::from(!denies), u16::from(denies)] };
    let rtype = word_at(question_of(query), question_of(query).len() - 4);
    let flags = 0x8080 | word_at(query, 2) & (RD | 0x0010) | rcode;
    let mut writer = Writer::new([word_at(query, 0), flags, 1, counts[0], counts[1], 0]);
    writer.bytes.extend_from_slice(question_of(query));
    match (fails, denies) {
        (true, _) => {}
        (_, false) => {
            let (address, len) = ([203, 0, 113, 7].repeat(4), if rtype == 28 { 16 } else { 4 });
            writer.record(&[0xc0, 12], rtype, 1, ttl, &address[..len]);
        }
        (_, true) => {
            let times = [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1];
            let data = [&[0, 0][..], &times, &ttl.to_be_bytes()].concat();
            writer.record(&[0], SOA, 1, ttl, &data);
        }
    }
    writer.bytes
}

impl World {
    /// Sends a client's query and returns the immediate reply.
    fn asked(&mut self, ask: &Ask) -> Got {
        self.ask(1, ask);
        self.only_got()
    }

    /// Answers the one upstream query with an address.
    fn answer(&mut self, ttl: u32) {
        let sent = self.only_sent();
        self.respond_to(&sent, 0, ttl);
    }

    fn respond_to(&mut self, sent: &Sent, rcode: u16, ttl: u32) {
        self.respond(sent.connection, &response(&sent.bytes, rcode, ttl));
    }

    /// Queries a name and answers it, so that it is cached.
    pub(crate) fn learn(&mut self, name: &str, ttl: u32) {
        self.ask(1, &ask(name));
        self.answer(ttl);
        assert_eq!(self.only_got().rcode(), 0);
    }

    fn sent_nothing(&self) -> bool {
        self.sent.is_empty()
    }
}

/// The TTL of the only record.
fn ttl(got: &Got) -> u32 {
    let text = shown(got);
    let record = text.lines().nth(1).unwrap_or_else(|| panic!("no record: {text}"));
    record.split(' ').nth(2).unwrap().parse().unwrap()
}

#[test]
fn a_cached_answer_is_served_until_it_expires() {
    let mut world = caching("");
    world.ask(1, &ask("www.Example.TEST"));
    let sent = world.only_sent();
    assert_eq!(word_at(&sent.bytes, 2), RD | AD, "it is to say whether it is authentic");
    world.respond_to(&sent, 0, 60);
    assert_eq!(shown(&world.only_got()), "NOERROR rd ra\nAN www.Example.TEST 60 A 203.0.113.7");
    world.pass(10.5);
    let again = Ask { id: 99, flags: 0, edns: None, ..ask("WWW.example.test") };
    let got = world.asked(&again);
    assert_eq!((got.id(), world.sent_nothing()), (99, true));
    assert_eq!(shown(&got), "NOERROR ra\nAN WWW.example.test 50 A 203.0.113.7");
    world.pass(49.5);
    world.ask(1, &ask("www.example.test"));
    world.answer(60);
    world.take_got();
    let stats = world.finish().caches[0];
    assert_eq!((stats.requests, stats.hits, stats.stored), (3, [1, 0], [2, 0]));
    assert_eq!((stats.entries, stats.bytes), ([0; 2], 0), "what has expired leaves unasked");
}

#[test]
fn coalesced_clients_get_the_answer_in_the_form_of_a_cache_hit() {
    let mut world = caching("30");
    for client in 0..3 {
        world.ask(client, &ask("a.test"));
    }
    world.answer(86_400);
    assert!(world.take_got().iter().all(|got| ttl(got) == 30), "the TTL of a day is bounded");
    world.pass(1.0);
    assert_eq!(ttl(&world.asked(&ask("a.test"))), 29);
    world.finish();
}

#[test]
fn queries_with_other_type_flags_or_subnet_have_their_own_answers() {
    let mut world = caching("");
    world.learn("a.test", 60);
    let subnet = vec![0, 8, 0, 7, 0, 1, 24, 0, 192, 0, 2];
    let others = [
        Ask { edns: Some((1_232, 0, true, vec![])), ..ask("a.test") },
        Ask { flags: RD | 0x0010, ..ask("a.test") },
        Ask { rtype: 28, ..ask("a.test") },
        Ask { edns: Some((1_232, 0, false, subnet.clone())), ..ask("a.test") },
    ];
    for other in &others {
        world.ask(1, other);
        world.answer(60);
        world.take_got();
        world.ask(1, other);
        let is_for_one_network = other.edns.as_ref().is_some_and(|edns| edns.3 == subnet);
        assert_eq!(world.sent_nothing(), !is_for_one_network, "{other:?}");
        world.take_sent().iter().for_each(|sent| world.respond_to(sent, 0, 60));
        world.take_got();
    }
    assert!(!world.asked(&ask("a.test")).bytes.is_empty() && world.sent_nothing());
    world.finish();
}

#[test]
fn a_client_without_rd_gets_cached_answers_and_stores_none() {
    let mut world = caching("");
    let modest = Ask { flags: 0, ..ask("a.test") };
    for _ in 0..2 {
        world.ask(1, &modest);
        world.answer(60);
        world.take_got();
    }
    world.learn("a.test", 60);
    assert_eq!((ttl(&world.asked(&modest)), world.sent_nothing()), (60, true));
    world.finish();
    // Where upstream queries never have RD, clients without RD share the cache with the others.
    let mut world = world_of_authorities();
    world.learn("a.test", 60);
    assert_eq!((ttl(&world.asked(&ask("a.test"))), world.sent_nothing()), (60, true));
    world.finish();
}

fn world_of_authorities() -> World {
    world("cache\n header {\n query clear rd\n }\n forward . 192.0.2.1")
}

#[test]
fn zones_beside_those_of_the_cache_pass_by() {
    let mut world = caching("60 Example.org");
    for name in ["a.example.net", "a.example.org"] {
        world.learn(name, 600);
        world.ask(1, &ask(name));
        assert_eq!(world.sent_nothing(), name.ends_with("org"));
        world.take_sent().iter().for_each(|sent| world.respond_to(sent, 0, 600));
        let expected = if name.ends_with("org") { 60 } else { 600 };
        assert_eq!(ttl(&world.only_got()), expected);
    }
    assert_eq!(world.finish().caches[0].requests, 2);
}

#[test]
fn a_time_out_is_cached_for_a_second_and_longer_each_time() {
    let mut world = caching("");
    for pause in [1.0, 2.0, 4.0, 5.0, 5.0] {
        world.ask(1, &ask("a.test"));
        while world.got.is_empty() {
            world.pass(0.25);
        }
        let got = world.only_got();
        assert_eq!((got.rcode(), got.extended_error()), (SERVFAIL, Some(22)));
        assert!(!world.take_sent().is_empty());
        world.advance(got.at.plus(Duration::from_secs_f64(pause - 0.01)));
        let got = world.asked(&ask("a.test"));
        assert_eq!(got.rcode(), SERVFAIL);
        assert!(world.sent_nothing(), "not {pause} s later");
        world.pass(0.01);
    }
    // A success resets the back-off.
    world.learn("a.test", 5);
    world.pass(5.0);
    world.ask(1, &ask("a.test"));
    world.pass(5.0);
    world.take_got();
    world.take_sent();
    world.pass(1.0);
    world.learn("a.test", 5);
    world.finish();
}

#[test]
fn an_upstreams_failure_is_remembered_as_long_as_configured() {
    let mut world = caching("{\n servfail 3s\n }");
    world.ask(1, &ask("a.test"));
    let sent = world.only_sent();
    world.respond_to(&sent, SERVFAIL, 0);
    assert_eq!(world.only_got().rcode(), SERVFAIL);
    world.pass(2.9);
    let got = world.asked(&ask("a.test"));
    assert_eq!((got.rcode(), got.extended_error()), (SERVFAIL, Some(13)));
    world.pass(0.1);
    world.learn("a.test", 60);
    let mut forgetful = caching("{\n servfail 0\n }");
    for _ in 0..2 {
        forgetful.ask(1, &ask("a.test"));
        let sent = forgetful.only_sent();
        forgetful.respond_to(&sent, SERVFAIL, 0);
        assert_eq!(forgetful.only_got().rcode(), SERVFAIL);
    }
    forgetful.finish();
    world.finish();
}

#[test]
fn an_expired_answer_is_served_at_once_and_refreshed_once() {
    let mut world = caching("{\n serve_stale 1h\n }");
    world.learn("a.test", 10);
    world.pass(20.0);
    for round in 0..3 {
        let modest = Ask { flags: 0, ..ask("a.test") };
        let got = world.asked(&modest);
        assert_eq!((ttl(&got), got.extended_error()), (0, STALE), "round {round}");
    }
    let refresh = world.only_sent();
    assert_eq!(word_at(&refresh.bytes, 2), RD | AD, "whoever asked, this is for everybody");
    world.respond_to(&refresh, 0, 60);
    assert!(world.take_got().is_empty());
    let got = world.asked(&ask("a.test"));
    assert_eq!((ttl(&got), got.extended_error()), (60, None));
    let stats = world.finish().caches[0];
    assert_eq!((stats.stale, stats.refreshes), (3, 1));
}

#[test]
fn a_failed_refresh_keeps_the_old_answer_and_is_not_repeated_at_once() {
    let mut world = caching("{\n serve_stale 1h\n }");
    world.learn("a.test", 10);
    world.pass(20.0);
    world.asked(&ask("a.test"));
    let refresh = world.only_sent();
    world.respond_to(&refresh, SERVFAIL, 0);
    world.pass(4.9);
    assert_eq!((world.asked(&ask("a.test")).rcode(), world.sent_nothing()), (0, true));
    world.pass(0.1);
    assert_eq!(world.asked(&ask("a.test")).rcode(), 0);
    assert_eq!(world.take_sent().len(), 1, "now it is");
    world.pass(3_584.0);
    assert_eq!(world.asked(&ask("a.test")).rcode(), 0, "silence is no answer either");
    world.pass(1.0);
    world.ask(1, &ask("a.test"));
    assert!(world.take_got().is_empty(), "what is too old is not served");
    world.finish();
}

#[test]
fn clients_wait_for_the_upstream_as_long_as_configured() {
    let mut world = caching("{\n serve_stale 1h verify 100ms\n }");
    world.learn("a.test", 10);
    world.pass(20.0);
    world.ask(1, &ask("a.test"));
    world.pass(0.06);
    world.ask(2, &ask("A.test"));
    world.pass(0.03);
    assert!(world.take_got().is_empty());
    world.pass(0.01);
    let got = world.take_got();
    assert_eq!(got.len(), 2, "the second has joined the first and leaves with it");
    assert!(got.iter().all(|got| got.extended_error() == STALE));
    // Later clients need not wait, because the upstream has had its time.
    let got = world.asked(&ask("a.test"));
    assert_eq!((ttl(&got), got.extended_error()), (0, STALE));
    let late = world.only_sent();
    world.respond_to(&late, 0, 60);
    assert!(world.take_got().is_empty());
    assert_eq!(ttl(&world.asked(&ask("a.test"))), 60, "a late answer is not lost");
    // Clients get a refresh that arrives in time.
    world.pass(60.0);
    world.ask(1, &ask("a.test"));
    world.pass(0.05);
    world.answer(30);
    assert_eq!((ttl(&world.only_got()), world.sent_nothing()), (30, true));
    world.finish();
}

#[test]
fn clients_get_an_expired_answer_rather_than_an_error_at_the_deadline() {
    let mut world = caching("{\n serve_stale 1h verify\n }");
    world.learn("a.test", 10);
    world.pass(20.0);
    for rcode in [SERVFAIL, 5] {
        world.ask(1, &ask("a.test"));
        let sent = world.only_sent();
        world.respond_to(&sent, rcode, 0);
        let got = world.only_got();
        assert_eq!((got.rcode(), got.extended_error()), (0, STALE), "{rcode}");
        world.pass(6.0);
    }
    world.ask(1, &ask("a.test"));
    world.pass(5.0);
    assert_eq!(world.only_got().extended_error(), STALE, "nobody answers at all");
    world.take_sent();
    world.pass(6.0);
    // A denial is a valid answer.
    world.ask(1, &ask("a.test"));
    let sent = world.only_sent();
    world.respond_to(&sent, 3, 60);
    assert_eq!(world.only_got().rcode(), 3);
    assert_eq!((world.asked(&ask("a.test")).rcode(), world.sent_nothing()), (3, true));
    world.finish();
}

#[test]
fn a_denial_that_has_expired_gives_way_to_an_answer() {
    let mut world = caching("{\n serve_stale 1h verify\n }");
    world.ask(1, &ask("a.test"));
    let sent = world.only_sent();
    world.respond_to(&sent, 3, 10);
    world.pass(20.0);
    world.take_got();
    world.learn("a.test", 60);
    let got = world.asked(&ask("a.test"));
    assert_eq!((got.rcode(), world.sent_nothing()), (0, true));
    world.finish();
}

#[test]
fn an_expired_answer_is_served_when_no_query_can_be_sent() {
    let options = "max_concurrent 1\n max_fails 0";
    let cache = "cache {\n serve_stale 1h verify\n }";
    let mut world = world(&format!("{cache}\n forward . 192.0.2.1 {{\n {options}\n }}"));
    world.learn("a.test", 10);
    world.pass(20.0);
    world.ask(1, &ask("other.test"));
    world.take_sent();
    let got = world.asked(&ask("a.test"));
    assert_eq!((got.rcode(), got.extended_error()), (0, STALE));
    world.finish();
}

#[test]
fn popular_answers_are_refreshed_before_they_expire() {
    let mut world = caching("{\n prefetch 2 1m 20%\n }");
    world.learn("a.test", 100);
    world.pass(50.0);
    world.asked(&ask("a.test"));
    world.pass(29.0);
    world.asked(&ask("a.test"));
    assert!(world.sent_nothing());
    world.pass(1.0);
    assert_eq!(ttl(&world.asked(&ask("a.test"))), 20, "the client does not wait for it");
    let refresh = world.only_sent();
    // A truncated refresh is repeated over TCP.
    let mut truncated = response(&refresh.bytes, 0, 60);
    truncated[2] |= 2;
    world.respond(refresh.connection, &truncated);
    let again = world.only_sent();
    assert!(world.engine.is_tcp(again.connection));
    world.respond_to(&again, 0, 70);
    assert_eq!(ttl(&world.asked(&ask("a.test"))), 70);
    world.finish();
}

#[test]
fn an_access_list_applies_to_cached_answers() {
    let stages = "acl {\n block net 198.51.100.0/24\n }\n cache\n forward . 192.0.2.1";
    let mut world = world(stages);
    let stranger = 1 << 16;
    world.ask(stranger, &ask("a.test"));
    world.answer(60);
    assert_eq!(world.only_got().rcode(), 0);
    assert_eq!(world.asked(&ask("a.test")).rcode(), 5, "though it is known");
    world.ask(stranger, &ask("a.test"));
    assert_eq!((world.only_got().rcode(), world.sent_nothing()), (0, true));
    world.finish();
}

#[test]
fn other_directives_apply_to_cached_answers() {
    let stages = "minimal\n header {\n response set aa\n }\n bufsize 600\n cache";
    let mut world = world(&format!("{stages}\n forward . 192.0.2.1"));
    world.ask(1, &ask("a.test"));
    let sent = world.only_sent();
    let mut writer = Writer::new([word_at(&sent.bytes, 0), 0x8180, 1, 1, 1, 0]);
    writer.bytes.extend_from_slice(question_of(&sent.bytes));
    writer.record(&[0xc0, 12], 1, 1, 60, &[203, 0, 113, 7]);
    writer.record(&wire_name("test"), 2, 1, 60, &wire_name("ns.test"));
    world.respond(sent.connection, &writer.bytes);
    let first = world.only_got();
    let second = world.asked(&ask("a.test"));
    assert_eq!(shown(&first), "NOERROR aa rd ra\nAN a.test 60 A 203.0.113.7");
    assert_eq!(first.bytes, second.bytes);
    assert_eq!(word_at(&second.bytes, second.bytes.len() - 8), 600, "what bufsize advertises");
    world.finish();
}

#[test]
fn a_reload_keeps_the_cache_of_an_unchanged_block() {
    let text = "cache 60\n forward . 192.0.2.1";
    let mut world = world(text);
    world.learn("a.test", 600);
    world.pass(10.0);
    world.reload(&corefile(text));
    assert_eq!((ttl(&world.asked(&ask("a.test"))), world.sent_nothing()), (50, true));
    world.pass(70.0);
    assert_eq!(world.engine.stats().caches[0].entries, [0; 2], "it is still swept");
    for changed in ["cache 60\n forward . 192.0.2.2", "cache 50\n forward . 192.0.2.2"] {
        world.learn("a.test", 600);
        world.reload(&corefile(changed));
        assert_eq!(world.engine.stats().caches[0].entries, [0; 2], "{changed}");
    }
    world.reload(&corefile("forward . 192.0.2.1"));
    assert!(world.engine.stats().caches.is_empty());
    world.finish();
}

#[test]
fn the_simple_mode_remembers_addresses_for_five_seconds() {
    let mut world = caching("{\n lru 2\n }");
    world.learn("a.test", 3_600);
    world.pass(1.0);
    assert_eq!((ttl(&world.asked(&ask("A.TEST"))), world.sent_nothing()), (4, true));
    world.learn("b.test", 1);
    world.pass(3.9);
    assert_eq!((ttl(&world.asked(&ask("a.test"))), world.sent_nothing()), (1, true));
    assert_eq!((ttl(&world.asked(&ask("b.test"))), world.sent_nothing()), (0, true));
    // The least recently used entry is evicted.
    world.learn("c.test", 60);
    assert_eq!((ttl(&world.asked(&ask("b.test"))), world.sent_nothing()), (0, true));
    world.pass(0.2);
    world.learn("a.test", 60);
    // Other questions are not cached.
    for other in [Ask { rtype: 28, ..ask("a.test") }, Ask { flags: RD | 0x10, ..ask("a.test") }] {
        for _ in 0..2 {
            world.ask(1, &other);
            world.answer(60);
            world.take_got();
        }
    }
    for _ in 0..2 {
        world.ask(1, &ask("no.test"));
        let sent = world.only_sent();
        world.respond_to(&sent, 3, 60);
        assert_eq!(world.only_got().rcode(), 3);
    }
    assert_eq!(world.finish().caches[0].evicted[0], 2);
}

#[test]
fn an_expired_answer_is_preferred_to_a_failure_kept_by_failover() {
    let forward = "forward . 192.0.2.1 192.0.2.2 {\n policy sequential\n failover SERVFAIL\n }";
    let mut world = world(&format!("cache {{\n serve_stale 1h verify\n }}\n {forward}"));
    world.learn("a.test", 10);
    world.pass(20.0);
    world.ask(1, &ask("a.test"));
    let first = world.only_sent();
    world.respond_to(&first, SERVFAIL, 0);
    let second = world.only_sent();
    assert_eq!(second.to, SocketAddr::from(([192, 0, 2, 2], 53)));
    world.pass(5.0);
    let got = world.only_got();
    assert_eq!((got.rcode(), got.extended_error()), (0, STALE));
    world.finish();
}
