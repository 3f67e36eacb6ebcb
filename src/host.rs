//! The host as configuration needs to know it, asked of the kernel once.
//!
//! `config` asks the system nothing itself; here its [`Host`] is filled in from what `sys` tells.

use crate::config::{Host, Interface};
use crate::corefile::Sources;
use crate::resolve;
use crate::sys::{interfaces, limits};
use std::io;

/// Descriptors that every process has, should the kernel not tell more.
const OPEN_FILES_MIN: u64 = 1024;

/// This host, for so many workers; `default_port` is that of server blocks that name none.
/// Raises the number of files that the process may open to what the host allows.
///
/// # Errors
/// The working directory or the interfaces cannot be learnt.
pub fn describe(workers: usize, default_port: u16) -> io::Result<Host> {
    let mut found: Vec<Interface> = Vec::new();
    for interfaces::InterfaceAddress { name, index, ip } in interfaces::addresses()? {
        match found.iter_mut().find(|interface| interface.name == name) {
            Some(interface) => interface.addresses.push(ip),
            None => found.push(Interface { name, index, addresses: vec![ip] }),
        }
    }
    Ok(Host {
        sources: Sources::of_this_process()?,
        name: limits::host_name(),
        interfaces: found,
        default_port,
        ephemeral_ports: limits::ephemeral_ports(),
        // Not being able to raise it is no reason not to serve with fewer.
        open_files: usize::try_from(limits::raise_open_files().unwrap_or(OPEN_FILES_MIN))
            .unwrap_or(usize::MAX),
        lookup: Box::new(resolve::addresses),
        workers,
    })
}
