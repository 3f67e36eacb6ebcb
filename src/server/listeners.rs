//! The listening sockets of all workers, from one configuration to the next.
//!
//! A listener has a slot, the same in each worker. A query remembers the slot that it came in on,
//! so a listener keeps its slot as long as it is open and a while longer. Each worker has sockets
//! of its own on each address. A second descriptor of each is kept here, for an address that comes
//! back while its last queries are still being answered; it is closed afterwards, because queries
//! would wait there unread ([`Listeners::close_gone`]). An address that is replaced by a wildcard
//! of its port is served as part of that wildcard: as long as its sockets are open, the kernel
//! delivers its queries to no other socket. [`Listeners::plan`] binds missing sockets and changes
//! nothing else; only [`Listeners::adopt`] does.

use super::StartError;
use super::steering::{Arriving, Steering};
use crate::config::{Layers, Listener, Protocol};
use crate::control::Sockets;
use crate::log::{Event, Level, Log};
use crate::moment::Moment;
use crate::sys::inherit::{Inherited, Passed};
use crate::sys::socket;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

/// Maximum of attempts to find a port that is free for UDP and TCP, if the kernel chooses it.
const PORT_TRIES_MAX: u32 = 100;
/// Time for which the sockets of a removed listener are kept: longer than any reply takes, and
/// longer than a worker keeps them.
const GONE_MAX: Duration = Duration::from_secs(10);

/// One worker's sockets on one address: those of its protocol's layers.
type Pair = (Option<UdpSocket>, Option<TcpListener>);

/// Each worker's sockets on one address for one protocol.
struct Group {
    protocol: Protocol,
    /// Datagrams may begin with headers of the PROXY protocol.
    is_proxied: bool,
    /// Address in the configuration, perhaps without a port.
    asked: SocketAddr,
    /// Address with the port that the kernel chose.
    address: SocketAddr,
    pairs: Vec<Pair>,
    /// Time of the reload that removed it.
    gone: Option<Moment>,
}

/// All slots.
pub(super) struct Listeners {
    workers: usize,
    steering: Steering,
    slots: Vec<Option<Group>>,
    /// Inherited sockets that no listener has used yet.
    inherited: Inherited,
}

/// Listeners of a configuration.
pub(super) struct Plan {
    /// For each slot the number of its listener in the configuration.
    pub(super) listeners: Vec<Option<usize>>,
    /// Sockets that were bound, and their slots.
    bound: Vec<(usize, Group)>,
    /// Slots whose sockets the workers need, or need again.
    fresh: Vec<usize>,
    /// Inherited sockets on addresses that no listener has.
    unused: Vec<String>,
}

impl Listeners {
    /// Creates an empty set for this number of workers. Listeners use the `inherited` sockets on
    /// their addresses.
    pub(super) fn new(workers: usize, steering: Steering, inherited: Inherited) -> Self {
        Self { workers, steering, slots: Vec::new(), inherited }
    }

    /// Attaches the steering programs to all sockets again, in case another process that shares
    /// them has changed that.
    pub(super) fn steer(&self) {
        for group in self.slots.iter().flatten() {
            if let Some((Some(datagrams), _)) = group.pairs.first() {
                // It has worked before; if it fails now, the current steering stays.
                let _ = self.steering.apply_anew(group.arriving(), datagrams);
            }
        }
    }

    /// Adds copies of all listening sockets to `passed`.
    ///
    /// # Errors
    /// No descriptor is left.
    pub(super) fn pass(&self, passed: &mut Passed) -> io::Result<()> {
        let served = self.slots.iter().flatten().filter(|group| group.gone.is_none());
        for (datagrams, acceptor) in served.flat_map(|group| &group.pairs) {
            datagrams.as_ref().map_or(Ok(0), |datagrams| passed.add(datagrams))?;
            acceptor.as_ref().map_or(Ok(0), |acceptor| passed.add(acceptor))?;
        }
        Ok(())
    }

    /// Finds or binds the sockets of `listeners`, and writes the ports that the kernel chose into
    /// listeners without one.
    ///
    /// # Errors
    /// [`StartError::Bind`], [`StartError::Steer`] or [`StartError::NoListener`].
    pub(super) fn plan(
        &mut self,
        now: Moment,
        listeners: &mut [Listener],
    ) -> Result<Plan, StartError> {
        self.close_gone(now);
        let mut plan = Plan {
            listeners: vec![None; self.slots.len()],
            bound: Vec::new(),
            fresh: Vec::new(),
            unused: Vec::new(),
        };
        for (number, listener) in listeners.iter_mut().enumerate() {
            let (slot, fresh) = match self.find(listener, &plan) {
                Some((_, group)) if group.protocol != listener.protocol => {
                    let protocols = (group.protocol, listener.protocol);
                    return Err(StartError::Scheme(group.address, protocols));
                }
                Some((slot, group)) => {
                    listener.address = group.address;
                    (slot, group.gone.is_some())
                }
                None => {
                    let groups = self.inherit(listener)?;
                    let groups = match groups.is_empty() {
                        false => groups,
                        true => {
                            let shared = self.is_shared(listener, &plan);
                            let bound = bind(listener, self.workers, shared)?;
                            self.steered(bound)?.into_iter().collect()
                        }
                    };
                    for group in groups {
                        let slot = self.vacant(&plan);
                        plan.bound.push((slot, group));
                        plan.serve(slot, number, true);
                    }
                    continue;
                }
            };
            plan.serve(slot, number, fresh);
        }
        for (slot, group) in self.slots.iter().enumerate() {
            let Some(group) = group.as_ref().filter(|_| plan.listeners[slot].is_none()) else {
                continue;
            };
            let covers = |listener: &Listener| {
                group.protocol == listener.protocol && group.is_covered_by(listener.address)
            };
            if let Some(number) = listeners.iter().position(covers) {
                plan.serve(slot, number, group.gone.is_some());
            }
        }
        if plan.listeners.iter().all(Option::is_none) {
            return Err(match listeners.is_empty() {
                true => StartError::NoListener,
                false => StartError::NoFamily,
            });
        }
        plan.unused = std::mem::take(&mut self.inherited).unused();
        Ok(plan)
    }

    /// Puts `plan`, which is for `listeners`, into effect; returns for each worker its new sockets.
    ///
    /// # Errors
    /// No descriptor is left; nothing has changed then.
    pub(super) fn adopt(
        &mut self,
        now: Moment,
        plan: &mut Plan,
        listeners: &[Listener],
    ) -> io::Result<Vec<Vec<Sockets>>> {
        let mut rows: Vec<Vec<_>> = (0..self.workers).map(|_| Vec::new()).collect();
        for slot in &plan.fresh {
            let bound = plan.bound.iter().find(|(bound, _)| bound == slot).map(|(_, group)| group);
            let group = bound.or(self.slots.get(*slot).and_then(Option::as_ref));
            let Some(Group { protocol, pairs, .. }) = group else { continue };
            for (row, (datagrams, acceptor)) in rows.iter_mut().zip(pairs) {
                let datagrams = datagrams.as_ref().map(UdpSocket::try_clone).transpose()?;
                let acceptor = acceptor.as_ref().map(TcpListener::try_clone).transpose()?;
                row.push((*slot, *protocol, datagrams, acceptor));
            }
        }
        self.slots.resize_with(plan.listeners.len().max(self.slots.len()), || None);
        for (slot, group) in plan.bound.drain(..) {
            self.slots[slot] = Some(group);
        }
        for (slot, listener) in self.slots.iter_mut().zip(&plan.listeners) {
            let Some(group) = slot else { continue };
            if let Some(listener) = listener.and_then(|number| listeners.get(number)) {
                group.steer_as(listener, &self.steering);
            }
            group.gone = match (listener, group.gone) {
                (Some(_), _) => None,
                (None, None) => Some(now),
                (None, gone) => gone,
            };
        }
        Ok(rows)
    }

    /// Closes the sockets of listeners that have been gone for long enough.
    pub(super) fn close_gone(&mut self, now: Moment) {
        for slot in &mut self.slots {
            slot.take_if(|group| group.over_at().is_some_and(|over| over <= now));
        }
    }

    /// Returns the next time at which sockets close.
    pub(super) fn due(&self) -> Option<Moment> {
        self.slots.iter().flatten().filter_map(Group::over_at).min()
    }

    /// The addresses that are served.
    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        let served = self.slots.iter().flatten().filter(|group| group.gone.is_none());
        served.map(|group| group.address)
    }

    /// Returns the slot with the sockets of `listener`'s address and layers, if there is one that
    /// `plan` has not used.
    fn find(&self, listener: &Listener, plan: &Plan) -> Option<(usize, &Group)> {
        let slots = self.slots.iter().enumerate();
        let mut groups = slots.filter_map(|(slot, group)| Some((slot, group.as_ref()?)));
        groups.find(|(slot, group)| {
            let asked = listener.address;
            let is_it = group.asked == asked || group.address == asked;
            // The kernel chooses another port for each protocol.
            let is_its = group.protocol == listener.protocol || asked.port() != 0;
            is_it && is_its && group.overlaps(listener) && plan.listeners[*slot].is_none()
        })
    }

    /// Returns true if our own sockets have the port of `listener` in a layer already, on a
    /// wildcard that covers its address or on an address that its wildcard covers.
    fn is_shared(&self, listener: &Listener, plan: &Plan) -> bool {
        let address = listener.address;
        let bound = plan.bound.iter().map(|(_, group)| group);
        let groups = self.slots.iter().flatten().chain(bound);
        let mut rivals = groups.filter(|group| group.overlaps(listener));
        rivals.any(|group| group.is_covered_by(address) || covers(group.address, address))
    }

    /// Attaches the steering program to the group's sockets, if there is a group.
    fn steered(&self, group: Option<Group>) -> Result<Option<Group>, StartError> {
        if let Some(own @ Group { address, pairs, .. }) = &group
            && let Some((Some(datagrams), _)) = pairs.first()
        {
            // The kernel numbers sockets in the order of binding, which is the order of the
            // workers.
            let steered = self.steering.apply(own.arriving(), datagrams);
            steered.map_err(|error| StartError::Steer(*address, error))?;
        }
        Ok(group)
    }

    /// Returns a free slot for a new address.
    fn vacant(&self, plan: &Plan) -> usize {
        let is_free = |slot: &usize| self.slots[*slot].is_none() && plan.listeners[*slot].is_none();
        let free = (0..self.slots.len()).find(is_free);
        free.unwrap_or(plan.listeners.len().max(self.slots.len()))
    }
}

impl Listeners {
    /// Takes the inherited sockets on the address of `listener`: a pair for each worker, and more
    /// groups if there are more pairs than workers. Missing sockets are bound beside them or, if
    /// the address is not to be shared in that way, duplicated from one of them.
    fn inherit(&mut self, listener: &Listener) -> Result<Vec<Group>, StartError> {
        let address = listener.address;
        let layers = listener.protocol.layers();
        // Sockets of another layer belong to another listener or service.
        let mut datagrams = match layers.udp {
            true => take_all(&mut self.inherited.datagrams, address),
            false => Vec::new(),
        };
        let mut acceptors = match layers.tcp {
            true => take_all(&mut self.inherited.acceptors, address),
            false => Vec::new(),
        };
        let most = datagrams.len().max(acceptors.len());
        if most == 0 {
            return Ok(Vec::new());
        }
        let failed = |error| StartError::bind(address, error);
        let refused = |error| StartError::Steer(address, error);
        let wanted = most.next_multiple_of(self.workers);
        if layers.udp {
            let open = || socket::udp_listener(address, true);
            fill(&mut datagrams, wanted, open, UdpSocket::try_clone).map_err(failed)?;
        }
        if layers.tcp {
            let open = || socket::tcp_listener(address, true);
            fill(&mut acceptors, wanted, open, TcpListener::try_clone).map_err(failed)?;
        }
        if address.ip().is_unspecified() {
            let ask = |socket| socket::ask_for_local_address(socket, address);
            datagrams.iter().try_for_each(ask).map_err(failed)?;
        }
        if listener.protocol.is_quic() {
            let set = |socket| socket::dont_fragment(socket, address);
            datagrams.iter().try_for_each(set).map_err(failed)?;
        }
        datagrams
            .first()
            .map_or(Ok(()), |first| self.steering.apply_anew(Arriving::at(listener), first))
            .map_err(refused)?;
        let (mut datagrams, mut acceptors) = (datagrams.into_iter(), acceptors.into_iter());
        let mut pairs = (0..wanted).map(|_| (datagrams.next(), acceptors.next()));
        let groups = (0..wanted / self.workers).map(|_| Group {
            protocol: listener.protocol,
            is_proxied: listener.proxies.is_some(),
            asked: address,
            address,
            pairs: pairs.by_ref().take(self.workers).collect(),
            gone: None,
        });
        Ok(groups.collect())
    }
}

/// Removes and returns all sockets on `address`.
fn take_all<T>(sockets: &mut Vec<(SocketAddr, T)>, address: SocketAddr) -> Vec<T> {
    sockets.extract_if(.., |(at, _)| *at == address).map(|(_, socket)| socket).collect()
}

/// Opens as many sockets as are missing from `wanted`.
fn fill<T>(
    sockets: &mut Vec<T>,
    wanted: usize,
    open: impl Fn() -> io::Result<T>,
    copy: impl Fn(&T) -> io::Result<T>,
) -> io::Result<()> {
    while sockets.len() < wanted {
        let next = match sockets.first() {
            Some(first) => open().or_else(|_| copy(first))?,
            None => open()?,
        };
        sockets.push(next);
    }
    Ok(())
}

impl Plan {
    /// Warns of inherited sockets that are closed unused: queries to their addresses get no reply.
    pub(super) fn warn_of_unused(&self, log: Log) {
        for socket in &self.unused {
            let text =
                format_args!("inherited socket closed: {socket}: no server block listens there");
            log.event(&Event::new(Level::Warning, "onward", &text).alone());
        }
    }

    /// Assigns the configuration's listener `number` to `slot`; `fresh`: with sockets that the
    /// workers do not have.
    fn serve(&mut self, slot: usize, number: usize, fresh: bool) {
        if self.listeners.len() <= slot {
            self.listeners.resize(slot + 1, None);
        }
        self.listeners[slot] = Some(number);
        if fresh {
            self.fresh.push(slot);
        }
    }
}

impl Group {
    /// Returns the datagrams that its sockets receive.
    fn arriving(&self) -> Arriving {
        Arriving { protocol: self.protocol, is_proxied: self.is_proxied }
    }

    /// Changes the steering program, if `listener` has headers of the PROXY protocol and the
    /// listener before had none, or the reverse.
    fn steer_as(&mut self, listener: &Listener, steering: &Steering) {
        let is_proxied = listener.proxies.is_some();
        if std::mem::replace(&mut self.is_proxied, is_proxied) == is_proxied {
            return;
        }
        if let Some((Some(datagrams), _)) = self.pairs.first() {
            // The other program has worked before; if this one fails, that one stays.
            let _ = steering.apply_anew(self.arriving(), datagrams);
        }
    }

    /// Returns true if both have sockets of the same layer.
    fn overlaps(&self, listener: &Listener) -> bool {
        self.protocol.layers().overlap(listener.protocol.layers())
    }

    /// Returns the time by which its last reply has been sent, if the listener was removed.
    fn over_at(&self) -> Option<Moment> {
        self.gone.map(|gone| gone.plus(GONE_MAX))
    }

    /// Returns true if a listener on `address` is meant to receive the packets of this group.
    fn is_covered_by(&self, address: SocketAddr) -> bool {
        address == self.address || covers(address, self.address)
    }
}

/// Returns true if `wildcard` is a wildcard that covers `address`.
fn covers(wildcard: SocketAddr, address: SocketAddr) -> bool {
    wildcard.ip().is_unspecified()
        && wildcard.is_ipv4() == address.is_ipv4()
        && wildcard.port() == address.port()
}

/// Binds `listener` once for each worker; `None` if no directive names it and the host lacks its
/// address family. `shared`: our own sockets have part of it already.
fn bind(
    listener: &mut Listener,
    workers: usize,
    shared: bool,
) -> Result<Option<Group>, StartError> {
    let (asked, protocol) = (listener.address, listener.protocol);
    let mut tries = if asked.port() == 0 { PORT_TRIES_MAX } else { 1 };
    loop {
        tries -= 1;
        match bind_all(asked, workers, shared, protocol) {
            Ok((address, pairs)) => {
                listener.address = address;
                let is_proxied = listener.proxies.is_some();
                let group = Group { protocol, is_proxied, asked, address, pairs, gone: None };
                return Ok(Some(group));
            }
            Err(error) if listener.implied && socket::is_missing_family(&error) => return Ok(None),
            // The port that the kernel chose for UDP is in use for TCP: try with another.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries > 0 => {}
            Err(error) => return Err(StartError::bind(asked, error)),
        }
    }
}

/// Binds sockets on `asked` for each of `workers`; returns them and their address.
fn bind_all(
    asked: SocketAddr,
    workers: usize,
    shared: bool,
    protocol: Protocol,
) -> io::Result<(SocketAddr, Vec<Pair>)> {
    let layers = protocol.layers();
    // SO_REUSEPORT would let us share the address with another program that has it already, so that
    // each gets half of the queries: therefore bind it exclusively first. That test is impossible
    // if our own sockets have part of the address.
    let address = if shared { asked } else { bind_alone(asked, layers)? };
    let pair = |_| {
        let datagrams = layers.udp.then(|| socket::udp_listener(address, true)).transpose()?;
        if let Some(datagrams) = datagrams.as_ref().filter(|_| protocol.is_quic()) {
            socket::dont_fragment(datagrams, address)?;
        }
        let acceptor = layers.tcp.then(|| socket::tcp_listener(address, true)).transpose()?;
        Ok((datagrams, acceptor))
    };
    Ok((address, (0..workers).map(pair).collect::<io::Result<_>>()?))
}

/// Binds `asked` exclusively for a moment; returns the address with its port.
fn bind_alone(asked: SocketAddr, layers: Layers) -> io::Result<SocketAddr> {
    let alone = layers.udp.then(|| socket::udp_listener(asked, false)).transpose()?;
    let address = alone.as_ref().map_or(Ok(asked), UdpSocket::local_addr)?;
    if layers.tcp {
        return socket::tcp_listener(address, false)?.local_addr();
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::{GONE_MAX, Listeners, StartError, Steering};
    use crate::config::{Config, Host};
    use crate::moment::Moment;
    use crate::server::steering::Steer;
    use crate::sys::inherit::Inherited;
    use crate::sys::socket;
    use std::net::{SocketAddr, TcpListener, UdpSocket};
    use std::time::Duration;

    const LOOPBACK: &str = "127.0.0.1";

    fn at(seconds: u64) -> Moment {
        Moment::ZERO.plus(Duration::from_secs(seconds))
    }

    /// Switches to a block on each of `addresses`; returns the listener of each slot, and the
    /// number of slots with new sockets.
    fn go_over(
        listeners: &mut Listeners,
        seconds: u64,
        port: u16,
        addresses: &[&str],
    ) -> Result<(Vec<Option<usize>>, usize), StartError> {
        let text = format!(".:{port} {{\n bind {}\n}}\n", addresses.join(" "));
        let (mut config, _) = Config::load(text.as_bytes(), "f", &Host::plain()).unwrap();
        let mut plan = listeners.plan(at(seconds), &mut config.listeners)?;
        let rows = listeners.adopt(at(seconds), &mut plan, &config.listeners).unwrap();
        let fresh = rows[0].len();
        Ok((plan.listeners, fresh))
    }

    fn listeners_of(workers: usize, inherited: Inherited) -> Listeners {
        let steering = Steering::new(Steer::Flow, &vec![None; workers]);
        Listeners::new(workers, steering, inherited)
    }

    /// Creates listeners on one address; returns them and their port.
    fn one(workers: usize) -> (Listeners, u16) {
        let mut listeners = listeners_of(workers, Inherited::default());
        go_over(&mut listeners, 0, 0, &[LOOPBACK]).unwrap();
        let port = listeners.addresses().next().unwrap().port();
        (listeners, port)
    }

    #[test]
    fn a_removed_address_is_closed_after_its_last_reply() {
        let (mut listeners, port) = one(2);
        assert_eq!(go_over(&mut listeners, 0, port, &[LOOPBACK, "127.0.0.2"]).unwrap().1, 1);
        assert_eq!(listeners.due(), None);
        go_over(&mut listeners, 1, port, &[LOOPBACK]).unwrap();
        let gone = SocketAddr::new([127, 0, 0, 2].into(), port);
        assert_eq!(listeners.due(), Some(at(1).plus(GONE_MAX)));
        listeners.close_gone(at(10));
        assert!(UdpSocket::bind(gone).is_err() && TcpListener::bind(gone).is_err());
        listeners.close_gone(at(11));
        assert_eq!(listeners.due(), None);
        let others = (UdpSocket::bind(gone), TcpListener::bind(gone));
        assert!(others.0.is_ok() && others.1.is_ok(), "{others:?}");
    }

    #[test]
    fn the_slot_of_a_closed_address_is_reused() {
        let (mut listeners, port) = one(1);
        go_over(&mut listeners, 0, port, &[LOOPBACK, "127.0.0.2"]).unwrap();
        go_over(&mut listeners, 1, port, &[LOOPBACK]).unwrap();
        // The new listener takes the slot; the old one, which comes back later, takes another.
        let addresses = [LOOPBACK, "127.0.0.3", "127.0.0.2"];
        let went = go_over(&mut listeners, 20, port, &addresses).unwrap();
        assert_eq!(went, (vec![Some(0), Some(1), Some(2)], 2));
    }

    #[test]
    fn a_wildcard_takes_over_the_addresses_that_it_covers() {
        let (mut listeners, port) = one(2);
        let went = go_over(&mut listeners, 0, port, &["0.0.0.0"]).unwrap();
        assert_eq!(went, (vec![Some(0), Some(0)], 1), "nobody's queries wait in the old one");
        assert_eq!(go_over(&mut listeners, 1, port, &["0.0.0.0"]).unwrap().1, 0);
        let went = go_over(&mut listeners, 2, port, &[LOOPBACK]).unwrap();
        assert_eq!(went, (vec![Some(0), None], 0));
    }

    #[test]
    fn an_address_may_be_served_beside_its_wildcard() {
        let (_, port) = one(1);
        let mut listeners = listeners_of(2, Inherited::default());
        let went = go_over(&mut listeners, 0, port, &[LOOPBACK, "0.0.0.0"]).unwrap();
        assert_eq!(went, (vec![Some(0), Some(1)], 2));
        let went = go_over(&mut listeners, 0, port, &["0.0.0.0", LOOPBACK]).unwrap();
        assert_eq!(went, (vec![Some(1), Some(0)], 0));
    }

    #[test]
    fn more_inherited_sockets_than_workers_are_all_read() {
        let (_, port) = one(1);
        let address = SocketAddr::new([127, 0, 0, 1].into(), port);
        let mut inherited = Inherited::default();
        for _ in 0..3 {
            let datagrams = socket::udp_listener(address, true).unwrap();
            inherited.datagrams.push((address, datagrams));
            inherited.acceptors.push((address, socket::tcp_listener(address, true).unwrap()));
        }
        let mut listeners = listeners_of(1, inherited);
        let all = vec![Some(0); 3];
        assert_eq!(go_over(&mut listeners, 0, port, &[LOOPBACK]).unwrap(), (all.clone(), 3));
        assert_eq!(go_over(&mut listeners, 1, port, &[LOOPBACK]).unwrap(), (all, 0));
    }

    /// Returns the workers that receive queries for one name on slot `slot`, from many ports.
    fn workers_asked(listeners: &Listeners, slot: usize) -> Vec<usize> {
        let group = listeners.slots[slot].as_ref().unwrap();
        let query = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x03www\x07example\0\0\x01\0\x01";
        let mut workers: Vec<_> = (0..50)
            .map(|_| {
                let client = UdpSocket::bind("127.0.0.1:0").unwrap();
                client.send_to(query, group.address).unwrap();
                loop {
                    let has = |(socket, _): &(Option<UdpSocket>, _)| {
                        let socket = socket.as_ref();
                        socket.is_some_and(|socket| socket.recv(&mut [0; 64]).is_ok())
                    };
                    if let Some(worker) = group.pairs.iter().position(has) {
                        return worker;
                    }
                    std::thread::yield_now();
                }
            })
            .collect();
        workers.sort_unstable();
        workers.dedup();
        workers
    }

    fn steered(steer: Steer, inherited: Inherited) -> Listeners {
        Listeners::new(4, Steering::new(steer, &[None; 4]), inherited)
    }

    #[test]
    fn new_addresses_and_inherited_sockets_are_steered() {
        let mut listeners = steered(Steer::Name, Inherited::default());
        go_over(&mut listeners, 0, 0, &[LOOPBACK]).unwrap();
        let port = listeners.addresses().next().unwrap().port();
        go_over(&mut listeners, 1, port, &[LOOPBACK, "127.0.0.2"]).unwrap();
        let workers = workers_asked(&listeners, 0);
        assert_eq!(workers.len(), 1);
        assert_eq!(workers_asked(&listeners, 1), workers, "whatever address is asked");
        let inherited = || {
            let pairs = &listeners.slots[0].as_ref().unwrap().pairs;
            let mut inherited = Inherited::default();
            for (datagrams, acceptor) in pairs {
                let datagrams = datagrams.as_ref().unwrap();
                let address = datagrams.local_addr().unwrap();
                inherited.datagrams.push((address, datagrams.try_clone().unwrap()));
                let acceptor = acceptor.as_ref().unwrap().try_clone().unwrap();
                inherited.acceptors.push((address, acceptor));
            }
            inherited
        };
        let mut next = steered(Steer::Name, inherited());
        go_over(&mut next, 0, port, &[LOOPBACK]).unwrap();
        assert_eq!(workers_asked(&next, 0), workers);
        let mut other = steered(Steer::Flow, inherited());
        go_over(&mut other, 0, port, &[LOOPBACK]).unwrap();
        assert_eq!(workers_asked(&other, 0), [0, 1, 2, 3], "nothing is left of the program");
        listeners.steer();
        assert_eq!(workers_asked(&listeners, 0), workers);
    }

    #[test]
    fn sockets_that_cannot_be_steered_are_refused_if_steering_is_configured() {
        let (_, port) = one(1);
        let address = SocketAddr::new([127, 0, 0, 1].into(), port);
        for (steer, fine) in [(Steer::Name, false), (Steer::Flow, true)] {
            let alone = socket::udp_listener(address, false).unwrap();
            let mut inherited = Inherited::default();
            inherited.datagrams.push((address, alone));
            let mut listeners = steered(steer, inherited);
            match go_over(&mut listeners, 0, port, &[LOOPBACK]) {
                Err(StartError::Steer(at, _)) => assert!(!fine && at == address),
                other => assert!(fine && other.is_ok(), "{other:?}"),
            }
        }
    }
}
