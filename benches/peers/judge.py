"""Evaluation of rounds, and of the targets. Pure.

A round has the output of `loadgen run --json` for each slot. Costs are compared within rounds,
because other activity of the host affects all contestants of a round; the result is the median
over the rounds, so that a single bad round has no effect.
"""

from statistics import median

MEMORY_MAX = 10_000_000
ROUNDS_MIN = 5
GROWTH_MAX = 1.10

# Modes with a floor, and the program that is it.
FLOORS = {"udp": "relay", "hit": "responder", "zone": "responder"}
# Modes compared with the best peer, with the allowed ratio of costs.
AGAINST_PEERS = {
    "tcp": ("TCP to TCP", 0.50),
    "dot": ("UDP to TLS", 0.50),
    "doh": ("cache hits over HTTPS", 0.50),
    "doh-handshakes": ("connections over HTTPS with one query each", 1.00),
    "zone": ("answers from a zone", 1.00),
}
OWN = "onward"
# onward with the same answers in its cache, in the mode `zone`, and the allowed ratio to it.
CACHED = f"{OWN} cached"
CACHED_PART = 1.20


def slot(told):
    """The figures of one slot, from loadgen's JSON."""
    counts, latency, server = told["counts"], told["latency"] or {}, told["server"] or {}
    failed = counts["timed_out"] + counts["lost"] + counts["wrong"] + counts["unfinished"]
    bad = sum(count for code, count in counts["rcodes"].items() if code not in ("NOERROR", "NXDOMAIN"))
    per_answer = server.get("processor_per_answer")
    return {
        "cpu_us": None if per_answer is None else per_answer * 1e6,
        "rate": told["rate_answered"],
        "p50_us": micros(latency.get("p50")),
        "p99_us": micros(latency.get("p99")),
        "p999_us": micros(latency.get("p99.9")),
        "sent": counts["sent"],
        "answered": counts["answered"],
        "lost": failed + bad + counts["mismatched"] + counts["stray"],
        "memory": server.get("memory_peak"),
        "behind": counts["behind"] + counts["unsent"],
    }


def micros(seconds):
    return None if seconds is None else seconds * 1e6


def middle(values):
    values = [value for value in values if value is not None]
    return median(values) if values else None


def ratios(rounds, name, base, cost="cpu_us"):
    """The cost of `name` relative to that of `base`, in each round that has both."""
    pairs = [(each.get(name), each.get(base)) for each in rounds]
    return [a[cost] / b[cost] for a, b in pairs if a and b and a[cost] and b[cost]]


def summary(case):
    """A row for each contestant: medians, ratios to the floor, losses."""
    rows = []
    for name in case["names"]:
        closed = [each[name] for each in case["closed"] if name in each]
        half = [each[name] for each in case["half"] if name in each]
        against = ratios(case["closed"], name, case["floor"]) if case["floor"] else []
        every = closed + half
        rows.append({
            "name": name,
            "rounds": len(closed),
            "cpu_us": middle([each["cpu_us"] for each in closed]),
            "ratio": middle(against),
            "ratio_low": min(against, default=None),
            "ratio_high": max(against, default=None),
            "rate": middle([each["rate"] for each in closed]),
            "half_rate": middle([each["rate"] for each in half]),
            "half_cpu_us": middle([each["cpu_us"] for each in half]),
            "p50_us": middle([each["p50_us"] for each in half]),
            "p99_us": middle([each["p99_us"] for each in half]),
            "p999_us": middle([each["p999_us"] for each in half]),
            "sent": sum(each["sent"] for each in every),
            "lost": sum(each["lost"] for each in every),
            "memory": max((each["memory"] or 0 for each in every), default=None),
        })
    return rows


def row(case, name):
    return next((each for each in summary(case) if each["name"] == name), None)


def is_own(name):
    return name == OWN or name.startswith(OWN + " ")


def best_peer(rows, floor):
    """The cheapest of the other forwarders with negligible losses, or none."""
    others = [each for each in rows if not is_own(each["name"]) and each["name"] != floor]
    sound = [each for each in others if each["cpu_us"] and each["lost"] <= each["sent"] / 1000]
    return min(sound, key=lambda each: each["cpu_us"], default=None)


def limit_of(case, name):
    """The limit of onward's cost relative to the floor's, and its reason."""
    mode, gso = case["mode"], case["gso"].get(name, False)
    if mode == "hit":
        return 1.05, "cache hit, against the bare responder"
    if mode != "udp":
        return None
    if not gso:
        return 1.08, "forward UDP, against the bare relay"
    if case["lengths"] == "equal":
        return 0.92, "forward UDP with GSO, names of one length, against the bare relay"
    return 1.00, "forward UDP with GSO, names of many lengths, against the bare relay"


def verdicts(cases):
    """Every target that the cases cover: what, where, measured, limit, met or not."""
    found = []
    for case in cases:
        if case["mode"] == "scale":
            found += scale_verdicts(case)
            continue
        rows = summary(case)
        for own in (each for each in rows if is_own(each["name"])):
            limit = limit_of(case, own["name"]) if case["is_base"] else None
            if limit and own["ratio"] is not None:
                found.append(verdict(limit[1], case, own, own["ratio"], limit[0]))
            if case["mode"] in AGAINST_PEERS and case["is_base"] and own["name"] != CACHED:
                best = best_peer(rows, case["floor"])
                if best and own["cpu_us"]:
                    mode, limit = AGAINST_PEERS[case["mode"]]
                    what = f"{mode}, against the best peer ({best['name']})"
                    part = own["cpu_us"] / best["cpu_us"]
                    found.append(verdict(what, case, own, part, limit))
            to_cached = ratios(case["closed"], own["name"], CACHED)
            if to_cached and case["is_base"] and own["name"] != CACHED:
                what = "answer from a zone, against a cache hit"
                found.append(verdict(what, case, own, middle(to_cached), CACHED_PART))
            if case["is_base"] and own["memory"] and case["mode"] != "zone":
                what = "peak memory of one worker, bytes"
                found.append(verdict(what, case, own, own["memory"], MEMORY_MAX))
            if own["lost"]:
                found.append(verdict("queries without a right answer", case, own, own["lost"], 0))
    return found


def verdict(what, case, own, measured, limit):
    return {
        "what": what,
        "case": case["name"],
        "who": own["name"],
        "measured": measured,
        "limit": limit,
        "met": measured <= limit,
        # Fewer rounds are not significant, either way.
        "enough": own["rounds"] >= ROUNDS_MIN,
    }


def holds(cases):
    """True unless a target with enough rounds is missed."""
    found = verdicts(cases)
    return all(each["met"] or not (each["enough"] or each["limit"] == 0) for each in found)


def scale_verdicts(case):
    """In a scale case the first two contestants are onward: small and large."""
    small, large, *_ = case["names"]
    growth = middle(ratios(case["closed"], large, small))
    if growth is None:
        return []
    own = row(case, large)
    found = [verdict(f"cost of a query, {large} against {small}", case, own, growth, GROWTH_MAX)]
    if own["lost"]:
        found.append(verdict("queries without a right answer", case, own, own["lost"], 0))
    return found
