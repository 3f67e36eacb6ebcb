//! What follows from a seed before anything happens: configuration, weather, behaviour.
//!
//! One seed in four is calm: nothing is lost, upstreams always answer in time and pools are large
//! enough, so that every query must get its right answer. In all others everything may go wrong
//! at once, and only the laws hold. Chances are so many in a thousand.

use super::common::{Dice, upstream_address};
use onward::config::{Config, Forward, Host};
use std::fmt::Write;
use std::time::Duration;

/// How the network treats what it carries.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    /// Everything takes up to this long.
    pub(crate) delay: Duration,
    pub(crate) lost: usize,
    pub(crate) duplicated: usize,
    /// Takes seconds.
    pub(crate) late: usize,
    pub(crate) dial_late: usize,
    pub(crate) dial_never: usize,
    /// Connections whose window is small.
    pub(crate) narrow: usize,
    /// Paths and links that somebody between the ends forgets.
    pub(crate) forgotten: usize,
}

/// How often upstreams do what they should not.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Quirks {
    /// Answers take up to this long.
    pub(crate) think: Duration,
    pub(crate) slow: usize,
    pub(crate) silent: usize,
    /// Another response code, or none of the records asked for.
    pub(crate) negative: usize,
    pub(crate) truncated: usize,
    /// Nonsense before the answer.
    pub(crate) garbage: usize,
    pub(crate) long: usize,
    pub(crate) keepalive: usize,
    /// Closes or resets the connection instead of an answer.
    pub(crate) hangs_up: usize,
    /// Upstreams, so many in a thousand, that answer the queries of a connection in order.
    pub(crate) in_order: usize,
    /// Closes each connection after so many answers.
    pub(crate) closes_after: Option<usize>,
    /// Dies or returns after this time at most; `None`: never.
    pub(crate) fate: Option<Duration>,
}

/// What the forwarder's host cannot do now and then.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shortage {
    /// A socket cannot be opened.
    pub(crate) socket: usize,
    /// A socket's buffer is full.
    pub(crate) buffer: usize,
    /// The keeper's mailbox is full.
    pub(crate) keeper: usize,
    /// A poll returns up to this long after its event.
    pub(crate) turn: Duration,
}

/// What clients do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Behaviour {
    /// Queries at once at most.
    pub(crate) burst: usize,
    /// Between two bursts at most.
    pub(crate) pause: Duration,
    /// Queries of one client in all.
    pub(crate) budget: usize,
    pub(crate) nonsense: usize,
    /// Connections that are closed or reset while answers are awaited.
    pub(crate) leaves: usize,
    /// Connections whose client does not read for a while.
    pub(crate) stalls: usize,
}

/// What breaks on purpose, to prove that a law notices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Sabotage {
    #[default]
    None,
    /// A reply is sent twice.
    ReplyTwice,
    /// A reply is drawn and not sent.
    ReplyLost,
    /// A letter of the question becomes a capital, or small.
    LetterChanged,
    /// A reply goes to another port.
    WrongPeer,
    /// A reply has another id.
    WrongId,
    /// The attacker knows the ids.
    IdsKnown,
    /// Nobody sweeps.
    KeeperAsleep,
    /// Nobody tells the engine that time has passed.
    TimeUntold,
    /// A socket is kept open that was to be closed.
    SocketKept,
    /// `max_age` is believed to be half of what was configured.
    YoungerThanConfigured,
    /// `max_conns` is believed to be one less than configured.
    FewerThanConfigured,
    /// All queries on a connection are seen with one id.
    SameIds,
    /// A right answer does not reach the engine on a calm day.
    AnswerLost,
    /// Nobody probes what is down.
    NobodyProbes,
    /// With a new configuration all begins anew.
    StartedAfresh,
}

/// What follows from a seed.
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
    /// The attacker's sprays are this far apart at most; `None`: there is none.
    pub(crate) spoofer: Option<Duration>,
    /// New configurations are this far apart at most; `None`: there is none.
    pub(crate) reloads: Option<Duration>,
    /// How long clients ask.
    pub(crate) day: Duration,
    pub(crate) sabotage: Sabotage,
}

impl Plan {
    /// The plan of `seed`.
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

    /// The stanza of each upstream, as the engine numbers them.
    pub(crate) fn upstreams(&self) -> impl Iterator<Item = &Forward> {
        self.config.upstreams().map(|(stanza, _)| stanza)
    }
}

/// Milliseconds.
pub(crate) const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Nothing goes wrong on the way.
pub(crate) fn calm_weather() -> Weather {
    Weather { delay: ms(30), ..Weather::default() }
}

/// Right answers in time, though not only those.
pub(crate) fn calm_quirks() -> Quirks {
    Quirks { think: ms(20), garbage: 50, long: 50, keepalive: 50, ..Quirks::default() }
}

/// The host has enough of everything.
pub(crate) fn calm_shortage() -> Shortage {
    Shortage { turn: ms(1), ..Shortage::default() }
}

/// Zones of the names that clients ask for.
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
    // What even upstreams do that nothing is wrong with.
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
