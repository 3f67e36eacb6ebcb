"""Contestants and loads of the lab, and measurement of the core.

Cases, processes and rounds are those of benches/peers. In addition, the busy time of the
forwarder's whole core, and of the thread that receives for it, is read around each slot. The mode
`poll` has its own client, with one query outstanding, so that its latencies are mere round trips.
"""

import contextlib
import socket
import struct
import time
from pathlib import Path

import forwarders
import judge
import queries
import rounds
from lab import FORWARDER, HANDED_OVER, OTHERS, busy_seconds
from machine import say

# The first of the forwarders' ports: nothing else runs in their namespace.
PORT = 5300
# Number of names for a polling forwarder, all of which are cached when hits are measured.
POLL_NAMES = 1_000
# Time in seconds after which an answer is lost.
ANSWER_MAX = 1
HEADER = struct.Struct("!6H")
RESPONSE, CODE = 0x8000, 0x000F
MICROS = 1e6
PERCENTILES = (("p50_us", 0.5), ("p99_us", 0.99))


class Card(rounds.Bench):
    """The bench, in the lab."""

    address, upstream_address = FORWARDER, OTHERS

    def __init__(self, lab, *words):
        super().__init__(*words)
        self.lab = lab

    def start(self, stack, name, command, *words):
        return super().start(stack, name, self.lab.forwarder.exec(*command), *words)

    def port(self):
        return PORT + self.serial

    def worked(self):
        """Seconds of work of the forwarder's core and of the thread that receives for it."""
        core = busy_seconds(Path("/proc/stat").read_text(), self.forwarder_core)
        return core, self.lab.forwarder.received_seconds()

    def closed(self, one, path, zone):
        before = self.worked()
        slot = super().closed(one, path, zone)
        return slot | per_answer(before, self.worked(), slot["answered"])

    def polling(self, mode, waits, handed_over, program):
        """onward with this busy-poll time, and a client with one query at a time."""
        names = [f"busy-poll {wait}" for wait in waits]
        case = rounds.Case(mode, "0", 1, POLL_NAMES, "spread", "")
        what = f"One query outstanding; {HANDED_OVER[handed_over]}."
        result = case.result(names, what) | {"mode": "poll", "floor": names[0]}
        result["name"] = f"poll, {mode}, {handed_over}"
        say(result["name"])
        self.lab.hand_over(handed_over)
        with contextlib.ExitStack() as stack:
            zone = self.zone() if mode == "hit" else None
            [path] = self.question_files(case)
            ports, _ = self.upstreams(stack, 1, "0", zone)
            taking_part = {}
            for name, wait in zip(names, waits):
                setting = self.setting(name, mode, ports, POLL_NAMES)
                setting.flags = ["--busy-poll", str(wait)]
                one = self.contestant(stack, name, setting,
                                      lambda each: forwarders.onward(each, program))
                self.warm(one, path, zone, mode)
                taking_part[name] = one
            messages = list(queries.queries(POLL_NAMES, "spread", self.types(case)))
            for number in range(self.options.rounds):
                turned = names[number % len(names):] + names[:number % len(names)]
                found = {name: self.one_by_one(taking_part[name], messages) for name in turned}
                result["closed"].append(found)
                for name, slot in found.items():
                    say(f"  {number + 1}: {name:<24} p50 {slot['p50_us'] or 0:7.1f} µs  "
                        f"busy {slot['busy']:5.1%}  lost {slot['lost']}")
        return result

    def one_by_one(self, one, messages):
        before, start = self.worked(), time.monotonic()
        latencies, lost = ask((self.address, one.port), messages, self.options.seconds)
        took, after = time.monotonic() - start, self.worked()
        answered = len(latencies)
        return percentiles(latencies) | {
            "busy": (after[0] - before[0]) / took, "rate": answered / took,
            "sent": answered + lost, "answered": answered, "lost": lost,
        } | per_answer(before, after, answered)


def contestants(program, floor):
    """Contestants of the modes udp and hit."""

    def onward(*flags):
        def start(setting):
            setting.flags = list(flags)
            return forwarders.onward(setting, program)
        return start

    return {
        "floor": lambda setting: forwarders.floor(setting, floor),
        f"{judge.OWN} --gso off": onward("--gso", "off"),
        judge.OWN: onward(),
    }


def per_answer(before, after, answered):
    """µs of the core, and of the receiving thread, per answer."""
    core, thread = (b - a for a, b in zip(before, after))
    each = MICROS / answered if answered else None
    return {"core_us": each and core * each, "thread_us": each and thread * each}


def percentiles(latencies):
    """Percentiles in µs of latencies in seconds."""
    ordered = sorted(latencies)
    at = lambda part: ordered[min(len(ordered) - 1, int(part * len(ordered)))] * MICROS
    return {name: at(part) if ordered else None for name, part in PERCENTILES}


def ask(address, messages, seconds):
    """Sends one query after the other for this time; returns the latencies and the number of
    missing or invalid answers."""
    latencies, lost, number = [], 0, 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        # A timeout of Python's would cost another system call per answer.
        asker.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", ANSWER_MAX, 0))
        asker.connect(address)
        until = time.perf_counter() + seconds
        while (start := time.perf_counter()) < until:
            query = with_id(messages[number % len(messages)], number & 0xFFFF)
            number += 1
            try:
                asker.send(query)
                answer = asker.recv(4096)
            except OSError:
                answer = b""
            took = time.perf_counter() - start
            if is_answer(query, answer):
                latencies.append(took)
            else:
                lost += 1
    return latencies, lost


def with_id(message, number):
    return struct.pack("!H", number) + message[2:]


def is_answer(query, answer):
    """True if it has the query's ID and question, and an answer."""
    if len(answer) < len(query) - queries.OPT_LEN:
        return False
    number, flags, questions, records, _, _ = HEADER.unpack_from(answer)
    question = slice(HEADER.size, len(query) - queries.OPT_LEN)
    asked = number == HEADER.unpack_from(query)[0] and answer[question] == query[question]
    good = flags & RESPONSE and not flags & CODE and questions == 1 and records >= 1
    return asked and bool(good)
