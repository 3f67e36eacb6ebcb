//! Tests of admission and of the limits of client connections.
//!
//! Each test has a table of connections and a virtual clock; the shell, which would own the
//! sockets, is not needed.

use super::{Clients, ConnectionLimits, IDLE_MAX, OUTSTANDING_MAX, Refused};
use crate::moment::Moment;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

const CONNECTIONS_MAX: usize = 4096;

/// Creates a table for listeners with these limits.
fn with(limits: &[ConnectionLimits]) -> Clients {
    Clients::new(CONNECTIONS_MAX, limits.into(), ahash::RandomState::with_seeds(1, 2, 3, 4))
}

fn clients() -> Clients {
    with(&[ConnectionLimits::DEFAULT])
}

fn address(number: usize) -> IpAddr {
    Ipv4Addr::from(number as u32).into()
}

fn at(seconds: u64) -> Moment {
    Moment::ZERO.plus(Duration::from_secs(seconds))
}

#[test]
fn a_partial_query_and_an_unread_answer_have_separate_time_limits() {
    let seconds = |count| Some(Duration::from_secs(count));
    let limits =
        ConnectionLimits { read: seconds(2), write: seconds(3), ..ConnectionLimits::DEFAULT };
    let mut clients = with(&[limits]);
    let mut admit = |now| clients.admit(at(now), 0, address(1)).unwrap().0;
    let (silent, busy) = (admit(0), admit(0));
    clients.asked(at(1), busy);
    assert_eq!(clients.next_deadline(), Some(at(2)), "the first query is awaited");
    assert_eq!(clients.overdue(at(2)), Some(silent));
    clients.close(silent);
    assert_eq!(clients.next_deadline(), Some(at(11)), "idle");
    clients.begins_query(at(5), busy);
    clients.begins_query(at(6), busy);
    clients.active(at(6), busy);
    assert_eq!(clients.next_deadline(), Some(at(7)), "single bytes do not prolong it");
    clients.asked(at(6), busy);
    clients.begins_answer(at(8), busy);
    assert_eq!(clients.next_deadline(), Some(at(11)));
    clients.active(at(9), busy);
    assert_eq!(clients.next_deadline(), Some(at(12)), "it reads");
    clients.is_read(at(10), busy);
    assert_eq!(clients.next_deadline(), Some(at(20)));
    clients.begins_query(at(11), busy);
    clients.waits(busy);
    assert_eq!(clients.overdue(at(13)), None, "it waits for an answer");
    clients.answered(busy);
    assert_eq!(clients.overdue(at(15)), Some(busy));
}

#[test]
fn one_address_cannot_take_all_connections() {
    let mut clients = clients();
    let mut last = None;
    for _ in 0..CONNECTIONS_MAX / 2 {
        last = Some(clients.admit(at(0), 0, address(1)).unwrap().0);
    }
    assert_eq!(clients.admit(at(0), 0, address(1)).unwrap_err(), Refused::AddressFull);
    clients.admit(at(0), 0, address(2)).unwrap();
    clients.close(last.unwrap());
    clients.admit(at(0), 0, address(1)).unwrap();
}

#[test]
fn a_listener_may_allow_fewer_connections_of_an_address() {
    let limits = ConnectionLimits { per_address: Some(2), ..ConnectionLimits::DEFAULT };
    let mut clients = with(&[limits, ConnectionLimits::DEFAULT]);
    let key = clients.admit(at(0), 0, address(1)).unwrap().0;
    clients.admit(at(0), 0, address(1)).unwrap();
    assert_eq!(clients.admit(at(0), 0, address(1)).unwrap_err(), Refused::AddressFull);
    clients.admit(at(0), 1, address(1)).unwrap();
    clients.close(key);
    assert_eq!(clients.admit(at(0), 0, address(1)).unwrap_err(), Refused::AddressFull);
}

#[test]
fn at_the_maximum_of_a_listener_its_quietest_connection_is_evicted() {
    let limits = ConnectionLimits { connections: 2, ..ConnectionLimits::DEFAULT };
    let mut clients = with(&[limits, ConnectionLimits::DEFAULT]);
    let other = clients.admit(at(0), 1, address(9)).unwrap().0;
    let first = clients.admit(at(1), 0, address(1)).unwrap().0;
    let second = clients.admit(at(2), 0, address(2)).unwrap().0;
    clients.active(at(3), first);
    let (third, evicted) = clients.admit(at(4), 0, address(3)).unwrap();
    assert_eq!(evicted, Some(second));
    clients.waits(first);
    clients.waits(third);
    assert_eq!(clients.admit(at(5), 0, address(4)).unwrap_err(), Refused::Full);
    assert!(clients.is_open(other), "another listener's connections stay");
}

#[test]
fn at_the_maximum_the_longest_inactive_connection_is_evicted_unless_it_waits() {
    let mut clients = clients();
    let keys: Vec<_> =
        (0..CONNECTIONS_MAX).map(|i| clients.admit(at(0), 0, address(i)).unwrap().0).collect();
    clients.waits(keys[0]);
    clients.active(at(1), keys[1]);
    let (_, evicted) = clients.admit(at(1), 0, address(CONNECTIONS_MAX)).unwrap();
    assert_eq!(evicted, Some(keys[2]));
    assert!(!clients.is_open(keys[2]) && clients.is_open(keys[0]));
    assert_eq!(clients.count(), CONNECTIONS_MAX);
}

#[test]
fn when_all_connections_wait_for_answers_a_new_one_is_refused() {
    let mut clients = clients();
    for i in 0..CONNECTIONS_MAX {
        let key = clients.admit(at(0), 0, address(i)).unwrap().0;
        clients.waits(key);
    }
    assert_eq!(clients.admit(at(0), 0, address(CONNECTIONS_MAX)).unwrap_err(), Refused::Full);
}

#[test]
fn outstanding_queries_of_a_connection_are_limited() {
    let mut clients = clients();
    let key = clients.admit(at(0), 0, address(1)).unwrap().0;
    for _ in 0..OUTSTANDING_MAX {
        assert!(clients.may_ask(key));
        clients.waits(key);
    }
    assert!(!clients.may_ask(key) && !clients.is_quiet(key));
    clients.answered(key);
    assert!(clients.may_ask(key));
}

#[test]
fn a_connection_without_activity_is_overdue_at_the_right_instant() {
    let mut clients = clients();
    let first = clients.admit(at(0), 0, address(1)).unwrap().0;
    let second = clients.admit(at(1), 0, address(2)).unwrap().0;
    clients.active(at(3), first);
    assert_eq!(clients.next_deadline(), Some(at(1).plus(IDLE_MAX)));
    assert_eq!(clients.overdue(Moment::from_nanos(at(11).as_nanos() - 1)), None);
    assert_eq!(clients.overdue(at(11)), Some(second));
    clients.close(second);
    assert_eq!(clients.overdue(at(12)), None);
    assert_eq!(clients.overdue(at(13)), Some(first));
}

#[test]
fn a_stale_key_matches_no_connection() {
    let mut clients = clients();
    let old = clients.admit(at(0), 0, address(1)).unwrap().0;
    clients.close(old);
    let new = clients.admit(at(0), 0, address(1)).unwrap().0;
    assert_eq!(old.index(), new.index());
    clients.waits(old);
    clients.close(old);
    assert!(clients.is_open(new) && clients.is_quiet(new) && !clients.is_open(old));
}

#[test]
fn each_connection_has_the_idle_time_of_its_listener_and_waiting_is_activity() {
    let limits = |seconds| ConnectionLimits {
        idle: at(seconds).since(at(0)),
        queries: 9,
        ..ConnectionLimits::DEFAULT
    };
    let mut clients = with(&[limits(30), limits(2)]);
    let long = clients.admit(at(0), 0, address(1)).unwrap().0;
    let short = clients.admit(at(1), 1, address(2)).unwrap().0;
    assert_eq!(clients.next_deadline(), Some(at(3)));
    clients.waits(short);
    assert_eq!(clients.overdue(at(3)), None, "it waits for an answer");
    assert_eq!(clients.next_deadline(), Some(at(5)));
    clients.answered(short);
    assert_eq!(clients.overdue(at(5)), Some(short));
    clients.close(short);
    assert_eq!((clients.overdue(at(29)), clients.overdue(at(30))), (None, Some(long)));
}

#[test]
fn a_connection_is_spent_after_its_maximum_of_queries() {
    let mut clients = with(&[ConnectionLimits { queries: 2, ..ConnectionLimits::DEFAULT }]);
    let key = clients.admit(at(0), 0, address(1)).unwrap().0;
    clients.asked(at(0), key);
    assert!(!clients.is_spent(key));
    clients.asked(at(0), key);
    assert!(clients.is_spent(key));
}

#[test]
fn a_connection_of_a_proxy_counts_for_the_address_in_its_header_alone() {
    let limits = ConnectionLimits { per_address: Some(1), ..ConnectionLimits::DEFAULT };
    let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
    let mut clients = Clients::new(8, vec![limits], hasher);
    let [one, two] = [[192, 0, 2, 2], [192, 0, 2, 3]].map(IpAddr::from);
    // All are accepted before the first header is read.
    let keys = [0; 4].map(|_| clients.admit(Moment::ZERO, 0, None).unwrap().0);
    let named = [(keys[0], one), (keys[1], one), (keys[1], two), (keys[2], two), (keys[2], one)];
    let full = Err(Refused::AddressFull);
    assert_eq!(named.map(|(key, ip)| clients.name(key, ip)), [Ok(()), full, Ok(()), full, full]);
    assert_eq!(clients.admit(Moment::ZERO, 0, one).unwrap_err(), Refused::AddressFull);
    clients.close(keys[0]);
    assert_eq!(clients.name(keys[2], one), Ok(()));
    keys.into_iter().for_each(|key| clients.close(key));
    assert_eq!(clients.count(), 0);
    clients.admit(Moment::ZERO, 0, one).unwrap();
}
