//! Dead upstreams under an overload of queries: counters.
//!
//! For each failure mode, every query that was read gets SERVFAIL, all exchange slots are freed,
//! and a live upstream is used normally afterwards. Descriptors and memory are tested on a separate
//! process.

use crate::dead::{Death, dead};
use crate::flood::Flood;
use crate::until::until;
use crate::{assert_all_answered, drive, responder, start, sum};
use onward::engine::exchange::EXCHANGES_MAX;
use onward::engine::stats::{DropReason, Stats};
use onward::traffic::answer::Behaviour;

/// More than the number of exchanges, within half a second.
const QUERIES: u16 = 25_000;

#[test]
fn under_a_flood_a_dead_upstream_leaks_no_exchange_and_every_query_gets_servfail() {
    const { assert!(QUERIES as usize > EXCHANGES_MAX) };
    let living = responder(&[Behaviour::Answer]);
    for death in Death::ALL {
        let (address, _dead) = dead(death);
        let body = format!(
            "forward flood.test {address} {{\n read_timeout 200ms\n {}\n}}\nforward . {}\n",
            death.transport(),
            living.addresses()[0]
        );
        let server = start("127.0.0.1:0", &body, 1);
        let mut flood = Flood::offer(server.addresses()[0], QUERIES);
        let total = until("every query that was read is answered", || {
            flood.read();
            let total = sum(&server.stats());
            (total.queries == total.replied()).then_some(total)
        });
        check(death, &total, &flood);
        assert_all_answered(&drive(server.addresses()[0], 64, 2_000), 2_000);
        server.stop();
    }
}

fn check(death: Death, total: &Stats, flood: &Flood) {
    assert!(total.queries > 0 && total.queries <= flood.sent, "{death:?}: {total:?}");
    assert_eq!(total.replies[2], total.queries, "{death:?}: {total:?}");
    let unsent = total.dropped(DropReason::ReplyNotSent);
    assert!(flood.replies + unsent <= total.queries, "{death:?}");
    assert!(flood.replies > 0, "{death:?}");
    let [dead, living] = total.upstreams[..] else { panic!("two upstreams") };
    assert_eq!((dead.answered, living.sent), (0, 0));
    // An attempt without a connection fails without being sent.
    assert!(dead.sent <= dead.timed_out + dead.failed, "{death:?}: {dead:?}");
}
