//! The facts about the host that the configuration needs, read from the kernel once.
//!
//! `config` makes no system calls itself; its [`Host`] is filled in here from `sys`.

use crate::blocking::Steps;
use crate::config::{Host, Interface, Lookup};
use crate::corefile::Sources;
use crate::resolve;
use crate::sys::{interfaces, limits};
use std::io;

/// Assumed limit of open descriptors if the kernel does not report one.
const OPEN_FILES_DEFAULT: u64 = 1024;

/// Describes this host for `workers` workers; `default_port` is the port of server blocks without
/// one. Raises the limit of open files to the hard limit. Later reads of files and lookups of names
/// are reported to `steps`, since either may block.
///
/// # Errors
/// The working directory or the interfaces cannot be read.
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
        // If the limit cannot be raised, onward serves with fewer descriptors.
        open_files: usize::try_from(limits::raise_open_files().unwrap_or(OPEN_FILES_DEFAULT))
            .unwrap_or(usize::MAX),
        lookup: lookup(steps),
        workers,
    })
}

/// Returns access to the files and environment variables of this process.
pub(crate) fn sources(steps: &Steps) -> io::Result<Sources> {
    steps.begin("determining the working directory");
    let Sources { working_directory, read, list, is_file, is_exposed, variable } =
        Sources::of_this_process()?;
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
        is_exposed,
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
