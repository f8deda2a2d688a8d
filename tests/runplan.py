"""Which tests a run has, in which order, what belongs to one process, and how long it takes.

``durations.txt`` has the seconds of one case of each test, as last measured: ``make durations`` writes it.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

DURATIONS = Path(__file__).with_name("durations.txt")
#: The fast ones come first. A folder that isn't named here comes last.
LAYERS = ("unit", "database", "contracts", "interop", "browser", "acceptance")
#: `make test` leaves out tests whose cases take longer than this on average, in seconds.
SLOW = 3.0
#: Less is not worth a line of its own.
SHORT = 0.05
#: A set-up or a clean-up counts for no more: the first and the last test of a process make and drop its databases.
LONGEST_FIXTURE = 5.0


@dataclass(frozen=True)
class Planned:
    """One case of a test."""

    nodeid: str
    #: Cases of one group run in one process, one after the other.
    group: str
    seconds: float
    skipped: bool


@dataclass(frozen=True)
class Plan:
    """All cases in their order, and how many of each layer are left out."""

    cases: list[Planned]
    left_out: dict[str, int]

    @property
    def seconds(self) -> float:
        """What all of them take, one after the other."""
        return sum(case.seconds for case in self.cases)

    def write(self, path: Path) -> None:
        """Write it where the process that shows it reads it."""
        path.write_text(json.dumps([[asdict(case) for case in self.cases], self.left_out]), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Plan":
        """Read what `write` has written."""
        cases, left_out = json.loads(path.read_text(encoding="utf-8"))
        return cls([Planned(**case) for case in cases], left_out)


def layer_of(nodeid: str) -> str:
    """Name the folder under ``tests``."""
    parts = nodeid.split("::", maxsplit=1)[0].split("/")
    return parts[1] if len(parts) > 2 else "others"


def rank_of(nodeid: str) -> int:
    """Give the place of its layer in a run."""
    layer = layer_of(nodeid)
    return LAYERS.index(layer) if layer in LAYERS else len(LAYERS)


def test_of(nodeid: str) -> str:
    """Name the test whose case this is."""
    return nodeid.split("[", maxsplit=1)[0]


class Durations:
    """Seconds of one case of each test; of the others of a layer, their average."""

    def __init__(self, lines: Iterable[str] = ()) -> None:
        pairs = (line.split(maxsplit=1) for line in lines if line.strip())
        self._known = {name.strip(): float(seconds) for seconds, name in pairs}

    @classmethod
    def read(cls, path: Path = DURATIONS) -> "Durations":
        """Read the table; an empty one where there is none."""
        return cls(path.read_text(encoding="utf-8").splitlines() if path.exists() else ())

    def of(self, nodeid: str) -> float:
        """Say what a case takes."""
        found = self._known.get(test_of(nodeid))
        return self._known.get(f"tests/{layer_of(nodeid)}", 0.0) if found is None else found

    def slow(self, nodeid: str) -> bool:
        """Say whether `make test` leaves the case out."""
        return self.of(nodeid) > SLOW


def measured(seconds: Mapping[str, float]) -> list[str]:
    """Make the lines of the table from the seconds of each case."""
    tests, rest = defaultdict(list), defaultdict(list)
    for nodeid, taken in seconds.items():
        tests[test_of(nodeid)].append(taken)
    average = {test: sum(taken) / len(taken) for test, taken in tests.items()}
    for test, mean in average.items():
        if mean < SHORT:
            rest[f"tests/{layer_of(test)}"] += tests[test]
    lines = {layer: sum(taken) / len(taken) for layer, taken in rest.items()}
    lines |= {test: mean for test, mean in average.items() if mean >= SHORT}
    return [f"{mean:8.3f} {name}" for name, mean in sorted(lines.items())]


def ordered(cases: Iterable[Planned]) -> list[Planned]:
    """Put the fast layers first; in a layer, the groups that take longest, so that none of them is left over at the end."""
    cases = list(cases)
    groups: dict[str, float] = defaultdict(float)
    for case in cases:
        groups[case.group] += case.seconds
    return sorted(cases, key=lambda case: (rank_of(case.nodeid), -groups[case.group], case.group))
