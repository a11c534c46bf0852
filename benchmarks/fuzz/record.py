"""What was tried of a kind, kept in a file, so that a run goes on where another ended."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.fuzz.outcome import ROOT, Outcome

RESULTS = ROOT / "benchmarks" / "results" / "fuzz"
MAX_TEXT, MAX_NUMBERS = 400, 100


@dataclass
class Fall:
    """A way in which inputs fell."""

    place: str
    n: int
    first: int  # number of the first such input
    text: str
    numbers: list[int] = field(default_factory=list)  # of the inputs, as many as are kept


@dataclass
class Record:
    """Inputs of one kind, one seed and one way: those with the numbers 0 to n - 1."""

    kind: str
    way: str  # "read" or "commands"
    seed: int
    n: int = 0
    by_outcome: Counter[str] = field(default_factory=Counter)
    falls: list[Fall] = field(default_factory=list)
    slowest_s: float = 0.0
    slowest: int = 0

    def add(self, outcome: Outcome, seconds: float) -> None:
        """Count the next input."""
        self.by_outcome[outcome.name] += 1
        if outcome.name == "fell":
            known = next((fall for fall in self.falls if fall.place == outcome.place), None)
            if known is None:
                shown = outcome.text[:MAX_TEXT].encode("unicode_escape").decode()
                self.falls.append(Fall(outcome.place, 1, self.n, shown, [self.n]))
            else:
                known.n += 1
                known.numbers += [self.n] * (len(known.numbers) < MAX_NUMBERS)
        if seconds > self.slowest_s:
            self.slowest_s, self.slowest = round(seconds, 2), self.n
        self.n += 1

    def replace(self, fall: Fall, outcome: Outcome) -> None:
        """An input of a fall was tried again, and ends otherwise now."""
        fall.n -= 1
        self.by_outcome["fell"] -= 1
        self.by_outcome[outcome.name] += 1
        self.falls = [fall for fall in self.falls if fall.n]


def path(kind: str, way: str) -> Path:
    """Where the record of a kind is."""
    return RESULTS / f"{kind}_{way}.json"


def read(kind: str, way: str, seed: int) -> Record:
    """What was tried so far with this seed; of another seed, nothing."""
    file = path(kind, way)
    found = load(file) if file.exists() else None
    return found if found is not None and found.seed == seed else Record(kind, way, seed)


def load(file: Path) -> Record:
    """The record in a file."""
    content = json.loads(file.read_text())
    content["falls"] = [Fall(**fall) for fall in content["falls"]]
    content["by_outcome"] = Counter(content["by_outcome"])
    return Record(**content)


def write(record: Record) -> None:
    """Keep it."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    content = asdict(record) | {"by_outcome": dict(sorted(record.by_outcome.items()))}
    path(record.kind, record.way).write_text(json.dumps(content, indent=1) + "\n")
