//! `bufsize`: the UDP payload size that upstreams and clients see.
//!
//! The smaller one of the two limits holds: the one asked for, and the one of the directive.

use super::ask;
use crate::common::wire::{Writer, question_of, word_at};
use crate::world::world;

#[test]
fn the_buffer_is_no_larger_than_allowed_on_either_side() {
    let mut world = world("bufsize 600\n forward . 192.0.2.1");
    for (size, limit) in [(4_096, 600), (550, 550)] {
        world.ask(1, &ask("a.test", 16).with_edns(size));
        let sent = world.only_sent();
        let opt = sent.bytes.len() - 11;
        assert_eq!(word_at(&sent.bytes, opt + 3), 600, "what the upstream may send");
        let mut writer = Writer::new([word_at(&sent.bytes, 0), 0x8180, 1, 4, 0, 0]);
        writer.bytes.extend_from_slice(question_of(&sent.bytes));
        for number in 0..4 {
            let data = [&[150][..], &[b'a' + number; 150]].concat();
            writer.record(&[1, b'a' + number, 0], 16, 1, 9, &data);
        }
        assert!(world.respond(sent.connection, &writer.bytes));
        let got = world.only_got();
        assert!(got.bytes.len() <= limit && word_at(&got.bytes, 2) & 0x0200 != 0);
        assert_eq!(word_at(&got.bytes, got.bytes.len() - 8), 600, "what the client may send");
    }
    world.finish();
}
