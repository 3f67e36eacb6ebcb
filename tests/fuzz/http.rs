//! Fuzz targets: connections of HTTP clients, and to HTTP upstreams. A client's bytes of HTTP/1.1
//! lead to the same requests however they are cut; in either version each request can be answered,
//! and memory stays in bounds. Each call to an upstream has one result.
//!
//! The corpus is bytes of HTTP/1.1, or a script of HTTP/2 that begins with a line `2`: each further
//! line is a frame, as type, flags and stream in hexadecimal, and a payload of digits in
//! hexadecimal or of fields `name=value`.

use super::fuzz;
use super::mutate::Mutator;
use onward::http::{Client, Failure, Limits, Reply, Server, Version, doh, forwarded, grpc};

const MUTATOR: Mutator = Mutator {
    separators: b" \r\n:=;,?&/",
    words: &[
        b"\r\n\r\n",
        b"\r\n",
        b"\n",
        b" ",
        b"Content-Length: 3\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close\r\n",
        b"Expect: 100-continue\r\n",
        b"0\r\n\r\n",
        b"ffffffff\r\n",
        b"GET / HTTP/1.1\r\nHost: m\r\n\r\n",
        b"1 5 3 :method=GET :scheme=https :authority=m :path=/\n",
        b"1 4 5 :method=POST :scheme=https :authority=m :path=/dns-query\n",
        b"0 1 5 000102\n",
        b"3 0 3 00000008\n",
        b"6 0 0 0000000000000000\n",
        b"4 0 0 000300000000\n",
        b"8 0 0 7fffffff\n",
        b"9 4 1 \n",
        b"HTTP/1.1 200 OK\r\n",
        b"1 4 1 :status=200 content-type=application/dns-message\n",
        b"0 1 1 303132333435363738396162\n",
        b"7 0 0 0000000100000000\n",
    ],
};
/// First bytes of a client of HTTP/2.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Number of answers after which the server begins its end.
const ANSWERS_MAX: usize = 64;

/// The bytes of an input: those of a script are made from its frames, behind a client's preface.
fn bytes(input: &[u8]) -> Vec<u8> {
    let script = input.strip_prefix(b"2\n").map(frames);
    script.map_or(input.to_vec(), |frames| [PREFACE, &frames].concat())
}

fn frames(script: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    for line in script.split(|byte| *byte == b'\n') {
        let mut words = line.splitn(4, |byte| *byte == b' ');
        let mut number = || {
            let word = words.next().and_then(|word| std::str::from_utf8(word).ok());
            word.and_then(|word| u32::from_str_radix(word, 16).ok()).unwrap_or(0)
        };
        let (kind, flags, stream) = (number(), number(), number());
        let payload = payload(words.next().unwrap_or_default());
        all.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
        all.extend_from_slice(&[kind as u8, flags as u8]);
        all.extend_from_slice(&stream.to_be_bytes());
        all.extend_from_slice(&payload);
    }
    all
}

/// A payload from digits, or from fields, each of which is a literal in no table.
fn payload(text: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    for word in text.split(|byte| *byte == b' ') {
        let Some(at) = word.iter().skip(1).position(|byte| *byte == b'=') else {
            let digits = word.chunks(2).filter_map(|pair| std::str::from_utf8(pair).ok());
            payload.extend(digits.filter_map(|pair| u8::from_str_radix(pair, 16).ok()));
            continue;
        };
        payload.push(0);
        for part in [&word[..at + 1], &word[at + 2..]] {
            let part = &part[..part.len().min(126)];
            payload.push(part.len() as u8);
            payload.extend_from_slice(part);
        }
    }
    payload
}

/// Requests that a server takes from `bytes` in pieces of this size, each answered at once.
fn requests(bytes: &[u8], piece: usize) -> Vec<String> {
    let mut server = Server::new(None, Limits::DNS);
    let mut all = Vec::new();
    for piece in bytes.chunks(piece) {
        let mut rest = piece;
        loop {
            let taken = server.receive(rest);
            rest = &rest[taken..];
            let before = all.len();
            while let Some(request) = server.next_request() {
                let id = request.id;
                let client = forwarded::client(&request, |address| address.is_ipv4());
                let mut message = [0; doh::QUERY_LEN_MAX];
                let asked = doh::query(&request, &["/dns-query"], &mut message);
                let called = grpc::query(&request, &mut message);
                all.push(format!("{request:?} {client:?} {asked:?} {called:?}"));
                let answered = match (asked, called) {
                    (Ok(len), _) => doh::respond(&mut server, id, &message[..len], 7, None),
                    (Err(_), Ok(len)) => grpc::respond(&mut server, id, &message[..len]),
                    (Err(refusal), Err(_)) if id % 4 < 2 => refusal.respond(&mut server, id),
                    (Err(_), Err(status)) => grpc::refuse(&mut server, id, status),
                };
                answered.expect("answers are sent at once");
                if all.len() == ANSWERS_MAX {
                    server.shut_down();
                }
            }
            while server.next_cancelled().is_some() {}
            let mut out = Vec::new();
            server.transmit(&mut out, 1 << 20);
            assert!(out.len() <= (1 << 20) + 16_393, "{} bytes are sent at once", out.len());
            assert_eq!(server.outstanding(), 0);
            assert!(!server.is_over() || !server.is_within_request());
            assert!(rest.is_empty() || taken > 0 || all.len() > before, "a full buffer");
            if rest.is_empty() {
                break;
            }
        }
    }
    assert!(server.version().is_some() || bytes.len() < PREFACE.len());
    let (held, peak) = server.memory();
    assert!(peak <= Server::bytes_max(&Limits::DNS), "{held} bytes, {peak} at most");
    all.truncate(ANSWERS_MAX);
    all
}

#[test]
fn http() {
    let taken = fuzz("http", &MUTATOR, |input| {
        let bytes = bytes(input);
        let whole = requests(&bytes, usize::MAX);
        for piece in [1, 7] {
            let cut = requests(&bytes, piece);
            // In HTTP/2 a request may be cancelled before it is taken.
            assert!(cut == whole || bytes.starts_with(PREFACE), "{cut:?} are not {whole:?}");
        }
        !whole.is_empty()
    });
    assert!(taken > 1_000 || std::env::var_os("FUZZ_ONLY").is_some(), "{taken} have requests");
}

/// Results of three calls, of DoH by both methods and of gRPC as far as the version has room, when
/// the upstream sends `bytes` in pieces of this size and closes.
fn replies(bytes: &[u8], version: Version, piece: usize) -> Vec<String> {
    let mut client = Client::new(version, 3);
    let calls: [fn(&mut Client) -> Option<u32>; 3] = [
        |client| doh::ask(client, b"dns.test", b"/dns-query", true, b"a message"),
        |client| grpc::ask(client, true, b"dns.test", b"a message"),
        |client| doh::ask(client, b"dns.test", b"/dns-query", false, b"a message"),
    ];
    let room = client.capacity();
    let made = calls.iter().filter_map(|call| call(&mut client)).count();
    assert_eq!((made, client.outstanding(), client.capacity()), (room, room, 0));
    let shown = |reply: Reply<'_>| {
        format!("{reply:?} {:?} {:?}", doh::answer(&reply), grpc::answer(&reply))
    };
    client.transmit(&mut Vec::new(), 1 << 20);
    let mut all = Vec::new();
    for piece in bytes.chunks(piece).map(Some).chain([None]) {
        match piece {
            Some(piece) => client.receive(piece),
            None => client.end(),
        }
        let mut out = Vec::new();
        client.transmit(&mut out, 1 << 20);
        while let Some(reply) = client.next_reply() {
            all.push((reply.id, shown(reply)));
        }
        while let Some((id, failure)) = client.next_failed() {
            assert!(failure != Failure::Lost || piece.is_none() || client.is_ending());
            all.push((id, format!("{failure:?}")));
        }
        assert_eq!(all.len() + client.outstanding(), made, "a call has two results, or none");
    }
    assert!(client.is_ending() && client.outstanding() == 0);
    client.cancel(1);
    client.shut_down();
    all.sort();
    all.into_iter().map(|(_, result)| result).collect()
}

#[test]
fn reply() {
    let taken = fuzz("reply", &MUTATOR, |input| {
        let script = input.strip_prefix(b"2\n").map(frames);
        let version = if script.is_some() { Version::Http2 } else { Version::Http1 };
        let bytes = script.unwrap_or_else(|| input.to_vec());
        let whole = replies(&bytes, version, usize::MAX);
        assert_eq!(replies(&bytes, version, 1), whole);
        assert_eq!(replies(&bytes, version, 7), whole);
        whole.iter().any(|result| result.starts_with("Reply"))
    });
    assert!(taken > 1_000 || std::env::var_os("FUZZ_ONLY").is_some(), "{taken} have replies");
}
