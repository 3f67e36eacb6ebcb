"""Two network namespaces and a pair of devices between them that are something like cards.

A veth device that does GRO hands packets over as a card does: in batches, by NAPI, in a thread of
the kernel that can be pinned. Each end's thread is put on the core of those who live there, so that
what is received is paid for by the receiver's core; over loopback the sender pays for it. With
`tx-udp-segmentation` off the sender's core takes apart what was handed over as one send, as with a
card that cannot. What a real card has and this has not: interrupts, memory access of its own, a
wire. Here are the namespaces, devices and threads; who is measured in them is in `play`.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
from pathlib import Path

# Of the forwarder, and of those who ask and answer it: for benchmarks (RFC 2544).
FORWARDER, OTHERS = "198.18.0.1", "198.18.0.2"
PREFIX_LEN = 30
TOOLS = ("ip", "ethtool", "taskset")
FEATURES = ("gro", "on", "tso", "off", "tx-udp-segmentation", "off")
CLONE_NEWNET = 0x4000_0000
ENDING = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
# Columns of a core's line in /proc/stat in which it works: not idle, not iowait, not stolen.
BUSY = (1, 2, 3, 6, 7)
NANOSECOND = 1e-9
# Who takes packets in.
HANDED_OVER = {
    "thread": "packets are taken in by a thread of the kernel on the receiver's core",
    "interrupt": "packets are taken in by the receiver's core, which the sender's interrupts (RPS)",
    "sender": "packets are taken in by the sender's core",
}


class End:
    """One end: a namespace, a device in it, and the core of all who live there."""

    def __init__(self, namespace, device, address, core):
        self.namespace, self.device, self.address = namespace, device, address
        self.core = core

    def exec(self, *command):
        """A command there: its words."""
        return ["ip", "netns", "exec", self.namespace, *command]

    def link(self, *words):
        run("ip", "-n", self.namespace, *words)

    def set(self, what, value):
        """Writes what the kernel knows about its device: `ip netns exec` mounts a /sys for it."""
        path = f"/sys/class/net/{self.device}/{what}"
        run(*self.exec("sh", "-c", f"echo {value} > {path}"))

    def threads(self):
        """The kernel's threads that hand its packets over."""
        return threads_of(self.device, comms())

    def received_seconds(self):
        """What those threads have worked so far."""
        paths = [Path(f"/proc/{pid}/schedstat") for pid in self.threads()]
        return sum(int(path.read_text().split()[0]) for path in paths) * NANOSECOND


class Lab:
    """Both ends; whoever enters is moved to the others' end, and leaving it removes everything."""

    def __init__(self, cores):
        own, other = cores
        # Devices' names are short, and so their threads can be told apart.
        self.forwarder = End(f"card-{os.getpid()}-forwarder", f"f{os.getpid()}", FORWARDER, own)
        self.others = End(f"card-{os.getpid()}-others", f"o{os.getpid()}", OTHERS, other)
        self.ends = (self.forwarder, self.others)
        self.open = contextlib.ExitStack()

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            for end in self.ends:
                # Before it is there: who is interrupted in between removes it too.
                stack.callback(remove, end.namespace)
                run("ip", "netns", "add", end.namespace)
            self.join()
            stack.enter_context(inside(self.others.namespace))
            self.open = stack.pop_all()
        return self

    def __exit__(self, *_):
        # Whoever presses Ctrl-C twice is served as well.
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        self.open.close()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)

    def join(self):
        """The devices, with a queue each: there is one core that could serve it."""
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
        """Sets who takes packets in at both ends, one of `HANDED_OVER`."""
        for end in self.ends:
            end.set("threaded", int(how == "thread"))
            end.set("queues/rx-0/rps_cpus", f"{1 << end.core:x}" if how == "interrupt" else "0")
            for pid in end.threads():
                os.sched_setaffinity(pid, {end.core})
            if how == "thread" and not end.threads():
                raise SystemExit("this kernel has no threaded NAPI for veth devices")


def lacking(user, find, cores):
    """What keeps this host from having a lab, if anything does."""
    missing = [name for name in TOOLS if not find(name)]
    if user != 0:
        return "only root can make network namespaces: run it as root"
    if missing:
        return f"not installed: {', '.join(missing)}"
    if cores[0] == cores[1]:
        return "two cores are needed: the forwarder's, and that of all others"
    return None


def run(*command):
    """Runs it; ends with what it complained of if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")


def remove(namespace):
    """With the device in it, and so with the other end's."""
    subprocess.run(["ip", "netns", "del", namespace], capture_output=True, check=False)


@contextlib.contextmanager
def inside(namespace):
    """This process, and all that it starts, in a namespace."""
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
    """The names of all threads that are processes, by number."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/comm"):
        # Some end meanwhile.
        with contextlib.suppress(OSError):
            found[int(path.parent.name)] = path.read_text().strip()
    return found


def threads_of(device, names):
    """Those of a device: `napi/DEVICE-NUMBER`."""
    return [pid for pid, name in names.items() if name.startswith(f"napi/{device}-")]


def busy_seconds(text, core, ticks=os.sysconf("SC_CLK_TCK")):
    """How long a core has worked so far, from the text of /proc/stat."""
    [line] = [line for line in text.splitlines() if line.startswith(f"cpu{core} ")]
    columns = line.split()
    return sum(int(columns[place]) for place in BUSY) / ticks
