//! Zones in memory that go on from the loaders of one configuration to those of the next.
//!
//! A zone belongs to its name and its primaries, with their keys and settings of TLS: views of a
//! primary may give the holders of different keys different zones of one name. If the primaries
//! have changed, a zone goes on that shares one of them and is the only one of its name.

use crate::config::{Name, Primary, TransferredSource};
use crate::engine::authority::Zone;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

/// Zones of all loaders, for those of the next configuration.
#[derive(Clone, Default)]
pub(crate) struct Handover(Arc<Mutex<Vec<Held>>>);

/// A zone that a loader serves.
pub(super) struct Held {
    pub(super) zone: Weak<Zone>,
    pub(super) name: Name,
    pub(super) primaries: Arc<[Primary]>,
    /// Time of the last confirmation by the calendar.
    pub(super) confirmed: Duration,
    pub(super) is_kept: bool,
}

/// A zone with the time of its last confirmation by the calendar; true if it is on disk.
pub(super) type Taken = (Arc<Zone>, Duration, bool);

impl Handover {
    /// Notes the zone that a loader serves now.
    pub(super) fn hold(&self, held: Held) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|other| {
            let is_same = other.name == held.name && other.primaries == held.primaries;
            other.zone.strong_count() > 0 && !is_same
        });
        all.push(held);
    }

    /// Forgets the zone of these primaries.
    pub(super) fn forget(&self, source: &TransferredSource) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|held| held.name != source.zone || held.primaries != source.primaries);
    }

    /// Returns the zone of the same primaries, or the only one of its name if it shares one.
    pub(super) fn take(&self, source: &TransferredSource) -> Option<Taken> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let alive = all.iter().filter(|held| held.name == source.zone);
        let found: Vec<_> = alive.filter_map(|held| Some((held, held.zone.upgrade()?))).collect();
        let same = found.iter().find(|(held, _)| held.primaries == source.primaries);
        let shares = |held: &Held| held.primaries.iter().any(|own| source.primaries.contains(own));
        let akin = found.first().filter(|(held, _)| found.len() == 1 && shares(held));
        let (held, zone) = same.or(akin)?;
        Some((Arc::clone(zone), held.confirmed, held.is_kept))
    }
}

#[cfg(test)]
mod tests {
    use super::{Handover, Held};
    use crate::config::{Config, Host, TransferredSource};
    use crate::engine::authority::{Builder, Zone};
    use ahash::RandomState;
    use std::sync::Arc;
    use std::time::Duration;

    /// The zone `z` of a stanza with these lines.
    fn source(lines: &str) -> TransferredSource {
        let text = format!(
            "z {{\n tsig {{\n secret one c2VjcmV0\n secret two c2VjcmV0\n }}\n \
             secondary {{\n {lines}\n directory d\n }}\n}}\n"
        );
        let (config, _) = Config::load(text.as_bytes(), "Corefile", &Host::plain())
            .unwrap_or_else(|error| panic!("{error}"));
        config.zone_sources()[0].transferred[0].clone()
    }

    fn zone(serial: u8) -> Arc<Zone> {
        let mut builder = Builder::new(b"\x01z\0", 0, RandomState::with_seeds(1, 2, 3, 4));
        let soa = [&[0, 0, 0, 0, 0, serial][..], &[0; 16]].concat();
        builder.add(b"\x01z\0", 6, 1, &soa, (0, 0)).unwrap();
        builder.finish().unwrap_or_else(|refused| panic!("{}", refused.what)).zone.into()
    }

    fn hold(handover: &Handover, source: &TransferredSource, zone: &Arc<Zone>) {
        handover.hold(Held {
            zone: Arc::downgrade(zone),
            name: source.zone.clone(),
            primaries: Arc::clone(&source.primaries),
            confirmed: Duration::ZERO,
            is_kept: false,
        });
    }

    fn serial(handover: &Handover, lines: &str) -> Option<u32> {
        handover.take(&source(lines)).map(|(zone, ..)| zone.serial())
    }

    const ONE: &str = "transfer from 192.0.2.1 key one";
    const TWO: &str = "transfer from 192.0.2.1 key two";
    const SAFE: &str = "transfer from tls://192.0.2.1:53 key one";

    #[test]
    fn zones_of_different_keys_and_of_tls_are_not_mixed_up() {
        let (handover, zones) = (Handover::default(), [zone(1), zone(2), zone(3)]);
        for (lines, zone) in [ONE, TWO, SAFE].into_iter().zip(&zones) {
            hold(&handover, &source(lines), zone);
        }
        assert_eq!([ONE, TWO, SAFE].map(|lines| serial(&handover, lines)), [1, 2, 3].map(Some));
        assert_eq!(serial(&handover, "transfer from 192.0.2.1"), None);
        assert_eq!(serial(&handover, &format!("{ONE}\n {TWO}")), None, "two of this name");
    }

    #[test]
    fn a_zone_goes_on_with_other_primaries_if_it_shares_one() {
        let (handover, first) = (Handover::default(), zone(1));
        hold(&handover, &source(ONE), &first);
        let more = format!("{ONE}\n transfer from 192.0.2.7");
        assert_eq!(serial(&handover, &more), Some(1));
        assert_eq!(serial(&handover, TWO), None, "the holder of another key");
        let second = zone(2);
        hold(&handover, &source(ONE), &second);
        assert_eq!(serial(&handover, ONE), Some(2), "the newer one in its place");
        handover.forget(&source(TWO));
        assert_eq!(serial(&handover, ONE), Some(2));
        handover.forget(&source(ONE));
        assert_eq!(serial(&handover, ONE), None);
        hold(&handover, &source(ONE), &second);
        drop((first, second));
        assert_eq!(serial(&handover, ONE), None, "nothing is kept that no loader has");
    }
}
