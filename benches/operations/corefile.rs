//! Costs of reading a Corefile: from text to tree, and from tree to configuration.
//!
//! The file is a realistic one: server blocks, a snippet, stages, several `forward` stanzas,
//! comments. `corefile_line` is the cost per line; a reload reads the whole file while traffic
//! continues.

use harness::{Bench, Operations, repeat, whole};
use onward::config::{Config, Host};
use std::hint::black_box;

const COREFILE: &str = "\
# What all blocks have.
(common) {
    errors
    log . {
        class denial error
    }
    prometheus 127.0.0.1:9153
}

. {
    import common
    bind 127.0.0.1 ::1
    acl {
        allow net 127.0.0.0/8 ::1
        block
    }
    bufsize 1232
    cache 3600 {
        success 20000
        denial 5000
        prefetch 10 1m 10%
    }
    loop
    forward corp.example 192.0.2.10 192.0.2.11 {
        policy sequential
        health_check 1s
    }
    forward . 198.51.100.53 203.0.113.53:5353 [2001:db8::53]:53 {
        except internal.example lan
        policy round_robin
        expire 20s
        max_age 60s
        max_fails 3
        spread 64
        max_conns 256
    }
}

internal.example lan 2.0.192.in-addr.arpa {
    import common
    bind 127.0.0.1 ::1
    cache 60
    forward . 192.0.2.53
}
";

pub(crate) const BENCHES: [Bench; 2] = [
    Bench { name: "corefile_line", set_up: lines },
    Bench { name: "corefile_smallest", set_up: smallest },
];

/// The smallest complete file.
fn smallest() -> Operations {
    let host = Host::plain();
    repeat(move || {
        let loaded = Config::load(black_box(b".:53 {\n forward . 192.0.2.53\n}\n"), "bench", &host);
        black_box(&loaded).as_ref().expect("it is valid");
    })
}

/// The whole file, repeated until `corefile_line` has its number of lines.
fn lines() -> Operations {
    let each = COREFILE.lines().count() as u64;
    let host = Host::plain();
    let mut owed = 0;
    whole(move |count| {
        owed += count;
        while owed >= each {
            owed -= each;
            let loaded = Config::load(black_box(COREFILE.as_bytes()), "bench", &host);
            black_box(&loaded).as_ref().expect("it is valid");
        }
    })
}
