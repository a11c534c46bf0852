"""Plain data -> one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import PurePath
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from pipeline.report import charts
from pipeline.report.metrics import Metric
from pipeline.report.pictures import Pictures, Thumbnail
from pipeline.report.source import Run
from pipeline.report.statistics import Statistics
from pipeline.storage import public


@dataclass
class Content:
    """Everything that a page shows."""

    run: Run
    statistics: list[Statistics]
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


@dataclass(frozen=True)
class Card:
    """One row of the data set."""

    row: Mapping[str, Any]
    pictures: Pictures
    steps: Sequence[Thumbnail | None] = ()
    lines: Sequence[Line] = ()

    @property
    def place(self) -> str:
        """Where the image is from, for people."""
        shard, index = PurePath(public(self.row["shard"])).name, self.row["sample_index"]
        return f"{shard}, sample {index}"

    @property
    def face(self) -> str:
        n, face = self.row["n_faces"], self.row["face"]
        return f"face {face + 1} of {n}" if n > 1 and face >= 0 else ""

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
    found = []
    for metric in metrics:
        values = row.get(metric.name) or []
        measured = [v for v in values if v is not None and math.isfinite(v)]
        best = ""
        if len({metric.text(v) for v in measured}) > 1:
            best = metric.text((max if metric.higher_is_better else min)(measured))
        cells = [Cell(metric.text(v), metric.text(v) == best) for v in values]
        found.append(Line(metric, cells, values[-1] if values else None))
    return found


def render(content: Content) -> str:
    """The page."""
    folder = resources.files("pipeline.report") / "templates"
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (folder / name).read_text("utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = (folder / "style.css").read_text("utf-8")
    script = (folder / "script.js").read_text("utf-8")
    return environment.get_template("page.html").render(
        content=content,
        run=content.run,
        title=PurePath(public(content.run.latents.rstrip("/"))).name,
        headline=charts.headline(content.statistics),
        tiles=_tiles(content),
        settings=_settings(content.run),
        charts=charts,
        # Without alignment nothing is cropped.
        seen="crop" if content.run.identity["align"] == "face" else "input",
        style=Markup(style),
        script=Markup(script),
        style_hash=_csp_hash(style),
        script_hash=_csp_hash(script),
    )


def _csp_hash(text: str) -> str:
    """Names the one inline script (or style) that a browser may run on this page."""
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def _tiles(content: Content) -> list[Fact]:
    run = content.run
    n_shards = len(run.names)
    share = f", {run.n_failed / run.n_rows:.1%}" if run.n_failed else ""
    facts = [
        Fact(f"{run.n_samples:,}", f"images in {n_shards:,} shard{'s' * (n_shards != 1)}"),
        Fact(f"{run.n_ok:,}", "rows inverted"),
        Fact(f"{run.n_failed:,}", f"rows failed{share}"),
        Fact(str(run.identity["steps"]), "steps each"),
    ]
    for found in content.statistics:
        metric, last = found.metric, found.last
        facts.append(
            Fact(metric.text(last.mean, unit=True), f"mean {metric.label}, step\u00a0{last.number}")
        )
    return facts


def _settings(run: Run) -> dict[str, str]:
    """What the run was told, by label; "" where that says nothing. Of paths the last part only."""
    identity, footer = run.identity, run.footer
    n_styles, w_dim = footer["latent_avg_shape"]
    is_aligned = identity["align"] == "face"
    return {
        "model": PurePath(footer["model"]).name,
        "generator": PurePath(footer.get("generator") or "").name,
        "encoder sha256": identity["encoder_sha256"][:12],
        "generator sha256": identity["generator_sha256"][:12],
        "latent": f"{n_styles} × {w_dim}, {identity['latent_dtype']}",
        "latents kept": "every step" if identity["latents"] == "all" else "last step",
        "alignment": "by face (FFHQ)" if is_aligned else "none",
        "faces": identity["faces"] if is_aligned else "",
        "precision": identity["precision"],
        "run": footer["fingerprint"],
        "measured on": footer["metric_protocol"],
        "versions": ", ".join(f"{name} {v}" for name, v in footer["versions"].items()),
    }
