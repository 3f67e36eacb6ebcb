"""Results as Markdown; the same data is available as JSON. Pure."""

from judge import summary, verdicts


def markdown(result):
    """The whole report: command and host, a table per case, the targets."""
    head = [f"# {result['title']}", "", *facts(result), ""]
    for case in result["cases"]:
        head += [f"## {case['name']}", "", case["what"], "", *case_table(case), ""]
        head += [f"* {note}" for note in case["notes"]] + [""] * bool(case["notes"])
    return "\n".join(head + ["## Targets", "", *verdict_table(result["cases"]), ""])


def facts(result):
    return [
        f"    {result['command']}",
        "",
        f"{result['date']}, {result['host']}. {result['versions']}.",
        "",
        "«µs a query» is the CPU time of the forwarder's processes per answer, user and kernel mode. "
        "«× floor» is the ratio to the floor in the same round, as median (lowest … highest). "
        "All other values are medians of the rounds. Latencies and «µs a query at half» are from an "
        "open loop at half of the program's own closed-loop rate. Every answer was verified.",
    ]


COLUMNS = (
    ("", lambda row: row["name"]),
    ("µs a query", lambda row: number(row["cpu_us"], 2)),
    ("× floor", lambda row: interval(row)),
    ("answers/s", lambda row: number(row["rate"], 0)),
    ("p50 µs", lambda row: number(row["p50_us"], 0)),
    ("p99 µs", lambda row: number(row["p99_us"], 0)),
    ("p99.9 µs", lambda row: number(row["p999_us"], 0)),
    ("µs a query at half", lambda row: number(row["half_cpu_us"], 2)),
    ("lost", lambda row: losses(row)),
    ("peak MB", lambda row: number(row["memory"] and row["memory"] / 1e6, 1)),
    ("rounds", lambda row: str(row["rounds"])),
)


def case_table(case):
    rows = sorted(summary(case), key=lambda row: (row["cpu_us"] is None, row["cpu_us"]))
    columns = [column for column in COLUMNS if case["half"] or not is_of_half(column[0])]
    columns = [column for column in columns if case["floor"] or column[0] != "× floor"]
    lines = [[title for title, _ in columns]]
    lines += [[show(row) for _, show in columns] for row in rows]
    return rendered(lines)


def is_of_half(title):
    return title.startswith("p50") or title.startswith("p99") or title.endswith("half")


def rendered(lines):
    """Lines of cells as a table: the first is the head, the first column is text."""
    widths = len(lines[0])
    rule = "|---|" + "---:|" * (widths - 1)
    text = ["| " + " | ".join(line) + " |" for line in lines]
    return [text[0], rule, *text[1:]]


def number(value, digits):
    return "-" if value is None else f"{value:,.{digits}f}"


def interval(row):
    if row["ratio"] is None:
        return "-"
    return f"{row['ratio']:.3f} ({row['ratio_low']:.2f} … {row['ratio_high']:.2f})"


def losses(row):
    return f"{row['lost']:,}" + (f" of {row['sent']:,}" if row["lost"] else "")


def verdict_table(cases):
    found = verdicts(cases)
    if not found:
        return ["This run has no target."]
    lines = [["target", "case", "who", "measured", "at most", "met"]]
    for each in found:
        large = each["limit"] >= 100 or each["limit"] == 0
        digits = 0 if large else 3
        met = "yes" if each["met"] else "**no**"
        met += "" if each["enough"] else ", of few rounds"
        measured, limit = number(each["measured"], digits), number(each["limit"], 0 if large else 2)
        lines.append([each["what"], each["case"], each["who"], measured, limit, met])
    return rendered(lines)
