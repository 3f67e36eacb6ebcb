//! The zones that a server block answers itself, as one source of data.
//!
//! All stanzas of a block together are one source, so that one look-up finds the longest zone. One
//! loader reads it.

use super::tls::ClientTls;
use super::{
    Name, PrimaryTarget, Stages, TransferClients, TransferTarget, TsigKey, Written, ZoneDirectory,
};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The zones of a server block.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OwnZones {
    /// The source that they are loaded from.
    pub(crate) source: Arc<ZonesSource>,
    /// The number of that source among all of the configuration.
    pub slot: usize,
}

/// A source of zones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ZonesSource {
    /// One entry for each zone and file, in the order of the stanzas.
    pub files: Vec<FileSource>,
    /// The directory whose files are zones, too.
    pub directory: Option<DirectorySource>,
    /// Zones that are transferred from primaries, in the order of the stanzas.
    pub(crate) transferred: Vec<TransferredSource>,
    /// Secondaries of the zones, stanza by stanza.
    pub(crate) notify: Vec<Notify>,
    /// Zones at or below these may be transferred by clients.
    pub(crate) offered: Vec<Name>,
}

/// Secondaries of some zones, which are notified of changes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Notify {
    /// Zones at or below these.
    pub(crate) zones: Vec<Name>,
    pub(crate) secondaries: Vec<Secondary>,
    /// Source address of the notifications. `None`: the kernel chooses.
    pub(crate) source: Option<IpAddr>,
}

/// A server that is notified.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Secondary {
    pub(crate) address: SocketAddr,
    /// The key of notifications.
    pub(crate) key: Option<TsigKey>,
}

/// A zone and its file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FileSource {
    /// The zone.
    pub zone: Name,
    /// The number of its stanza in the server block.
    pub stanza: u32,
    /// The file as errors name it.
    pub label: String,
    /// Path of the file.
    pub place: PathBuf,
    /// Interval of checks for a changed file. `None`: off.
    pub reload: Option<Duration>,
    /// Place of the stanza.
    pub written: Written,
}

/// A zone that is transferred from its primaries.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TransferredSource {
    pub(crate) zone: Name,
    /// The number of its stanza in the server block.
    pub(crate) stanza: u32,
    /// The primaries, in the order in which they are asked.
    pub(crate) primaries: Arc<[Primary]>,
    /// Directory in which the zone is kept. `None`: it is not.
    pub(crate) directory: Option<PathBuf>,
    /// The zone is a catalog, whose members are zones, too.
    pub(crate) catalog: Option<CatalogSource>,
}

/// Limits of the members of a catalog zone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CatalogSource {
    /// Members are at or below these; empty: no limit.
    pub(crate) limits: Vec<Name>,
    /// Zones of the server block.
    pub(crate) served: Arc<[Name]>,
}

impl CatalogSource {
    /// Returns the reason why a zone cannot be a member.
    pub(crate) fn refusal(&self, zone: &Name) -> Option<&'static str> {
        let covers = |names: &[Name]| names.iter().any(|above| zone.is_within(above));
        if !self.limits.is_empty() && !covers(&self.limits) {
            return Some("it is not below the names behind 'catalog'");
        }
        (!covers(&self.served)).then_some("it is not below a zone of the server block")
    }
}

/// A server that a zone is transferred from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Primary {
    pub(crate) address: SocketAddr,
    /// Settings of TLS. `None`: plain TCP.
    pub(crate) tls: Option<Arc<ClientTls>>,
    /// The key of queries, and of its notifications.
    pub(crate) key: Option<TsigKey>,
}

/// A directory with zone files.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DirectorySource {
    /// The directory, and how its files are called.
    pub directory: ZoneDirectory,
    /// Names that may be answered from it.
    pub(crate) zones: Vec<Name>,
    /// The number of its stanza in the server block.
    pub stanza: u32,
    /// Interval of checks for changed files. `None`: off.
    pub(crate) reload: Option<Duration>,
    /// Place of the stanza.
    pub(crate) written: Written,
}

impl Secondary {
    /// The secondary that a client of transfers is, if it is one.
    fn of(target: &TransferTarget, stages: &Stages) -> Option<Self> {
        let TransferClients::Secondary(address) = target.clients else { return None };
        // A key that the block does not have was refused before: never notify unsigned instead.
        Some(Self { address, key: stages.key_of(target.key.as_ref())? })
    }
}

impl Primary {
    /// The primary that a stanza names. `None`: the block does not have its key.
    fn of(target: &PrimaryTarget, stages: &Stages) -> Option<Self> {
        let PrimaryTarget { address, tls, key } = target;
        Some(Self { address: *address, tls: tls.clone(), key: stages.key_of(key.as_ref())? })
    }
}

impl DirectorySource {
    /// The file at `place` as a source of this zone.
    pub(crate) fn file(&self, zone: Name, label: String, place: PathBuf) -> FileSource {
        let (stanza, reload, written) = (self.stanza, self.reload, self.written.clone());
        FileSource { zone, stanza, label, place, reload, written }
    }

    /// Returns true if queries for this zone are answered from the directory.
    pub(crate) fn serves(&self, zone: &Name) -> bool {
        self.zones.iter().any(|served| zone.is_within(served))
    }
}

impl ZonesSource {
    /// Returns true if all files are read again when they change.
    pub(crate) fn is_watched(&self) -> bool {
        self.files.iter().all(|file| file.reload.is_some())
            && self.directory.as_ref().is_none_or(|directory| directory.reload.is_some())
    }

    /// Returns true if there is nothing to be loaded.
    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty() && self.directory.is_none() && self.transferred.is_empty()
    }

    /// The secondaries of a zone, each with the source address of its notifications: those of the
    /// stanza with the longest zone, of equal ones of the last.
    pub(crate) fn secondaries(
        &self,
        zone: &Name,
    ) -> impl Iterator<Item = (&Secondary, Option<IpAddr>)> {
        let longest = |notify: &&Notify| {
            let above = notify.zones.iter().filter(|above| zone.is_within(above));
            above.map(|above| above.as_wire().len()).max()
        };
        let found = self.notify.iter().filter(|notify| longest(notify).is_some());
        let found = found.max_by_key(longest);
        found.into_iter().flat_map(|notify| {
            notify.secondaries.iter().map(|secondary| (secondary, notify.source))
        })
    }

    /// The source of these stanzas, in a block that serves `served`.
    pub(super) fn new(stages: &Stages, served: &[Name]) -> Self {
        let entries = stages.file.iter().zip(0..).flat_map(|(file, stanza)| {
            let zones = file.zones.as_deref().unwrap_or(served);
            zones.iter().map(move |zone| FileSource {
                zone: zone.clone(),
                stanza,
                label: file.label.clone(),
                place: file.place.clone(),
                reload: file.reload,
                written: file.written.clone(),
            })
        });
        let directory = stages.auto.zones().map(|auto| DirectorySource {
            directory: auto.directory.clone(),
            zones: auto.zones.as_deref().unwrap_or(served).to_vec(),
            stanza: stages.file.len() as u32,
            reload: auto.reload,
            written: auto.written.clone(),
        });
        let stanzas = (stages.file.len() + usize::from(directory.is_some())) as u32;
        let transferred = stages.secondary.iter().zip(stanzas..).flat_map(|(stanza, number)| {
            let primaries =
                stanza.primaries.iter().filter_map(|target| Primary::of(target, stages));
            let primaries: Arc<[Primary]> = primaries.collect();
            let zones = stanza.zones.as_deref().unwrap_or(served);
            let catalog = stanza
                .catalog
                .as_ref()
                .map(|limits| CatalogSource { limits: limits.clone(), served: served.into() });
            zones.iter().map(move |zone| TransferredSource {
                catalog: catalog.clone(),
                zone: zone.clone(),
                stanza: number,
                primaries: Arc::clone(&primaries),
                directory: stanza.directory.as_ref().map(|directory| directory.place.clone()),
            })
        });
        let secondary = |target: &TransferTarget| Secondary::of(target, stages);
        let notify = stages.transfer.iter().map(|transfer| Notify {
            zones: transfer.zones.as_deref().unwrap_or(served).to_vec(),
            secondaries: transfer.to.iter().filter_map(secondary).collect(),
            source: transfer.source,
        });
        let mut notify: Vec<_> = notify.collect();
        let offered = notify.iter().flat_map(|notify| notify.zones.iter().cloned()).collect();
        if notify.iter().all(|notify| notify.secondaries.is_empty()) {
            notify.clear();
        }
        let (files, transferred) = (entries.collect(), transferred.collect());
        Self { files, directory, transferred, notify, offered }
    }
}
