//! Series about data that is loaded at run time: hosts files and zones.
//!
//! Two names are the reference's. Its time of the last change has no label, so the latest of
//! several files counts. Sources with the same file are added up, because their labels are the
//! same.

use crate::admin::exposition::Exposition;
use crate::control::{DirectoryState, LoadState, Loads, Results, ZoneState};

/// Maximum number of zones with their own series; the others are added up.
const ZONES_MAX: usize = 1_000;
/// Label of the zones that are added up: no zone has this name.
const OTHERS: &str = "others";

/// Adds the series of all hosts files.
pub(super) fn of_sources(all: &mut Exposition, loads: &[LoadState]) {
    for load in loads {
        let labels = [("hostsfile", &*load.label)];
        let help = "Addresses of names and of reverse names in the hosts file and in the Corefile.";
        all.gauge("coredns_hosts_entries", help, &labels, load.entries as f64);
        let help = "Modification time of the newest loaded hosts file, in seconds since 1970.";
        let modified = load.modified.as_secs_f64();
        all.largest("coredns_hosts_reload_timestamp_seconds", help, &[], modified);
        let help = "Memory of the shared hosts table, in bytes.";
        all.gauge("onward_hosts_table_bytes", help, &labels, load.bytes as f64);
        let help = "Invalid lines and names of the hosts file that were skipped.";
        all.gauge("onward_hosts_skipped", help, &labels, load.skipped as f64);
        let help = "Loads of the hosts file, by result; a failed load keeps the previous entries.";
        let results = [load.done, load.failed];
        of_loads(all, "onward_hosts_loads_total", help, labels[0], results);
    }
}

/// Adds the series of all zones.
pub(super) fn of_zones(all: &mut Exposition, zones: &[ZoneState]) {
    for (number, state) in zones.iter().enumerate() {
        let is_own = number < ZONES_MAX;
        let labels = [("zone", if is_own { &*state.zone } else { OTHERS })];
        if let Some(serial) = state.serial.filter(|_| is_own) {
            let help = "SOA serial number of the zone.";
            all.largest("onward_zone_serial", help, &labels, serial.into());
            let help =
                "Time at which the current version of the zone was loaded, in seconds since 1970.";
            let name = "onward_zone_loaded_timestamp_seconds";
            all.largest(name, help, &labels, state.loaded.as_secs_f64());
        }
        if let Some(expires) = state.expires.filter(|_| is_own) {
            let help = "Time at which the zone expires unless a primary confirms it, in seconds \
                        since 1970.";
            let name = "onward_zone_expires_timestamp_seconds";
            all.largest(name, help, &labels, expires.as_secs_f64());
        }
        let help = "Number of records of the zone.";
        all.gauge("onward_zone_records", help, &labels, state.records as f64);
        let help = "Memory of the zone, shared by all workers, in bytes.";
        all.gauge("onward_zone_octets", help, &labels, state.bytes as f64);
        if state.differences > 0 {
            let help = "Memory of the differences kept for incremental transfers, in bytes.";
            let name = "onward_zone_differences_octets";
            all.gauge(name, help, &labels, state.differences as f64);
        }
        let help = "Loads of the zone, by result; a failed load keeps the previous version.";
        let results = [state.done, state.failed];
        of_loads(all, "onward_zone_loads_total", help, labels[0], results);
    }
}

/// Adds the series of all directories with zone files.
pub(super) fn of_directories(all: &mut Exposition, directories: &[DirectoryState]) {
    for state in directories {
        let labels = [("directory", &*state.label)];
        let help = "Number of zones loaded from the files of the directory.";
        all.gauge("onward_auto_zones", help, &labels, state.zones as f64);
        let help = "Searches of the directory, by result; a failed search keeps all its zones.";
        let results = [state.done, state.failed];
        of_loads(all, "onward_auto_searches_total", help, labels[0], results);
    }
}

/// Transfers of zones and notifications of secondaries.
pub(super) fn of_transfers(all: &mut Exposition, loads: &Loads) {
    let counters = loads.zone_counters();
    let name = "onward_zone_transfers_total";
    let help = "Zone transfers to clients, and checks of zones at primaries, by result.";
    of_results(all, name, help, ("out", loads.transfers()));
    of_results(all, name, help, ("in", &counters.transfers_in));
    let name = "onward_notifies_total";
    let help = "Notifications of secondaries, and of primaries, by result.";
    of_results(all, name, help, ("out", &counters.notifies));
    of_results(all, name, help, ("in", &counters.notifies_in));
}

fn of_results(
    all: &mut Exposition,
    name: &'static str,
    help: &'static str,
    (direction, results): (&'static str, &Results),
) {
    for (number, ((zone, result), count)) in results.all().into_iter().enumerate() {
        let zone = if number < ZONES_MAX { &*zone } else { OTHERS };
        let labels = [("zone", zone), ("direction", direction), ("result", result)];
        all.counter(name, help, &labels, count as f64);
    }
}

/// Adds a series of loads that have succeeded, and one of those that have failed.
fn of_loads(
    all: &mut Exposition,
    name: &'static str,
    help: &'static str,
    label: (&'static str, &str),
    [done, failed]: [u64; 2],
) {
    for (result, count) in [("done", done), ("failed", failed)] {
        all.counter(name, help, &[label, ("result", result)], count as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::{ZONES_MAX, of_directories, of_sources, of_transfers, of_zones};
    use crate::admin::exposition::Exposition;
    use crate::control::{DirectoryState, Load, Loads, ZoneState};
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn zones_have_their_own_series_up_to_a_bound() {
        let state = ZoneState {
            zone: "a.".into(),
            serial: Some(7),
            records: 3,
            bytes: 100,
            differences: 30,
            loaded: Duration::from_secs(1_700_000_000),
            done: 2,
            failed: 1,
            expires: Some(Duration::from_secs(1_800_000_000)),
            is_expired: false,
        };
        let missing = ZoneState { zone: "b.".into(), failed: 1, ..ZoneState::default() };
        let mut zones = vec![state.clone(), missing];
        zones.extend(vec![state; ZONES_MAX]);
        let mut all = Exposition::default();
        of_zones(&mut all, &zones);
        let text = String::from_utf8(all.text()).unwrap();
        for line in [
            "onward_zone_serial{zone=\"a.\"} 7",
            "onward_zone_loaded_timestamp_seconds{zone=\"a.\"} 1700000000",
            "onward_zone_expires_timestamp_seconds{zone=\"a.\"} 1800000000",
            "onward_zone_octets{zone=\"others\"} 200",
            "onward_zone_differences_octets{zone=\"a.\"} 29970",
            "onward_zone_differences_octets{zone=\"others\"} 60",
            "onward_zone_records{zone=\"b.\"} 0",
            "onward_zone_records{zone=\"others\"} 6",
            "onward_zone_loads_total{zone=\"b.\",result=\"failed\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("serial{zone=\"b.\"}") && !text.contains("serial{zone=\"others"));
    }

    #[test]
    fn directories_are_labelled_by_their_paths() {
        let state = DirectoryState { label: "zones".into(), zones: 3, done: 2, failed: 1 };
        let mut all = Exposition::default();
        of_directories(&mut all, &[state]);
        let text = String::from_utf8(all.text()).unwrap();
        for line in [
            "onward_auto_zones{directory=\"zones\"} 3",
            "onward_auto_searches_total{directory=\"zones\",result=\"done\"} 2",
            "onward_auto_searches_total{directory=\"zones\",result=\"failed\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn transfers_and_notifications_are_counted_by_zone() {
        let loads = Loads::default();
        loads.transfers().count("a.".into(), "done");
        loads.transfers().count("a.".into(), "done");
        loads.zone_counters().notifies.count("a.".into(), "timeout");
        loads.zone_counters().transfers_in.count("a.".into(), "ixfr");
        loads.zone_counters().notifies_in.count("a.".into(), "old");
        let mut all = Exposition::default();
        of_transfers(&mut all, &loads);
        let text = String::from_utf8(all.text()).unwrap();
        for line in [
            "onward_zone_transfers_total{zone=\"a.\",direction=\"out\",result=\"done\"} 2",
            "onward_notifies_total{zone=\"a.\",direction=\"out\",result=\"timeout\"} 1",
            "onward_zone_transfers_total{zone=\"a.\",direction=\"in\",result=\"ixfr\"} 1",
            "onward_notifies_total{zone=\"a.\",direction=\"in\",result=\"old\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn hosts_files_are_labelled_and_named_as_in_the_reference() {
        let (loads, [one, two]) = (Loads::default(), ["/etc/hosts", "b"].map(Load::new));
        one.loaded(6, 100, 2, Duration::from_millis(1_700_000_000_500));
        one.failed();
        two.entries(1);
        loads.reload(vec![Arc::new(one), Arc::new(two)], Vec::new());
        let mut all = Exposition::default();
        of_sources(&mut all, &loads.states());
        let text = String::from_utf8(all.text()).unwrap();
        for line in [
            "coredns_hosts_entries{hostsfile=\"/etc/hosts\"} 6",
            "coredns_hosts_entries{hostsfile=\"b\"} 1",
            "coredns_hosts_reload_timestamp_seconds 1700000000.5",
            "onward_hosts_table_bytes{hostsfile=\"/etc/hosts\"} 100",
            "onward_hosts_skipped{hostsfile=\"/etc/hosts\"} 2",
            "onward_hosts_loads_total{hostsfile=\"/etc/hosts\",result=\"done\"} 1",
            "onward_hosts_loads_total{hostsfile=\"/etc/hosts\",result=\"failed\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
