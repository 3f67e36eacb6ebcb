//! `whoami`: the client's own address and port.
//!
//! The additional section has records of the address's family.

use super::{ask, ask_from};
use crate::common::wire::Ask;
use crate::world::{shown, world};

#[test]
fn whoami_returns_the_clients_address_and_port() {
    let mut world = world("whoami\n forward private.test 192.0.2.1");
    let ask = ask("a.test", 16);
    ask_from(&mut world, "192.0.2.77", &ask);
    let expected = "NOERROR aa rd\nAD a.test 0 A 192.0.2.77\nAD _udp.a.test 0 SRV 0 0 4242 ";
    assert_eq!(shown(&world.only_got()), expected);
    ask_from(&mut world, "2001:db8::7", &ask);
    assert!(shown(&world.only_got()).contains("AD a.test 0 AAAA 2001:db8::7\n"));
    // A name too long for another label in front.
    let longest = format!("{0}.{0}.{0}.{1}", "x".repeat(63), "y".repeat(61));
    ask_from(&mut world, "192.0.2.77", &Ask { name: longest, ..ask.clone() });
    assert_eq!(shown(&world.only_got()).lines().count(), 2);
    ask_from(&mut world, "192.0.2.77", &Ask { class: 3, ..ask });
    assert_eq!(world.only_got().rcode(), 0, "a block that forwards takes every class");
    world.finish();
}
