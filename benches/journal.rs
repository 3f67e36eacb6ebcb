//! Cost of a query's log line in the writer.
//!
//! `cargo bench -p benches --bench journal` passes the writer pages of records, as many as a
//! worker's query log holds at once, and discards the output, as text and as JSON. The time is per
//! line and includes the channel and the copy of each batch.

use onward::clock::Clock;
use onward::config::{Config, Host, Protocol};
use onward::control::WriterMailbox;
use onward::engine::journal::{Event, LoggedQuery, Page, RECORDS_MAX, Record, Replied, Span};
use onward::engine::key::Transport;
use onward::engine::message::query::Asked;
use onward::log::{Format, Log};
use onward::moment::Moment;
use onward::writer::{Generations, Writer};
use std::net::SocketAddr;
use std::sync::Arc;

/// Pages of one measurement.
const PAGES: usize = 64;
const ROUNDS: usize = 20;

/// A page of records for answered queries of clients with this address.
fn page(peer: SocketAddr) -> Page {
    let mut page = Page::new();
    for number in 0..RECORDS_MAX {
        let asking = LoggedQuery {
            peer: Some(peer),
            local: peer.ip(),
            transport: Transport::Udp,
            protocol: Protocol::Dns,
            since: Moment::from_nanos(number as u64),
            size: 40,
            asked: Asked { id: number as u16, flags: 0x0100, edns: None },
            rtype: 28,
            class: 1,
        };
        let reply = Some(Replied { flags: 0x8180, rcode: 0, size: 120 });
        let (event, at) = (Event::Ended(0), Moment::from_nanos(906_045));
        let (name, message) = (Span::default(), Span::default());
        let record = Record {
            event,
            block: 0,
            at,
            asking,
            upstream: None,
            reply,
            labels: None,
            name,
            message,
        };
        page.push(record, b"\x03www\x07example\x03org\0", b"");
    }
    page
}

fn send(mailbox: &WriterMailbox, peer: SocketAddr) {
    let (home, _) = crossbeam_channel::bounded(PAGES);
    for _ in 0..PAGES {
        assert!(mailbox.try_send_page(0, page(peer), &home).is_ok(), "the channel is full");
    }
}

fn main() {
    let text = b".:0 {\n bind 127.0.0.1\n log\n}\n";
    let (config, _) = Config::load(text, "bench", &Host::plain()).expect("it is right");
    let clock = Clock::start();
    for (format, name) in [(Format::Text, "text"), (Format::Json, "json")] {
        for peer in ["192.0.2.17:51833", "[2001:db8::17]:51833"] {
            let best = (0..ROUNDS).map(|_| {
                let generations = Arc::<Generations>::default();
                generations.publish(0, Arc::new(config.clone()), Arc::default());
                let log = Log::new(format, |lines| {
                    std::hint::black_box(lines.len());
                });
                let (writer, mailbox) = Writer::new(clock, generations, log);
                send(&mailbox, peer.parse().expect("an address"));
                drop(mailbox);
                let begin = clock.now();
                writer.run();
                clock.now().since(begin)
            });
            let best = best.min().expect("there are rounds");
            let lines = (PAGES * RECORDS_MAX) as f64;
            println!("{name} {peer:>22}: {:.0} ns a line", best.as_nanos() as f64 / lines);
        }
    }
}
