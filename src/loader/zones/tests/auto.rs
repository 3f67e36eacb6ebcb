//! Zones of a directory with real files: added, changed, broken, moved and removed ones, and a
//! directory that is removed and comes back.
//!
//! Checks are made by hand, each at a later time of the reader's clock, so that nothing waits.

use super::{Directory, log, text};
use crate::control::{DirectoryState, Loads, ZoneLoads};
use crate::engine::authority::table::ZoneTable;
use crate::loader::zones::{ZonesReader, walk};
use crate::log::Log;
use crate::moment::Moment;
use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Time between two checks: the interval has passed, and a changed file is settled.
const STEP: Duration = Duration::from_secs(120);

/// A reader, and the time of its last check.
struct Bed {
    directory: Directory,
    reader: ZonesReader,
    loads: Loads,
    now: Moment,
    first: Result<Arc<ZoneTable>, String>,
}

impl Bed {
    /// Creates a reader of `stanza`, where `DIR/zones` is the directory that `fill` has written
    /// into.
    fn start(stanza: &str, fill: impl FnOnce(&Directory)) -> Self {
        let directory = Directory::new();
        fs::create_dir(directory.0.join("zones")).unwrap();
        fill(&directory);
        let (own, loads) = (Arc::new(ZoneLoads::default()), Loads::default());
        loads.reload(Vec::new(), vec![Arc::clone(&own)]);
        let source = directory.source(stanza);
        let mut reader = ZonesReader::new(source, own, Default::default(), Log::text(log)).unwrap();
        let first = reader.look_first();
        let now = reader.next_look().unwrap_or_default();
        Self { directory, reader, loads, now, first }
    }

    /// Checks once. Returns the zones if any has changed.
    fn look(&mut self) -> Option<Vec<(String, u32)>> {
        self.now = self.now.plus(STEP);
        self.reader.look(self.now).map(|table| zones(&table))
    }

    /// Checks until all changes have been found, read and confirmed.
    fn settle(&mut self) -> Vec<(String, u32)> {
        for _ in 0..4 {
            self.look();
        }
        zones(&self.reader.table())
    }

    fn write(&self, file: &str, text: &str) {
        self.directory.write(&format!("zones/{file}"), text);
    }

    fn place(&self, file: &str) -> PathBuf {
        self.directory.0.join("zones").join(file)
    }

    fn state(&self) -> DirectoryState {
        self.loads.directories().remove(0)
    }

    /// Returns the number of log lines about its files that contain `words`.
    fn lines(&self, words: &str) -> usize {
        self.directory.lines().iter().filter(|line| line.contains(words)).count()
    }
}

/// Returns the loaded zones of a table and their serials, in the order of their names.
fn zones(table: &ZoneTable) -> Vec<(String, u32)> {
    let serial = |entry: &crate::engine::authority::table::ZoneEntry| {
        (entry.name.to_string(), entry.zone.as_ref().map_or(0, |zone| zone.serial()))
    };
    let mut zones: Vec<_> = table.entries().iter().map(serial).collect();
    zones.sort();
    zones
}

fn named(zones: &[(&str, u32)]) -> Vec<(String, u32)> {
    zones.iter().map(|(zone, serial)| (zone.to_string(), *serial)).collect()
}

const WATCHED: &str = "auto {\n directory DIR/zones\n}";

#[test]
fn files_appear_change_break_and_disappear_independently() {
    let mut bed = Bed::start(WATCHED, |directory| {
        directory.write("zones/db.a.z", &text(1, ""));
        directory.write("zones/db.B.Z", &text(2, ""));
        directory.write("zones/readme", "nothing");
    });
    assert_eq!(zones(bed.first.as_ref().unwrap()), named(&[("a.z.", 1), ("b.z.", 2)]));
    assert_eq!(bed.look(), None);
    bed.write("db.c.z", &text(3, ""));
    assert_eq!(bed.look(), None, "found, and not yet read");
    assert_eq!(bed.look(), Some(named(&[("a.z.", 1), ("b.z.", 2), ("c.z.", 3)])));
    bed.write("db.B.Z", &text(7, "x A 192.0.2.1"));
    assert_eq!(bed.settle(), named(&[("a.z.", 1), ("b.z.", 7), ("c.z.", 3)]));
    bed.write("db.a.z", "junk");
    bed.write("db.d.z", &text(4, "x A junk"));
    assert_eq!(bed.settle(), named(&[("a.z.", 1), ("b.z.", 7), ("c.z.", 3)]), "a stays");
    fs::remove_file(bed.place("db.c.z")).unwrap();
    assert_eq!(bed.settle(), named(&[("a.z.", 1), ("b.z.", 7)]), "c alone is gone");
    bed.write("db.d.z", &text(5, ""));
    assert_eq!(bed.settle(), named(&[("a.z.", 1), ("b.z.", 7), ("d.z.", 5)]));
    assert_eq!(bed.state().zones, 3);
    for (words, count) in [
        ("Inserting zone \"a.z.\" from: ", 1),
        ("Inserting zone \"b.z.\" from: ", 1),
        ("Inserting zone \"c.z.\" from: ", 1),
        ("Inserting zone \"d.z.\" from: ", 1),
        ("Deleting zone \"c.z.\": ", 1),
        ("Successfully reloaded zone \"b.z.\"", 1),
        ("Parsing zone \"a.z.\": ", 1),
        ("Parse zone \"d.z.\": ", 1),
    ] {
        assert_eq!(bed.lines(words), count, "{words}: {:#?}", bed.directory.lines());
    }
}

#[test]
fn a_removed_directory_keeps_its_zones_until_it_is_back() {
    let mut bed = Bed::start(WATCHED, |directory| {
        directory.write("zones/db.a.z", &text(1, ""));
        directory.write("zones/db.b.z", &text(2, ""));
    });
    let (place, away) = (bed.place(""), bed.directory.0.join("away"));
    fs::rename(&place, &away).unwrap();
    assert_eq!(bed.settle(), named(&[("a.z.", 1), ("b.z.", 2)]), "row 105");
    assert_eq!((bed.state().zones, bed.state().failed), (2, 4));
    assert_eq!(bed.lines("cannot read directory "), 1, "{:#?}", bed.directory.lines());
    assert_eq!(bed.lines("Failed to open"), 0);
    fs::remove_file(away.join("db.a.z")).unwrap();
    fs::rename(&away, &place).unwrap();
    bed.write("db.b.z", &text(3, ""));
    assert_eq!(bed.settle(), named(&[("b.z.", 3)]));
}

#[test]
fn a_directory_missing_at_start_is_awaited_and_a_file_is_refused() {
    let mut bed = Bed::start("auto {\n directory DIR/later\n}", |_| {});
    assert_eq!(zones(bed.first.as_ref().unwrap()), []);
    assert_eq!(bed.settle(), []);
    let later = bed.directory.0.join("later");
    fs::create_dir(&later).unwrap();
    fs::write(later.join("db.a.z"), text(1, "")).unwrap();
    assert_eq!(bed.settle(), named(&[("a.z.", 1)]));
    assert_eq!(bed.lines("Directory does not exist: "), 1);
    assert_eq!(bed.lines("cannot read directory "), 0);
    for stanza in
        ["auto {\n directory DIR/zones/db.a.z\n}", "auto {\n directory DIR/later\n reload 0\n}"]
    {
        let bed = Bed::start(stanza, |directory| directory.write("zones/db.a.z", &text(1, "")));
        let error = bed.first.err().unwrap();
        let place = "plugin/auto: Corefile:3 - Unable to access root path '";
        assert!(error.starts_with(place), "{error}");
    }
}

#[test]
fn a_zone_goes_only_when_its_file_is_missed_twice() {
    let mut bed = Bed::start(WATCHED, |directory| {
        directory.write("zones/db.a.z", &text(1, ""));
    });
    fs::remove_file(bed.place("db.a.z")).unwrap();
    assert_eq!(bed.look(), None);
    bed.write("db.a.z", &text(2, ""));
    assert_eq!(bed.settle(), named(&[("a.z.", 2)]));
    assert_eq!(bed.lines("Deleting zone"), 0);
    fs::remove_file(bed.place("db.a.z")).unwrap();
    assert_eq!(bed.settle(), []);
    assert_eq!(bed.lines("Deleting zone \"a.z.\": "), 1);
}

#[test]
fn a_file_that_is_missing_for_less_than_the_interval_keeps_its_zone() {
    for (stanza, seconds) in [
        (WATCHED, 60),
        ("auto {\n directory DIR/zones\n reload 1s\n}", 5),
        ("auto {\n directory DIR/zones\n reload 90s\n}", 90),
    ] {
        let mut bed = Bed::start(stanza, |directory| {
            directory.write("zones/db.a.z", &text(1, ""));
            directory.write("zones/db.b.z", &text(2, ""));
        });
        fs::remove_file(bed.place("db.a.z")).unwrap();
        assert_eq!(bed.look(), None);
        for _ in 1..seconds {
            bed.now = bed.now.plus(Duration::from_secs(1));
            bed.reader.hasten(bed.now);
            assert_eq!(bed.reader.look(bed.now).map(|table| zones(&table)), None, "{stanza}");
        }
        bed.now = bed.now.plus(Duration::from_secs(1));
        bed.reader.hasten(bed.now);
        let left = bed.reader.look(bed.now).map(|table| zones(&table));
        assert_eq!(left, Some(named(&[("b.z.", 2)])), "{stanza}");
    }
}

#[test]
fn an_empty_directory_in_the_place_of_another_keeps_the_zones() {
    let mut bed = Bed::start(WATCHED, |directory| {
        directory.write("zones/db.a.z", &text(1, ""));
    });
    let (place, away) = (bed.place(""), bed.directory.0.join("away"));
    fs::rename(&place, &away).unwrap();
    fs::create_dir(&place).unwrap();
    assert_eq!(bed.settle(), named(&[("a.z.", 1)]));
    assert_eq!(bed.state().failed, 4);
    assert_eq!(bed.lines("it is empty and not the directory of the last search"), 1);
    bed.write("db.b.z", &text(2, ""));
    assert_eq!(bed.settle(), named(&[("b.z.", 2)]), "another directory with files counts");
    fs::remove_file(bed.place("db.b.z")).unwrap();
    assert_eq!(bed.settle(), [], "the same directory may become empty");
}

#[test]
fn a_file_that_never_was_a_zone_disappears_silently() {
    let mut bed = Bed::start(WATCHED, |directory| {
        directory.write("zones/db.a.z", "junk");
    });
    fs::remove_file(bed.place("db.a.z")).unwrap();
    assert_eq!(bed.settle(), []);
    assert_eq!(bed.reader.zones.len(), 0);
    assert_eq!(bed.lines("Deleting zone"), 0, "{:#?}", bed.directory.lines());
}

#[test]
fn zones_that_were_read_take_effect_before_all_are() {
    let mut bed = Bed::start(WATCHED, |_| {});
    for (file, serial) in [("db.a.z", 1), ("db.b.z", 2), ("db.c.z", 3)] {
        bed.write(file, &text(serial, ""));
    }
    bed.reader.batch = Duration::ZERO;
    // Each check handles one zone: at first all are found, then one after the other is read.
    assert_eq!([bed.look(), bed.look(), bed.look()], [None, None, None]);
    assert_eq!(bed.look(), Some(named(&[("a.z.", 1)])));
    assert!(bed.reader.next_look().is_some_and(|at| at <= bed.now), "the others are due");
    assert_eq!(bed.look(), Some(named(&[("a.z.", 1), ("b.z.", 2)])));
    assert_eq!(bed.look(), Some(named(&[("a.z.", 1), ("b.z.", 2), ("c.z.", 3)])));
}

#[test]
fn a_file_that_moves_keeps_its_zone_and_is_read_where_it_is() {
    let mut bed = Bed::start(WATCHED, |directory| {
        directory.write("zones/db.a.z", &text(1, ""));
    });
    fs::create_dir(bed.place("sub")).unwrap();
    fs::rename(bed.place("db.a.z"), bed.place("sub/db.a.z")).unwrap();
    assert_eq!(bed.settle(), named(&[("a.z.", 1)]));
    bed.write("sub/db.a.z", &text(2, ""));
    assert_eq!(bed.settle(), named(&[("a.z.", 2)]));
    fs::rename(bed.place("sub/db.a.z"), bed.place("sub/db.b.z")).unwrap();
    assert_eq!(bed.settle(), named(&[("b.z.", 2)]), "renamed to another zone");
}

#[test]
fn an_unreadable_subdirectory_keeps_its_zones() {
    let mut bed = Bed::start(WATCHED, |directory| {
        fs::create_dir(directory.0.join("zones/sub")).unwrap();
        directory.write("zones/sub/db.a.z", &text(1, ""));
        directory.write("zones/db.b.z", &text(2, ""));
    });
    let set = |mode| {
        fs::set_permissions(bed.directory.0.join("zones/sub"), PermissionsExt::from_mode(mode))
    };
    set(0).unwrap();
    if fs::read_dir(bed.place("sub")).is_ok() {
        eprintln!("SKIPPED: this account may read everything");
        return;
    }
    fs::remove_file(bed.place("db.b.z")).unwrap();
    let left = bed.settle();
    fs::set_permissions(bed.place("sub"), PermissionsExt::from_mode(0o700)).unwrap();
    assert_eq!(left, named(&[("a.z.", 1)]));
    assert_eq!(bed.lines("its zones stay as they are"), 1);
}

#[test]
fn a_zone_of_an_unreadable_subdirectory_does_not_move_to_a_second_file() {
    let mut bed = Bed::start(WATCHED, |directory| {
        fs::create_dir(directory.0.join("zones/one")).unwrap();
        fs::create_dir(directory.0.join("zones/two")).unwrap();
        directory.write("zones/one/db.a.z", &text(1, ""));
        directory.write("zones/one/db.b.z", "junk");
    });
    bed.write("two/db.a.z", &text(7, ""));
    bed.write("two/db.b.z", &text(8, ""));
    let source = bed.directory.source(WATCHED);
    let mut found = walk(source.directory.as_ref().unwrap(), &HashSet::new()).unwrap();
    // What an account finds that may not read `one`.
    found.unread.push(bed.place("one"));
    for file in &mut found.found {
        file.place = bed.place("two").join(file.place.file_name().unwrap());
    }
    let ZonesReader { directory, zones: watched, .. } = &mut bed.reader;
    assert!(!directory.as_mut().unwrap().take(found, watched, bed.now));
    let place = |zone: &str| {
        let watched = watched.iter().find(|watched| watched.file.zone.to_string() == zone);
        watched.unwrap().file.place.clone()
    };
    assert_eq!(place("a.z."), bed.directory.0.join("zones/one/db.a.z"));
    assert_eq!(place("b.z."), bed.directory.0.join("zones/two/db.b.z"), "it never was a zone");
}

#[test]
fn an_interval_of_zero_disables_checks() {
    let mut bed = Bed::start("auto {\n directory DIR/zones\n reload 0\n}", |directory| {
        directory.write("zones/db.a.z", &text(1, ""));
    });
    assert_eq!(bed.reader.next_look(), None);
    bed.write("db.b.z", &text(2, ""));
    assert_eq!(bed.settle(), named(&[("a.z.", 1)]));
}

#[test]
fn control_characters_of_a_files_name_are_escaped() {
    let bed = Bed::start(WATCHED, |directory| {
        let below = directory.0.join("zones/a\n[ERROR] b");
        fs::create_dir(&below).unwrap();
        fs::write(below.join("db.a..z"), "").unwrap();
        fs::write(below.join("db.c.z"), "junk").unwrap();
    });
    let source = bed.directory.source(WATCHED);
    let walk = walk(source.directory.as_ref().unwrap(), &HashSet::new()).unwrap();
    let texts = walk.warnings.iter().chain(walk.found.iter().map(|file| &file.label));
    let texts: Vec<_> = texts.collect();
    assert_eq!(texts.len(), 2);
    assert!(texts.iter().all(|text| text.contains("\\n[ERROR] ")), "{texts:?}");
    let lines = bed.directory.lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    for text in texts.iter().map(|text| text.as_str()).chain(lines.iter().map(|line| &**line)) {
        assert!(!text.contains(char::is_control), "{text:?}");
    }
}

#[test]
fn a_walk_is_in_the_order_of_names_and_skips_other_files() {
    let directory = Directory::new();
    let zones = directory.0.join("zones");
    for below in ["sub", "sub/deeper", "other", "db.dir.z"] {
        fs::create_dir_all(zones.join(below)).unwrap();
    }
    let files = [
        "db.one.z",
        "sub/db.one.z",
        "sub/deeper/db.two.z",
        "db.far.y",
        "db.a..z",
        "db.file.z",
        "xdb.three.z",
        "zone.z",
    ];
    files.iter().for_each(|file| directory.write(&format!("zones/{file}"), ""));
    directory.write("elsewhere", "");
    symlink(directory.0.join("elsewhere"), zones.join("db.link.z")).unwrap();
    symlink(zones.join("sub"), zones.join("other/linked")).unwrap();
    symlink(zones.join("sub"), zones.join("db.linked.z")).unwrap();
    symlink(directory.0.join("nowhere"), zones.join("db.dangling.z")).unwrap();
    symlink(zones.join("sub/deeper/db.two.z"), zones.join("sub/db.two.z")).unwrap();
    symlink(&zones, directory.0.join("way")).unwrap();
    let stanzas = "file DIR/elsewhere file.z\nauto {\n directory DIR/way\n}";
    let source = directory.source(stanzas);
    let taken: HashSet<_> = source.files.iter().map(|file| file.zone.clone()).collect();
    let found = walk(source.directory.as_ref().unwrap(), &taken).unwrap();
    let way = directory.0.join("way");
    let shown = |path: &std::path::Path| path.strip_prefix(&way).unwrap().display().to_string();
    let zones: Vec<_> = found.found.iter().map(|file| shown(&file.place)).collect();
    assert_eq!(zones, ["db.dangling.z", "db.link.z", "db.one.z", "sub/db.two.z"]);
    assert_eq!(found.found[2].label, way.join("db.one.z").display().to_string());
    let way = way.display();
    assert_eq!(
        found.warnings,
        [
            format!("{way}/db.a..z: 'a..z' is not a valid domain name: it has an empty label"),
            format!(
                "{way}/db.far.y: zone far.y. is outside the zones of the stanza and not loaded"
            ),
            format!("{way}/db.file.z: zone file.z. is read from the file of another stanza"),
            format!("{way}/sub/db.one.z: zone one.z. is read from {way}/db.one.z"),
            format!("{way}/xdb.three.z: is no zone file: its name does not begin with 'db.'"),
        ]
    );
}
