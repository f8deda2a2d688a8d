"""Writes the 24 access logs beside it: one day of a tea shop that doesn't exist. The same day each time.

The logs are committed, so nobody has to run this; it shows how they came to be. The day has a quiet night with one
stubborn bot, a lunch peak, and an hour in which the payment provider was slow.
"""

import math
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

DAY = datetime(2026, 11, 19, tzinfo=UTC)
TEAS = ("assam", "darjeeling", "earl-grey", "genmaicha", "hojicha", "jasmine", "keemun", "lapsang", "oolong", "pu-erh", "rooibos", "sencha")
BROWSERS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Firefox/132.0",
    "Mozilla/5.0 (Macintosh) AppleWebKit/605.1 Safari/18.1",
    "Mozilla/5.0 (Windows NT 10.0) Chrome/131.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1) Safari/604.1",
)
BOT = "teapot-scanner/0.3"
PAGES = (("/", 5), ("/search", 4), ("/basket", 3), ("/checkout", 4), ("/static/shop.css", 4), ("/static/shop.js", 4), ("/about", 1))
#: Median seconds of a page.
PACE = {"/": 0.040, "/search": 0.180, "/basket": 0.060, "/checkout": 0.240, "/about": 0.015}


def page(dice: random.Random) -> str:
    """Choose what a visitor looks at."""
    if dice.random() < 0.45:
        return f"/tea/{dice.choice(TEAS)}"
    names, weights = zip(*PAGES, strict=True)
    return dice.choices(names, weights)[0]


def answer(dice: random.Random, path: str, moment: datetime) -> tuple[int, float]:
    """Status and seconds of one request."""
    median = 0.003 if path.startswith("/static/") else PACE.get(path, 0.070)
    seconds = median * math.exp(dice.gauss(0, 0.45))
    if path == "/checkout" and moment.hour == 14 and 5 <= moment.minute < 50:
        seconds *= dice.uniform(6, 14)
        return (504 if dice.random() < 0.7 else 200), seconds
    if path == "/tea/pu-erh" and dice.random() < 0.3:
        return 404, seconds / 4
    if dice.random() < 0.003:
        return 500, seconds
    return (304 if path.startswith("/static/") and dice.random() < 0.5 else 200), seconds


def line(visitor: str, moment: datetime, path: str, status: int, size: int, agent: str, seconds: float) -> str:
    """One request as a web server writes it, its seconds last."""
    return f'{visitor} - - [{moment:%d/%b/%Y:%H:%M:%S %z}] "GET {path} HTTP/1.1" {status} {size} "-" "{agent}" {seconds:.3f}'


def hour(number: int) -> list[str]:
    """One hour's lines."""
    dice = random.Random(f"tea {number}")
    begin = DAY + timedelta(hours=number)
    busy = 200 + 260 * math.exp(-(((number - 12.5) / 3.2) ** 2)) + 190 * math.exp(-(((number - 20) / 2.2) ** 2))
    visitors = [(f"203.0.113.{dice.randrange(1, 255)}", dice.choice(BROWSERS)) for _ in range(round(busy / 6))]
    rows = []
    for second in sorted(dice.uniform(0, 3600) for _ in range(round(busy))):
        moment = begin + timedelta(seconds=second)
        visitor, agent = dice.choice(visitors)
        path = page(dice)
        status, seconds = answer(dice, path, moment)
        rows.append(line(visitor, moment, path, status, dice.randrange(900, 24_000) if status == 200 else 312, agent, seconds))
    if number == 3:
        rows += [
            line("198.51.100.66", begin + timedelta(seconds=600 + 5 * i), f"/wp-login.php?try={i}", 404, 312, BOT, 0.004)
            for i in range(150)
        ]
    return rows


if __name__ == "__main__":
    for number in range(24):
        text = "\n".join(hour(number)) + "\n"
        Path(__file__).parent.joinpath("access", f"{number:02}.log").write_text(text, encoding="utf-8")
