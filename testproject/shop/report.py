"""Turns a day of logs into one page of HTML that needs nothing else: no script, no picture, no network."""

from html import escape
from pathlib import Path
from string import Template
from typing import Any

WIDTH, HEIGHT, LEFT = 860, 180, 44
STEP = (WIDTH - LEFT) / 24


def summary(day: dict[str, Any]) -> dict[str, Any]:
    """Say what is most worth knowing, for a terminal."""
    slowest = max(day["hours"], key=lambda hour: hour["p95"])
    pages = {page: row for page, row in day["pages"].items() if row[0] >= 20}
    slow_page = max(pages, key=lambda page: pages[page][1] / pages[page][0]) if pages else "-"
    return {
        "requests": day["requests"],
        "visitors": day["visitors"],
        "megabytes": round(day["bytes"] / 1e6, 1),
        "errors": sum(count for status, count in day["answers"].items() if status >= "500"),
        "slowest_hour": f"{slowest['log']}:00 (95 % within {slowest['p95']:.2f} s)",
        "slowest_page": slow_page,
    }


def write(day: dict[str, Any], folder: Path) -> Path:
    """Write ``report.html`` into the folder and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "report.html"
    path.write_text(render(day), encoding="utf-8")
    return path


def render(day: dict[str, Any]) -> str:
    """Make the page."""
    facts = summary(day)
    tiles = (
        (f"{facts['requests']:,}", "requests"),
        (f"{facts['visitors']:,}", "visitors"),
        (f"{facts['megabytes']} MB", "sent"),
        (f"{facts['errors']:,}", "server errors"),
        (facts["slowest_hour"].split()[0], "slowest hour"),
        (facts["slowest_page"], "slowest page"),
    )
    return PAGE.substitute(
        tiles="".join(f"<div><b>{escape(value)}</b>{escape(label)}</div>" for value, label in tiles),
        traffic=_chart(_traffic(day["hours"])),
        pace=_chart(_pace(day["hours"])),
        heat=_heat(day["hours"]),
        pages="".join(_row(page, *row) for page, row in list(day["pages"].items())[:15]),
        answers="".join(f"<tr><td>{escape(status)}</td><td>{count:,}</td></tr>" for status, count in day["answers"].items()),
    )


def _chart(marks: str) -> str:
    hours = "".join(f'<text x="{LEFT + (n + 0.5) * STEP:.0f}" y="{HEIGHT + 16}" class="hour">{n:02}</text>' for n in range(24))
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT + 22}" role="img">{marks}{hours}</svg>'


def _scale(top: float, label: str) -> str:
    lines = []
    for share in (0.5, 1.0):
        y = HEIGHT - share * (HEIGHT - 12)
        lines.append(f'<line x1="{LEFT}" x2="{WIDTH}" y1="{y:.0f}" y2="{y:.0f}" class="grid"/>')
        lines.append(f'<text x="{LEFT - 6}" y="{y + 4:.0f}" class="scale">{top * share:{label}}</text>')
    return "".join(lines)


def _bar(number: float, height: float, base: float, kind: str, title: str) -> str:
    x = LEFT + number * STEP + 3
    return (
        f'<rect x="{x:.1f}" y="{HEIGHT - base - height:.1f}" width="{STEP - 6:.1f}" height="{height:.1f}" class="{kind}">'
        f"<title>{escape(title)}</title></rect>"
    )


def _traffic(hours: list[dict[str, Any]]) -> str:
    top = max((hour["requests"] for hour in hours), default=0) or 1
    unit = (HEIGHT - 12) / top
    marks = [_scale(top, ".0f")]
    for hour in hours:
        kinds = dict.fromkeys(("good", "lost", "bad"), 0)
        for status, count in hour["answers"].items():
            kinds["bad" if status >= "500" else "lost" if status >= "400" else "good"] += count
        base = 0.0
        for kind, count in kinds.items():
            marks.append(_bar(int(hour["log"]), count * unit, base, kind, f"{hour['log']}:00, {kind}: {count}"))
            base += count * unit
    return "".join(marks)


def _pace(hours: list[dict[str, Any]]) -> str:
    top = max((hour["p95_between"][1] for hour in hours), default=0) or 1
    unit = (HEIGHT - 12) / top
    marks = [_scale(top, ".1f")]
    for hour in hours:
        low, high = hour["p95_between"]
        x = LEFT + (int(hour["log"]) + 0.5) * STEP
        title = f"{hour['log']}:00: half within {hour['p50']:.3f} s, 95 % within {hour['p95']:.3f} s ({low:.3f} to {high:.3f})"
        marks.append(_bar(int(hour["log"]), hour["p95"] * unit, 0, "slow", title))
        marks.append(_bar(int(hour["log"]), hour["p50"] * unit, 0, "good", title))
        marks.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{HEIGHT - low * unit:.1f}" y2="{HEIGHT - high * unit:.1f}" class="sure"/>')
    return "".join(marks)


def _heat(hours: list[dict[str, Any]]) -> str:
    top = max((count for hour in hours for count in hour["minutes"]), default=0) or 1
    cell = (WIDTH - LEFT) / 60
    marks = []
    for row, hour in enumerate(hours):
        marks.append(f'<text x="{LEFT - 6}" y="{row * 11 + 9}" class="scale">{escape(hour["log"])}:00</text>')
        marks += [
            f'<rect x="{LEFT + minute * cell:.1f}" y="{row * 11}" width="{cell - 1:.1f}" height="10" '
            f'class="good" opacity="{count / top:.2f}"/>'
            for minute, count in enumerate(hour["minutes"])
            if count
        ]
    return f'<svg viewBox="0 0 {WIDTH} {len(hours) * 11 + 2}" role="img">{"".join(marks)}</svg>'


def _row(page: str, count: int, seconds: float, longest: float) -> str:
    return f"<tr><td>{escape(page)}</td><td>{count:,}</td><td>{seconds / count:.3f}</td><td>{longest:.2f}</td></tr>"


PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>A day at the tea shop</title>
<style>
:root { --ink: #1d2b24; --paper: #fbfcfa; --line: #dfe7e2; --tea: #2f7d5b; --amber: #d9a441; --red: #b8402f }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
       margin: 2.5rem auto; max-width: 56rem; padding: 0 1rem }
h1 { font-weight: 600; margin-bottom: 0 } h2 { font-size: 1.1rem; margin: 2.2rem 0 .4rem } p { margin: .2rem 0; color: #56655d }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(8rem, 1fr)); gap: .8rem; margin-top: 1.2rem }
.tiles div { border: 1px solid var(--line); border-radius: .5rem; padding: .6rem .8rem; font-size: .85rem; color: #56655d }
.tiles b { display: block; font-size: 1.35rem; color: var(--ink); font-weight: 600 }
svg { width: 100%; display: block } .good { fill: var(--tea) } .lost, .slow { fill: var(--amber) } .bad { fill: var(--red) }
.grid { stroke: var(--line) } .sure { stroke: var(--ink) } .hour, .scale { font-size: 11px; fill: #56655d }
.hour { text-anchor: middle } .scale { text-anchor: end }
.columns { display: grid; grid-template-columns: 3fr 1fr; gap: 2rem }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
td, th { text-align: right; padding: .15rem .5rem; border-bottom: 1px solid var(--line) }
td:first-child, th:first-child { text-align: left }
</style>
</head>
<body>
<h1>A day at the tea shop</h1>
<p>24 access logs, each read by a task of its own, put together by one more.</p>
<div class="tiles">$tiles</div>
<h2>Requests an hour</h2>
<p>Green: answered. Amber: not found. Red: server errors.</p>
$traffic
<h2>Seconds until the answer</h2>
<p>Green: half of the requests. Amber: 95 %; the line says how sure that figure is.</p>
$pace
<h2>Every minute of the day</h2>
$heat
<div class="columns">
<div><h2>Pages</h2><table><tr><th>Page</th><th>requests</th><th>mean s</th><th>longest s</th></tr>$pages</table></div>
<div><h2>Answers</h2><table><tr><th>Status</th><th>requests</th></tr>$answers</table></div>
</div>
</body>
</html>
""")
