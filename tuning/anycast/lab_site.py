"""The namespaces, links, programs and counters of the lab.

    client 10.80.100.2 ── router 10.80.N.1 ── host N 10.80.N.2, and 198.51.100.53 on its loopback
                          upstream 10.80.254.1 (loadgen upstream, on the router's loopback)

Programs of a host write into its directory; what is wrong with one is shown when the lab fails.
"""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
SERVICE = "198.51.100.53"
UPSTREAM = "10.80.254.1"
HOSTS_MAX = 4
PATIENCE = 20
# What the upstream takes for an answer, so that queries are under way at any time.
DELAY = "20ms"
# How often the router's counters are read.
STRETCH = 0.25

COREFILE = """\
. {{
    bind {service}
    ready 127.0.0.1:8181
    health 127.0.0.1:8080 {{
        lameduck 3s
    }}
    forward . {upstream}:5301 {upstream}:5302 {{
        policy round_robin
    }}
}}
"""


class Site:
    def __init__(self, options):
        self.options = options
        self.prefix = f"anycast-{os.getpid()}-"
        self.directory = Path(tempfile.mkdtemp(prefix="onward-anycast-"))
        self.programs = []
        self.onward = {}
        self.routes = []
        self.samples = []
        self.stop = threading.Event()
        self.threads = []
        self.begun = None

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if kind is not None:
            self.show_logs()
        self.stop.set()
        for program in reversed(self.programs):
            if program.poll() is None:
                program.send_signal(signal.SIGCONT)
                program.kill()
            program.wait()
        for thread in self.threads:
            thread.join()
        for name in self.names():
            subprocess.run(["ip", "netns", "delete", self.prefix + name], capture_output=True)
        shutil.rmtree(self.directory, ignore_errors=True)

    def names(self):
        return ["router", "client"] + [f"host{number}" for number in range(1, HOSTS_MAX + 1)]

    def elapsed(self):
        return time.monotonic() - self.begun

    def command(self, where, *words):
        return ["ip", "netns", "exec", self.prefix + where, *map(str, words)]

    def run(self, where, *words, text=None):
        done = subprocess.run(self.command(where, *words), input=text, text=True,
                              capture_output=True)
        if done.returncode != 0:
            raise RuntimeError(f"{where}: {' '.join(map(str, words))}: {done.stderr.strip()}")
        return done.stdout

    def shell(self, where, script):
        return self.run(where, "sh", "-e", "-c", script)

    def start(self, where, name, *words, **more):
        log = (self.directory / f"{name}.log").open("ab")
        program = subprocess.Popen(self.command(where, *words), stdout=log, stderr=log,
                                   stdin=subprocess.DEVNULL, **more)
        self.programs.append(program)
        return program

    # ------------------------------------------------------------------------------- building

    def build(self):
        for name in self.names():
            subprocess.run(["ip", "netns", "add", self.prefix + name], check=True)
        hosts = range(1, HOSTS_MAX + 1)
        self.wire("rc", "10.80.100.1/24", "client", "10.80.100.2/24")
        self.shell("client", "ip route add default via 10.80.100.1")
        for number in hosts:
            self.wire(f"r{number}", f"10.80.{number}.1/30", f"host{number}",
                      f"10.80.{number}.2/30")
            self.shell(f"host{number}", f"ip address add {SERVICE}/32 dev lo\n"
                       f"ip route add default via 10.80.{number}.1")
        self.shell("router", f"ip link set lo up\nip address add {UPSTREAM}/32 dev lo\n"
                   "echo 1 > /proc/sys/net/ipv4/ip_forward\n"
                   "echo 1 > /proc/sys/net/ipv4/fib_multipath_hash_policy")
        counters = "".join(f"counter host{n} {{ }}\n" for n in hosts)
        rules = "".join(f"iifname r{n} ip saddr {SERVICE} udp sport 53 counter name host{n}\n"
                        for n in hosts)
        self.run("router", "nft", "-f", "-", text=f"table ip lab {{\n{counters}chain forward {{\n"
                 f"type filter hook forward priority 0; policy accept;\n{rules}}}\n}}\n")
        self.router()
        self.start("router", "upstream", self.program("loadgen"), "upstream", "--listen",
                   f"{UPSTREAM}:5301", f"{UPSTREAM}:5302", "--behave", f"delay={DELAY}")
        self.thread(self.watch_routes)

    def wire(self, ours, address, host, theirs):
        subprocess.run(["ip", "link", "add", ours, "netns", self.prefix + "router", "type", "veth",
                        "peer", "name", "wire", "netns", self.prefix + host], check=True)
        self.shell("router", f"ip address add {address} dev {ours}\nip link set {ours} up")
        self.shell(host, f"ip link set lo up\nip address add {theirs} dev wire\n"
                   "ip link set wire up")

    def router(self):
        text = (HERE / "router.conf").read_text()
        one = "protocol bgp host1 from resolver { neighbor 192.0.2.11 as 65001; }"
        assert one in text
        hosts = [f"protocol bgp host{n} from resolver {{ neighbor 10.80.{n}.2 as 65001; }}"
                 for n in range(1, HOSTS_MAX + 1)]
        text = text.replace(one, "\n".join(hosts)).replace("192.0.2.1;", "10.80.254.1;")
        self.bird("router", text)

    def bird(self, where, text):
        text = text.replace("log syslog all;", "log stderr all;")
        path = self.directory / f"{where}.conf"
        path.write_text(text)
        self.start(where, f"{where}-bird", "bird", "-f", "-c", path, "-s",
                   self.directory / f"{where}.ctl")

    def program(self, name):
        return self.options.bin.resolve() / name

    # ------------------------------------------------------------------------------- hosts

    def start_host(self, number):
        """BIRD, onward and the helper, as on a host that has just been installed."""
        where = f"host{number}"
        text = (HERE / "bird.conf").read_text()
        text = text.replace("192.0.2.11", f"10.80.{number}.2")
        text = text.replace("192.0.2.1 ", f"10.80.{number}.1 ")
        self.bird(where, text)
        self.wait_for_file(self.directory / f"{where}.ctl")
        self.start_onward(number)
        self.start(where, f"{where}-anycast", HERE / "onward-anycast", "--birdc",
                   self.directory / f"{where}.ctl")

    def start_onward(self, number):
        where = f"host{number}"
        path = self.directory / f"{where}.Corefile"
        path.write_text(COREFILE.format(service=SERVICE, upstream=UPSTREAM))
        # `exec` by `ip netns exec` leaves the process that signals go to.
        self.onward[number] = self.start(where, f"{where}-onward", self.program("onward"),
                                         "--conf", path, "--workers", 1)

    def act(self, what, number):
        if what == "add":
            self.start_host(number)
        elif what == "start":
            self.start_onward(number)
        else:
            signals = {"drain": signal.SIGTERM, "kill": signal.SIGKILL,
                       "freeze": signal.SIGSTOP, "thaw": signal.SIGCONT}
            self.onward[number].send_signal(signals[what])

    # ------------------------------------------------------------------------------- clients

    def start_clients(self, seconds):
        timeout = self.options.timeout
        common = ["run", "--server", f"{SERVICE}:53", "--seconds", seconds, "--timeout", timeout,
                  "--verify", "--quiet", "--loss-max", "1", "--stretch", "100ms"]
        # Their reports count from their first query, which is not when they are started.
        started = time.monotonic()
        first = self.start("client", "open", self.program("loadgen"), *common, "--rate",
                           self.options.rate, "--sockets", 256, "--json",
                           self.directory / "open.json")
        self.until("the first query", lambda: self.has_sent(first))
        self.begun = time.monotonic()
        self.closed_since = self.begun - started
        self.clients = [first, self.start(
            "client", "closed", self.program("loadgen"), *common, "--closed",
            self.options.clients, "--sockets", self.options.clients, "--json",
            self.directory / "closed.json")]
        self.thread(self.watch_counters)

    @staticmethod
    def has_sent(program):
        """Whether a datagram has left the namespace of a program."""
        lines = [line.split() for line in Path(f"/proc/{program.pid}/net/snmp").read_text()
                 .splitlines() if line.startswith("Udp:")]
        return int(lines[1][lines[0].index("OutDatagrams")]) > 0

    def finish(self):
        for client in self.clients:
            client.wait(timeout=PATIENCE + 10)
        self.stop.set()
        self.open = json.loads((self.directory / "open.json").read_text())
        self.closed = json.loads((self.directory / "closed.json").read_text())
        for piece in self.closed["series"]:
            piece["start"] += self.closed_since

    # ------------------------------------------------------------------------------- watching

    def thread(self, body):
        thread = threading.Thread(target=body, daemon=True)
        thread.start()
        self.threads.append(thread)

    def hosts_in_route(self):
        """The hosts among which the router spreads now."""
        shown = self.run("router", "ip", "-j", "route", "show", SERVICE)
        hosts = set()
        for route in json.loads(shown or "[]"):
            for hop in route.get("nexthops", [route]):
                if "gateway" in hop:
                    hosts.add(int(hop["gateway"].split(".")[2]))
        return hosts

    def watch_routes(self):
        monitor = subprocess.Popen(self.command("router", "ip", "monitor", "route"),
                                   stdout=subprocess.PIPE, text=True)
        self.programs.append(monitor)
        for line in monitor.stdout:
            at = time.monotonic()
            if SERVICE in line or line.lstrip().startswith("nexthop"):
                try:
                    hosts = self.hosts_in_route()
                except RuntimeError:
                    return
                if not self.routes or self.routes[-1][1] != hosts:
                    self.routes.append((at, hosts))

    def watch_counters(self):
        while not self.stop.is_set():
            shown = json.loads(self.run("router", "nft", "-j", "list", "counters", "table", "ip",
                                        "lab"))
            counts = {entry["counter"]["name"]: entry["counter"]["packets"]
                      for entry in shown["nftables"] if "counter" in entry}
            self.samples.append((self.elapsed(),
                                 [counts[f"host{n}"] for n in range(1, HOSTS_MAX + 1)]))
            self.stop.wait(STRETCH)

    def wait_for_file(self, path):
        self.until(f"{path.name}", path.exists)

    def wait_for_hosts(self, hosts):
        self.until(f"routes to hosts {hosts}", lambda: self.hosts_in_route() == hosts)

    def until(self, what, is_so):
        deadline = time.monotonic() + PATIENCE
        while not is_so():
            if time.monotonic() > deadline:
                raise RuntimeError(f"waited in vain for {what}")
            time.sleep(0.01)

    def pass_time(self, seconds):
        """The story goes by the clock, because its plots do."""
        for program in self.clients:
            if program.poll() not in (None, 0, 1):
                raise RuntimeError("a client ended too early")
        time.sleep(seconds)

    def show_logs(self):
        for log in sorted(self.directory.glob("*.log")):
            lines = log.read_text(errors="replace").splitlines()
            print(f"--- {log.name}")
            print("\n".join(lines[-15:]))
