//! Counters by server, zone and client, and the snapshots of connections and clients.
//!
//! Each query counts once when it arrives and once when it ends, in the label set of its zone, also
//! across a reload.

use crate::common::wire::{Ask, Writer, answer, question_of, word_at};
use crate::world::{World, client, corefile};
use onward::config::{Config, Host};
use onward::engine::tally::{LABEL_SETS_MAX, LabelSets, Tally};
use onward::moment::Moment;
use std::time::Duration;

fn config(text: &str) -> Config {
    Config::load(text.as_bytes(), "Corefile", &Host::plain()).expect("it is right").0
}

/// The counters of the label set of `zone`; `dropped` is that of queries outside all zones.
fn tally<'w>(world: &'w World, zone: &str) -> &'w Tally {
    let tallies = world.engine.tallies();
    let name = |zone: &Option<onward::config::Name>| {
        zone.as_ref().map_or("dropped".into(), ToString::to_string)
    };
    let place = tallies.label_sets.iter().position(|label_set| name(&label_set.zone) == zone);
    &tallies.counts[place.expect("such a label_set")]
}

fn sum(counts: &[u64]) -> u64 {
    counts.iter().sum()
}

#[test]
fn a_query_is_counted_by_zone_type_family_and_response_code() {
    let text = "a.test b.test {\n bind 127.0.0.1\n prometheus\n acl {\n drop type TXT\n block type \
                MX\n }\n forward . 192.0.2.1\n}\nc.test {\n bind 127.0.0.1\n any\n}\n";
    let mut world = World::new(&config(text));
    world.ask(1, &Ask::new(1, "x.b.test"));
    let sent = world.only_sent();
    world.pass(0.003);
    world.respond(sent.connection, &answer(&sent.bytes));
    assert_eq!(world.only_got().rcode(), 0);
    world.packet(client(1), &Ask { rtype: 16, ..Ask::new(2, "b.test") }.bytes());
    world.ask(1, &Ask { rtype: 15, ..Ask::new(3, "b.test") });
    world.ask(1, &Ask::new(4, "a.test"));
    world.pass(6.0);
    world.ask(1, &Ask::new(5, "d.test"));
    world.ask(1, &Ask::new(6, "c.test"));

    let here = tally(&world, "b.test.");
    assert_eq!(sum(here.requests.as_flattened().as_flattened()), 3);
    assert_eq!([here.requests[0][0][0], here.requests[0][0][13], here.requests[0][0][5]], [1; 3]);
    assert_eq!((here.answered[0], here.answered[5], here.failed[0]), (1, 1, 1), "{here:?}");
    assert_eq!((sum(&here.answered), sum(&here.failed)), (2, 1));
    assert_eq!((here.acl.passed, here.acl.refused, here.acl.dropped), (1, 1, 1));
    assert_eq!((here.durations.count(), here.durations.sum_seconds()), (3, 0.003));
    assert_eq!((here.request_sizes[0].count(), here.response_sizes[0].count()), (3, 3));
    assert_eq!(here.response_sizes[0].cumulative()[0], 1, "the dropped one has no reply");
    let other = tally(&world, "a.test.");
    assert_eq!((sum(&other.answered), other.failed[2]), (0, 1), "nobody answered");
    assert_eq!(tally(&world, "dropped").failed[5], 1, "no zone wants it");
    assert_eq!(world.engine.tallies().label_sets.len(), 3, "only blocks that say so are counted");
    let upstream = &world.engine.tallies().upstreams[0];
    assert_eq!((upstream[0].count(), upstream[0].sum_seconds()), (1, 0.003));
    world.finish();
}

/// An extended response code of an upstream, whose low four bits are another code.
#[test]
fn an_extended_response_code_is_delivered_and_counted_and_not_cached() {
    let text = "test {\n bind 127.0.0.1\n prometheus\n cache\n forward . 192.0.2.1\n}\n";
    let mut world = World::new(&config(text));
    for (code, place, lower, answers) in
        [(16, 16, 0, 0), (16, 16, 0, 1), (23, 17, 7, 0), (19, 18, 3, 0), (18, 18, 2, 0)]
    {
        for edns in [true, false] {
            let ask = Ask::new(1, "a.test");
            let ask = if edns { ask.with_edns(1_232) } else { ask };
            let (count, before) = (if edns { place } else { 2 }, tally(&world, "test.").answered);
            let seen = world.engine.tallies().upstreams[0][place].count();
            world.ask(1, &ask);
            let sent = world.only_sent();
            let header = [word_at(&sent.bytes, 0), 0x8180 | lower, 1, answers, 0, 1];
            let mut writer = Writer::new(header);
            writer.bytes.extend_from_slice(question_of(&sent.bytes));
            for _ in 0..answers {
                writer.record(&[0xc0, 12], 1, 1, 300, &[192, 0, 2, 1]);
            }
            writer.opt(1_232, (code >> 4) as u8, 0, false, &[]);
            assert!(world.respond(sent.connection, &writer.bytes));
            let got = world.only_got();
            let message = domain::base::Message::from_octets(&got.bytes[..]).unwrap();
            let expected = if edns { code } else { 2 };
            assert_eq!(message.opt_rcode().to_int(), expected, "{code}, EDNS {edns}");
            let mut after = before;
            after[count] += 1;
            assert_eq!(tally(&world, "test.").answered, after, "{code}, EDNS {edns}");
            assert_eq!(world.engine.tallies().upstreams[0][place].count(), seen + 1);
        }
    }
    assert_eq!(world.engine.stats().replies[..3], [0, 0, 5], "none was made NOERROR");
    world.finish();
}

#[test]
fn without_the_directive_nothing_is_counted_by_place() {
    let label_sets = LabelSets::of(&corefile("errors\n forward . 192.0.2.1"));
    assert!(label_sets.label_sets.is_empty());
    let mut world = World::new(&corefile("forward . 192.0.2.1"));
    world.ask(1, &Ask::new(1, "a.test"));
    assert!(world.engine.tallies().counts.is_empty());
    world.finish();
}

#[test]
fn zones_beyond_the_limit_are_counted_together() {
    let zones: Vec<_> = (0..2 * LABEL_SETS_MAX).map(|number| format!("z{number}.test")).collect();
    let text = format!("{} {{\n bind 127.0.0.1\n prometheus\n any\n}}\n", zones.join(" "));
    let mut world = World::new(&config(&text));
    let any = |id, name: &str| Ask { rtype: 255, ..Ask::new(id, name) };
    world.ask(1, &any(1, "z5.test"));
    world.ask(1, &any(2, &format!("z{}.test", LABEL_SETS_MAX + 7)));
    world.ask(1, &any(3, &format!("z{}.test", 2 * LABEL_SETS_MAX - 1)));
    assert_eq!(tally(&world, "z5.test.").answered[0], 1);
    let tallies = world.engine.tallies();
    assert_eq!((tallies.label_sets.len(), tallies.counts.len()), (LABEL_SETS_MAX, LABEL_SETS_MAX));
    assert_eq!(tallies.label_sets[LABEL_SETS_MAX - 1].server, None);
    assert_eq!(tallies.counts[LABEL_SETS_MAX - 1].answered[0], 2);
    world.finish();
}

#[test]
fn counters_and_waiting_queries_survive_a_reload() {
    let block = |zones: &str, upstream: &str| {
        format!("{zones} {{\n bind 127.0.0.1\n prometheus\n forward . {upstream}\n}}\n")
    };
    let mut world = World::new(&config(&block("a.test", "192.0.2.1")));
    world.ask(1, &Ask::new(1, "a.test"));
    let sent = world.only_sent();
    world.ask(2, &Ask::new(2, "x.a.test"));
    let other = world.only_sent();
    world.pass(0.001);
    world.respond(sent.connection, &answer(&sent.bytes));
    let _ = world.only_got();
    let new = block("b.test", "192.0.2.9") + &block("a.test x.a.test", "192.0.2.1");
    world.reload(&config(&new));
    world.pass(0.001);
    world.respond(other.connection, &answer(&other.bytes));
    let _ = world.only_got();
    assert_eq!(tally(&world, "a.test.").answered[0], 1, "what was counted stays");
    let moved = tally(&world, "x.a.test.");
    assert_eq!((sum(moved.requests.as_flattened().as_flattened()), moved.answered[0]), (0, 1));
    let counts = world.engine.tallies().upstreams.iter().map(|upstream| upstream[0].count());
    assert_eq!(counts.collect::<Vec<_>>(), [0, 2]);
    world.finish();
}

#[test]
fn frequent_names_and_clients_are_counted_with_the_status_directive() {
    let mut world = World::new(&corefile("status\n forward . 192.0.2.1"));
    for id in 0..9 {
        world.ask(id.into(), &Ask::new(id, if id % 3 == 0 { "Often.test" } else { "x.test" }));
    }
    world.pass(6.0);
    let sketches = world.engine.watch().sketches().expect("it is shown");
    let counts = |sketch: &onward::engine::sketch::Sketch| {
        let counted = sketch.keys().iter().map(|key| (key.key().to_vec(), key.count));
        counted.collect::<Vec<_>>()
    };
    let names = [(b"\x05often\x04test\0".to_vec(), 3), (b"\x01x\x04test\0".to_vec(), 6)];
    assert_eq!(counts(&sketches.names), names);
    let mut failing = counts(&sketches.failing);
    failing.sort();
    let mut names = names.to_vec();
    names.sort();
    assert_eq!(failing, names, "nobody answered any");
    let addresses = [(client(0).peer.ip().to_string(), 9)];
    let clients = counts(&sketches.clients).into_iter().map(|(ip, count)| {
        let ip = <[u8; 4]>::try_from(ip).expect("IPv4");
        (std::net::Ipv4Addr::from(ip).to_string(), count)
    });
    assert_eq!(clients.collect::<Vec<_>>(), addresses);
    sketches.clear();
    assert!(sketches.names.keys().is_empty());
    world.reload(&corefile("forward . 192.0.2.1"));
    assert!(world.engine.watch().sketches().is_none());
    world.finish();
}

#[test]
fn connections_are_shown_with_state_and_age() {
    let mut world = World::new(&corefile("forward . 192.0.2.1 {\n max_age 100s\n spread 2\n }"));
    world.ask(1, &Ask::new(1, "a.test"));
    let sent = world.only_sent();
    world.respond(sent.connection, &answer(&sent.bytes));
    world.pass(1.0);
    world.ask(1, &Ask::new(2, "b.test"));
    let _ = world.only_sent();
    world.pass(0.5);
    let state = world.engine.pools(world.now)[0];
    assert_eq!((state.idle, state.in_use, state.retiring), (1, 1, 0));
    assert_eq!((state.oldest, state.step), (Duration::from_millis(1_500), Duration::from_secs(10)));
    assert_eq!(state.ages[..2], [2, 0]);
    let later = world.now.plus(Duration::from_secs(200));
    assert_eq!(world.engine.pools(later)[0].ages[11], 2);
    assert_eq!(world.engine.pools(Moment::ZERO)[1].limit, state.limit);
    let got = world.got.len();
    world.pass(10.0);
    assert!(world.got.len() > got, "the second failed");
    let stats = world.engine.stats();
    let ages = stats.upstreams[0].pool.ages.map(|ages| sum(&ages.counts));
    assert_eq!(sum(&ages), stats.upstreams[0].pool.opened - world.sockets.len() as u64);
    world.finish();
}
