"""Reads one access log and says what went on in it. Plain functions; the tasks around them are in ``tasks``."""

import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

LINE = re.compile(
    r"(?P<visitor>\S+) \S+ \S+ \[(?P<day>[^:]+):(?P<hour>\d\d):(?P<minute>\d\d):\d\d [^\]]+\] "
    r'"\S+ (?P<path>[^ ?"]+)[^"]*" (?P<status>\d{3}) (?P<size>\d+) "[^"]*" "(?P<agent>[^"]*)" (?P<seconds>[\d.]+)$'
)
#: How often the times of one log are drawn again for the confidence interval.
RESAMPLES = 5000


def percentile(ordered: list[float], share: float) -> float:
    """Return the value below which this share of the values lies."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def interval(times: list[float], share: float, progress: Callable[[int], object]) -> tuple[float, float]:
    """Estimate how sure a percentile is: draw the times again and again, keep the middle 95 %."""
    dice = random.Random(len(times))
    estimates = []
    for number in range(RESAMPLES):
        estimates.append(percentile(sorted(dice.choices(times, k=len(times))), share))
        if number % 500 == 0:
            progress(100 * number // RESAMPLES)
    estimates.sort()
    return percentile(estimates, 0.025), percentile(estimates, 0.975)


def analyse(path: Path, progress: Callable[[int], object] = lambda percent: None) -> dict[str, Any]:
    """Count one log: requests a minute, answers, pages with their times, visitors; JSON values."""
    minutes = [0] * 60
    answers: Counter[str] = Counter()
    pages: dict[str, list[float]] = defaultdict(list)
    visitors, strange, size = set(), 0, 0
    for text in path.read_text(encoding="utf-8").splitlines():
        found = LINE.match(text)
        if found is None:
            strange += 1
            continue
        minutes[int(found["minute"])] += 1
        answers[found["status"]] += 1
        pages[found["path"]].append(float(found["seconds"]))
        visitors.add(found["visitor"])
        size += int(found["size"])
    times = sorted(second for of_page in pages.values() for second in of_page)
    return {
        "log": path.stem,
        "requests": len(times),
        "strange": strange,
        "bytes": size,
        "minutes": minutes,
        "answers": dict(answers),
        "visitors": sorted(visitors),
        "pages": {page: [len(seconds), sum(seconds), max(seconds)] for page, seconds in pages.items()},
        "p50": percentile(times, 0.5),
        "p95": percentile(times, 0.95),
        "p95_between": interval(times, 0.95, progress) if times else (0.0, 0.0),
    }


def merge(hours: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Put the hours together to one day."""
    day = sorted(hours, key=lambda hour: hour["log"])
    answers: Counter[str] = Counter()
    pages: dict[str, list[float]] = defaultdict(lambda: [0, 0.0, 0.0])
    for hour in day:
        answers.update(hour["answers"])
        for page, (count, seconds, longest) in hour["pages"].items():
            whole = pages[page]
            whole[:] = [whole[0] + count, whole[1] + seconds, max(whole[2], longest)]
    return {
        "requests": sum(hour["requests"] for hour in day),
        "bytes": sum(hour["bytes"] for hour in day),
        "visitors": len(set().union(*(hour["visitors"] for hour in day))) if day else 0,
        "answers": dict(sorted(answers.items())),
        "pages": dict(sorted(pages.items(), key=lambda item: -item[1][1])),
        "hours": [{key: hour[key] for key in ("log", "requests", "minutes", "answers", "p50", "p95", "p95_between")} for hour in day],
    }
