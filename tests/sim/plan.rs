//! Parameters of a run, derived from its seed: configuration, network and behaviour of the nodes.
//!
//! One seed in four is calm: nothing is lost, upstreams always answer in time and pools are large
//! enough, so that every query must get its right answer. In all others any failure may occur at
//! any time, and only the laws hold. Probabilities are per thousand.

use super::common::{Dice, upstream_address};
use onward::config::{Config, Forward, Host};
use std::fmt::Write;
use std::time::Duration;

/// Behaviour of the network.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    /// Maximum normal delay.
    pub(crate) delay: Duration,
    pub(crate) lost: usize,
    pub(crate) duplicated: usize,
    /// Packets delayed by seconds.
    pub(crate) late: usize,
    pub(crate) dial_late: usize,
    pub(crate) dial_never: usize,
    /// Connections with a small window.
    pub(crate) narrow: usize,
    /// Paths and links that a middlebox forgets.
    pub(crate) forgotten: usize,
}

/// Frequency of faults of upstreams.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Quirks {
    /// Maximum time to answer.
    pub(crate) think: Duration,
    pub(crate) slow: usize,
    pub(crate) silent: usize,
    /// Another response code, or an answer without the requested records.
    pub(crate) negative: usize,
    pub(crate) truncated: usize,
    /// Garbage before the answer.
    pub(crate) garbage: usize,
    pub(crate) long: usize,
    pub(crate) keepalive: usize,
    /// Connections closed or reset instead of an answer.
    pub(crate) hangs_up: usize,
    /// Upstreams, per thousand, that answer the queries of a connection in order.
    pub(crate) in_order: usize,
    /// Number of answers after which each connection is closed.
    pub(crate) closes_after: Option<usize>,
    /// Maximum time between going down and recovering; `None` for never.
    pub(crate) fate: Option<Duration>,
}

/// Temporary shortages of the forwarder's host.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shortage {
    /// Failures to open a socket.
    pub(crate) socket: usize,
    /// Full socket buffers.
    pub(crate) buffer: usize,
    /// Full mailboxes of the keeper.
    pub(crate) keeper: usize,
    /// Maximum delay of a poll after its event.
    pub(crate) turn: Duration,
}

/// Behaviour of clients.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Behaviour {
    /// Maximum queries of a burst.
    pub(crate) burst: usize,
    /// Maximum pause between two bursts.
    pub(crate) pause: Duration,
    /// Total queries of one client.
    pub(crate) budget: usize,
    pub(crate) nonsense: usize,
    /// Connections closed or reset before their replies.
    pub(crate) leaves: usize,
    /// Connections whose client stops reading for a while.
    pub(crate) stalls: usize,
}

/// Deliberate faults that prove that a law detects them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Sabotage {
    #[default]
    None,
    /// A reply is sent twice.
    ReplyTwice,
    /// A reply is written and not sent.
    ReplyLost,
    /// A letter of the question changes its case.
    LetterChanged,
    /// A reply goes to another port.
    WrongPeer,
    /// A reply has another id.
    WrongId,
    /// The attacker knows the IDs.
    IdsKnown,
    /// The keeper never requests a sweep.
    KeeperAsleep,
    /// The engine is not informed of passing time.
    TimeUntold,
    /// A socket is kept open that the engine has closed.
    SocketKept,
    /// The model expects half of the configured `max_age`.
    YoungerThanConfigured,
    /// The model expects one less than the configured `max_conns`.
    FewerThanConfigured,
    /// The model sees all queries on a connection with the same ID.
    SameIds,
    /// A right answer does not reach the engine in a calm run.
    AnswerLost,
    /// Upstreams that are down are not probed.
    NobodyProbes,
    /// A reload replaces the engine with a new one.
    StartedAfresh,
}

/// The parameters of a run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) calm: bool,
    pub(crate) corefile: String,
    pub(crate) config: Config,
    pub(crate) workers: usize,
    pub(crate) datagram_clients: usize,
    pub(crate) stream_clients: usize,
    pub(crate) weather: Weather,
    pub(crate) quirks: Quirks,
    pub(crate) shortage: Shortage,
    pub(crate) behaviour: Behaviour,
    /// Maximum interval of the attacker's sprays; `None` without an attacker.
    pub(crate) spoofer: Option<Duration>,
    /// Maximum interval of reloads; `None` without reloads.
    pub(crate) reloads: Option<Duration>,
    /// Duration of the clients' load.
    pub(crate) day: Duration,
    pub(crate) sabotage: Sabotage,
}

impl Plan {
    pub(crate) fn new(seed: u64) -> Self {
        let dice = &mut Dice::new(seed);
        let calm = seed.is_multiple_of(4);
        let corefile = corefile(dice, calm);
        let loaded = Config::load(corefile.as_bytes(), "Corefile", &Host::plain());
        let (config, _) = loaded.unwrap_or_else(|error| panic!("{error:?} in\n{corefile}"));
        Self {
            seed,
            calm,
            corefile,
            config,
            workers: 1 + dice.below(3),
            datagram_clients: 1 + dice.below(8),
            stream_clients: dice.below(6),
            weather: if calm { calm_weather() } else { weather(dice) },
            quirks: quirks(dice, calm),
            shortage: if calm { calm_shortage() } else { shortage(dice) },
            behaviour: behaviour(dice, calm),
            spoofer: dice.one_in(2).then(|| ms(dice.pick(&[20, 200, 2_000]))),
            reloads: dice.one_in(2).then(|| ms(dice.pick(&[200, 2_000, 5_000]))),
            day: Duration::from_secs(30),
            sabotage: Sabotage::None,
        }
    }

    /// The stanza of each upstream, in the engine's numbering.
    pub(crate) fn upstreams(&self) -> impl Iterator<Item = &Forward> {
        self.config.upstreams().map(|(stanza, _)| stanza)
    }
}

pub(crate) const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// A network without faults.
pub(crate) fn calm_weather() -> Weather {
    Weather { delay: ms(30), ..Weather::default() }
}

/// Upstreams that answer in time, though not always positively.
pub(crate) fn calm_quirks() -> Quirks {
    Quirks { think: ms(20), garbage: 50, long: 50, keepalive: 50, ..Quirks::default() }
}

/// A host without shortages.
pub(crate) fn calm_shortage() -> Shortage {
    Shortage { turn: ms(1), ..Shortage::default() }
}

/// Zones of the queried names.
pub(crate) const ZONES: [&str; 3] = ["a.example", "b.example", "c.example"];

fn corefile(dice: &mut Dice, calm: bool) -> String {
    let mut upstreams = 0;
    let mut text = String::from(".:53 {\n    bind 127.0.0.1\n");
    if dice.one_in(3) {
        text += &stanza(dice, calm, ZONES[0], &mut upstreams);
    }
    for _ in 0..1 + dice.below(2) {
        text += &stanza(dice, calm, ".", &mut upstreams);
    }
    text += "}\n";
    if dice.one_in(3) {
        write!(text, "{}:53 {{\n    bind 127.0.0.1\n", ZONES[1]).unwrap();
        text += &stanza(dice, calm, ".", &mut upstreams);
        text += "}\n";
    }
    text
}

fn stanza(dice: &mut Dice, calm: bool, from: &str, upstreams: &mut usize) -> String {
    let mut text = format!("    forward {from}");
    for _ in 0..1 + dice.below(3) {
        write!(text, " {}", upstream_address(*upstreams)).unwrap();
        *upstreams += 1;
    }
    text.push_str(" {\n");
    let mut option = |words: String| writeln!(text, "        {words}").unwrap();
    option(format!("policy {}", dice.pick(&["random", "round_robin", "sequential"])));
    let expire = dice.pick(&[0, 50, 1_000, 3_000, 10_000]);
    option(format!("expire {expire}ms"));
    if dice.one_in(2) {
        let max_age = (expire + dice.pick(&[0, 500, 4_000, 20_000])).max(200);
        option(format!("max_age {max_age}ms"));
    }
    if dice.one_in(3) {
        option(format!("max_idle_conns {}", dice.pick(&[1, 2, 8])));
    }
    let (max_conns, max_inflight) = match calm {
        true => (dice.pick(&[64, 256]), dice.pick(&[16, 32, 64])),
        false => (dice.pick(&[1, 2, 4, 16, 64]), dice.pick(&[1, 2, 8, 64])),
    };
    option(format!("max_conns {max_conns}"));
    option(format!("spread {}", 1 + dice.below(max_conns.min(32))));
    option(format!("max_inflight {max_inflight}"));
    option(format!("distrust {}", dice.pick(&["on", "off"])));
    option(format!("rebalance {}", dice.pick(&["auto", "off"])));
    let timeouts = if calm { [1_000, 1_500, 2_000, 6_000] } else { [200, 1_000, 2_000, 6_000] };
    option(format!("read_timeout {}ms", dice.pick(&timeouts)));
    if dice.one_in(2) {
        option(format!("max_connect_attempts {}", dice.pick(&[0, 1, 3, 8])));
    }
    option(format!("max_fails {}", dice.pick(&[0, 1, 2, 5])));
    option(format!("health_check {}ms domain h.example", dice.pick(&[10, 500, 3_000])));
    let switches = [
        ("force_tcp", 4),
        ("prefer_udp", 3),
        ("next_on_nodata", 4),
        ("next SERVFAIL NXDOMAIN", 3),
        ("failover SERVFAIL REFUSED", 3),
        ("failfast_all_unhealthy_upstreams", 4),
    ];
    for (switch, rarity) in switches {
        if dice.one_in(rarity) {
            option(switch.into());
        }
    }
    if !calm && dice.one_in(4) {
        option(format!("max_concurrent {}", dice.pick(&[1, 10, 100])));
    }
    text.push_str("    }\n");
    text
}

fn weather(dice: &mut Dice) -> Weather {
    Weather {
        delay: ms(dice.pick(&[1, 20, 150])),
        lost: dice.pick(&[0, 10, 50, 300]),
        duplicated: dice.pick(&[0, 20, 200]),
        late: dice.pick(&[0, 10, 100]),
        dial_late: dice.pick(&[0, 50, 300]),
        dial_never: dice.pick(&[0, 20, 200]),
        narrow: dice.pick(&[0, 500]),
        forgotten: dice.pick(&[0, 0, 10, 100]),
    }
}

fn quirks(dice: &mut Dice, calm: bool) -> Quirks {
    let quirks = if calm { calm_quirks() } else { faults(dice) };
    // Legal behaviour of upstreams without faults.
    let closes_after = [None, None, None, Some(1), Some(2), Some(10)];
    let (in_order, closes_after) = (dice.pick(&[0, 500, 1_000]), dice.pick(&closes_after));
    Quirks { in_order, closes_after, ..quirks }
}

fn faults(dice: &mut Dice) -> Quirks {
    let mut rate = |most: usize| if dice.one_in(2) { 0 } else { dice.below(most) };
    Quirks {
        slow: rate(200),
        silent: rate(300),
        negative: rate(300),
        truncated: rate(200),
        garbage: rate(300),
        long: rate(200),
        keepalive: rate(300),
        hangs_up: rate(300),
        think: ms(dice.pick(&[1, 50, 400])),
        fate: dice.one_in(2).then(|| ms(dice.pick(&[2_000, 5_000, 20_000]))),
        ..Quirks::default()
    }
}

fn shortage(dice: &mut Dice) -> Shortage {
    Shortage {
        socket: dice.pick(&[0, 0, 5, 100]),
        buffer: dice.pick(&[0, 0, 10, 100]),
        keeper: dice.pick(&[0, 0, 50, 200]),
        turn: ms(dice.pick(&[0, 1, 10])),
    }
}

fn behaviour(dice: &mut Dice, calm: bool) -> Behaviour {
    Behaviour {
        burst: dice.pick(&[1, 8, 40]),
        pause: ms(dice.pick(&[300, 2_000, 8_000])),
        budget: 200,
        nonsense: dice.pick(&[0, 50]),
        leaves: if calm { 0 } else { dice.pick(&[0, 50, 400]) },
        stalls: if calm { 0 } else { dice.pick(&[0, 0, 200]) },
    }
}
