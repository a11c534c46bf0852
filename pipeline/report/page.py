"""Plain data -> one HTML file that needs nothing else."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

import numpy as np

from pipeline.engine.progress import Throughput
from pipeline.report import charts, rendering, source
from pipeline.report.choice import Choice
from pipeline.report.metrics import Metric
from pipeline.report.pictures import Pictures, Thumbnail
from pipeline.report.source import Run
from pipeline.report.statistics import Statistics
from pipeline.shards.labels import LABEL_PREFIX
from pipeline.storage import redact

MAX_LABEL = 200  # characters of a text


@dataclass
class Content:
    """Everything that a page shows."""

    run: Run
    statistics: list[Statistics] = field(default_factory=list)
    throughput: Throughput | None = None
    choice: Choice = Choice([], [])
    cards: list[Card] = field(default_factory=list)
    failures: list[Card] = field(default_factory=list)
    average: Thumbnail | None = None  # where every inversion starts
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Cell:
    """A metric of one image after one step."""

    text: str
    is_best: bool


@dataclass(frozen=True)
class Line:
    """A metric of one image over the steps."""

    metric: Metric
    cells: list[Cell]
    last: float | None  # what the gallery is sorted by


@dataclass(frozen=True, eq=False)
class Card:
    """One row of the data set."""

    row: Mapping[str, Any]
    pictures: Pictures
    steps: Sequence[Thumbnail | None] = ()
    lines: Sequence[Line] = ()
    edits: Sequence[tuple[str, Sequence[Thumbnail | None]]] = ()  # by direction, one a strength
    unedited: Thumbnail | None = None  # of edits: what they were made from
    rank: str = ""  # why a worst row is shown
    order: int = 0  # its number in the data set

    @property
    def answer(self) -> Thumbnail | None:
        """The picture of the step that was kept."""
        return next((step for step in reversed(self.steps) if step is not None), None)

    @property
    def n_bytes(self) -> int:
        """Of its pictures in the page."""
        edits = (picture for _, of_direction in self.edits for picture in of_direction)
        shown = (self.pictures.source, self.pictures.crop, *self.steps, *edits, self.unedited)
        return sum(len(picture.uri) for picture in shown if picture is not None)

    @property
    def place(self) -> str:
        return source.place(self.row)

    @property
    def labels(self) -> dict[str, Any]:
        """What came beside the image and was kept."""
        labels = {
            name.removeprefix(LABEL_PREFIX): value
            for name, value in self.row.items()
            if name.startswith(LABEL_PREFIX) and value is not None
        }
        return {
            name: f"{value:.4g}" if isinstance(value, float) else str(value)[:MAX_LABEL]
            for name, value in labels.items()
        }

    @property
    def quad(self) -> str:
        """Corners of the crop for an SVG polygon, in source pixels."""
        corners: np.ndarray | None = self.row.get("quad")
        return "" if corners is None else " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)


@dataclass(frozen=True)
class Fact:
    """A number of the opening."""

    value: str
    label: str


def lines(row: Mapping[str, Any], metrics: Sequence[Metric]) -> list[Line]:
    """A row's metrics with the best step of each marked."""
    facts = []
    for metric in metrics:
        values = row.get(metric.name) or []
        measured = [v for v in values if v is not None and math.isfinite(v)]
        best = ""
        if len({metric.text(v) for v in measured}) > 1:
            best = metric.text((max if metric.higher_is_better else min)(measured))
        cells = [Cell(metric.text(v), metric.text(v) == best) for v in values]
        facts.append(Line(metric, cells, values[-1] if values else None))
    return facts


def worst_first(cards: Sequence[Card]) -> list[Card]:
    """By the first metric, as the gallery opens; rows without it last."""

    def badness(card: Card) -> float:
        line = next(iter(card.lines), None)
        if line is None or line.last is None or not math.isfinite(line.last):
            return math.inf
        return line.last if line.metric.higher_is_better else -line.last

    return sorted(cards, key=badness)


def typical(cards: Sequence[Card], n: int = 10) -> list[Card]:
    """Some cards to open the page with: the middle of those with both pictures, neither worst nor best."""
    whole = [card for card in cards if card.pictures.crop and card.answer]
    first = (len(whole) - n) // 2
    return whole[max(0, first) : max(0, first) + n]


def anchors(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The id of each row's card, by which a link opens it; no id of the page's own begins like one."""
    taken: Counter[str] = Counter()
    found = []
    for row in rows:
        face = f";face={row['face'] + 1}" if row["n_faces"] > 1 and row["face"] > 0 else ""
        name = f"key={row['key']}{face}"
        taken[name] += 1
        # Shards may use a key twice.
        found.append(name if taken[name] == 1 else f"{name};n={taken[name]}")
    return found


def render(content: Content) -> str:
    """The page."""
    run = content.run
    cards = [*content.cards, *content.failures]
    return rendering.page(
        "edited.html" if run.n_edits else "page.html",
        styles=["style.css", "gallery.css"],
        scripts=["script.js", "find.js", "enlarge.js"],
        content=content,
        anchors=dict(zip(cards, anchors([card.row for card in cards]), strict=True)),
        run=run,
        title=PurePath(redact(run.latents.rstrip("/"))).name,
        noun="faces" if run.settings["faces"] == "all" else "images",
        headline=charts.headline(content.statistics),
        typical=typical(content.cards),
        tiles=_tiles(content),
        settings=_settings(run),
        charts=charts,
        # Without alignment nothing is cropped.
        seen="crop" if run.settings["align"] == "face" else "input",
    )


def _tiles(content: Content) -> list[Fact]:
    run = content.run
    n_shards = len(run.files)
    is_aligned = run.settings["align"] == "face"
    share = f", {run.n_failed / run.n_rows:.1%}" if run.n_failed else ""
    facts = [
        Fact(f"{run.n_samples:,}", f"images in {n_shards:,} shard{'s' * (n_shards != 1)}"),
        Fact(f"{run.n_ok:,}", f"{'faces' if is_aligned else 'images'} inverted"),
        Fact(f"{run.n_failed:,}", f"failed{share}"),
        Fact(_steps(run), "steps each"),
    ]
    # Of a protocol that tells: none is worth saying too.
    if run.settings.get("protocol", 1) >= 3 and "mse" in run.settings["metrics"]:
        facts.insert(3, Fact(f"{run.n_worse:,}", "got worse after their best step"))
    if run.n_edits:
        facts[1] = Fact(f"{run.n_ok:,}", "edits")
        facts[3:] = [
            Fact(str(len(run.directions)), f"direction{'s' * (len(run.directions) > 1)}"),
            Fact(
                str(len(run.strengths)), f"strength{'s' * (len(run.strengths) > 1)} per direction"
            ),
        ]
    if content.throughput is not None:
        n, what = content.throughput.n_workers, "GPU" if content.throughput.on_gpu else "CPU worker"
        rate = f"{content.throughput.samples_per_s:.3g}"
        facts.append(Fact(rate, f"images per second on {n:,} {what}{'s' * (n != 1)}"))
    return facts


def _steps(run: Run) -> str:
    refined = run.settings.get("refine")
    return f"{run.settings['steps']} + {refined}" if refined else str(run.settings["steps"])


def _settings(run: Run) -> dict[str, str]:
    """What the run was told, by label; "" where that says nothing. Of paths the last part only."""
    settings, footer = run.settings, run.footer
    shape = " × ".join(map(str, footer["latent_avg_shape"]))
    is_aligned = settings["align"] == "face"
    return {
        "edits of the run": settings.get("edit_source", ""),
        "directions": "; ".join(settings.get("edit_directions", [])),
        "model": source.checkpoint_name(footer["model"]),
        "then": source.checkpoint_name(footer.get("then")),
        "generator": source.checkpoint_name(footer.get("generator")),
        "encoder sha256": settings["encoder_sha256"],
        "generator sha256": settings["generator_sha256"],
        "bound": f"{footer['bound']} standard deviations of W" if "bound" in footer else "",
        "latent": f"{shape}, {settings['latent_dtype']}",
        "latents kept": {"all": "every step", "best": "the best step of each row"}.get(
            settings["latents"], "last step"
        ),
        "alignment": "by face (FFHQ)" if is_aligned else "none",
        "faces": settings["faces"] if is_aligned else "",
        "precision": settings["precision"],
        "labels": ", ".join(
            n.removeprefix(LABEL_PREFIX) for n in settings if n.startswith(LABEL_PREFIX)
        ),
        "run": footer["fingerprint"],
        "measured on": footer["metric_protocol"],
        "versions": ", ".join(f"{name} {v}" for name, v in footer["versions"].items()),
    }
