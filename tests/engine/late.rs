//! Late replies over UDP, in virtual time.
//!
//! Answers that were held up reach one address bit by bit, and those that are too old not at all.

use crate::common::wire::{Ask, answer};
use crate::world::{Got, World, client, corefile, world};
use onward::engine::Client;
use onward::engine::stats::DropReason;
use onward::moment::Moment;
use std::net::SocketAddr;
use std::time::Duration;

/// Queries of a pulse.
const PULSE: usize = 10_000;

fn from(address: &str) -> Client {
    Client { peer: SocketAddr::new(address.parse().unwrap(), 4_242), ..client(1) }
}

/// The largest number of replies within ten milliseconds.
fn peak(got: &[Got]) -> usize {
    let mut counts = std::collections::HashMap::new();
    for reply in got {
        *counts.entry(reply.at.as_nanos() / 10_000_000).or_insert(0) += 1;
    }
    counts.into_values().max().unwrap_or(0)
}

/// Lets [`PULSE`] queries from one address and one of another wait for a name.
fn wait(world: &mut World, seconds: f64) {
    for number in 0..PULSE {
        world.packet(client(number), &Ask::new(7, "slow.test").bytes());
    }
    world.packet(from("203.0.113.9"), &Ask::new(7, "slow.test").bytes());
    world.settle();
    world.pass(seconds);
}

#[test]
fn an_answer_that_many_queries_of_one_address_wait_for_reaches_it_bit_by_bit() {
    let mut world = world("forward . 192.0.2.1");
    wait(&mut world, 1.5);
    let sent = world.only_sent();
    world.respond(sent.connection, &answer(&sent.bytes));
    world.settle();
    let at_once = world.take_got();
    assert!(at_once.iter().any(|got| got.client == from("203.0.113.9")), "another address");
    assert_eq!(at_once.len(), 128 + 1);
    let began = world.now;
    world.pass(10.0);
    let late = world.take_got();
    assert_eq!(late.len(), PULSE - 128, "none is lost");
    let took = late.last().unwrap().at.since(began);
    assert!(took < Duration::from_millis(250), "{took:?}");
    let peak = peak(&[at_once, late].concat());
    assert!(peak <= PULSE / 10, "{peak} in ten milliseconds");
    let stats = world.finish();
    assert_eq!(stats.late_held, PULSE as u64 - 128);
    assert_eq!(stats.dropped(DropReason::ReplyTooLate), 0);
}

#[test]
fn errors_for_queries_without_an_answer_are_no_pulse_either() {
    let mut world = world("forward . 192.0.2.1");
    wait(&mut world, 10.0);
    let got = world.take_got();
    assert_eq!(got.len(), PULSE + 1);
    assert!(peak(&got) <= PULSE / 10, "{} in ten milliseconds", peak(&got));
    world.finish();
}

#[test]
fn usual_answers_and_those_over_tcp_are_sent_at_once() {
    let mut world = world("forward . 192.0.2.1");
    wait(&mut world, 0.199);
    let sent = world.only_sent();
    world.respond(sent.connection, &answer(&sent.bytes));
    world.settle();
    assert_eq!(world.take_got().len(), PULSE + 1, "not late");
    let unlimited = corefile("late {\n rate 0\n }\n forward . 192.0.2.1");
    world.reload(&unlimited);
    wait(&mut world, 1.5);
    let sent = world.only_sent();
    world.respond(sent.connection, &answer(&sent.bytes));
    world.settle();
    assert_eq!(world.take_got().len(), PULSE + 1, "without a rate");
    let stats = world.finish();
    assert_eq!(stats.late_held, 0);
}

#[test]
fn a_worker_holds_back_a_bounded_number_of_replies() {
    for (rate, held) in [(4_000, 16_384), (100, 500)] {
        let mut world = world(&format!("late {{\n rate {rate}\n }}\n forward . 192.0.2.1"));
        wait(&mut world, 0.3);
        wait(&mut world, 0.3);
        let sent = world.only_sent();
        world.respond(sent.connection, &answer(&sent.bytes));
        world.settle();
        let answers = world.take_got().len();
        assert_eq!(answers, 128 + 2);
        let stats = world.engine.stats();
        assert_eq!(stats.late_held, held, "rate {rate}");
        let lost = stats.dropped(DropReason::ReplyTooLate);
        assert_eq!(answers as u64 + held + lost, 2 * (PULSE as u64 + 1), "counted");
        world.pass(5.0);
        assert_eq!(world.take_got().len() as u64, held, "none waits for longer than a query may");
    }
}

#[test]
fn replies_older_than_discard_are_not_sent_over_udp() {
    for (millis, is_sent) in [(1_900, true), (1_901, false)] {
        let mut world = world("late {\n discard 1.9s\n }\n forward . 192.0.2.1");
        world.ask_over_tcp(1, &Ask::new(7, "slow.test"));
        world.ask(2, &Ask::new(7, "slow.test"));
        world.advance(Moment::ZERO.plus(Duration::from_millis(millis)));
        for sent in world.take_sent() {
            world.respond(sent.connection, &answer(&sent.bytes));
        }
        world.settle();
        assert_eq!(world.take_got().len(), if is_sent { 2 } else { 1 }, "{millis}");
        assert_eq!(world.dropped(DropReason::ReplyTooLate), u64::from(!is_sent));
    }
}

#[test]
fn replies_that_are_held_back_survive_a_reload() {
    let mut world = world("late {\n rate 4000\n }\n prometheus\n forward . 192.0.2.1");
    wait(&mut world, 1.5);
    let sent = world.only_sent();
    world.respond(sent.connection, &answer(&sent.bytes));
    world.settle();
    let at_once = world.take_got().len();
    let other = corefile("whoami");
    world.reload(&other);
    world.pass(20.0);
    assert_eq!(at_once + world.take_got().len(), PULSE + 1);
    world.finish();
}
