"""Runs cases: starts all contestants, queries them in turn, ends them.

Contestants and queries are in `forwarders` and `queries`, the evaluation in `judge`.
"""

import contextlib
import json
import subprocess
import threading

import judge
import machine
import queries
from forwarders import FRONTS, CannotDo, Setting
from machine import LOOPBACK, Process, free_ports, say

# Time limit of a slot, in seconds: a slot ends by itself unless something hangs.
SLOT_MAX = 120
SOCKETS = 16
# A slot is too short for all names of a large file: slots begin at different parts of it.
PARTS = 8
MANY = 100_000
# Interval of the upstream's reports.
TELL = "50ms"
# Contents of its reports: a flow is a source port, or a connection.
SEEN = ("queries", "flows")
# Modes whose answers are known before the first round.
KNOWN = ("hit", "zone", *FRONTS)
# Time for which each contestant is queried before the first round, to fill pools and caches.
WARM_SECONDS = 0.5


class Case:
    """One table: a mode under one set of conditions."""

    def __init__(self, mode, delay, upstreams, names, lengths, title):
        self.mode, self.delay, self.upstreams = mode, delay, upstreams
        self.names, self.lengths, self.title = names, lengths, title
        self.is_base, self.gso = False, {}

    def heading(self):
        parts = [self.mode, f"{self.names:,} names"]
        parts += [f"delay {self.delay}"] if self.delay != "0" else []
        parts += [f"{self.upstreams} upstreams"] if self.upstreams != 1 else []
        parts += ["equal lengths"] if self.lengths == "equal" else []
        return ", ".join(parts)

    def result(self, names, what):
        return {
            "name": self.heading(), "what": what, "mode": self.mode, "lengths": self.lengths,
            "is_base": self.is_base, "gso": self.gso, "notes": [], "names": names,
            "floor": "floor" if self.mode in judge.FLOORS else None, "closed": [], "half": [],
        }


class Contestant:
    """A contestant: a process, and the load parameters for it."""

    def __init__(self, process, port, outstanding, transport):
        self.process, self.port, self.outstanding = process, port, outstanding
        # Options of loadgen.
        self.transport = transport
        # Answers a second in each round so far.
        self.rates = []


def outstanding_of(mode, options):
    """Queries of the closed loop: one on each socket if each is a connection."""
    return SOCKETS if mode.endswith("handshakes") else options.outstanding


def transport(setting):
    """Options of loadgen for the transport of a contestant's clients."""
    if setting.mode == "tcp":
        return ["--tcp"]
    if not setting.scheme:
        return []
    words = ["--tcp", "--tls", "--doh"] if setting.scheme == "https" else ["--doq"]
    words += ["--tls-ca", str(setting.certificate)]
    if setting.mode.endswith("handshakes"):
        words += ["--per-connection", "1", "--pipeline", "1", "--no-resumption"]
    return words


class Upstreams:
    """`loadgen upstream`, and its counts of queries and flows."""

    def __init__(self, program, core, address, ports, delay, zone, authority):
        command = [program, "upstream", "--cores", str(core), "--tell", TELL, "--listen"]
        command += [f"{address}:{port}" for port in ports]
        command += ["--behave", f"delay={delay}"] if delay != "0" else []
        command += ["--zone", str(zone)] if zone else []
        command += ["--tls", str(authority)] if authority else []
        self.process = Process("upstream", command, str(core), subprocess.PIPE)
        self.seen = {}
        self.told = threading.Semaphore(0)
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        for line in self.process.child.stdout:
            with contextlib.suppress(ValueError):
                addresses = json.loads(line)["addresses"]
                self.seen = {what: sum(each[what] for each in addresses) for what in SEEN}
                self.told.release()

    def count(self):
        """The current counts: the next report is more recent than this call."""
        while self.told.acquire(blocking=False):
            pass
        for _ in range(2):
            self.told.acquire(timeout=SLOT_MAX)
        return self.seen

    def since(self, before):
        now = self.count()
        return {what: now[what] - before[what] for what in SEEN}


class Bench:
    """The environment of cases; leaving it ends all remaining processes."""

    # Listen address of forwarders, and address of their upstreams.
    address = upstream_address = LOOPBACK

    def __init__(self, programs, cores, directory, options):
        self.programs, self.directory, self.options = programs, directory, options
        self.forwarder_core, self.other_core = cores
        # Written by upstreams with TLS.
        self.authority = directory / "authority.pem"
        self.open = contextlib.ExitStack()
        self.serial = 0
        # Shown by forwarders with encrypted transports.
        self.certificate, self.key = directory / "certificate.pem", directory / "key.pem"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.open.close()

    def start(self, stack, name, command, cores, output=subprocess.DEVNULL):
        process = Process(name, command, cores, output)
        stack.callback(process.end)
        return process

    def upstreams(self, stack, count, delay, zone=None, secure=False):
        """Starts upstreams and returns their ports."""
        ports = free_ports(count)
        authority = self.authority if secure else None
        upstreams = Upstreams(
            self.programs["loadgen"], self.other_core, self.upstream_address, ports, delay, zone,
            authority)
        stack.callback(upstreams.process.end)
        fault = upstreams.process.wait_until_ready(ports[0], self.upstream_address)
        if fault:
            raise SystemExit(f"the upstream: {fault}")
        return ports, upstreams

    def place(self, name):
        """A directory of its own."""
        self.serial += 1
        path = self.directory / f"{self.serial}-{name.replace(' ', '-').replace('/', '-')}"
        path.mkdir()
        return path

    def setting(self, name, mode, ports, names):
        cores = str(self.forwarder_core)
        return Setting(
            mode, self.port(), ports, self.place(name), cores, names, authority=self.authority,
            zone_file=self.directory / "served.zone",
            address=self.address, upstream_address=self.upstream_address,
            front=self.port() if mode in FRONTS else 0, certificate=self.certificate, key=self.key)

    @staticmethod
    def port():
        """A free port for a forwarder."""
        return free_ports(1)[0]

    def contestant(self, stack, name, setting, starter):
        """Starts a contestant; raises CannotDo with the reason if that fails."""
        command = starter(setting)
        process = self.start(stack, name, command, setting.cores)
        fault = process.wait_until_ready(setting.port, self.address)
        if fault:
            raise CannotDo(fault)
        port = setting.front if setting.scheme else setting.port
        outstanding = outstanding_of(setting.mode, self.options)
        return Contestant(process, port, outstanding, transport(setting))

    def play(self, case, everybody):
        """Runs a case from its first process to its last."""
        say(f"{case.heading()}")
        with contextlib.ExitStack() as stack:
            files = self.question_files(case)
            zone = self.zone() if case.mode in KNOWN else None
            if case.mode in FRONTS:
                machine.certify(self.certificate, self.key)
            if case.mode == "zone":
                served = queries.served_zone(case.names, case.lengths)
                (self.directory / "served.zone").write_text(served)
            ports, upstreams = self.upstreams(
                stack, case.upstreams, case.delay, zone, secure=case.mode == "dot")
            outstanding = outstanding_of(case.mode, self.options)
            result = case.result([], case.title + f", {outstanding} outstanding.")
            taking_part = {}
            for name, starter in everybody.items():
                try:
                    setting = self.setting(name, case.mode, ports, case.names)
                    taking_part[name] = self.contestant(stack, name, setting, starter)
                except CannotDo as reason:
                    say(f"  {name} is not measured: {reason}")
                    result["notes"].append(f"{name} is not measured: {reason}")
            self.play_rounds(taking_part, files, zone, upstreams, result)
            return result

    def zone(self):
        path = self.directory / "zone"
        path.write_text(queries.zone_file())
        return path

    def question_files(self, case):
        """The files of the rounds, in turn."""
        messages = queries.queries(case.names, case.lengths, self.types(case))
        messages = queries.shuffled(list(messages))
        parts = PARTS if case.names >= MANY and case.mode == "hit" else 1
        directory = self.place("queries")
        files = [directory / str(part) for part in range(parts)]
        for part, path in enumerate(files):
            queries.write_rotated(path, messages, part, parts)
        return files

    @staticmethod
    def types(case):
        mixed = case.mode not in KNOWN and case.lengths == "spread"
        return "mixed" if mixed else "addresses"

    def play_rounds(self, taking_part, files, zone, upstreams, result):
        """Queries all contestants in turn, in a rotated order in each round."""
        names = result["names"] = list(taking_part)
        for name in names:
            self.warm(taking_part[name], files[0], zone, result["mode"])
        for number in range(self.options.rounds):
            path = files[number % len(files)]
            turned = names[number % len(names):] + names[:number % len(names)]
            closed, half = {}, {}
            for name in turned:
                one = taking_part[name]
                before = upstreams.count()
                closed[name] = self.closed(one, path, zone)
                since = upstreams.since(before)
                closed[name] |= {"upstream": since["queries"], "flows": since["flows"]}
                one.rates.append(closed[name]["rate"])
                if self.options.half_seconds > 0:
                    half[name] = self.half(one, path, zone)
                say(f"  {number + 1}: {name:<24} {closed[name]['cpu_us'] or 0:8.2f} µs "
                    f"{closed[name]['rate']:9.0f}/s  lost {closed[name]['lost']}")
            result["closed"].append(closed)
            if half:
                result["half"].append(half)
        if result["mode"] == "hit" or result["mode"] in FRONTS:
            result["notes"] += missed(result)
        if result["mode"] == "dot":
            result["notes"] += dialled(result)

    def warm(self, one, path, zone, mode):
        """Queries every name once if answers are cached; otherwise for a moment."""
        how = ["--passes", "1"] if mode in KNOWN else ["--seconds", str(WARM_SECONDS)]
        # With as many outstanding as later if connections must stay open: otherwise some would open
        # then.
        outstanding = one.outstanding if mode == "dot" or mode in FRONTS else 64
        self.ask(one, path, zone, ["--closed", str(outstanding), *how])

    def closed(self, one, path, zone):
        load = ["--closed", str(one.outstanding), "--seconds", str(self.options.seconds)]
        return self.ask(one, path, zone, load)

    def half(self, one, path, zone):
        rate = max(100, int(judge.middle(one.rates) / 2))
        load = ["--rate", str(rate), "--seconds", str(self.options.half_seconds)]
        return self.ask(one, path, zone, load)

    def ask(self, one, path, zone, load):
        """Runs one slot."""
        command = [self.programs["loadgen"], "run", "--server", f"{self.address}:{one.port}", *load]
        command += ["--queries-binary", str(path), "--sockets", str(SOCKETS), "--quiet"]
        command += ["--cores", str(self.other_core), "--pid", str(one.process.pid), "--json", "-"]
        command += ["--verify-zone", str(zone)] if zone else ["--verify"]
        command += one.transport
        # Its exit code is ignored, because its counts are judged.
        told = subprocess.run(command, capture_output=True, timeout=SLOT_MAX, check=False)
        try:
            return judge.slot(json.loads(told.stdout))
        except ValueError:
            raise SystemExit(f"{one.process.name}: {told.stderr.decode(errors='replace')}") from None


def missed(result):
    """Contestants that sent upstream queries although every name was cached."""
    for name in result["names"]:
        asked = sum(each[name]["upstream"] for each in result["closed"])
        sent = sum(each[name]["sent"] for each in result["closed"])
        if name != "floor" and asked > sent / 1000:
            yield f"{name} sent {asked:,} of {sent:,} queries to its upstream: those are not cache hits."


def dialled(result):
    """Contestants that opened connections during slots: a handshake costs as much as many queries."""
    for name in result["names"]:
        opened = sum(each[name]["flows"] for each in result["closed"])
        asked = sum(each[name]["upstream"] for each in result["closed"])
        yield f"{name} opened {opened:,} connections during the measurement, for {asked:,} queries."
