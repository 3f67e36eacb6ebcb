//! `cache [TTL] [ZONES…] [{ OPTION… }]`: what it means.
//!
//! Plain data for the engine's cache of answers, with the defaults of the language. Times that are
//! compared with TTLs are whole seconds, as TTLs are; the others are durations. Nothing here says
//! how an answer is kept.

use super::super::Name;
use std::time::Duration;

/// The `cache` of one server block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Queries for names at or below these are looked up. Empty: all that the block serves.
    pub zones: Vec<Name>,
    /// Answers, and empty replies that deny nothing.
    pub success: CacheClass,
    /// Denials of a name or a type, and failures.
    pub denial: CacheClass,
    /// When answers in demand are fetched anew before they expire. `None`: never.
    pub prefetch: Option<Prefetch>,
    /// How expired answers are used. `None`: not at all.
    pub serve_stale: Option<ServeStale>,
    /// How long a failure is remembered (RFC 9520). Zero: not at all.
    pub servfail: Duration,
    /// Clients see each TTL as it was stored until the answer expires.
    pub keep_ttl: bool,
    /// The simple mode: nothing but IPv4 addresses is remembered, each answer for `success.ttl_max`
    /// seconds whatever its records say, and the least recently used leaves first. Of the rest only
    /// `zones` and `success.capacity` count.
    pub simple: bool,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            zones: Vec::new(),
            success: CacheClass { ttl_max: 3_600, ..CacheClass::DEFAULT },
            denial: CacheClass { ttl_max: 1_800, ..CacheClass::DEFAULT },
            prefetch: None,
            serve_stale: None,
            servfail: Duration::from_secs(5),
            keep_ttl: false,
            simple: false,
        }
    }
}

/// Limits of one class of answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheClass {
    /// Answers at most, per worker.
    pub capacity: usize,
    /// Bytes that packed answers take at most, per worker; what is kept about each comes on top.
    pub capacity_bytes: usize,
    /// The longest that an answer lives, in seconds, and the highest TTL handed out.
    pub ttl_max: u32,
    /// The shortest, unless `ttl_max` is shorter still.
    pub ttl_min: u32,
    /// Names at or below these are not stored.
    pub disabled: Vec<Name>,
}

impl CacheClass {
    /// The language's defaults, save `ttl_max`, in which the classes differ.
    const DEFAULT: Self = Self {
        capacity: 10_000,
        capacity_bytes: 10_000 * CACHED_BYTES,
        ttl_max: 0,
        ttl_min: 5,
        disabled: Vec::new(),
    };
}

/// When an answer in demand is fetched anew before it expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefetch {
    /// Hits that make it one in demand.
    pub amount: u32,
    /// Between two of which no more time lies than this.
    pub duration: Duration,
    /// Per cent of its lifetime that remain when it is fetched.
    pub percentage: u8,
}

/// How expired answers are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServeStale {
    /// For how long after they expired.
    pub window: Duration,
    /// Whether the upstream is waited for.
    pub mode: StaleMode,
    /// The TTL of stale records, in seconds.
    pub ttl: u32,
    /// After a failed attempt to fetch it anew, an answer is left alone for this long.
    pub recheck: Duration,
    /// An answer within the window is not given up for a denial.
    pub prefer_positive: bool,
}

/// Whether clients wait for the upstream before they get a stale answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StaleMode {
    /// They do not: it is fetched anew meanwhile.
    Immediate,
    /// They do, for so long; `None`: until the query ends.
    Verify(Option<Duration>),
}

/// Bytes that are reserved for an answer on average: an address behind a chain of aliases takes
/// 100 to 250, a signed denial about 1,000.
pub const CACHED_BYTES: usize = 512;
