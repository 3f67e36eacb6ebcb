//! Floods of HTTP/2: each ends with a GOAWAY that asks for calm, and with memory in bounds.
//!
//! A flood comes from a client that reads and from one that does not: then acknowledgements and
//! resets stay in the server.

use super::{
    CANCEL, COMPRESSION_ERROR, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR, Frame, GOAWAY, HEADERS, PADDED, PING, PRIORITY, PROTOCOL_ERROR, ROOM,
    RST_STREAM, SETTINGS, WINDOW_UPDATE, answer, block, fields, frame, frames, get, greeted, post,
    requests, reset, sent,
};
use crate::http::response::Response;
use crate::http::{Limits, Server};

/// Bound of the library's memory, for connections with these limits.
const MEMORY_MAX: usize = 320 << 10;

/// A client, and the bytes that it got.
struct Flood {
    server: Server,
    got: Vec<u8>,
    /// The client reads.
    reads: bool,
    asked: usize,
    outstanding: usize,
}

impl Flood {
    fn new(reads: bool) -> Self {
        let server = greeted(Limits::DNS);
        Self { server, got: Vec::new(), reads, asked: 0, outstanding: 0 }
    }

    /// Sends bytes as a worker receives them: a read, the requests, the cancellations, a write.
    fn send(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(16 << 10) {
            assert_eq!(self.server.receive(piece), piece.len());
            self.asked += requests(&mut self.server).len();
            while self.server.next_cancelled().is_some() {}
            self.outstanding = self.outstanding.max(self.server.outstanding());
        }
        // Without a reader, the outbox is full at once.
        let room = if self.reads { ROOM } else { 0 };
        let mut out = Vec::new();
        self.server.transmit(&mut out, room);
        self.got.extend(out);
    }

    /// Sends `make(number)` until the connection is over, at most `limit` times.
    fn until_over(&mut self, limit: u32, mut make: impl FnMut(u32) -> Vec<u8>) {
        for number in 0..limit {
            if self.server.is_over() {
                return;
            }
            self.send(&make(number));
            let (held, peak) = self.server.memory();
            assert!(peak <= MEMORY_MAX, "round {number}: {held} bytes, {peak} at most");
        }
        assert!(!self.reads || self.server.is_over(), "the flood goes on after {limit} rounds");
    }

    /// The code of the connection's GOAWAY.
    fn code(mut self) -> u32 {
        self.got.extend(sent(&mut self.server));
        assert!(self.server.is_over());
        let all = frames(&self.got);
        let ends: Vec<&Frame> = all.iter().filter(|frame| frame.kind == GOAWAY).collect();
        let [end] = ends[..] else { panic!("{} GOAWAYs", ends.len()) };
        u32::from_be_bytes(end.payload[4..8].try_into().unwrap())
    }
}

/// Sends `make(number)`, at most `limit` times, once from a client that reads and once from one
/// that does not. The connection must end, asking for calm.
#[track_caller]
fn ends(limit: u32, before: &[u8], mut make: impl FnMut(u32) -> Vec<u8>) {
    for reads in [true, false] {
        let mut flood = Flood::new(reads);
        flood.send(before);
        flood.until_over(limit, &mut make);
        assert!(flood.outstanding <= 128);
        assert_eq!(flood.code(), ENHANCE_YOUR_CALM, "reads: {reads}");
    }
}

#[test]
fn resets_at_once() {
    ends(256, &[], |number| {
        let stream = 2 * number + 1;
        [get(stream, "/"), reset(stream, CANCEL)].concat()
    });
}

#[test]
fn resets_of_requests_that_were_taken() {
    ends(512, &[], |number| {
        let stream = 2 * (number / 2) + 1;
        if number % 2 == 0 { get(stream, "/") } else { reset(stream, CANCEL) }
    });
}

#[test]
fn resets_that_the_server_is_made_to_send() {
    let mut flood = Flood::new(true);
    flood.until_over(512, |number| {
        let stream = 2 * number + 1;
        let head = frame(HEADERS, END_HEADERS, stream, &block(&fields("GET", "/")));
        [head, frame(DATA, 0, stream, b"body")].concat()
    });
    assert_eq!(flood.code(), ENHANCE_YOUR_CALM);
    // Other errors of a stream end the connection at once.
    for payload in [[0x7f, 0xff, 0xff, 0xff], [0; 4]] {
        let mut flood = Flood::new(true);
        flood.send(&get(1, "/"));
        flood.until_over(1, |_| frame(WINDOW_UPDATE, 0, 1, &payload));
        assert!([PROTOCOL_ERROR, FLOW_CONTROL_ERROR].contains(&flood.code()));
    }
}

#[test]
fn continuations() {
    let head = frame(HEADERS, END_STREAM, 1, &block(&fields("GET", "/")));
    ends(8, &head, |_| frame(CONTINUATION, 0, 1, &[]));
    ends(8, &head, |_| frame(CONTINUATION, 0, 1, &block(&[("a", "b")])));
}

#[test]
fn data_without_bytes() {
    ends(512, &post(1), |_| frame(DATA, 0, 1, &[]));
    ends(512, &post(1), |_| frame(DATA, PADDED, 1, &[0]));
    let mut flood = Flood::new(true);
    flood.send(&post(1));
    flood.until_over(512, |_| frame(DATA, PADDED, 1, &[&[255][..], &[0; 255]].concat()));
    assert_eq!(flood.code(), ENHANCE_YOUR_CALM);
}

#[test]
fn pings_and_settings() {
    ends(512, &[], |_| frame(PING, 0, 0, &[0; 8]));
    ends(512, &[], |_| frame(SETTINGS, 0, 0, &[]));
    ends(512, &[], |number| {
        let window = 10 + number % 2;
        frame(SETTINGS, 0, 0, &[&[0, 4][..], &window.to_be_bytes()].concat())
    });
    ends(1, &[], |_| frame(SETTINGS, 0, 0, &[0, 99, 0, 0, 0, 1].repeat(100)));
}

#[test]
fn priorities_windows_and_unknown_frames() {
    ends(512, &[], |number| frame(PRIORITY, 0, 2 * number + 1, &[0, 0, 0, 0, 1]));
    ends(512, &[], |_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]));
    ends(1_024, &[], |_| frame(0xfa, 0, 0, b"x"));
    ends(1_024, &[], |number| {
        frame(16, 0, 0, &[&(2 * number + 1).to_be_bytes()[..], b"u=1"].concat())
    });
}

#[test]
fn blocks_that_grow_when_they_are_decoded() {
    // A value of 4,000 bytes enters the table, and each further byte repeats it.
    let value = "a".repeat(4_000);
    let mut bomb = block(&fields("GET", "/"));
    bomb.push(0x40);
    let entry = block(&[("x", &value)]);
    bomb.extend_from_slice(&entry[1..]);
    bomb.extend([0x80 | 62].repeat(10_000));
    ends(1, &[], |number| frame(HEADERS, END_STREAM | END_HEADERS, 2 * number + 1, &bomb));
}

#[test]
fn one_enormous_field() {
    // It is announced as 16 MB, and decoded as it arrives.
    let mut start = block(&fields("GET", "/"));
    start.extend([0, 1, b'x', 0x7f, 0x80, 0x80, 0x80, 0x08]);
    for reads in [true, false] {
        let mut flood = Flood::new(reads);
        flood.send(&frame(HEADERS, END_STREAM, 1, &start));
        flood.until_over(100, |_| frame(CONTINUATION, 0, 1, &[b'a'; 16_000]));
        assert_eq!(flood.code(), COMPRESSION_ERROR);
    }
}

#[test]
fn fields_beyond_the_limit() {
    let wide = "a".repeat(8_200);
    let mut list = fields("GET", "/");
    list.push(("cookie", &wide));
    let head = block(&list);
    for reads in [true, false] {
        let mut flood = Flood::new(reads);
        let mut number = 0;
        // Each is answered with 431, which gives nothing back.
        while !flood.server.is_over() {
            number += 1;
            let stream = 2 * number - 1;
            flood.send(&frame(HEADERS, END_STREAM | END_HEADERS, stream, &head));
            let refused = Response::new(431, &[], b"no\n");
            flood.server.respond(stream, &refused).unwrap();
            flood.got.extend(sent(&mut flood.server));
            assert!(number < 512, "the flood goes on");
        }
        assert_eq!(flood.code(), ENHANCE_YOUR_CALM);
    }
}

#[test]
fn bodies_that_never_end() {
    let mut flood = Flood::new(true);
    flood.until_over(2_048, |number| {
        let stream = 2 * (number % 100) + 1;
        match number {
            0..100 => post(stream),
            _ => frame(DATA, 0, stream, &[7; 1_000]),
        }
    });
    assert_eq!(flood.code(), ENHANCE_YOUR_CALM);
}

#[test]
fn requests_that_never_end_are_bounded_in_all() {
    let mut flood = Flood::new(true);
    let path = format!("/{}", "a".repeat(7_000));
    for number in 0..100 {
        let head = block(&fields("POST", &path));
        flood.send(&frame(HEADERS, END_HEADERS, 2 * number + 1, &head));
    }
    let resets = frames(&flood.got).iter().filter(|frame| frame.kind == RST_STREAM).count();
    assert!((80..90).contains(&resets), "{resets}");
    assert!(!flood.server.is_over());
}

#[test]
fn answers_that_are_never_read() {
    // The client grants no window, and asks as often as it may.
    let mut flood = Flood::new(true);
    flood.send(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]));
    let mut refused = 0;
    for number in 0..128 {
        let stream = 2 * number + 1;
        flood.send(&get(stream, "/"));
        let response = Response::new(200, &[], &[7; 4_000]);
        refused += u32::from(flood.server.respond(stream, &response).is_err());
    }
    assert_eq!(flood.asked, 128);
    assert!(refused > 50, "{refused}");
    let (held, peak) = flood.server.memory();
    assert!(peak < 192 << 10, "{held} {peak}");
}

#[test]
fn a_browser_that_cancels_is_no_flood() {
    let mut flood = Flood::new(true);
    let body = [7; 100];
    for number in 0..900 {
        let (one, two) = (4 * number + 1, 4 * number + 3);
        flood.send(&[get(one, "/"), get(two, "/")].concat());
        flood.send(&reset(one, CANCEL));
        answer(&mut flood.server, two, &body);
        flood.send(&frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 100]));
    }
    assert!(!flood.server.is_over() && flood.asked == 1_800);
    let bodies = frames(&flood.got).iter().filter(|frame| frame.kind == DATA).count();
    assert_eq!(bodies, 900);
}
