"""Results as Markdown. Pure."""

import judge
import table

FACTS = """\
The network is a pair of veth devices between two namespaces, with GRO on, UDP segmentation off, and
a kernel thread for each end on the core of that end. «core» is the whole busy time of the
forwarder's core in ticks, including kernel threads, interrupts and everything else that ran there.
«process» and «receiving thread» are the CPU times that the scheduler counts. All values are per
answer and medians of the rounds. The ratio is that of «core» to the floor in the same round, as
median (lowest … highest); with one query outstanding, it is that of the median latency. Every
answer was verified."""

COSTS = (
    ("", lambda row: row["name"]),
    ("core, µs", lambda row: table.number(row["core_us"], 2)),
    ("× floor", lambda row: table.interval(row)),
    ("process, µs", lambda row: table.number(row["cpu_us"], 2)),
    ("receiving thread, µs", lambda row: table.number(row["thread_us"], 2)),
    ("answers/s", lambda row: table.number(row["rate"], 0)),
    ("lost", lambda row: table.losses(row)),
    ("rounds", lambda row: str(row["rounds"])),
)
POLLS = (
    ("", lambda row: row["name"]),
    ("p50, µs", lambda row: table.number(row["p50_us"], 1)),
    ("p99, µs", lambda row: table.number(row["p99_us"], 1)),
    ("× p50 of the first", lambda row: table.interval(row)),
    ("answers/s", lambda row: table.number(row["rate"], 0)),
    ("core busy", lambda row: table.number(row["busy"] and row["busy"] * 100, 0) + " %"),
    ("core, µs", lambda row: table.number(row["core_us"], 1)),
    ("lost", lambda row: table.losses(row)),
    ("rounds", lambda row: str(row["rounds"])),
)
MEDIANS = ("core_us", "cpu_us", "thread_us", "rate", "p50_us", "p99_us", "busy")


def markdown(result):
    head = [f"# {result['title']}", "", f"    {result['command']}", ""]
    head += [f"{result['date']}, {result['host']}. {result['versions']}.", ""]
    head += [" ".join(FACTS.split("\n")), ""]
    for case in result["cases"]:
        head += [f"## {case['name']}", "", case["what"], "", *case_table(case), ""]
        head += [f"* {note}" for note in case["notes"]] + [""] * bool(case["notes"])
    return "\n".join(head)


def case_table(case):
    columns = POLLS if case["mode"] == "poll" else COSTS
    lines = [[title for title, _ in columns]]
    lines += [[show(row) for _, show in columns] for row in summary(case)]
    return table.rendered(lines)


def summary(case):
    """A row for each contestant, in the order of their names."""
    compared = "p50_us" if case["mode"] == "poll" else "core_us"
    for name in case["names"]:
        slots = [each[name] for each in case["closed"]]
        against = judge.ratios(case["closed"], name, case["floor"], compared)
        row = {what: judge.middle([slot.get(what) for slot in slots]) for what in MEDIANS}
        yield row | {
            "name": name,
            "rounds": len(slots),
            "ratio": judge.middle(against),
            "ratio_low": min(against, default=None),
            "ratio_high": max(against, default=None),
            "sent": sum(slot["sent"] for slot in slots),
            "lost": sum(slot["lost"] for slot in slots),
        }


def nothing_lost(cases):
    """True if every query of every case had a right answer."""
    return not any(row["lost"] for case in cases for row in summary(case))
