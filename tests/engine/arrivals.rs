//! Batches of client packets, parsed ahead of time as a worker does it.
//!
//! Prefetching their cache entries may change latency only: replies and counters stay the same.

use crate::common::wire::Ask;
use crate::stages::cache::caching;
use crate::world::{World, client};
use onward::engine::stats::Stats;

#[test]
fn batched_packets_are_served_as_if_one_by_one() {
    // Fewer packets than fit into a batch, as many, and more; cached names, new ones, repeated
    // ones, and packets that are not queries, in any order.
    for count in [1, 7, 8, 9, 16, 29] {
        let packets: Vec<_> = (0..count)
            .map(|number: usize| {
                let name = format!("{}.known.example", number * 7 % 11);
                let mut bytes = Ask::new(number as u16, &name).with_edns(1_232).bytes();
                match number % 6 {
                    2 => bytes[2] |= 0x80,
                    3 => bytes.truncate(5),
                    4 => bytes[5] = 2,
                    _ => {}
                }
                (client(number), bytes)
            })
            .collect();
        let [mut one_by_one, mut batched] = [(); 2].map(|()| {
            let mut world = caching("");
            (0..6).for_each(|number| world.learn(&format!("{number}.known.example"), 100));
            world
        });
        packets.iter().for_each(|(client, bytes)| one_by_one.packet(*client, bytes));
        batched.batch(&packets);
        one_by_one.settle();
        batched.settle();
        let seen = |world: &mut World| {
            let got = world.take_got().into_iter().map(|got| (got.client, got.bytes));
            let sent = world.take_sent().into_iter().map(|sent| (sent.connection, sent.bytes));
            (got.collect::<Vec<_>>(), sent.collect::<Vec<_>>())
        };
        let (left, right) = (seen(&mut one_by_one), seen(&mut batched));
        assert!(!left.0.is_empty(), "{count}: somebody is answered at once");
        assert_eq!(left, right, "{count}");
        let [left, right] = [one_by_one, batched].map(|world| world.engine.stats());
        assert_eq!(left.queries, 6 + count as u64);
        let books = |stats: &Stats| (stats.queries, stats.drops, stats.coalesced);
        assert_eq!(books(&left), books(&right), "{count}");
    }
}
