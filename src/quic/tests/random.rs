//! Properties of endpoints: loss, packets of any kind, and any order of a client's acts.
//!
//! No query is lost by the link alone, no packet harms, and the table of streams has those that are
//! alive and no others.

use super::world::{READ, SILENCE, WAY, World, code, query};
use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};
use std::time::Duration;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_query_is_answered_whatever_the_link_loses(seed in any::<u64>(), loss in 4_u32..20) {
        let mut world = World::new(seed);
        world.loss = Some(loss);
        let handle = world.connect();
        let mut asked = Vec::new();
        for round in 0..200_usize {
            if asked.len() == 30 || !world.lost.is_empty() {
                break;
            }
            let ready = world.connections.get(&handle).is_some_and(|own| !own.is_handshaking());
            let bytes = query(20 + round * 7, round as u8);
            if ready && let Some(id) = world.open(handle, &bytes, true) {
                asked.push((id, bytes));
            }
            world.run(WAY);
            let (table, alive) = world.endpoint.streams();
            prop_assert!(table <= alive, "{table} entries for {alive} streams");
        }
        world.run(SILENCE / 2);
        prop_assert!(world.lost.is_empty() || asked.is_empty(), "{:?}", world.lost);
        for (id, bytes) in &asked {
            let received = world.received(handle, *id);
            prop_assert_eq!((&received.bytes, received.is_finished), (bytes, true));
        }
        prop_assert_eq!(world.endpoint.streams().0, 0);
        prop_assert_eq!(world.queries.len(), asked.len());
    }

    #[test]
    fn no_packet_harms(
        seed in any::<u64>(),
        packets in proptest::collection::vec(
            proptest::collection::vec(any::<u8>(), 0..1_300), 1..20,
        ),
    ) {
        let mut world = World::new(seed);
        let handle = world.connected();
        for (number, mut packet) in packets.into_iter().enumerate() {
            if let Some(first) = packet.first_mut() {
                // Long headers of version 1, short ones, and any.
                match number % 3 {
                    0 => *first |= 0xC0,
                    1 => *first = *first & 0x3F | 0x40,
                    _ => {}
                }
            }
            if number % 3 == 0 && packet.len() > 5 {
                packet[1..5].copy_from_slice(&[0, 0, 0, 1]);
            }
            let peer = world.peer;
            world.receive(peer, &packet);
        }
        let id = world.open(handle, &query(20, 1), true).expect("the connection stands");
        world.run(Duration::from_secs(1));
        prop_assert!(world.received(handle, id).is_finished);
    }

    #[test]
    fn the_table_has_the_live_streams(
        seed in any::<u64>(),
        steps in proptest::collection::vec((0_u8..6, any::<u8>()), 1..60),
    ) {
        let mut world = World::new(seed);
        world.echoes = false;
        let handle = world.connected();
        // Streams whose queries are not answered, cancelled or refused.
        let mut live = Vec::new();
        for (step, choice) in steps {
            let place = if live.is_empty() { 0 } else { usize::from(choice) % live.len() };
            match step {
                0 => live.extend(world.open(handle, &query(20, 1), true)),
                1 => live.extend(world.open(handle, &query(20, 1)[..9], false)),
                2 if !live.is_empty() => {
                    let id = live.swap_remove(place);
                    let _ = world.client(handle).send_stream(id).reset(code(3));
                    let _ = world.client(handle).recv_stream(id).stop(code(3));
                }
                3 if !live.is_empty() => {
                    let id = live.swap_remove(place);
                    world.client(handle).recv_stream(id).stop(code(3)).unwrap();
                }
                4 if !live.is_empty() => {
                    let index = live[place].index();
                    let own = world.queries.iter().position(|own| u64::from(own.1) == index);
                    if let Some(own) = own {
                        live.swap_remove(place);
                        let (id, stream, message) = world.queries.swap_remove(own);
                        prop_assert_eq!(world.endpoint.answer(id, stream, &message), Ok(false));
                    }
                }
                _ => world.run(WAY),
            }
            world.run(WAY * 4);
            prop_assert_eq!(world.endpoint.streams().0, live.len());
        }
        world.run(READ * 2);
        let asked = live.iter().filter(|id| {
            world.queries.iter().any(|own| u64::from(own.1) == id.index())
        });
        prop_assert_eq!(world.endpoint.streams().0, asked.count());
    }
}
