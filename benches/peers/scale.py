"""Comparison of the cost per query between small and large settings of onward.

Each kind has a small and a large setting, which are queried in turn like any contestants; the
result is the median ratio of their costs. Both run at the same time, one idle while the other is
queried. With several upstreams each gets fewer queries at a time, which costs more in any program:
the floor, which has a small and a large setting there, too, shows how much of it is unavoidable.
"""

import contextlib
import resource

import forwarders
import judge
import queries
from forwarders import CannotDo
from machine import say
from rounds import Case

ZONES = 10_000
CONNECTIONS = 10_000
# Descriptors besides those of connections.
OTHER_FILES = 500
NAMES = 100_000
CACHED = 1_000_000
# Ports are used in turn, and none must expire between two of its queries.
KEPT = ["expire 600s", "max_inflight 64"]


def workers(bench, ports, small):
    """Both may use both cores: they differ in the number of workers."""
    setting = bench.setting("workers", "udp", ports, NAMES)
    setting.cores = str(bench.forwarder_core) if small else f"{bench.forwarder_core},{bench.other_core}"
    return setting


def connections(bench, ports, small):
    setting = bench.setting("connections", "udp", ports, NAMES)
    count = 10 if small else most_connections()
    setting.lines = [f"spread {count}", f"max_conns {count}", *KEPT]
    return setting


def most_connections():
    """Number of connections, which the descriptor limit of the host may reduce."""
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(CONNECTIONS, (files - OTHER_FILES) // 2)


def cached(bench, ports, small):
    return bench.setting("cached", "hit", ports, 1_000 if small else CACHED)


def zones(bench, ports, small):
    setting = bench.setting("zones", "udp", ports, NAMES)
    setting.zones = zone_names(1 if small else ZONES)
    return setting


def upstreams(bench, ports, small):
    return bench.setting("upstreams", "udp", ports[:1] if small else ports, NAMES)


def zone_names(count):
    return [f"zone{number:05}.{queries.ZONE}" for number in range(count)]


# For each kind: its settings, the two names, and the number of upstreams.
KINDS = {
    "workers": (workers, ("1 worker", "2 workers"), 1),
    "connections": (connections, ("10 connections", "{connections:,} connections"), 1),
    "cached": (cached, ("1,000 cached names", "1,000,000 cached names"), 1),
    "zones": (zones, ("1 zone", "10,000 zones"), 1),
    "upstreams": (upstreams, ("1 upstream", "15 upstreams"), 15),
}


def contestants(bench, kind):
    """Contestants by name: small or large, and start function."""
    _, names, _ = KINDS[kind]
    small, large = (name.format(connections=most_connections()) for name in names)
    own = lambda setting: forwarders.onward(setting, bench.programs["onward"])
    everybody = {small: (True, own), large: (False, own)}
    if kind == "upstreams":
        floor = lambda setting: forwarders.floor(setting, bench.programs["floor"], gso=True)
        everybody |= {f"floor, {small}": (True, floor), f"floor, {large}": (False, floor)}
    return everybody


def play(bench, kind, options):
    """Runs one kind as a case."""
    say(f"scale, {kind}")
    everybody, (_, _, count) = contestants(bench, kind), KINDS[kind]
    names = list(everybody)
    mode = "hit" if kind == "cached" else "udp"
    case = Case(mode, "0", count, NAMES, "spread", "")
    result = case.result(names, f"onward with {names[0]} and with {names[1]}.")
    result |= {"name": f"scale, {kind}", "mode": "scale", "floor": None}
    try:
        play_all(bench, kind, everybody, options, result, mode)
        result["notes"] += floors(result)
    except CannotDo as reason:
        say(f"  left out: {reason}")
        result["notes"].append(f"left out: {reason}")
    return result


def floors(result):
    """The floor's cost of the larger setting."""
    _, _, *floor = result["names"]
    growth = judge.middle(judge.ratios(result["closed"], *reversed(floor))) if floor else None
    if growth is not None:
        yield (f"The floor's cost is {growth:.3f} times its cost with one upstream, if the floor sends "
               "datagrams of equal length as one batch.")


def play_all(bench, kind, everybody, options, result, mode):
    """Queries the small and the large contestants in turn."""
    set_up, _, count = KINDS[kind]
    names = result["names"]
    with contextlib.ExitStack() as stack:
        zone = bench.zone() if mode == "hit" else None
        ports, _ = bench.upstreams(stack, count, "0", zone)
        taking_part, files = {}, {}
        for name, (small, starter) in everybody.items():
            setting = set_up(bench, ports, small)
            one = bench.contestant(stack, name, setting, starter)
            if kind == "workers" and not small:
                # Each worker has the same load as the single one.
                one.outstanding *= 2
            taking_part[name] = one
            files[name] = questions(bench, kind, setting)
        for name in names:
            warm(bench, taking_part[name], files[name][0], zone, kind)
        for number in range(options.rounds):
            turned = names if number % 2 == 0 else names[::-1]
            closed = {}
            for name in turned:
                path = files[name][number % len(files[name])]
                closed[name] = bench.closed(taking_part[name], path, zone)
                say(f"  {number + 1}: {name:<24} {closed[name]['cpu_us'] or 0:8.2f} µs "
                    f"{closed[name]['rate']:9.0f}/s  lost {closed[name]['lost']}")
            result["closed"].append(closed)


def questions(bench, kind, setting):
    """Files of names: of the routed zones, or as many as are cached."""
    case = Case(setting.mode, "0", 1, setting.names, "spread", "")
    if kind != "zones":
        return bench.question_files(case)
    path = bench.place("queries") / "zones"
    queries.write(path, setting.names, "spread", "mixed", setting.zones)
    return [path]


def warm(bench, one, path, zone, kind):
    """Queries until pools and caches are full."""
    if kind == "connections":
        # Small batches, each of which dials another port.
        bench.ask(one, path, zone, ["--closed", "16", "--seconds", "4"])
    bench.warm(one, path, zone, "hit" if zone else "udp")
