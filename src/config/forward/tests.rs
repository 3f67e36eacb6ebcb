//! The directive as a whole: one test per rule.
//!
//! Everything goes through [`Config::load`], as an operator's file does.

use crate::config::{
    Alpn, Config, Forward, Host, HttpCarrier, HttpTarget, Interface, Name, Policy, Resolved, Sizing,
};
use crate::corefile::Sources;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

fn host() -> Host {
    let many: String = (1..=65).map(|n| format!("nameserver 10.0.0.{n}\n")).collect();
    let files = [
        (
            "/dir/rc",
            "# x\noptions ndots:3\nnameserver 127.0.0.9 extra\nNAMESERVER 1.1.1.1\nnameserver\n",
        ),
        ("/dir/none", "search m\n"),
        ("/dir/zones", "nameserver fe80::1%eth0\nnameserver ::1%x\n"),
        ("/dir/bad", "nameserver ns.m\n"),
        ("/dir/many", &many),
    ];
    let files = files.map(|(path, text)| (path.into(), text.as_bytes().to_vec())).into();
    let eth0 = Interface { name: "eth0".into(), index: 7, addresses: Vec::new() };
    let mut sources = Sources::fixed(files, BTreeMap::new());
    let plain = sources.read;
    sources.read = Box::new(move |path| match path.to_str() {
        Some("/dir/secret") => Err(ErrorKind::PermissionDenied.into()),
        _ => plain(path),
    });
    Host { sources, interfaces: vec![eth0], lookup: Box::new(lookup), ..Host::plain() }
}

/// A name says how many seconds its address holds; `m` does not.
fn lookup(name: &str, resolvers: &[SocketAddr]) -> Result<Resolved, String> {
    let addresses = match resolvers {
        [] => vec!["127.0.0.7".parse().unwrap(), "::7".parse().unwrap()],
        resolvers => resolvers.iter().map(SocketAddr::ip).collect(),
    };
    match name.strip_prefix("ttl") {
        _ if name == "m" => Ok(Resolved { addresses, ttl: None, incomplete: None }),
        Some(seconds) => {
            let ttl = Some(Duration::from_secs(seconds.parse().unwrap()));
            Ok(Resolved { addresses, ttl, incomplete: None })
        }
        None => Err("unknown".into()),
    }
}

/// The stanza `forward LINE`, with the warnings.
fn stanza(line: &str) -> Result<(Forward, Vec<String>), String> {
    // On another port than the upstreams, which would be this server otherwise.
    let text = format!(".:99 {{\n forward {line}\n}}");
    let (config, warnings) =
        Config::load(text.as_bytes(), "f", &host()).map_err(|error| error.to_string())?;
    let warnings = warnings.iter().map(ToString::to_string).collect();
    Ok((config.blocks[0].forwards[0].clone(), warnings))
}

fn with(options: &str) -> Result<Forward, String> {
    stanza(&format!(". 127.0.0.1 {{\n{options}\n}}")).map(|(forward, _)| forward)
}

fn upstreams(targets: &str) -> String {
    stanza(&format!(". {targets}")).map_or_else(
        |error| error,
        |(forward, _)| {
            let texts = forward.upstreams.iter().map(|upstream| upstream.address.to_string());
            texts.collect::<Vec<_>>().join(" ")
        },
    )
}

#[test]
fn defaults_hold_for_what_is_not_written() {
    let (forward, warnings) = stanza(". 127.0.0.1 ::1").unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(forward.policy, Policy::Random);
    assert_eq!(forward.expire, Duration::from_secs(10));
    assert_eq!(forward.read_timeout, Duration::from_secs(2));
    assert_eq!((forward.max_age, forward.max_idle_conns), (None, None));
    assert_eq!(forward.max_connect_attempts, Some(4));
    assert_eq!(
        forward.sizing,
        Sizing {
            spread: 128,
            stream_spread: 1,
            max_conns: 1024,
            max_inflight: 64,
            tcp_inflight: 32
        }
    );
}

#[test]
fn every_option_is_read() {
    let forward = with(
        "except a B.c\nexcept 10.0.0.0/23\npolicy sequential\nexpire 1m\nmax_age 1h\n\
         max_idle_conns 5\nread_timeout 500ms\nmax_connect_attempts 7\nspread 2\nmax_conns 3\n\
         max_inflight 1",
    )
    .unwrap();
    let except: Vec<String> = forward.except.iter().map(ToString::to_string).collect();
    assert_eq!(except, ["a.", "b.c.", "0.0.10.in-addr.arpa.", "1.0.10.in-addr.arpa."]);
    assert_eq!(forward.policy, Policy::Sequential);
    assert_eq!(forward.expire, Duration::from_secs(60));
    assert_eq!(forward.max_age, Some(Duration::from_secs(3600)));
    assert_eq!(forward.max_idle_conns, Some(5));
    assert_eq!(forward.read_timeout, Duration::from_millis(500));
    assert_eq!(forward.max_connect_attempts, Some(7));
    assert_eq!(
        forward.sizing,
        Sizing { spread: 2, stream_spread: 1, max_conns: 3, max_inflight: 1, tcp_inflight: 1 }
    );
}

#[test]
fn health_is_checked_as_written() {
    let health = with("").unwrap().health;
    assert_eq!((health.max_fails, health.interval), (2, Duration::from_millis(500)));
    assert_eq!((health.recursion_desired, health.domain), (true, Name::root()));
    let health = with("max_fails 7\nhealth_check 2s domain A.b no_rec").unwrap().health;
    assert_eq!((health.max_fails, health.interval), (7, Duration::from_secs(2)));
    assert_eq!((health.recursion_desired, health.domain), (false, Name::parse("a.b").unwrap()));
    for wrong in ["-1s", "1s rec", "1s domain", "1s domain a..b", "5", ""] {
        assert!(with(&format!("health_check {wrong}")).is_err(), "{wrong}");
    }
}

#[test]
fn a_switch_is_on_when_it_is_written() {
    let switches = |options: &str| {
        let forward = with(options).unwrap();
        (forward.failfast, forward.force_tcp, forward.prefer_udp)
    };
    assert_eq!(switches(""), (false, false, false));
    assert_eq!(switches("failfast_all_unhealthy_upstreams"), (true, false, false));
    assert_eq!(switches("force_tcp"), (false, true, false));
    assert_eq!(switches("prefer_udp"), (false, false, true));
    assert!(with("prefer_udp yes").is_err());
}

#[test]
fn zero_is_no_limit() {
    let forward = with("max_age 0\nmax_idle_conns 0\nmax_connect_attempts 0\nexpire 0").unwrap();
    assert_eq!((forward.max_age, forward.max_idle_conns), (None, None));
    assert_eq!((forward.max_connect_attempts, forward.expire), (None, Duration::ZERO));
}

#[test]
fn max_age_is_compared_with_expire_after_the_whole_block() {
    assert_eq!(
        with("max_age 5s").unwrap_err(),
        "f:3 - plugin/forward: max_age (5s) must not be less than expire (10s): \
         set max_age to at least 10s, or expire to at most 5s"
    );
    assert!(with("max_age 5s\nexpire 5s").is_ok());
    assert!(with("expire 6s\n\nmax_age 5s").unwrap_err().starts_with("f:5 - "));
}

#[test]
fn the_jitter_of_max_age_is_a_percentage_behind_it() {
    let jitter = |line: &str| with(line).map(|forward| forward.max_age_jitter);
    assert_eq!(jitter("max_age 30s"), Ok(10));
    assert_eq!(jitter("max_age 30s jitter 0"), Ok(0));
    assert_eq!(jitter("max_age 30s jitter 25%"), Ok(25));
    assert!(with("max_age 30s jitter 0").unwrap().to_string().contains("max_age 30s jitter 0%\n"));
    let refused = |line: &str, part: &str| {
        let message = jitter(line).unwrap_err();
        assert!(message.contains(part), "{line}: {message}");
    };
    refused("max_age 30s jitter 51%", "jitter must be a percentage from 0% to 50%: 51%");
    refused("max_age 30s jitter 5", "jitter must be a percentage from 0% to 50%: 5");
    refused("max_age 30s early", "expected 'jitter N%' or the end of the line");
    assert!(jitter("max_age 30s jitter").is_err() && jitter("max_age 30s jitter 0 0").is_err());
}

#[test]
fn queries_in_flight_are_limited_for_both_transports_or_for_each() {
    for (written, limits) in
        [("", (64, 32)), ("max_inflight 100", (100, 100)), ("max_inflight 16 200", (16, 200))]
    {
        let Sizing { max_inflight, tcp_inflight, .. } = with(written).unwrap().sizing;
        assert_eq!((max_inflight, tcp_inflight), limits, "{written:?}");
    }
    assert_eq!(
        with("max_inflight 1 0").unwrap_err(),
        "f:3 - plugin/forward: max_inflight must be 1 to 65535: 0"
    );
}

#[test]
fn a_spread_above_max_conns_is_refused_after_the_whole_block() {
    let error = with("spread 9\nmax_conns 8").unwrap_err();
    assert!(
        error.starts_with("f:3 - plugin/forward: spread (9) must not be more than max_conns (8)")
    );
    assert!(with("spread 9\nmax_conns 8\nmax_conns 9").is_ok());
    assert_eq!(
        with("max_inflight 0").unwrap_err(),
        "f:3 - plugin/forward: max_inflight must be 1 to 65535: 0"
    );
}

#[test]
fn response_codes_accumulate_over_repeats() {
    let forward = with("").unwrap();
    assert!(forward.failover.is_empty() && forward.next.is_empty() && !forward.next_on_nodata);
    let forward = with(
        "failover ServFail\nnext NXDOMAIN\nfailover REFUSED notimpl\nnext NoError\nnext_on_nodata",
    )
    .unwrap();
    assert_eq!(forward.failover, [2, 4, 5].into_iter().collect());
    assert_eq!(forward.next, [0, 3].into_iter().collect());
    assert!(forward.next_on_nodata);
    for option in ["next", "failover"] {
        assert!(with(option).is_err());
        assert_eq!(
            with(&format!("{option} SERVFAIL servfial")).unwrap_err(),
            "f:3 - plugin/forward: servfial is not a valid rcode"
        );
    }
    assert_eq!(
        with("failover noerror bad").unwrap_err(),
        "f:3 - plugin/forward: NoError cannot be used in failover"
    );
}

#[test]
fn queries_under_way_are_limited_when_a_number_is_written() {
    assert_eq!(with("").unwrap().max_concurrent, None);
    assert_eq!(with("max_concurrent 5").unwrap().max_concurrent, Some(5));
    assert_eq!(with("max_concurrent 5\nmax_concurrent 0").unwrap().max_concurrent, None);
    assert_eq!(with("max_concurrent 4294967296").unwrap().max_concurrent, None);
    assert_eq!(
        with("max_concurrent -3").unwrap_err(),
        "f:3 - plugin/forward: max_concurrent can't be negative: -3"
    );
    assert_eq!(
        with("max_concurrent 2 2").unwrap_err(),
        "plugin/forward: f:3 - Error during parsing: unknown property '2'"
    );
}

#[test]
fn the_source_is_one_address() {
    let source = |options: &str| with(options).map(|forward| forward.source_address);
    assert_eq!(source("").unwrap(), None);
    let last = source("source_address 127.0.0.9\nsource_address ::ffff:127.0.0.5").unwrap();
    assert_eq!(last, Some("127.0.0.5".parse().unwrap()));
    for wrong in ["host", "127.0.0.1:53", "[::1]", "fe80::1%eth0", "300.1.1.1"] {
        assert_eq!(
            source(&format!("source_address {wrong}")).unwrap_err(),
            format!("plugin/forward: f:3 - Error during parsing: invalid IP address: {wrong}")
        );
    }
}

#[test]
fn a_source_of_the_other_family_is_refused() {
    assert_eq!(
        stanza(". 127.0.0.1 ::1 {\nsource_address 127.0.0.5\n}").unwrap_err(),
        "f:3 - plugin/forward: upstream [::1]:53 cannot be reached from source_address 127.0.0.5, \
         which is of the other address family: remove the upstream or the option"
    );
    assert!(stanza(". ::2 [::3]:5 {\nsource_address ::1\n}").is_ok());
}

#[test]
fn requests_name_the_host_that_the_certificate_is_for() {
    let target = |to: &str, options: &str| {
        let (forward, _) = stanza(&format!(". {to} {{\n{options}\n}}")).unwrap();
        let upstream = forward.upstreams.into_iter().next().unwrap();
        let tls = upstream.tls.unwrap();
        assert_eq!(tls.alpn, Alpn::Http);
        let HttpTarget { authority, carrier } = HttpTarget::clone(&upstream.http.unwrap());
        let HttpCarrier::Doh { path, is_get } = carrier else { unreachable!("it is https") };
        assert_eq!(is_get, options.contains("GET"));
        format!("{authority}{path}")
    };
    for (to, options, expected) in [
        ("https://127.0.0.1", "", "127.0.0.1/dns-query"),
        ("https://127.0.0.1:444", "doh_method GET", "127.0.0.1:444/dns-query"),
        ("https://[::1]:443/q?r=s", "", "[::1]/q?r=s"),
        ("https://::1", "tls_servername ::2", "[::2]/dns-query"),
        ("https://[::1%dns.m]:8/{?dns}", "doh_method POST", "dns.m:8/"),
        ("https://127.0.0.1/q", "tls_servername Dns.M.", "dns.m/q"),
    ] {
        assert_eq!(target(to, options), expected, "{to} {options}");
    }
    let (forward, _) = stanza(". tls://127.0.0.1 ::1").unwrap();
    assert!(forward.upstreams.iter().all(|upstream| upstream.http.is_none()));
}

#[test]
fn a_near_miss_of_an_option_is_named() {
    assert_eq!(
        with("max_agee 5s").unwrap_err(),
        "plugin/forward: f:3 - Error during parsing: unknown property 'max_agee' \
         (did you mean 'max_age'?)"
    );
    assert!(
        with("policy Random")
            .unwrap_err()
            .ends_with("unknown policy 'Random' (did you mean 'random'?)")
    );
}

#[test]
fn an_invalid_exception_is_ignored_with_a_warning() {
    let (forward, warnings) = stanza(". ::1 {\nexcept m..n o\n}").unwrap();
    assert_eq!(forward.except.len(), 1);
    assert!(
        warnings[0].starts_with("f:3 - plugin/forward: except is ignored: zone is not a valid")
    );
}

#[test]
fn from_is_one_zone() {
    let (forward, warnings) = stanza("10.6.0.0/15 ::1").unwrap();
    assert_eq!(forward.from.to_string(), "6.10.in-addr.arpa.");
    assert_eq!(
        warnings,
        ["f:2 - plugin/forward: Unsupported CIDR notation: '10.6.0.0/15' expands to multiple \
          zones. Using only '6.10.in-addr.arpa.'."]
    );
    assert_eq!(stanza("tls://m:99 ::1").unwrap().0.from.to_string(), "m.");
    assert_eq!(stanza("m..n ::1").unwrap_err(), "f:2 - plugin/forward: unable to normalize 'm..n'");
}

#[test]
fn addresses_get_the_default_port_and_duplicates_are_dropped() {
    assert_eq!(
        upstreams("127.0.0.1 127.0.0.1:53 ::1 [::1] [::1]:5353 dns://::2"),
        "127.0.0.1:53 [::1]:53 [::1]:5353 [::2]:53"
    );
    // One warning for each, however often it is there.
    let (_, warnings) = stanza(". ::1 [::1]:53 127.0.0.1 ::1 dns://::1").unwrap();
    assert_eq!(
        warnings,
        ["f:2 - plugin/forward: upstream [::1]:53 is listed more than once: this does not \
             increase its share of queries"]
    );
}

#[test]
fn a_port_must_be_one() {
    for port in ["bogus", "0", "65536", "", "-1"] {
        assert_eq!(
            upstreams(&format!("127.0.0.1:{port}")),
            format!(
                "f:2 - plugin/forward: the port of upstream \"127.0.0.1:{port}\" must be 1 to 65535"
            )
        );
    }
}

#[test]
fn a_file_stands_for_its_nameservers() {
    assert_eq!(upstreams("rc ::1"), "127.0.0.9:53 [::1]:53");
    assert_eq!(upstreams("dns:///dir/rc"), "127.0.0.9:53");
    assert_eq!(upstreams("tls:///dir/rc"), "127.0.0.9:853");
    assert_eq!(upstreams("none ::1"), "[::1]:53");
    assert_eq!(upstreams("none"), "f:2 - plugin/forward: no valid upstream addresses found");
    assert_eq!(upstreams("/dir"), "f:2 - plugin/forward: no valid upstream addresses found");
    assert_eq!(
        upstreams("bad"),
        "f:2 - plugin/forward: no valid upstream addresses found: \"ns.m\" of the file \"bad\" \
         cannot be used (nameserver \"ns.m\" is not an IP address)"
    );
}

#[test]
fn a_host_name_stands_for_its_addresses() {
    assert_eq!(upstreams("m ::1"), "127.0.0.7:53 [::7]:53 [::1]:53");
    assert_eq!(upstreams("m:54"), "127.0.0.7:54 [::7]:54");
    assert_eq!(
        upstreams("m {\nresolver ::1\nresolver 127.0.0.1:5 127.0.0.2\n}"),
        "127.0.0.1:53 127.0.0.2:53"
    );
    assert_eq!(upstreams("m {\nsource_address 127.0.0.5\n}"), "127.0.0.7:53");
    assert_eq!(
        upstreams("n"),
        "f:2 - plugin/forward: failed to resolve \"n\": neither an IP address, a readable file \
         nor a host name that resolves: unknown"
    );
    assert_eq!(
        upstreams("secret"),
        "f:2 - plugin/forward: failed to resolve \"secret\": neither an IP address, a readable \
         file (permission denied) nor a host name that resolves: unknown"
    );
}

#[test]
fn host_names_are_to_be_looked_up_again_when_the_first_of_them_ends() {
    let ttl = |targets: &str| {
        let names = stanza(&format!(". {targets}")).unwrap().0.host_names;
        names.iter().map(|name| name.ttl).min()
    };
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    assert_eq!(ttl("::1 rc"), None);
    assert_eq!(ttl("::1 ttl300"), seconds(300));
    assert_eq!(ttl("ttl300 ttl20 ttl40"), seconds(20));
    assert_eq!(ttl("m"), seconds(60));
    assert_eq!(ttl("ttl0"), seconds(5));
    assert_eq!(ttl("ttl86400"), seconds(3600));
}

#[test]
fn a_resolver_is_an_address() {
    for wrong in ["m", "m:53", "300.1.1.1", "[::1]", "fe80::1%eth0", ""] {
        assert!(with(&format!("resolver {wrong}")).is_err(), "{wrong}");
    }
    for port in ["0", "65536", "x", ""] {
        let error = with(&format!("resolver 127.0.0.1:{port}")).unwrap_err();
        assert!(error.contains(" must be 1 to 65535"), "{error}");
    }
}

#[test]
fn a_link_local_address_keeps_its_interface() {
    assert_eq!(upstreams("fe80::1%eth0 [fe80::1%9]:54"), "[fe80::1%7]:53 [fe80::1%9]:54");
    assert_eq!(upstreams("zones"), "[fe80::1%7]:53 [::1]:53");
    assert_eq!(
        upstreams("fe80::1%eth9"),
        "f:2 - plugin/forward: upstream fe80::1: this host has no interface \"eth9\""
    );
}

#[test]
fn targets_are_limited() {
    let sixteen = "127.0.0.1 ".repeat(16);
    assert_eq!(upstreams(&sixteen), "f:2 - plugin/forward: more than 15 TOs configured: 16");
    assert!(
        upstreams("many").starts_with("f:2 - plugin/forward: 65 upstreams, but one forward stanza")
    );
}

#[test]
fn what_onward_cannot_speak_is_refused() {
    assert_eq!(
        upstreams("https3://::1"),
        "f:2 - plugin/forward: 'https3' is not supported as a destination protocol in forward: \
         https3://[::1]:443"
    );
    assert_eq!(upstreams("dns://"), "f:2 - plugin/forward: invalid address: \"dns://\"");
    assert_eq!(
        upstreams("grpc://m"),
        "f:2 - plugin/forward: not an IP address, file, or valid domain: \"grpc://m\""
    );
}
