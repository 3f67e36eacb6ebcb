//! Costs of the timer wheel with a thousand pending timers.
//!
//! Deadlines are random and up to 20 s away, like those of connection pools whose connections
//! expire after 10 s. Drawing a deadline adds about a nanosecond to the figures.

use harness::{Bench, Operations, repeat};
use onward::moment::Moment;
use onward::wheel::Wheel;
use std::hint::black_box;
use std::time::Duration;

/// Number of pools of a large host: 32 workers × 30 upstreams.
const PENDING: usize = 1_000;

pub(crate) const BENCHES: [Bench; 4] = [
    Bench { name: "wheel_insert_expire", set_up: insert_expire },
    Bench { name: "wheel_insert_cancel", set_up: insert_cancel },
    Bench { name: "wheel_next_deadline", set_up: next_deadline },
    Bench { name: "wheel_next_deadline_after_cancel", set_up: next_deadline_after_cancel },
];

/// Time advances to the next deadline, whose timer is popped; a new one is inserted.
fn insert_expire() -> Operations {
    let mut draw = Draw(1);
    let mut wheel = filled(&mut draw);
    repeat(move || {
        let now = wheel.next_deadline().expect("a thousand are pending");
        black_box(wheel.pop_expired(now)).expect("it is due");
        wheel.insert(draw.deadline(now), 0);
    })
}

/// A timer is inserted and the one inserted a thousand operations before is cancelled.
fn insert_cancel() -> Operations {
    let mut draw = Draw(1);
    let mut wheel = Wheel::with_capacity(PENDING + 1);
    let mut now = Moment::ZERO;
    let mut insert = move |wheel: &mut Wheel<u32>| {
        now = now.plus(Duration::from_micros(10));
        wheel.insert(draw.deadline(now), 0)
    };
    let mut keys: Vec<_> = (0..PENDING).map(|_| insert(&mut wheel)).collect();
    let mut oldest = 0;
    repeat(move || {
        let key = insert(&mut wheel);
        let cancelled = std::mem::replace(&mut keys[oldest], key);
        black_box(wheel.cancel(cancelled)).expect("it is pending");
        oldest = (oldest + 1) % PENDING;
    })
}

/// The next deadline is read, as the keeper does after a wake-up for another reason.
fn next_deadline() -> Operations {
    let wheel = filled(&mut Draw(1));
    repeat(move || {
        black_box(black_box(&wheel).next_deadline());
    })
}

/// The next deadline is read after the earliest timer was cancelled, so that a slot is scanned.
fn next_deadline_after_cancel() -> Operations {
    let mut wheel = filled(&mut Draw(1));
    let earliest = wheel.next_deadline().expect("a thousand are pending");
    let earlier = Moment::from_nanos(earliest.as_nanos() - 1);
    repeat(move || {
        let key = wheel.insert(earlier, 0);
        wheel.cancel(key);
        assert_eq!(black_box(wheel.next_deadline()), Some(earliest));
    })
}

/// A wheel with [`PENDING`] timers.
fn filled(draw: &mut Draw) -> Wheel<u32> {
    let mut wheel = Wheel::with_capacity(PENDING);
    for _ in 0..PENDING {
        wheel.insert(draw.deadline(Moment::ZERO), 0);
    }
    wheel
}

/// A xorshift generator, whose cost is negligible.
struct Draw(u64);

impl Draw {
    /// A deadline at most 20 s after `now`.
    fn deadline(&mut self, now: Moment) -> Moment {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        // The upper 29 bits as a fraction of 20 s.
        now.plus(Duration::from_nanos(((self.0 >> 35) * 20_000_000_000) >> 29))
    }
}
