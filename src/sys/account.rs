//! Accounts of the host, and the switch of the process to one of them.
//!
//! Of root's capabilities only CAP_NET_BIND_SERVICE is kept, to bind ports below 1024, because a
//! reload may add addresses. It is kept as an ambient capability, so that a process that takes over
//! has it as well. [`forgo_capabilities`] is for threads that bind nothing. Call this while there
//! is only one thread, because capabilities belong to a thread.

use super::cvt;
use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;

/// Binding ports below 1024 (linux/capability.h).
const NET_BIND_SERVICE: libc::c_ulong = 10;
/// Highest capability number of any kernel.
const CAPABILITIES_MAX: libc::c_ulong = 63;
/// 64 bits of capabilities, in two halves (linux/capability.h).
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;
/// Maximum number of groups of a process (NGROUPS_MAX in linux/limits.h).
const GROUPS_MAX: usize = 65_536;
/// Buffer size for an account's entry from the C library.
const ACCOUNT_LEN: usize = 16_384;

/// An account of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    name: CString,
    user: libc::uid_t,
    group: libc::gid_t,
    groups: Vec<libc::gid_t>,
}

/// Returns the effective user ID.
pub fn user() -> u32 {
    // SAFETY: the call takes no argument and cannot fail.
    unsafe { libc::geteuid() }
}

impl Account {
    /// Returns the account called `name`; `None`: there is none. May block as long as the services
    /// of nsswitch.conf(5) do; [`Account::enter`] uses none of them.
    ///
    /// # Errors
    /// The host's accounts cannot be read.
    pub(crate) fn find(name: &str) -> io::Result<Option<Self>> {
        let Ok(name) = CString::new(name) else { return Ok(None) };
        let mut entry = MaybeUninit::<libc::passwd>::uninit();
        let mut text = vec![0; ACCOUNT_LEN];
        let mut found = std::ptr::null_mut();
        // SAFETY: all places are valid for writing, the text for its length, and the name ends with
        // a zero.
        let error = unsafe {
            libc::getpwnam_r(
                name.as_ptr(),
                entry.as_mut_ptr(),
                text.as_mut_ptr(),
                text.len(),
                &raw mut found,
            )
        };
        // Absence is reported in several ways (getpwnam_r(3)).
        match error {
            0 | libc::ENOENT | libc::ESRCH | libc::EBADF | libc::EPERM if found.is_null() => {
                return Ok(None);
            }
            0 => {}
            error => return Err(io::Error::from_raw_os_error(error)),
        }
        // SAFETY: it was found, so the entry has been written.
        let entry = unsafe { entry.assume_init() };
        let (user, group) = (entry.pw_uid, entry.pw_gid);
        let groups = groups_of(&name, group)?;
        Ok(Some(Self { name, user, group, groups }))
    }

    pub(crate) fn name(&self) -> &CStr {
        &self.name
    }

    /// Switches to this account for good. Nothing happens if the process has it already.
    ///
    /// # Errors
    /// The kernel refuses, mostly because the process is not root. The switch may then be
    /// incomplete, and the process must end.
    pub(crate) fn enter(&self) -> io::Result<()> {
        if user() == self.user {
            return Ok(());
        }
        for capability in (0..=CAPABILITIES_MAX).filter(|number| *number != NET_BIND_SERVICE) {
            match control(libc::PR_CAPBSET_DROP, capability, 0) {
                // No capability has this number or a higher one.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
                outcome => outcome?,
            }
        }
        cvt(|| {
            // SAFETY: the list is live and has the given length.
            unsafe { libc::setgroups(self.groups.len(), self.groups.as_ptr()) }
        })?;
        control(libc::PR_SET_KEEPCAPS, 1, 0)?;
        cvt(|| {
            // SAFETY: the call takes only numbers.
            unsafe { libc::setresgid(self.group, self.group, self.group) }
        })?;
        cvt(|| {
            // SAFETY: the call takes only numbers.
            unsafe { libc::setresuid(self.user, self.user, self.user) }
        })?;
        set_capabilities(1 << NET_BIND_SERVICE)?;
        control(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as libc::c_ulong, NET_BIND_SERVICE)
    }
}

/// Returns all groups of the account called `name`, whose primary group is `group`.
fn groups_of(name: &CStr, group: libc::gid_t) -> io::Result<Vec<libc::gid_t>> {
    let mut groups = vec![group; GROUPS_MAX];
    let mut count = GROUPS_MAX as libc::c_int;
    let place = groups.as_mut_ptr();
    // SAFETY: the name ends with a zero, and at most `count` groups are written.
    let written = unsafe { libc::getgrouplist(name.as_ptr(), group, place, &raw mut count) };
    if written < 0 {
        return Err(io::Error::other(format!("the user is in more than {GROUPS_MAX} groups")));
    }
    groups.truncate(usize::try_from(count).unwrap_or(0));
    Ok(groups)
}

/// Drops all capabilities of the calling thread.
///
/// # Errors
/// The kernel refuses, for example because of a system call filter.
pub(crate) fn forgo_capabilities() -> io::Result<()> {
    set_capabilities(0)
}

fn control(what: libc::c_int, first: libc::c_ulong, second: libc::c_ulong) -> io::Result<()> {
    let none: libc::c_ulong = 0;
    cvt(|| {
        // SAFETY: none of these calls takes a pointer.
        unsafe { libc::prctl(what, first, second, none, none) }
    })
    .map(drop)
}

/// Header of capset(2), for which the C library has no function.
#[repr(C)]
struct Header {
    version: u32,
    thread: libc::c_int,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Sets the capabilities of the calling thread to `all`, all of them effective.
fn set_capabilities(all: u64) -> io::Result<()> {
    let header = Header { version: CAPABILITY_VERSION_3, thread: 0 };
    let half = |bits: u32| Half { effective: bits, permitted: bits, inheritable: bits };
    let halves = [half(all as u32), half((all >> 32) as u32)];
    cvt(|| {
        // SAFETY: both are live and laid out for this version; the kernel only reads.
        let outcome =
            unsafe { libc::syscall(libc::SYS_capset, &raw const header, halves.as_ptr()) };
        outcome as libc::c_int
    })
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::{Account, forgo_capabilities, user};

    #[test]
    fn accounts_are_found_by_their_names() {
        let root = Account::find("root").unwrap().unwrap();
        assert_eq!((root.user, root.group, root.name().to_str()), (0, 0, Ok("root")));
        assert_eq!(Account::find("nobody-of-this-name").unwrap(), None);
        assert_eq!(Account::find("a\0b").unwrap(), None);
    }

    #[test]
    fn a_process_that_has_the_account_already_is_unchanged() {
        let own = Account { user: user(), ..Account::find("root").unwrap().unwrap() };
        own.enter().unwrap();
    }

    #[test]
    fn a_thread_gives_up_its_capabilities_and_the_others_keep_theirs() {
        let effective = |thread: &str| {
            let text = std::fs::read_to_string(format!("/proc/{thread}/status")).unwrap();
            text.lines().find_map(|line| line.strip_prefix("CapEff:\t").map(str::to_owned)).unwrap()
        };
        let before = effective("thread-self");
        let forgone = std::thread::spawn(move || {
            forgo_capabilities().unwrap();
            effective("thread-self")
        });
        assert_eq!(forgone.join().unwrap(), "0000000000000000");
        assert_eq!(effective("thread-self"), before);
    }
}
