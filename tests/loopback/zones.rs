//! Zone files over UDP, TCP and TLS, through changes and reloads.
//!
//! Files are real and change while the server runs; tests wait for the answer that shows the
//! change. No query fails meanwhile: the previous contents are served.

use crate::certs::{Authority, load};
use crate::http::get;
use crate::kit::{A, ask, query_for};
use crate::tcp::{ask_over_tcp, framed, read_message};
use crate::until::until;
use crate::{any_port, config, start, start_with};
use onward::config::{Config, Endpoint, Host};
use onward::server::Server;
use rustls::{ClientConnection, StreamOwned};
use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;

/// A zone file that is deleted with its test.
pub(crate) struct ZoneFile(PathBuf);

impl ZoneFile {
    pub(crate) fn new(test: &str, text: &str) -> Self {
        let name = format!("onward-zone-{test}-{}", std::process::id());
        let file = Self(std::env::temp_dir().join(name));
        file.replace(text);
        file
    }

    /// Replaces the file atomically.
    pub(crate) fn replace(&self, text: &str) {
        let new = self.0.with_extension("new");
        fs::write(&new, format!("$TTL 60\n@ SOA n h 7 2 3 4 5\n@ NS n.far.\n{text}\n")).unwrap();
        fs::rename(new, &self.0).unwrap();
    }

    pub(crate) fn body(&self, more: &str) -> String {
        format!("file {} z {{\n {more}\n}}\n", self.0.display())
    }
}

impl Drop for ZoneFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The reply's code, AA, the number of its answers, and the RDATA of the first, if it is an address
/// of the question's name.
fn answer(reply: &[u8]) -> (u8, bool, u16, [u8; 4]) {
    let count = u16::from_be_bytes([reply[6], reply[7]]);
    let name_len = reply[12..].iter().position(|byte| *byte == 0).unwrap() + 1;
    let data = 12 + name_len + 4 + 12;
    let data = reply.get(data..data + 4).and_then(|data| data.first_chunk().copied());
    (reply[3] & 15, reply[2] & 4 != 0, count, data.unwrap_or_default())
}

fn ask_for(server: &Server, name: &str) -> (u8, bool, u16, [u8; 4]) {
    answer(&ask(server.addresses()[0], &query_for(7, name, A)))
}

/// Waits until `name` has this address at both workers.
#[track_caller]
fn until_answered(server: &Server, name: &str, address: [u8; 4]) {
    let mut in_a_row = 0;
    until("the new address", || {
        let (code, is_authoritative, count, found) = ask_for(server, name);
        assert_eq!((code, is_authoritative, count), (0, true, 1), "no query fails meanwhile");
        in_a_row = if found == address { in_a_row + 1 } else { 0 };
        // The client's port selects the worker.
        (in_a_row == 40).then_some(())
    });
}

#[test]
fn a_zone_is_served_and_its_changes_are_noticed() {
    let file = ZoneFile::new("changes", "a A 192.0.2.1");
    let body = file.body("reload 20ms") + " prometheus 127.0.0.1:0";
    let server = start("127.0.0.1:0", &body, 2);
    let address = server.addresses()[0];
    assert_eq!(ask_for(&server, "a.z"), (0, true, 1, [192, 0, 2, 1]), "loaded before it serves");
    let streamed = ask_over_tcp(address, &query_for(9, "a.z", A));
    assert_eq!(answer(&streamed), (0, true, 1, [192, 0, 2, 1]));
    assert_eq!(ask_for(&server, "nope.z").0, 3);
    assert_eq!(ask_for(&server, "other.t").0, 5, "REFUSED");
    file.replace("a A 192.0.2.2");
    until_answered(&server, "a.z", [192, 0, 2, 2]);
    fs::remove_file(&file.0).unwrap();
    let metrics = server.pages().find(|(_, pages)| pages.contains(&Endpoint::Metrics)).unwrap().0;
    until("a failure that is counted", || {
        let text = get(metrics, "/metrics").1;
        let failed = "onward_zone_loads_total{zone=\"z.\",result=\"failed\"} ";
        let line = text.lines().find_map(|line| line.strip_prefix(failed))?.to_owned();
        let serial = "onward_zone_serial{zone=\"z.\"} 7";
        assert!(text.lines().any(|line| line == serial), "{text}");
        (line != "0").then_some(())
    });
    assert_eq!(ask_for(&server, "a.z"), (0, true, 1, [192, 0, 2, 2]), "what was good stays");
    file.replace("a A 192.0.2.3");
    until_answered(&server, "a.z", [192, 0, 2, 3]);
    server.stop();
}

#[test]
fn a_broken_zone_fails_the_reload_and_the_old_one_stays() {
    let file = ZoneFile::new("reload", "a A 192.0.2.1");
    let never = file.body("reload 0");
    let mut server = start("127.0.0.1:0", &never, 2);
    let address = server.addresses()[0].to_string();
    file.replace("a A 192.0.2.2");
    // The file is not watched, so each reload reads it.
    server.reload(config(&address, &never)).unwrap();
    assert_eq!(ask_for(&server, "a.z"), (0, true, 1, [192, 0, 2, 2]));
    file.replace("a A junk");
    let error = server.reload(config(&address, &never)).unwrap_err().to_string();
    let place = format!("Corefile:3 - {}:4:5: zone z.: expected an IPv4 address", file.0.display());
    assert!(error.contains(&place), "{error}");
    assert_eq!(ask_for(&server, "a.z"), (0, true, 1, [192, 0, 2, 2]));
    server.reload(config(&address, "whoami")).unwrap();
    server.stop();
}

#[test]
fn a_zone_is_served_over_tls_and_whole_over_tcp() {
    let lines = (1..=100).map(|number| format!("big A 192.0.0.{number}\n"));
    let file = ZoneFile::new("tls", &lines.collect::<String>());
    let (authority, port) = (Authority::new("good"), any_port());
    let identity = authority.issue(&["dns.test"]);
    let text = format!(
        "tls://.:{} {{\n bind {}\n tls cert.pem key.pem\n {}\n}}\n",
        port.port(),
        port.ip(),
        file.body("")
    );
    let files = [("cert.pem", &*identity.certificate), ("key.pem", &*identity.key)];
    let loaded: Config = load(&text, &files);
    let server = start_with(loaded, 1);
    let client =
        ClientConnection::new(Arc::new(authority.client()), "dns.test".try_into().unwrap())
            .unwrap();
    let socket = TcpStream::connect(server.addresses()[0]).unwrap();
    let mut stream = StreamOwned::new(client, socket);
    let query = query_for(7, "big.z", A);
    stream.write_all(&framed(&query)).unwrap();
    let reply = read_message(&mut stream).unwrap();
    assert_eq!((reply[2] & 2, answer(&reply).2), (0, 100));
    server.stop();
    let server = start("127.0.0.1:0", &file.body(""), 1);
    let reply = ask(server.addresses()[0], &query);
    assert_eq!((reply[2] & 2, answer(&reply).2), (2, 0), "TC, and no part of the set");
    server.stop();
    let plain = Config::load(
        b". {\n bind 127.0.0.1\n file /no/such z {\n reload 0\n}\n}\n",
        "C",
        &Host::plain(),
    );
    let log = onward::log::Log::text(|_| {});
    let error = Server::start(plain.unwrap().0, &[None], log).err().unwrap().to_string();
    assert_eq!(error, "plugin/file: C:3 - open /no/such: no such file or directory");
}
