//! Packets that are read ahead, several at once, as a worker reads a batch.
//!
//! What is fetched meanwhile changes nothing but the time it takes: that is what is shown here.

use crate::common::wire::Ask;
use crate::stages::cache::caching;
use crate::world::{World, client};
use onward::engine::stats::Stats;

#[test]
fn who_is_read_ahead_of_others_is_served_as_one_by_one() {
    // Fewer than are read at once, as many, and more; known names, new ones, the same one twice,
    // and what is no query, in any order.
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
