"""This host: cores, programs, packages, and child processes."""

import contextlib
import datetime
import json
import os
import platform
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import forwarders

# Seconds for a program to answer its first query, and to end after a signal.
READY_MAX = 20
END_MAX = 5
# Descriptors of a forwarder with the largest number of connections.
OPEN_FILES = 65_536
# Default address of all programs.
LOOPBACK = "127.0.0.1"
# Timeout of a readiness query, which is then repeated.
LOOK = 0.1
# A query that every server answers: for the root's name servers, with an OPT record.
PROBE = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\x01\0\0\x02\0\x01\0\0\x29\x04\xd0\0\0\0\0\0\0"
# Unit names that differ from the package's.
UNITS = {"knot-resolver": "kresd@1", "bind9": "named"}


def say(text):
    print(text, file=sys.stderr, flush=True)


def cores():
    """Two cores: one for the forwarders, one for everything else."""
    known = sorted(os.sched_getaffinity(0))
    return [known[0], known[-1]]


def programs(root, build):
    target = Path(os.environ.get("CARGO_TARGET_DIR") or root / "target") / "release"
    if build:
        command = ["cargo", "build", "--release", "-p", "onward", "-p", "loadgen", "--bins"]
        subprocess.run([*command, "--example", "floor"], cwd=root, check=True)
    found = {
        "onward": str(target / "onward"),
        "loadgen": str(target / "loadgen"),
        "floor": str(target / "examples" / "floor"),
    }
    missing = [path for path in found.values() if not Path(path).is_file()]
    if missing:
        sys.exit(f"not built: {', '.join(missing)}")
    return found


def install(packages):
    """Installs packages without their services, on Debian as root."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    say(f"installing {' '.join(packages)}")
    units = [UNITS.get(package, package) for package in packages]
    booted = Path("/run/systemd/system").is_dir()
    if booted:
        # Otherwise they would occupy port 53 at once.
        subprocess.run(["systemctl", "mask", "--runtime", *units], check=False)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    subprocess.run(command, env=environment, stdout=sys.stderr, check=False)
    if booted:
        subprocess.run(["systemctl", "disable", *units], check=False)
        subprocess.run(["systemctl", "unmask", "--runtime", *units], check=False)


def versions(root, peers):
    def git(*words):
        return subprocess.run(["git", "-c", "safe.directory=*", *words], cwd=root,
                              capture_output=True, text=True, check=False)

    commit = git("rev-parse", "--short", "HEAD").stdout.strip() or "of an unknown commit"
    changed = git("diff", "--quiet", "HEAD", "--", "src", "loadgen/src", "Cargo.lock").returncode
    told = [f"onward {commit}{' with changes' if changed else ''}"]
    if shutil.which("dpkg-query"):
        for name in peers:
            package = forwarders.PACKAGES[name][1]
            query = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package],
                                   capture_output=True, text=True, check=False)
            told.append(f"{name} {query.stdout.strip() or 'of an unknown version'}")
    return ", ".join(told)


def host(used):
    model = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())
    load = os.getloadavg()[0]
    return (f"{model}, {os.cpu_count()} cores, Linux {platform.release()}, forwarders on core "
            f"{used[0]}, all others on core {used[1]}, load {load:.1f} at the end")


def listed(kind):
    """Parser of comma-separated words of one type."""
    return lambda text: [kind(word) for word in text.split(",") if word]


def check_keep(parser, name):
    if name and not re.fullmatch(r"[\w.-]+", name):
        parser.error("--keep is the name of a file")


def command_line(program):
    """The command line, quoted for reuse."""
    plain = re.compile(r"[\w.,=:/{}-]+")
    words = [word if plain.fullmatch(word) else f"'{word}'" for word in sys.argv[1:]]
    return " ".join([program, *words])


def keep(root, name, text, result):
    """Writes the results to benches/results, if a name is given."""
    if name:
        results = root / "benches" / "results"
        results.mkdir(exist_ok=True)
        (results / f"{name}.md").write_text(text)
        (results / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")


def today():
    return datetime.date.today().isoformat()


def raise_open_files():
    """Raises the descriptor limit for ten thousand connections: as root beyond the hard limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for most in (max(hard, OPEN_FILES), hard):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
            return


# A certificate for LOOPBACK that is no authority: clients trust it alone.
REQUEST = """[req]
prompt = no
distinguished_name = name
x509_extensions = extensions
[name]
CN = bench
[extensions]
basicConstraints = critical, CA:FALSE
subjectAltName = IP:127.0.0.1, DNS:localhost
"""


def certify(certificate, key):
    """Writes a key of P-256 and a certificate for it."""
    if certificate.exists():
        return
    request = certificate.with_suffix(".cnf")
    request.write_text(REQUEST)
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-config", str(request), "-keyout", str(key)]
    subprocess.run([*command, "-out", str(certificate)], check=True, capture_output=True)
    # Peers may read it after they have changed their user.
    key.chmod(0o644)


def free_ports(count):
    """Ports of 127.0.0.1 that are free for UDP and TCP."""
    with contextlib.ExitStack() as held:
        ports = []
        while len(ports) < count:
            streams = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            streams.bind(("127.0.0.1", 0))
            port = streams.getsockname()[1]
            datagrams = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            with contextlib.suppress(OSError):
                datagrams.bind(("127.0.0.1", port))
                ports.append(port)
        return ports


class Process:
    """A server program with its children, pinned to cores, until ended."""

    def __init__(self, name, command, cores, output=subprocess.DEVNULL):
        self.name = name
        # Its error messages are shown if it never answers.
        self.complaints = tempfile.TemporaryFile()
        pinned = ["taskset", "-c", cores, *command]
        self.child = subprocess.Popen(pinned, stdin=subprocess.DEVNULL, stdout=output,
                                      stderr=self.complaints, start_new_session=True)

    @property
    def pid(self):
        return self.child.pid

    def complaint(self):
        self.complaints.seek(0)
        return self.complaints.read()[-500:].decode(errors="replace").strip()

    def wait_until_ready(self, port, address=LOOPBACK):
        """Sends queries until one is answered; returns the error if none is."""
        until = time.monotonic() + READY_MAX
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
            asker.settimeout(LOOK)
            while time.monotonic() < until:
                if self.child.poll() is not None:
                    return f"it ended with {self.child.returncode}: {self.complaint()}"
                with contextlib.suppress(OSError):
                    asker.sendto(PROBE, (address, port))
                    if asker.recv(4096)[:2] == PROBE[:2]:
                        return None
        return f"it does not answer: {self.complaint()}"

    def end(self):
        """Ends the child's whole process group, which has no other members."""
        for number, wait in ((signal.SIGTERM, END_MAX), (signal.SIGKILL, END_MAX)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.child.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.child.wait(wait)
                break
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.child.pid, signal.SIGKILL)
        self.complaints.close()
