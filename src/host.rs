//! The host as configuration needs to know it, asked of the kernel once.
//!
//! `config` asks the system nothing itself; here its [`Host`] is filled in from what `sys` tells.

use crate::blocking::Steps;
use crate::config::{Host, Interface, Lookup};
use crate::corefile::Sources;
use crate::resolve;
use crate::sys::{interfaces, limits};
use std::io;

/// Descriptors that every process has, should the kernel not tell more.
const OPEN_FILES_MIN: u64 = 1024;

/// Describes this host, for this number of workers; `default_port` is that of server blocks without
/// one. Raises the limit of open files to the hard limit. Later reads of files and lookups of names
/// are reported to `steps`, since either may block.
///
/// # Errors
/// The working directory or the interfaces cannot be learnt.
pub(crate) fn describe(workers: usize, default_port: u16, steps: &Steps) -> io::Result<Host> {
    steps.begin("listing the interfaces of this host");
    let mut found: Vec<Interface> = Vec::new();
    for interfaces::InterfaceAddress { name, index, ip } in interfaces::addresses()? {
        match found.iter_mut().find(|interface| interface.name == name) {
            Some(interface) => interface.addresses.push(ip),
            None => found.push(Interface { name, index, addresses: vec![ip] }),
        }
    }
    Ok(Host {
        sources: sources(steps)?,
        name: limits::host_name(),
        interfaces: found,
        default_port,
        ephemeral_ports: limits::ephemeral_ports(),
        // Not being able to raise it is no reason not to serve with fewer.
        open_files: usize::try_from(limits::raise_open_files().unwrap_or(OPEN_FILES_MIN))
            .unwrap_or(usize::MAX),
        lookup: lookup(steps),
        workers,
    })
}

/// The files and variables of this process.
///
/// # Errors
/// The working directory is not known.
pub(crate) fn sources(steps: &Steps) -> io::Result<Sources> {
    steps.begin("asking for the working directory");
    let Sources { working_directory, read, list, is_file, variable } = Sources::of_this_process()?;
    let (reading, listing, probing) = (steps.clone(), steps.clone(), steps.clone());
    Ok(Sources {
        working_directory,
        read: Box::new(move |path| {
            reading.begin(format!("reading {}", path.display()));
            read(path)
        }),
        list: Box::new(move |path| {
            listing.begin(format!("listing {}", path.display()));
            list(path)
        }),
        is_file: Box::new(move |path| {
            probing.begin(format!("looking for {}", path.display()));
            is_file(path)
        }),
        variable,
    })
}

fn lookup(steps: &Steps) -> Lookup {
    let steps = steps.clone();
    Box::new(move |name, resolvers| {
        steps.begin(format!("looking up {name}"));
        resolve::addresses(name, resolvers)
    })
}
