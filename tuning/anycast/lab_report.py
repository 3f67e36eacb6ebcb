"""What the lab has seen, as numbers, text and a page with a plot. Nothing is measured here."""

import datetime
import html
import json
import os
import platform

from lab_site import HOSTS_MAX, STRETCH

COLOURS = ["#3b7dd8", "#e0883a", "#4f9d69", "#8e63b8"]
LEAVES = {"drain", "kill", "freeze"}
COMES = {"start", "thaw", "add"}


def outcome(site, events, options):
    """All numbers, from which the rest is written."""
    routes = [(at - site.begun, sorted(hosts)) for at, hosts in site.routes]
    ends = [event["at"] for event in events[1:]] + [site.samples[-1][0]]
    judged = [judge(event, end, routes, site.open, site.closed, options.clients)
              for event, end in zip(events, ends)]
    failed = [event for event in judged if not event["ok"]]
    return {
        "ok": not failed,
        "made": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "host": f"{platform.system()} {platform.release()}, {os.cpu_count()} cores",
        "command": "tuning/anycast/lab" + command(options),
        "rate": options.rate,
        "clients": options.clients,
        "timeout": options.timeout,
        "counts": {"open": brief(site.open), "closed": brief(site.closed)},
        "events": judged,
        "routes": routes,
        "answers": rates(site.samples),
        "losses": losses(site.open),
    }


def command(options):
    default = {"rate": 1500, "clients": 32, "timeout": "2s"}
    words = [f" --{name} {getattr(options, name)}" for name in default
             if getattr(options, name) != default[name]]
    return "".join(words)


def brief(run):
    keys = ("sent", "answered", "timed_out", "lost", "late", "refused", "mismatched")
    return {key: run["counts"][key] for key in keys}


def judge(event, end, routes, open_loop, closed, clients):
    """When the router followed, what was lost until then and after, and whether that may be."""
    host, at = event["host"], event["at"]
    leaves = event["what"] in LEAVES
    followed = next((when for when, hosts in routes
                     if at <= when < end and (host in hosts) != leaves), None)
    found = dict(event, followed=None if followed is None else followed - at)
    border = end if followed is None else followed
    # What was under way belongs to the event, and so does the stretch in which the router followed.
    stretch = open_loop["stretch"]
    at, end = at - 2 * stretch, end - 2 * stretch
    before = failed(open_loop, at, border + stretch)
    after = failed(open_loop, border + stretch, end)
    per_client = failed(closed, at, end)
    found.update(lost_before=before, lost_after=after, timeouts_of_clients=per_client)
    allowed_before = event["what"] in {"kill", "freeze"}
    # A client waits for its answer longer than the withdrawal takes: it loses one, or none.
    found["ok"] = (followed is not None and after == 0 and (allowed_before or before == 0)
                   and per_client <= clients)
    return found


def failed(run, since, until):
    """Queries without a good answer that left within a time, by stretches of a tenth of a second."""
    return sum(piece["failed"] for piece in run["series"] if since <= piece["start"] < until)


def losses(run):
    return [(piece["start"], piece["failed"]) for piece in run["series"] if piece["failed"]]


def rates(samples):
    """Answers a second of each host between each two looks."""
    found = []
    for (earlier, before), (later, now) in zip(samples, samples[1:]):
        span = later - earlier
        found.append((round((earlier + later) / 2, 3),
                      [round((b - a) / span) for a, b in zip(before, now)]))
    return found


def table(outcome):
    rows = []
    for event in outcome["events"]:
        followed = event["followed"]
        rows.append((
            f"{event['at']:.1f} s",
            event["words"],
            "never" if followed is None else f"{followed * 1000:.0f} ms",
            str(event["lost_before"]),
            str(event["lost_after"]),
            str(event["timeouts_of_clients"]),
            "ok" if event["ok"] else "NOT as expected",
        ))
    return rows


HEADS = ("time", "event", "router changes its route after", "lost until then", "lost after that",
         "time-outs of the clients", "")


def text(outcome):
    rows = [HEADS, *table(outcome)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADS))]
    lines = ["  ".join(word.ljust(width) for word, width in zip(row, widths)).rstrip()
             for row in rows]
    for name, counts in outcome["counts"].items():
        lines.append(f"{name} loop: " + ", ".join(f"{key} {value}"
                                                  for key, value in counts.items() if value))
    return "\n".join(lines)


# ------------------------------------------------------------------------------------- the page

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 960, 340, 52, 54, 30


def svg(outcome):
    """Answers per second of each host, stacked; losses below; events as lines."""
    answers = outcome["answers"]
    last = answers[-1][0]
    most = max(sum(counts) for _, counts in answers) * 1.08
    across = lambda at: LEFT + (WIDTH - LEFT - 10) * at / last
    up = lambda rate: HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * rate / most
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
             'font-family="sans-serif" font-size="11">',
             f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>']
    step = next(step for step in (100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000)
                if most / step < 7)
    for rate in range(0, int(most) + 1, step):
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - 10}" y1="{up(rate):.1f}" '
                     f'y2="{up(rate):.1f}" stroke="#ddd"/><text x="{LEFT - 6}" '
                     f'y="{up(rate) + 4:.1f}" text-anchor="end" fill="#555">{rate:,}</text>')
    for second in range(0, int(last) + 1, 5):
        parts.append(f'<text x="{across(second):.1f}" y="{HEIGHT - 10}" text-anchor="middle" '
                     f'fill="#555">{second} s</text>')
    base = [0] * len(answers)
    for host in range(HOSTS_MAX):
        top = [below + counts[host] for below, (_, counts) in zip(base, answers)]
        upper = [f"{across(at):.1f},{up(rate):.1f}" for (at, _), rate in zip(answers, top)]
        lower = [f"{across(at):.1f},{up(rate):.1f}" for (at, _), rate in zip(answers, base)]
        parts.append(f'<polygon points="{" ".join(upper + lower[::-1])}" '
                     f'fill="{COLOURS[host]}" fill-opacity="0.85"/>')
        parts.append(f'<rect x="{LEFT + 90 * host}" y="8" width="10" height="10" '
                     f'fill="{COLOURS[host]}"/><text x="{LEFT + 14 + 90 * host}" y="17">'
                     f'host {host + 1}</text>')
        base = top
    for at, count in outcome["losses"]:
        height = min(40, 6 + count / 4)
        parts.append(f'<rect x="{across(at):.1f}" y="{HEIGHT - BOTTOM - height:.1f}" width="2" '
                     f'height="{height:.1f}" fill="#c00"><title>{count} lost at {at:.1f} s'
                     '</title></rect>')
    parts.append(f'<rect x="{LEFT + 90 * HOSTS_MAX}" y="8" width="10" height="10" fill="#c00"/>'
                 f'<text x="{LEFT + 14 + 90 * HOSTS_MAX}" y="17">lost queries, by send time'
                 '</text>')
    for number, event in enumerate(outcome["events"]):
        place = across(event["at"])
        parts.append(f'<line x1="{place:.1f}" x2="{place:.1f}" y1="{TOP - 8}" '
                     f'y2="{HEIGHT - BOTTOM}" stroke="#222" stroke-dasharray="3 3"/>'
                     f'<text x="{place + 2:.1f}" y="{TOP - 12 - 12 * (number % 2)}">'
                     f'{event["what"]} {event["host"]}</text>')
    parts.append("</svg>")
    return "\n".join(parts)


def page(outcome):
    cells = lambda row, tag: "".join(f"<{tag}>{html.escape(word)}</{tag}>" for word in row)
    rows = "\n".join(f"<tr>{cells(row, 'td')}</tr>" for row in table(outcome))
    counts = "\n".join(
        f"<tr><td>{name} loop</td>" + "".join(f"<td>{value:,}</td>" for value in found.values())
        + "</tr>" for name, found in outcome["counts"].items())
    heads = cells(["", *outcome["counts"]["open"]], "th")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Several hosts, one address</title>
<style>
body {{ font: 15px/1.5 sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }}
table {{ border-collapse: collapse; margin: 1rem 0 }}
td, th {{ border-bottom: 1px solid #ddd; padding: .25rem .6rem; text-align: left }}
code {{ background: #f3f3f3; padding: 0 .2rem }}
</style></head><body>
<h1>Several hosts, one address</h1>
<p>Generated by <code>{html.escape(outcome["command"])}</code> on {outcome["made"]},
{html.escape(outcome["host"])}. {outcome["rate"]:,} queries per second from 256 source ports,
independent of the answers (open loop), and {outcome["clients"]} clients that send one query after the
other with a time-out of {outcome["timeout"]} and without retries. The answers of each host are counted
at the router, {1 / STRETCH:.0f} times per second.</p>
{svg(outcome)}
<table><tr>{cells(HEADS, "th")}</tr>
{rows}</table>
<p>«Lost» are queries of the open loop without a good answer, by their send time in tenths of a
second. «Time-outs of the clients» is the sum over the {outcome["clients"]} clients; a number up to
{outcome["clients"]} means that no client had more than one per event on average.</p>
<table><tr>{heads}</tr>
{counts}</table>
</body></html>
"""


def write(outcome, directory):
    (directory / "report.json").write_text(json.dumps(outcome, indent=1) + "\n")
    (directory / "report.svg").write_text(svg(outcome) + "\n")
    (directory / "report.html").write_text(page(outcome))
