//! The service manager that started us, if any: systemd or another with its protocol.
//!
//! Datagrams of lines to the socket in `NOTIFY_SOCKET` (sd_notify(3)) report our state. If
//! `WATCHDOG_USEC` is set, one is sent twice in that time as long as all workers respond. There are
//! no answers, and no listener is needed.

use crate::moment::Moment;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Maximum wait for a manager whose queue is full; later messages are lost.
const TIMEOUT: Duration = Duration::from_millis(100);
/// Maximum time of a stop, with a margin: outstanding queries are finished.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Socket of the manager, and the watchdog interval.
pub(super) struct Manager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
    due: Option<Moment>,
}

impl Manager {
    /// Reads the manager's socket and watchdog interval from the environment.
    pub(super) fn of_environment(now: Moment) -> Self {
        let variable = |name: &str| std::env::var(name).ok();
        Self::new(now, std::process::id(), variable)
    }

    fn new(now: Moment, pid: u32, variable: impl Fn(&str) -> Option<String>) -> Self {
        let socket = variable("NOTIFY_SOCKET").and_then(|name| {
            let address = match name.strip_prefix('@') {
                Some(name) => SocketAddr::from_abstract_name(name),
                None => SocketAddr::from_pathname(&name),
            };
            let socket = UnixDatagram::unbound().ok()?;
            socket.set_write_timeout(Some(TIMEOUT)).ok()?;
            Some((socket, address.ok()?))
        });
        let number = |name| variable(name).and_then(|text| text.parse::<u64>().ok());
        let meant = number("WATCHDOG_PID").is_none_or(|meant| meant == u64::from(pid));
        let watchdog = number("WATCHDOG_USEC").filter(|_| meant && socket.is_some());
        let watchdog = watchdog.map(|time| Duration::from_micros(time) / 2);
        Self { socket, watchdog, due: watchdog.map(|_| now) }
    }

    /// Sends `state`.
    pub(super) fn say(&self, state: &str) {
        if let Some((socket, address)) = &self.socket {
            let _ = socket.send_to_addr(state.as_bytes(), address);
        }
    }

    /// Reports that the process stops, which takes `longer` than usual.
    pub(super) fn stopping_in(&self, longer: Duration) {
        let time = longer.saturating_add(STOP_TIMEOUT).as_micros();
        self.say(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={time}"));
    }

    /// Returns the time at which [`Manager::is_due`] is next true.
    pub(super) fn due(&self) -> Option<Moment> {
        self.due
    }

    /// Returns true if the watchdog is due to be fed, once for each interval.
    pub(super) fn is_due(&mut self, now: Moment) -> bool {
        let due = self.due.is_some_and(|due| due <= now);
        if due {
            self.due = self.watchdog.map(|watchdog| now.plus(watchdog));
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::Manager;
    use crate::moment::Moment;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    use std::time::Duration;

    fn manager(environment: &[(&str, &str)]) -> Manager {
        Manager::new(Moment::ZERO, 7, |name| {
            let found = environment.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn states_arrive_where_the_environment_says() {
        let name = format!("onward-manager-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listening = UnixDatagram::bind_addr(&address).unwrap();
        let manager = manager(&[("NOTIFY_SOCKET", &format!("@{name}"))]);
        manager.say("READY=1");
        manager.say("RELOADING=1");
        let mut text = [0; 64];
        let len = listening.recv(&mut text).unwrap();
        assert_eq!(&text[..len], b"READY=1");
        let len = listening.recv(&mut text).unwrap();
        assert_eq!(&text[..len], b"RELOADING=1");
        manager.stopping_in(Duration::from_millis(1500));
        let len = listening.recv(&mut text).unwrap();
        assert_eq!(&text[..len], b"STOPPING=1\nEXTEND_TIMEOUT_USEC=11500000");
    }

    #[test]
    fn a_manager_that_does_not_read_blocks_no_thread() {
        let name = format!("onward-deaf-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let _deaf = UnixDatagram::bind_addr(&address).unwrap();
        let manager = manager(&[("NOTIFY_SOCKET", &format!("@{name}"))]);
        let full = UnixDatagram::unbound().unwrap();
        full.set_nonblocking(true).unwrap();
        while full.send_to_addr(b"WATCHDOG=1", &address).is_ok() {}
        manager.say("WATCHDOG=1");
    }

    #[test]
    fn without_a_manager_nothing_is_sent_and_nothing_is_due() {
        let mut manager = manager(&[("WATCHDOG_USEC", "1000")]);
        manager.say("READY=1");
        assert!(!manager.is_due(Moment::FOREVER));
    }

    #[test]
    fn the_watchdog_is_fed_twice_in_its_time_if_it_is_ours() {
        let notify = ("NOTIFY_SOCKET", "/nowhere");
        let mut ours = manager(&[notify, ("WATCHDOG_USEC", "1000"), ("WATCHDOG_PID", "7")]);
        let at = |micros| Moment::ZERO.plus(Duration::from_micros(micros));
        assert!(ours.is_due(at(0)) && !ours.is_due(at(499)) && ours.is_due(at(500)));
        assert_eq!(ours.due(), Some(at(1_000)));
        let others = manager(&[notify, ("WATCHDOG_USEC", "1000"), ("WATCHDOG_PID", "8")]);
        assert_eq!(others.due(), None);
    }
}
