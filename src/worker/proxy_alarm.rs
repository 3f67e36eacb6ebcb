//! Reports of invalid headers of the PROXY protocol, to be logged.
//!
//! Anyone may send invalid headers, so a worker reports one in [`INTERVAL`] and counts the others.

use crate::control::{KeeperMailbox, ToKeeper};
use crate::engine::proxy::Flaw;
use crate::moment::Moment;
use std::net::SocketAddr;
use std::time::Duration;

/// Minimum time between two reports.
const INTERVAL: Duration = Duration::from_secs(10);

/// A worker's reports.
pub(super) struct ProxyAlarm {
    keeper: KeeperMailbox,
    /// Time from which on the next one is reported.
    next: Moment,
    /// Number of headers that were not reported.
    others: u64,
}

impl ProxyAlarm {
    /// Creates an alarm that reports to `keeper`.
    pub(super) fn new(keeper: KeeperMailbox) -> Self {
        Self { keeper, next: Moment::ZERO, others: 0 }
    }

    /// Reports a header of `peer`, or counts it. `is_datagram`: it was dropped with its datagram,
    /// otherwise its connection is closed.
    #[cold]
    pub(super) fn report(&mut self, now: Moment, peer: SocketAddr, flaw: Flaw, is_datagram: bool) {
        let message = ToKeeper::BadHeader { peer, flaw, is_datagram, others: self.others };
        if now < self.next || self.keeper.try_send(message).is_err() {
            self.others += 1;
            return;
        }
        (self.next, self.others) = (now.plus(INTERVAL), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::ProxyAlarm;
    use crate::control::{KeeperMailbox, ToKeeper};
    use crate::engine::proxy::Flaw;
    use crate::moment::Moment;
    use std::time::Duration;

    #[test]
    fn one_header_is_reported_in_an_interval_and_the_others_are_counted() {
        let poll = mio::Poll::new().unwrap();
        let waker = mio::Waker::new(poll.registry(), mio::Token(0)).unwrap();
        let (keeper, mail) = KeeperMailbox::new(1, waker);
        let mut alarm = ProxyAlarm::new(keeper);
        let mut report = |seconds: u64| {
            let now = Moment::ZERO.plus(Duration::from_secs(seconds));
            alarm.report(now, "192.0.2.1:7".parse().unwrap(), Flaw::Cut, true);
        };
        let others = || match mail.try_next() {
            Ok(ToKeeper::BadHeader { others, .. }) => Some(others),
            _ => None,
        };
        report(0);
        report(1);
        report(9);
        assert_eq!((others(), others()), (Some(0), None));
        report(10);
        // The mailbox is full.
        report(20);
        assert_eq!(others(), Some(2));
        report(21);
        assert_eq!(others(), Some(1));
    }
}
