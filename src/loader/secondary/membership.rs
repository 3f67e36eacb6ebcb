//! Zones that catalogs add and remove: the result of [`catalog`] takes effect here.
//!
//! A member has the primaries, the keys and the directory of its catalog. When it is removed or
//! reset, its state in memory and on disk goes too, and a check that is running has no effect.

use super::catalog::{self, Catalog, Change, Owner};
use super::{PLUGIN, Secondaries, Transferred, disk};
use crate::clock::Clock;
use crate::config::{Name, TransferredSource};
use crate::log::{Event, Level};
use crate::tls;
use std::sync::Arc;

/// Ignored members of a catalog that are logged; the others are counted.
const IGNORED_MAX: usize = 8;

impl Secondaries {
    /// Reads the members of a zone that is a catalog. Returns true if they are to be applied.
    pub(super) fn read_catalog(&mut self, place: usize) -> bool {
        let own = &mut self.zones[place];
        let Some(zone) = own.zone.as_ref().filter(|_| own.source.catalog.is_some()) else {
            return false;
        };
        match catalog::members(zone) {
            Ok(members) => own.members = Some(members),
            Err(error) => {
                let name = &own.source.zone;
                let text = format_args!("Catalog \"{name}\" is not applied: {error}");
                self.log.event(&Event::new(Level::Error, PLUGIN, &text));
                return false;
            }
        }
        true
    }

    /// Adds, resets, moves and removes members as the catalogs say.
    pub(super) fn apply_catalogs(&mut self) {
        let catalogs = self.zones.iter().filter_map(|own| {
            let (source, members) = (own.source.catalog.as_ref()?, own.members.as_ref()?);
            Some(Catalog { name: &own.source.zone, source, members })
        });
        let catalogs: Vec<_> = catalogs.collect();
        if catalogs.is_empty() {
            return;
        }
        let own = self.zones.iter().map(|own| (own.source.zone.clone(), own.owner.clone()));
        let files = self.taken.iter().map(|zone| (zone.clone(), None));
        let (changes, ignored) = catalog::changes(&catalogs, own.chain(files));
        let count = ignored.len();
        for (number, (catalog, zone, reason)) in ignored.into_iter().enumerate() {
            if number == IGNORED_MAX {
                let more = count - number;
                let text = format_args!("{more} more members of catalogs are ignored");
                self.log.event(&Event::new(Level::Warning, PLUGIN, &text));
                break;
            }
            let text =
                format_args!("Member \"{zone}\" of catalog \"{catalog}\" is ignored: {reason}");
            self.log.event(&Event::new(Level::Warning, PLUGIN, &text));
        }
        for change in changes {
            self.is_changed = true;
            self.apply(change);
        }
    }

    fn apply(&mut self, change: Change) {
        let (zone, owner, what) = match change {
            Change::Remove(zone) => {
                let text = format_args!("Zone \"{zone}\" was removed by its catalog");
                self.log.event(&Event::new(Level::Info, PLUGIN, &text));
                return self.drop_member(&zone);
            }
            Change::Move(zone, owner) => {
                let Some((source, clients)) = self.source_of(&zone, &owner) else { return };
                let own = self.zones.iter_mut().find(|own| own.source.zone == zone);
                let Some(own) = own else { return };
                if own.source.directory != source.directory {
                    own.is_kept = false;
                    own.source.directory.iter().for_each(|from| disk::remove(from, &zone));
                }
                (own.source, own.clients) = (source, clients);
                let text =
                    format_args!("Zone \"{zone}\" was moved by catalog \"{}\"", owner.catalog());
                self.log.event(&Event::new(Level::Info, PLUGIN, &text));
                own.owner = Some(owner);
                return;
            }
            Change::Reset(zone, owner) => {
                self.drop_member(&zone);
                (zone, owner, "reset")
            }
            Change::Add(zone, owner) => (zone, owner, "added"),
        };
        let Some((source, clients)) = self.source_of(&zone, &owner) else { return };
        let text = format_args!("Zone \"{zone}\" was {what} by catalog \"{}\"", owner.catalog());
        self.log.event(&Event::new(Level::Info, PLUGIN, &text));
        let (now, calendar) = (self.clock.now(), Clock::calendar());
        let mut member = Transferred::new(self.next, source, clients, now);
        self.next += 1;
        member.owner = Some(owner);
        member.load(&self.handover, &self.hasher, self.log, (now, calendar));
        self.zones.push(member);
    }

    /// Returns the source of a member, and the TLS clients of its primaries: those of its catalog.
    fn source_of(
        &self,
        zone: &Name,
        owner: &Owner,
    ) -> Option<(TransferredSource, Arc<[Option<tls::Client>]>)> {
        let catalog = self.zones.iter().find(|own| own.source.zone == *owner.catalog())?;
        let source = catalog.source.clone();
        let source = TransferredSource { zone: zone.clone(), catalog: None, ..source };
        Some((source, Arc::clone(&catalog.clients)))
    }

    /// Drops a member with its state in memory and on disk.
    fn drop_member(&mut self, zone: &Name) {
        let is_it = |own: &Transferred| own.owner.is_some() && own.source.zone == *zone;
        for own in self.zones.iter().filter(|own| is_it(own)) {
            self.handover.forget(&own.source);
            if let Some(directory) = &own.source.directory {
                disk::remove(directory, zone);
            }
        }
        self.zones.retain(|own| !is_it(own));
    }
}

#[cfg(test)]
mod tests {
    use super::super::fetch::{Done, Fresh, Outcome};
    use super::super::{Checked, Handover, Secondaries};
    use crate::config::{Config, Host, Name};
    use crate::control::ZoneCounters;
    use crate::engine::authority::{Builder, Zone};
    use crate::log::Log;
    use ahash::RandomState;
    use std::path::{Path, PathBuf};

    fn hasher() -> RandomState {
        RandomState::with_seeds(1, 2, 3, 4)
    }

    /// A zone with a SOA record of this serial and these records.
    fn zone(apex: &str, serial: u32, records: &[(&str, u16, &[u8])]) -> Zone {
        let apex = Name::parse(apex).unwrap();
        let mut builder = Builder::new(apex.as_wire(), 0, hasher());
        let timers = [serial, 3_600, 600, 86_400, 60].map(u32::to_be_bytes).concat();
        builder.add(apex.as_wire(), 6, 60, &[&[0, 0][..], &timers].concat(), (0, 0)).unwrap();
        builder.add(apex.as_wire(), 2, 60, &[0], (0, 0)).unwrap();
        for (owner, rtype, data) in records {
            let owner = Name::parse(owner).unwrap();
            builder.add(owner.as_wire(), *rtype, 60, data, (0, 0)).unwrap();
        }
        builder.finish().unwrap_or_else(|refused| panic!("{}", refused.what)).zone
    }

    /// The catalog `c` with these members: an id and a name.
    fn catalog(serial: u32, members: &[(&str, &str)]) -> Zone {
        let owners = members.iter().map(|(id, zone)| {
            (format!("{id}.zones.c"), Name::parse(zone).unwrap().as_wire().to_vec())
        });
        let owners: Vec<_> = owners.collect();
        let mut records: Vec<_> =
            owners.iter().map(|(owner, data)| (owner.as_str(), 12, &data[..])).collect();
        records.push(("version.c", 16, b"\x012"));
        zone("c", serial, &records)
    }

    struct Test {
        own: Secondaries,
        directory: PathBuf,
    }

    impl Test {
        fn new(test: &str) -> Self {
            let name = format!("onward-catalog-{}-{test}", std::process::id());
            let directory = std::env::temp_dir().join(name);
            let _ = std::fs::remove_dir_all(&directory);
            let text = format!(
                "c test {{\n secondary c {{\n transfer from 192.0.2.1\n directory {}\n \
                 catalog\n }}\n file db file.test\n}}\n",
                directory.display()
            );
            let (config, _) = Config::load(text.as_bytes(), "f", &Host::plain())
                .unwrap_or_else(|e| panic!("{e}"));
            let shared = (ZoneCounters::default(), Handover::default());
            let log = Log::text(|_| {});
            let own = Secondaries::new(config.zone_sources()[0], shared, hasher(), log);
            let mut own = own.unwrap().unwrap();
            own.load();
            Self { own, directory }
        }

        /// The zone with this name was transferred.
        fn transferred(&mut self, name: &str, zone: Zone) {
            let name = Name::parse(name).unwrap();
            let own = self.own.zones.iter().find(|own| own.source.zone == name).unwrap();
            let (number, directory) = (own.number, own.source.directory.clone().unwrap());
            let kept = Some(super::disk::write(&directory, &zone, u64::from(u32::MAX)));
            let (warnings, primary) = (Vec::new(), "192.0.2.1:53".to_owned());
            let fresh = Fresh { zone, warnings, primary, is_incremental: false, fallback: None };
            let done = Some(Done { outcome: Outcome::Fresh(fresh), kept });
            self.own.take(Checked { number, done });
        }

        /// The zones; of each, true if it is served.
        fn zones(&self) -> Vec<(String, bool)> {
            let entries = self.own.entries();
            entries.map(|entry| (entry.name.to_string(), entry.zone.is_some())).collect()
        }

        fn is_on_disk(&self, file: &str) -> bool {
            Path::new(&self.directory).join(file).exists()
        }
    }

    impl Drop for Test {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }

    fn shown(zones: &[(&str, bool)]) -> Vec<(String, bool)> {
        zones.iter().map(|(zone, is_served)| (zone.to_string(), *is_served)).collect()
    }

    #[test]
    fn members_come_and_go_with_their_state() {
        let mut test = Test::new("come");
        assert_eq!(test.zones(), shown(&[("c.", false)]));
        let members = [("1", "a.test"), ("2", "b.test"), ("3", "far.example"), ("4", "file.test")];
        test.transferred("c", catalog(1, &members));
        assert!(test.own.take_changed());
        assert_eq!(test.zones(), shown(&[("c.", true), ("a.test.", false), ("b.test.", false)]));
        for name in ["a.test", "b.test"] {
            test.transferred(name, zone(name, 7, &[]));
        }
        assert!(test.is_on_disk("a.test.zone") && test.is_on_disk("b.test.zone"));
        let old = test.own.zones[1].number;
        test.transferred("c", catalog(2, &[("9", "a.test"), ("2", "b.test")]));
        let reset = [("c.", true), ("b.test.", true), ("a.test.", false)];
        assert_eq!(test.zones(), shown(&reset), "another id: it begins anew");
        assert!(!test.is_on_disk("a.test.zone") && test.is_on_disk("b.test.zone"));
        // The result of a check that ran meanwhile.
        test.own.take(Checked { number: old, done: None });
        test.transferred("c", catalog(3, &[("9", "a.test")]));
        assert_eq!(test.zones(), shown(&[("c.", true), ("a.test.", false)]));
        assert!(!test.is_on_disk("b.test.zone"));
        test.transferred("c", zone("c", 4, &[("version.c", 16, b"\x013")]));
        assert_eq!(test.zones(), shown(&[("c.", true), ("a.test.", false)]), "a broken catalog");
        test.transferred("c", catalog(5, &[]));
        assert_eq!(test.zones(), shown(&[("c.", true)]));
    }

    #[test]
    fn members_are_served_from_disk_at_the_next_start() {
        let mut test = Test::new("start");
        test.transferred("c", catalog(1, &[("1", "a.test")]));
        test.transferred("a.test", zone("a.test", 7, &[]));
        let text = format!(
            "c test {{\n secondary c {{\n transfer from 192.0.2.1\n directory {}\n catalog\n \
             }}\n}}\n",
            test.directory.display()
        );
        let (config, _) = Config::load(text.as_bytes(), "f", &Host::plain()).unwrap();
        let shared = (ZoneCounters::default(), Handover::default());
        let own = Secondaries::new(config.zone_sources()[0], shared, hasher(), Log::text(|_| {}));
        test.own = own.unwrap().unwrap();
        test.own.load();
        assert_eq!(test.zones(), shown(&[("c.", true), ("a.test.", true)]));
    }
}
