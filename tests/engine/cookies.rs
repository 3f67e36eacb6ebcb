//! Cookies of clients (RFC 7873, RFC 9018).
//!
//! A client with a cookie gets a server cookie in each reply, and a valid one proves its address
//! where clients are limited. Malformed cookies, and queries for a cookie alone.

use crate::common::wire::{Ask, Writer, answer, question_of, word_at};
use crate::world::{Got, World, client, corefile, shown, world};
use domain::base::Message;
use domain::base::opt::UnknownOptData;
use onward::engine::Client;
use std::net::SocketAddr;

/// Calendar time of the tests.
const NOW: u32 = 1_800_000_000;
/// Index of the counter of BADCOOKIE.
const BADCOOKIE: usize = 17;
const CLIENT: [u8; 8] = *b"12345678";

/// A query with this cookie option.
fn with_cookie(name: &str, cookie: &[u8]) -> Ask {
    let option = [&[0, 10, 0, cookie.len() as u8], cookie].concat();
    Ask { edns: Some((1_232, 0, false, option)), ..Ask::new(7, name) }
}

/// The cookie options of a reply.
fn cookies(got: &Got) -> Vec<Vec<u8>> {
    let message = Message::from_octets(&got.bytes[..]).unwrap();
    let Some(opt) = message.opt() else { return Vec::new() };
    let options = opt.opt().iter::<UnknownOptData<_>>().map(Result::unwrap);
    let cookies = options.filter(|option| option.code().to_int() == 10);
    cookies.map(|option| option.as_slice().to_vec()).collect()
}

/// The only cookie of a reply, which repeats that of the client.
fn cookie(got: &Got) -> Vec<u8> {
    let found = cookies(got);
    assert_eq!(found.len(), 1, "{found:x?}");
    assert_eq!((&found[0][..8], found[0].len()), (&CLIENT[..], 24));
    found[0].clone()
}

/// The extended response code of a reply.
fn rcode(got: &Got) -> u16 {
    let message = Message::from_octets(&got.bytes[..]).unwrap();
    let high = message.opt().map_or(0, |opt| opt.rcode(message.header()).to_int() >> 4);
    high << 4 | got.rcode()
}

fn from(address: &str) -> Client {
    Client { peer: SocketAddr::new(address.parse().unwrap(), 4_242), ..client(1) }
}

fn at_calendar(mut world: World) -> World {
    world.engine.on_calendar(NOW);
    world
}

/// The reply to a query with this cookie.
fn reply(world: &mut World, address: &str, cookie: &[u8]) -> Got {
    world.packet(from(address), &with_cookie("a.test", cookie).bytes());
    world.settle();
    world.only_got()
}

#[test]
fn every_kind_of_reply_has_a_server_cookie_and_other_clients_get_none() {
    let rules = "acl b.test {\n block\n }\n any\n cache 60\n forward a.test 192.0.2.1";
    let mut world = at_calendar(world(rules));
    let mut check = |ask: &Ask, responds: bool| {
        world.ask(1, ask);
        for sent in world.take_sent() {
            assert!(!sent.bytes.windows(8).any(|bytes| bytes == CLIENT), "never sent upstream");
            assert!(responds && world.respond(sent.connection, &answer(&sent.bytes)));
        }
        let got = world.only_got();
        let edns = ask.edns.as_ref();
        match edns.is_some_and(|(_, _, _, options)| !options.is_empty()) {
            true => assert_eq!(cookie(&got)[8..16], *b"\x01\0\0\0\x6b\x49\xd2\0", "{}", ask.name),
            false => assert_eq!(cookies(&got), Vec::<Vec<u8>>::new(), "{}", ask.name),
        }
        rcode(&got)
    };
    let asked = |name: &str| with_cookie(name, &CLIENT);
    assert_eq!(check(&asked("a.test"), true), 0, "of an upstream");
    assert_eq!(check(&asked("a.test"), false), 0, "of the cache");
    assert_eq!(check(&asked("b.test"), false), 5, "of acl");
    assert_eq!(check(&asked("c.test"), false), 2, "an error");
    assert_eq!(check(&Ask { rtype: 255, ..asked("a.test") }, false), 0, "of a stage");
    assert_eq!(check(&Ask { rtype: 252, ..asked("a.test") }, false), 4, "of the parser");
    assert_eq!(check(&Ask::new(7, "a.test").with_edns(1_232), false), 0, "without a cookie");
    assert_eq!(check(&Ask::new(7, "a.test"), false), 0, "without EDNS");
    let mut badvers = asked("a.test");
    badvers.edns.as_mut().unwrap().1 = 1;
    assert_eq!(check(&badvers, false), 16, "BADVERS");
    world.finish();
}

#[test]
fn a_cookie_is_valid_for_its_client_and_renewed_after_half_an_hour() {
    let mut world = at_calendar(world("whoami"));
    let first = cookie(&reply(&mut world, "192.0.2.1", &CLIENT));
    world.engine.on_calendar(NOW + 1_800);
    assert_eq!(cookie(&reply(&mut world, "192.0.2.1", &first)), first);
    assert_eq!(cookie(&reply(&mut world, "::ffff:192.0.2.1", &first)), first);
    let other = cookie(&reply(&mut world, "192.0.2.2", &first));
    assert_ne!(other, first, "of another address");
    world.engine.on_calendar(NOW + 1_801);
    let second = cookie(&reply(&mut world, "192.0.2.1", &first));
    assert_ne!(second, first);
    assert_eq!(cookie(&reply(&mut world, "192.0.2.1", &second)), second);
    world.finish();
}

#[test]
fn a_reload_keeps_the_secret() {
    let config = corefile("whoami");
    let mut world = at_calendar(World::new(&config));
    let first = cookie(&reply(&mut world, "192.0.2.1", &CLIENT));
    world.reload(&corefile("whoami\n any"));
    assert_eq!(cookie(&reply(&mut world, "192.0.2.1", &first)), first);
    world.finish();
}

#[test]
fn a_malformed_cookie_gets_formerr_and_a_foreign_one_is_replaced() {
    let mut world = at_calendar(world("whoami"));
    let long = [CLIENT; 6].concat();
    for len in 0..=long.len() {
        let got = reply(&mut world, "192.0.2.1", &long[..len]);
        if len == 8 || (16..=40).contains(&len) {
            assert_eq!(rcode(&got), 0, "{len} octets");
            assert_eq!(cookie(&got)[8], 1, "version");
        } else {
            assert_eq!(rcode(&got), 1, "{len} octets");
        }
    }
    // Of two cookies the first counts.
    let options = [&[0, 10, 0, 8][..], &CLIENT, &[0, 10, 0, 8], b"87654321"].concat();
    let two = Ask { edns: Some((1_232, 0, false, options)), ..Ask::new(7, "a.test") };
    world.packet(from("192.0.2.1"), &two.bytes());
    assert_eq!(cookie(&world.only_got())[..8], CLIENT);
    world.finish();
}

#[test]
fn a_query_without_a_question_gets_a_cookie_if_it_has_one() {
    let mut world = at_calendar(world("whoami"));
    let mut ask = |cookie: Option<&[u8]>, version: u8| {
        let mut writer = Writer::new([7, 0x0100, 0, 0, 0, 1]);
        let options = cookie.map_or(Vec::new(), |cookie| with_cookie("", cookie).edns.unwrap().3);
        writer.opt(1_232, 0, version, false, &options);
        world.packet(from("192.0.2.1"), &writer.bytes);
        world.only_got()
    };
    let got = ask(Some(&CLIENT), 0);
    let first = cookie(&got);
    assert_eq!((rcode(&got), word_at(&got.bytes, 2)), (0, 0x8180), "no AA");
    assert_eq!([4, 6, 8].map(|place| word_at(&got.bytes, place)), [0; 3]);
    assert_eq!((rcode(&ask(Some(&first), 0)), cookie(&ask(Some(&first), 0))), (0, first.clone()));
    let mut wrong = first.clone();
    wrong[23] ^= 1;
    let got = ask(Some(&wrong), 0);
    assert_eq!((rcode(&got), cookie(&got)), (23, first));
    assert_eq!(rcode(&ask(Some(&CLIENT[..7]), 0)), 1, "malformed");
    assert_eq!(rcode(&ask(None, 0)), 1, "no cookie");
    assert_eq!(rcode(&ask(Some(&CLIENT), 1)), 16, "another version of EDNS");
    world.finish();
}

#[test]
fn a_valid_cookie_exempts_from_limits_and_others_learn_one_with_badcookie() {
    for limits in ["qps 1", "responses 1\n errors 1"] {
        let limits = format!("ratelimit {{\n {limits}\n slip 1\n }}\n whoami");
        let mut world = at_calendar(world(&limits));
        let first = reply(&mut world, "192.0.2.1", &CLIENT);
        assert_eq!(rcode(&first), 0);
        let limited = reply(&mut world, "192.0.2.1", &CLIENT);
        assert_eq!((rcode(&limited), cookie(&limited)), (23, cookie(&first)));
        assert_eq!(question_of(&limited.bytes), Ask::new(7, "a.test").question());
        assert_eq!(word_at(&limited.bytes, 2) & 0x0200, 0, "not truncated");
        for _ in 0..20 {
            let got = reply(&mut world, "192.0.2.1", &cookie(&limited));
            assert_eq!(rcode(&got), 0, "a valid cookie");
        }
        let stolen = reply(&mut world, "192.0.2.2", &cookie(&limited));
        assert_eq!(rcode(&stolen), 23, "the cookie of another address of the prefix");
        world.packet(from("192.0.2.1"), &Ask::new(7, "a.test").bytes());
        assert_eq!(shown(&world.only_got()), "NOERROR tc rd ra", "without a cookie");
        let stats = world.finish();
        assert_eq!(stats.cookies, [2, 20, 1], "none, valid, invalid");
        assert_eq!((stats.replies[0], stats.replies[BADCOOKIE]), (22, 2));
    }
}

#[test]
fn rrl_limits_the_queries_of_clients_with_valid_cookies_and_not_their_replies() {
    let block = |limit: &str| format!("rrl {{\n {limit} 1\n window 1\n slip-ratio 1\n }}\n whoami");
    let mut world = at_calendar(world(&block("responses-per-second")));
    let valid = cookie(&reply(&mut world, "192.0.2.1", &CLIENT));
    for _ in 0..20 {
        assert_eq!(rcode(&reply(&mut world, "192.0.2.1", &valid)), 0);
    }
    world.reload(&corefile(&block("requests-per-second")));
    let got: Vec<_> = (0..20).map(|_| reply(&mut world, "192.0.2.1", &valid)).collect();
    let truncated = got.iter().filter(|got| word_at(&got.bytes, 2) & 0x0200 != 0).count();
    assert!((10..20).contains(&truncated), "{truncated}");
    assert!(got.iter().all(|got| rcode(got) == 0), "no BADCOOKIE for a valid cookie");
    world.finish();
}

#[test]
fn clients_with_valid_cookies_that_wait_for_a_response_are_not_limited() {
    let limits = "ratelimit {\n responses 1\n slip 0\n }";
    let mut world = at_calendar(world(&format!("{limits}\n forward . 192.0.2.1")));
    let mut wait = |cookie: &[u8]| {
        for _ in 0..4 {
            world.packet(from("192.0.2.1"), &with_cookie("a.test", cookie).bytes());
        }
        world.settle();
        let sent = world.only_sent();
        world.respond(sent.connection, &answer(&sent.bytes));
        world.take_got()
    };
    let got = wait(&CLIENT);
    assert_eq!(got.len(), 1, "limited");
    let cookie = cookie(&got[0]);
    assert_eq!(wait(&cookie).len(), 4);
    world.finish();
}

#[test]
fn cookies_that_are_off_are_neither_sent_nor_accepted() {
    let limits = "cookies off\n ratelimit {\n qps 1\n slip 1\n }\n whoami";
    let mut world = at_calendar(world(limits));
    let first = reply(&mut world, "192.0.2.1", &CLIENT);
    assert_eq!((rcode(&first), cookies(&first)), (0, vec![]));
    assert_eq!(shown(&reply(&mut world, "192.0.2.1", &CLIENT)), "NOERROR tc rd ra");
    let on = corefile(&limits.replace("off", "on"));
    world.reload(&on);
    assert_eq!(rcode(&reply(&mut world, "192.0.2.1", &CLIENT)), 23);
    world.finish();
}

#[test]
fn a_reply_that_makes_a_client_repeat_its_query_has_no_identifier_of_the_server() {
    let limits = "nsid a-long-identifier\n ratelimit {\n qps 1\n slip 1\n }\n whoami";
    for cookie in [&[][..], &[0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]] {
        let mut world = at_calendar(world(limits));
        let options = [&[0, 3, 0, 0], cookie].concat();
        let ask = Ask { edns: Some((1_232, 0, false, options)), ..Ask::new(7, "a.test") };
        world.packet(from("192.0.2.1"), &ask.bytes());
        let first = world.only_got().bytes.len();
        world.packet(from("192.0.2.1"), &ask.bytes());
        let second = world.only_got().bytes.len();
        world.settle();
        let more = if cookie.is_empty() { 0 } else { 16 };
        assert!(second <= ask.bytes().len() + more && second < first, "{second} of {first}");
        world.finish();
    }
}
