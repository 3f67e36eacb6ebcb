//! The sockets of the HTTP endpoints, from one configuration to the next, and the admin's thread.
//!
//! A second descriptor of each socket is kept here, for the next process and so that an address
//! that stays is never closed: a failed reload changes nothing, and a successful one loses no
//! client. The addresses are not shared with other programs, so binding fails if another program
//! has one. For `health` that fails the start or reload; for other endpoints it is only logged, and
//! the next reload tries again. [`Pages::plan`] binds missing addresses and changes nothing; only
//! [`Pages::adopt`] does.

use super::StartError;
use super::confinement::Sandbox;
use crate::admin::{Admin, Gatherer};
use crate::clock::Clock;
use crate::config::{Config, Endpoint, HttpListener};
use crate::control::{AdminListener, AdminMailbox, Loads, Mailbox, Reloads, ToAdmin};
use crate::engine::health::HealthStates;
use crate::log::{Event, Level, Log};
use crate::sys::confine::Bounds;
use crate::sys::inherit::Passed;
use crate::sys::socket;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;

/// The socket of one address.
struct Open {
    number: usize,
    /// Address in the configuration, perhaps without a port.
    asked: SocketAddr,
    /// Address with the port that the kernel chose.
    address: SocketAddr,
    pages: Vec<Endpoint>,
    socket: TcpListener,
}

/// The sockets of all addresses, and the admin's thread.
pub(super) struct Pages {
    log: Log,
    open: Vec<Open>,
    /// Number of listeners ever opened.
    opened: usize,
    admin: Option<AdminMailbox>,
}

/// HTTP listeners of a configuration.
pub(super) struct Plan {
    listeners: Vec<(HttpListener, Found)>,
}

enum Found {
    /// Already open, under this number.
    Kept(usize),
    /// Two descriptors of a socket that is not served yet.
    Fresh(TcpListener, TcpListener),
}

impl Pages {
    /// Creates an empty set. `log` gets a line for each address that cannot be bound.
    pub(super) fn new(log: Log) -> Self {
        Self { log, open: Vec::new(), opened: 0, admin: None }
    }

    /// Finds or binds the sockets that `config` needs; those of `inherited` with the same address
    /// are used.
    ///
    /// # Errors
    /// [`StartError::Bind`] for an address of `health`; [`StartError::Descriptors`].
    pub(super) fn plan(
        &self,
        config: &Config,
        inherited: &mut Vec<(SocketAddr, TcpListener)>,
    ) -> Result<Plan, StartError> {
        let mut plan = Plan { listeners: Vec::new() };
        let wanted = config.http();
        let is_wanted = |open: &&Open| wanted.iter().any(|listener| open.is_at(listener.address));
        let going: Vec<&Open> = self.open.iter().filter(|open| !is_wanted(open)).collect();
        for listener in wanted.iter().cloned() {
            let asked = listener.address;
            if let Some(known) = self.find(asked) {
                plan.listeners.push((listener, Found::Kept(known.number)));
                continue;
            }
            let passed = inherited.iter().position(|(address, _)| *address == asked);
            let socket = match passed {
                Some(place) => Ok(inherited.swap_remove(place).1),
                None => {
                    let ours = going.iter().filter(|open| open.address.port() == asked.port());
                    let ours: Vec<_> = ours.map(|open| &open.socket).collect();
                    socket::tcp_listener_alone(asked, &ours)
                }
            };
            match socket {
                Ok(socket) => {
                    let copy = socket.try_clone().map_err(StartError::Descriptors)?;
                    plan.listeners.push((listener, Found::Fresh(socket, copy)));
                }
                Err(error) if listener.pages.contains(&Endpoint::Health) => {
                    return Err(StartError::bind(asked, error));
                }
                Err(error) => self.tell(&listener.pages, &StartError::bind(asked, error)),
            }
        }
        Ok(plan)
    }

    /// Logs that these endpoints are not served.
    fn tell(&self, pages: &[Endpoint], why: &StartError) {
        for page in pages {
            let name = page.directive();
            let source = format!("plugin/{name}");
            let text = format_args!("{why}; retried at the next reload");
            self.log.event(&Event::new(Level::Error, &source, &text));
        }
    }

    /// Starts the admin if `plan` needs one and there is none; it collects reports from `workers`.
    ///
    /// # Errors
    /// No descriptor or no thread is left.
    pub(super) fn start_admin(
        &mut self,
        plan: &Plan,
        clock: Clock,
        sandbox: Sandbox,
        workers: &[Mailbox],
        (reloads, loads): (&Arc<Reloads>, &Arc<Loads>),
    ) -> io::Result<Option<JoinHandle<()>>> {
        if plan.listeners.is_empty() || self.admin.is_some() {
            return Ok(None);
        }
        let gatherer = Gatherer::new(clock, workers, Arc::clone(reloads), Arc::clone(loads));
        let (admin, mailbox) = Admin::new(clock, gatherer, self.log)?;
        let thread = sandbox.spawn("admin", Bounds::NoPrograms, move || admin.run())?;
        self.admin = Some(mailbox);
        Ok(Some(thread))
    }

    /// Puts `plan` into effect, with this configuration and the health state of its upstreams.
    pub(super) fn adopt(
        &mut self,
        plan: Plan,
        config: &Arc<Config>,
        health_states: &Arc<HealthStates>,
    ) {
        let mut known = std::mem::take(&mut self.open);
        let mut admin_listeners = Vec::new();
        for (HttpListener { address: asked, pages }, found) in plan.listeners {
            let (number, socket) = match found {
                Found::Kept(number) => {
                    let place = known.iter().position(|open| open.number == number);
                    let kept = place.map(|place| known.swap_remove(place));
                    self.open.extend(kept.map(|open| Open { asked, pages: pages.clone(), ..open }));
                    (number, None)
                }
                Found::Fresh(socket, copy) => {
                    let (number, address) = (self.opened, socket.local_addr().unwrap_or(asked));
                    self.opened += 1;
                    self.open.push(Open { number, asked, address, pages: pages.clone(), socket });
                    (number, Some(copy))
                }
            };
            admin_listeners.push(AdminListener { number, pages, socket });
        }
        if let Some(admin) = &self.admin {
            let (config, health_states) = (Arc::clone(config), Arc::clone(health_states));
            admin.deliver(ToAdmin::Reload { config, health_states, admin_listeners });
        }
    }

    /// Returns each address with its endpoints.
    pub(super) fn list(&self) -> impl Iterator<Item = (SocketAddr, &[Endpoint])> {
        self.open.iter().map(|open| (open.address, &open.pages[..]))
    }

    /// Adds copies of all sockets to `passed`.
    ///
    /// # Errors
    /// No descriptor is left.
    pub(super) fn pass(&self, passed: &mut Passed) -> io::Result<()> {
        self.open.iter().try_for_each(|open| passed.add(&open.socket).map(drop))
    }

    /// Announces that the process will stop: `/ready` answers 503 from now on.
    pub(super) fn announce_stop(&self) {
        self.admin.iter().for_each(|admin| admin.deliver(ToAdmin::Stopping));
    }

    /// Stops the admin after it has answered pending requests.
    pub(super) fn stop(self) {
        self.admin.iter().for_each(|admin| admin.deliver(ToAdmin::Stop));
    }

    fn find(&self, asked: SocketAddr) -> Option<&Open> {
        self.open.iter().find(|open| open.is_at(asked))
    }
}

impl Open {
    fn is_at(&self, asked: SocketAddr) -> bool {
        self.asked == asked || self.address == asked
    }
}
