//! `cache [TTL] [ZONES…] [{ OPTION… }]`: what it means.
//!
//! Plain data for the engine's cache of answers, with the defaults of the language. Times that are
//! compared with TTLs are whole seconds, as TTLs are; the others are durations. The engine decides
//! how an answer is stored. `reader` reads the directive.

mod reader;
mod refresh;
mod values;

pub(super) use reader::read;

use super::super::Name;
use super::super::duration::show_duration;
use super::super::word::names;
use std::fmt;
use std::time::Duration;

/// The `cache` of one server block.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cache {
    /// Queries for names at or below these are looked up. Empty: all that the block serves.
    pub zones: Vec<Name>,
    /// Answers, and empty replies that deny nothing.
    pub success: CacheClass,
    /// Denials of a name or a type, and failures.
    pub denial: CacheClass,
    /// Settings of `prefetch`. `None`: off.
    pub prefetch: Option<Prefetch>,
    /// Use of expired answers. `None`: off.
    pub serve_stale: Option<ServeStale>,
    /// Time for which a failure is cached (RFC 9520). Zero: off.
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
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CacheClass {
    /// Answers at most, for all workers.
    pub capacity: usize,
    /// Bytes that packed answers take at most, for all workers; the index entry of each comes on
    /// top.
    pub capacity_bytes: usize,
    /// The longest that an answer lives, in seconds, and the highest TTL handed out.
    pub ttl_max: u32,
    /// The shortest, unless `ttl_max` is shorter still.
    pub ttl_min: u32,
    /// Names at or below these are not stored.
    pub(crate) disabled: Vec<Name>,
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

/// Settings of `prefetch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prefetch {
    /// Hits that make it one in demand.
    pub amount: u32,
    /// Between two of which no more time lies than this.
    pub duration: Duration,
    /// Per cent of its lifetime that remain when it is fetched.
    pub percentage: u8,
}

/// Settings of `serve_stale`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ServeStale {
    /// For how long after they expired.
    pub window: Duration,
    /// Order of the upstream and a stale answer.
    pub mode: StaleMode,
    /// The TTL of stale records, in seconds.
    pub ttl: u32,
    /// After a failed attempt to fetch it anew, an answer is left alone for this long.
    pub recheck: Duration,
    /// An answer within the window is not given up for a denial.
    pub prefer_positive: bool,
}

/// Order of the upstream and a stale answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StaleMode {
    /// Stale answer first, refresh in the background.
    Immediate,
    /// Upstream first, for this time; `None`: until the query ends.
    Verify(Option<Duration>),
}

/// Bytes that are reserved for an answer on average: an address behind a chain of aliases takes
/// 100 to 250, a signed denial about 1,000.
pub(crate) const CACHED_BYTES: usize = 512;

/// Writes the directive, if the server block has it.
pub(super) fn write(settings: &Option<Cache>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    settings.iter().try_for_each(|cache| write!(f, "{cache}"))
}

impl fmt::Display for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "    cache")?;
        names(f, &self.zones)?;
        writeln!(f, " {{")?;
        if self.simple {
            let CacheClass { capacity, ttl_max, .. } = self.success;
            writeln!(f, "        lru {capacity} {ttl_max}s")?;
            return writeln!(f, "    }}");
        }
        let classes = [("success", &self.success), ("denial", &self.denial)];
        for (name, CacheClass { capacity, ttl_max, ttl_min, .. }) in classes {
            writeln!(f, "        {name} {capacity} {ttl_max} {ttl_min}")?;
        }
        for (name, class) in classes {
            writeln!(f, "        capacity_bytes {name} {}", class.capacity_bytes)?;
        }
        match self.prefetch {
            None => writeln!(f, "        prefetch 0")?,
            Some(Prefetch { amount, duration, percentage }) => {
                writeln!(f, "        prefetch {amount} {} {percentage}%", show_duration(duration))?;
            }
        }
        match self.serve_stale {
            None => writeln!(f, "        serve_stale 0s")?,
            Some(stale) => stale.fmt(f)?,
        }
        writeln!(f, "        servfail {}", show_duration(self.servfail))?;
        for (name, class) in classes.iter().filter(|(_, class)| !class.disabled.is_empty()) {
            write!(f, "        disable {name}")?;
            names(f, &class.disabled)?;
            writeln!(f)?;
        }
        if self.keep_ttl {
            writeln!(f, "        keepttl")?;
        }
        writeln!(f, "    }}")
    }
}

impl fmt::Display for ServeStale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { window, mode, ttl, recheck, prefer_positive } = *self;
        write!(f, "        serve_stale {} ", show_duration(window))?;
        match mode {
            StaleMode::Immediate => write!(f, "immediate")?,
            // A time-out of zero means no time-out.
            StaleMode::Verify(within) => {
                write!(f, "verify {}", show_duration(within.unwrap_or_default()))?
            }
        }
        let ttl = Duration::from_secs(ttl.into());
        writeln!(f, " {} {}", show_duration(ttl), show_duration(recheck))?;
        if prefer_positive {
            writeln!(f, "        serve_stale_policy prefer_positive")?;
        }
        Ok(())
    }
}
