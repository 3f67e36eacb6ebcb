//! Seccomp filters for threads.
//!
//! Two bounds. [`Bounds::Packets`] is for threads that only move packets: they may use their
//! sockets and memory and open further internet sockets; they open no file, start no program, make
//! no memory executable, and access no other process. A call that is not listed fails with EPERM,
//! which its caller handles like any other error. [`Bounds::NoPrograms`] is for threads that also
//! read files: they start no program.
//!
//! A filter applies to a thread, so the first thread can still read the configuration and start the
//! process that takes over. Threads share their memory: an attacker who controls one entirely can
//! write into another's. Against that there is the confinement of the process (`tuning/`). Landlock
//! is not used: it binds a process and all its children, so that each upgrade would add a layer, of
//! which there are 16, and it could not allow a program that is installed later.

use seccompiler::{
    SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};
use std::collections::BTreeMap;
use std::io;

/// Permissions of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bounds {
    /// Only sockets and memory.
    Packets,
    /// Everything except starting programs and accessing other processes.
    NoPrograms,
}

/// Calls that move packets, wait, and manage memory, whatever their arguments.
const PLAIN: [libc::c_long; 59] = [
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_brk,
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_connect,
    libc::SYS_dup,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_futex,
    libc::SYS_getcpu,
    libc::SYS_getpeername,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_gettid,
    libc::SYS_listen,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_ppoll,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmmsg,
    libc::SYS_recvmsg,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_yield,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_set_robust_list,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_sigaltstack,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_gettime,
    libc::SYS_timerfd_settime,
    libc::SYS_write,
    libc::SYS_writev,
];
/// Older equivalents, which newer architectures lack.
#[cfg(target_arch = "x86_64")]
const OLD: [libc::c_long; 2] = [libc::SYS_epoll_wait, libc::SYS_poll];
#[cfg(not(target_arch = "x86_64"))]
const OLD: [libc::c_long; 0] = [];

/// Calls that start a program or control another process.
const PROGRAMS: [libc::c_long; 7] = [
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_io_uring_setup,
    libc::SYS_pidfd_getfd,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
];

/// Confines the calling thread, and the threads that it starts, to `bounds`.
///
/// # Errors
/// The kernel was built without seccomp, or a filter forbids adding another.
pub(crate) fn confine(bounds: Bounds) -> io::Result<()> {
    let failed = |error: seccompiler::Error| io::Error::other(error);
    let (rules, otherwise, matched) = match bounds {
        Bounds::Packets => (packets().map_err(io::Error::other)?, refusal(), SeccompAction::Allow),
        Bounds::NoPrograms => {
            let rules = PROGRAMS.map(|number| (number, Vec::new())).into_iter().collect();
            (rules, SeccompAction::Allow, refusal())
        }
    };
    let here = TargetArch::try_from(std::env::consts::ARCH).map_err(io::Error::other)?;
    let filter = SeccompFilter::new(rules, otherwise, matched, here).map_err(io::Error::other)?;
    let program: seccompiler::BpfProgram = filter.try_into().map_err(io::Error::other)?;
    seccompiler::apply_filter(&program).map_err(failed)
}

fn refusal() -> SeccompAction {
    SeccompAction::Errno(libc::EPERM as u32)
}

/// Returns the rules of [`Bounds::Packets`]. A call with several rules is allowed by any of them.
fn packets() -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        PLAIN.iter().chain(&OLD).map(|number| (*number, Vec::new())).collect();
    let rule = |argument, operator, value| {
        let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)?;
        SeccompRule::new(vec![condition])
    };
    let is = |argument, value: u64| rule(argument, SeccompCmpOp::Eq, value);
    let families = [libc::AF_INET, libc::AF_INET6].map(|family| is(0, family as u64));
    rules.insert(libc::SYS_socket, families.into_iter().collect::<Result<_, _>>()?);
    let controls = [libc::FIONBIO, libc::FIONREAD, libc::TIOCOUTQ].map(|control| is(1, control));
    rules.insert(libc::SYS_ioctl, controls.into_iter().collect::<Result<_, _>>()?);
    // Names of threads and of memory.
    let names = [libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_VMA];
    let names = names.map(|name| is(0, name as u64));
    rules.insert(libc::SYS_prctl, names.into_iter().collect::<Result<_, _>>()?);
    // A process that aborts sends itself a signal.
    rules.insert(libc::SYS_tgkill, vec![is(0, u64::from(std::process::id()))?]);
    let executable = SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64);
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![rule(2, executable.clone(), 0)?]);
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::{Bounds, confine};
    use crate::sys::socket::forget_unsent;
    use std::fs::{self, File};
    use std::io::{self, Write};
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::UnixDatagram;
    use std::process::Command;

    /// Runs the closure in a thread of its own within `bounds`.
    fn within<T: Send + 'static>(bounds: Bounds, act: impl FnOnce() -> T + Send + 'static) -> T {
        let bound = move || {
            confine(bounds).unwrap();
            act()
        };
        std::thread::spawn(bound).join().unwrap()
    }

    fn is_refused<T>(outcome: io::Result<T>) -> bool {
        outcome.err().and_then(|error| error.raw_os_error()) == Some(libc::EPERM)
    }

    #[test]
    fn a_packet_thread_opens_no_file_and_starts_no_program() {
        within(Bounds::Packets, || {
            assert!(is_refused(File::open("/dev/null")));
            assert!(is_refused(File::create("/nowhere/file")));
            assert!(is_refused(fs::metadata("/dev/null").map(drop)));
            assert!(is_refused(Command::new("/bin/true").spawn()));
            assert!(is_refused(UnixDatagram::unbound()));
            assert!(is_refused(std::thread::Builder::new().spawn(|| ())));
        });
        assert!(File::open("/dev/null").is_ok(), "the others go on as before");
    }

    #[test]
    fn a_packet_thread_has_sockets_and_memory() {
        within(Bounds::Packets, || {
            let (one, other) =
                (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
            one.set_nonblocking(true).unwrap();
            one.send_to(&[7; 1_000], other.local_addr().unwrap()).unwrap();
            assert_eq!(other.recv(&mut vec![0; 1 << 20]).unwrap(), 1_000);
            let acceptor = TcpListener::bind("127.0.0.1:0").unwrap();
            let mut stream = TcpStream::connect(acceptor.local_addr().unwrap()).unwrap();
            let _unread = acceptor.accept().unwrap();
            stream.set_nonblocking(true).unwrap();
            while stream.write(&[7; 65_536]).is_ok() {}
            assert!(forget_unsent(&stream), "it can be learned that nobody reads");
        });
    }

    #[test]
    fn a_panic_within_bounds_is_a_panic() {
        let caught = within(Bounds::Packets, || {
            std::panic::catch_unwind(|| std::hint::black_box(Vec::<u8>::new())[0]).is_err()
        });
        assert!(caught);
    }

    #[test]
    fn a_thread_without_programs_reads_files_and_starts_threads() {
        within(Bounds::NoPrograms, || {
            assert!(File::open("/dev/null").is_ok());
            assert!(
                std::thread::spawn(|| is_refused(Command::new("/bin/true").spawn()))
                    .join()
                    .unwrap()
            );
        });
    }
}
