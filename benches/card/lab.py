"""Two network namespaces, connected by a pair of devices similar to NICs.

A veth device with GRO receives packets as a NIC does: in batches, by NAPI, in a kernel thread that
can be pinned. Each end's thread runs on the core of that end's programs, so that the receiver's
core pays for receiving; over loopback the sender's core pays. With `tx-udp-segmentation` off the
sender's core segments GSO sends, as with a NIC without the feature. Missing in comparison with a
NIC: interrupts, DMA, a wire. This module makes the namespaces, devices and threads; the
measurements are in `play`.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
from pathlib import Path

# Addresses of the forwarder, and of clients and upstreams, from the range for benchmarks (RFC
# 2544).
FORWARDER, OTHERS = "198.18.0.1", "198.18.0.2"
PREFIX_LEN = 30
TOOLS = ("ip", "ethtool", "taskset")
FEATURES = ("gro", "on", "tso", "off", "tx-udp-segmentation", "off")
CLONE_NEWNET = 0x4000_0000
ENDING = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
# Columns of busy time in a core's line of /proc/stat: not idle, not iowait, not stolen.
BUSY = (1, 2, 3, 6, 7)
NANOSECOND = 1e-9
# Receivers of packets.
HANDED_OVER = {
    "thread": "packets are received by a kernel thread on the receiver's core",
    "interrupt": "packets are received by the receiver's core, interrupted by the sender's core (RPS)",
    "sender": "packets are received by the sender's core",
}


class End:
    """One end: a namespace, a device in it, and the core of its programs."""

    def __init__(self, namespace, device, address, core):
        self.namespace, self.device, self.address = namespace, device, address
        self.core = core

    def exec(self, *command):
        """The words of a command that runs there."""
        return ["ip", "netns", "exec", self.namespace, *command]

    def link(self, *words):
        run("ip", "-n", self.namespace, *words)

    def set(self, what, value):
        """Writes to sysfs attributes of the device: `ip netns exec` mounts a /sys for it."""
        path = f"/sys/class/net/{self.device}/{what}"
        run(*self.exec("sh", "-c", f"echo {value} > {path}"))

    def threads(self):
        """The kernel threads that receive its packets."""
        return threads_of(self.device, comms())

    def received_seconds(self):
        """CPU time of these threads so far."""
        paths = [Path(f"/proc/{pid}/schedstat") for pid in self.threads()]
        return sum(int(path.read_text().split()[0]) for path in paths) * NANOSECOND


class Lab:
    """Both ends. Entering moves the caller to the others' end; leaving removes everything."""

    def __init__(self, cores):
        own, other = cores
        # Device names are limited in length, and their threads are named after them.
        self.forwarder = End(f"card-{os.getpid()}-forwarder", f"f{os.getpid()}", FORWARDER, own)
        self.others = End(f"card-{os.getpid()}-others", f"o{os.getpid()}", OTHERS, other)
        self.ends = (self.forwarder, self.others)
        self.open = contextlib.ExitStack()

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            for end in self.ends:
                # Registered before the namespace exists, so that an interrupted start removes it
                # too.
                stack.callback(remove, end.namespace)
                run("ip", "netns", "add", end.namespace)
            self.join()
            stack.enter_context(inside(self.others.namespace))
            self.open = stack.pop_all()
        return self

    def __exit__(self, *_):
        # Blocks further signals, so that a second Ctrl-C does not interrupt the clean-up.
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        self.open.close()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)

    def join(self):
        """Makes the devices, with one queue each, because one core serves it."""
        own, other = self.ends
        queues = ("numtxqueues", "1", "numrxqueues", "1")
        own.link("link", "add", own.device, *queues, "type", "veth",
                 "peer", "name", other.device, "netns", other.namespace, *queues)
        for end in self.ends:
            end.link("addr", "add", f"{end.address}/{PREFIX_LEN}", "dev", end.device)
            end.link("link", "set", "lo", "up")
            end.link("link", "set", end.device, "up")
            run(*end.exec("ethtool", "-K", end.device, *FEATURES))

    def hand_over(self, how):
        """Sets how both ends receive packets, one of `HANDED_OVER`."""
        for end in self.ends:
            end.set("threaded", int(how == "thread"))
            end.set("queues/rx-0/rps_cpus", f"{1 << end.core:x}" if how == "interrupt" else "0")
            for pid in end.threads():
                os.sched_setaffinity(pid, {end.core})
            if how == "thread" and not end.threads():
                raise SystemExit("this kernel has no threaded NAPI for veth devices")


def lacking(user, find, cores):
    """Returns the missing requirement of a lab on this host, if any."""
    missing = [name for name in TOOLS if not find(name)]
    if user != 0:
        return "only root can make network namespaces: run it as root"
    if missing:
        return f"not installed: {', '.join(missing)}"
    if cores[0] == cores[1]:
        return "two cores are needed: the forwarder's, and that of all others"
    return None


def run(*command):
    """Runs a command; exits with its error message if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")


def remove(namespace):
    """Removes the namespace with its device, and thereby the other end's."""
    subprocess.run(["ip", "netns", "del", namespace], capture_output=True, check=False)


@contextlib.contextmanager
def inside(namespace):
    """Runs this process, and its children, in a namespace."""
    with open("/proc/self/ns/net") as before, open(f"/run/netns/{namespace}") as there:
        enter(there)
        try:
            yield
        finally:
            enter(before)


def enter(opened):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(opened.fileno(), CLONE_NEWNET) != 0:
        raise SystemExit(f"setns: {os.strerror(ctypes.get_errno())}")


def comms():
    """The names of all threads that are processes, by ID."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/comm"):
        # Some threads end meanwhile.
        with contextlib.suppress(OSError):
            found[int(path.parent.name)] = path.read_text().strip()
    return found


def threads_of(device, names):
    """The threads of a device: `napi/DEVICE-NUMBER`."""
    return [pid for pid, name in names.items() if name.startswith(f"napi/{device}-")]


def busy_seconds(text, core, ticks=os.sysconf("SC_CLK_TCK")):
    """Busy time of a core so far, from the text of /proc/stat."""
    [line] = [line for line in text.splitlines() if line.startswith(f"cpu{core} ")]
    columns = line.split()
    return sum(int(columns[place]) for place in BUSY) / ticks
