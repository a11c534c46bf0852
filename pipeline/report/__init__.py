"""``restyle report``: one HTML file to look at a latent data set with."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.engine.progress import throughput
from pipeline.models import LatentRenderer
from pipeline.report import drawing, edited, output, page, pictures, source
from pipeline.report.choice import choose
from pipeline.report.metrics import Metric, metric
from pipeline.report.page import Card, Content
from pipeline.report.statistics import statistics

# Side of the crops where no model tells what the encoder sees.
DEFAULT_INPUT_SIZE = (256, 256)


@dataclass(frozen=True)
class Written:
    """A report that was written."""

    path: Path
    n_rows: int
    n_shown: int  # rows with pictures
    n_failures_shown: int
    n_bytes: int
    notes: list[str] = field(default_factory=list)  # what the page says is missing


def write(
    latents: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    limit: int = 64,
    model: str | None = None,
    generator: str | None = None,
    photos: str | None = None,
) -> Written:
    """Write the page of a run.

    Numbers are of all rows. Pictures are of at most ``limit`` rows, the worst by each metric and
    others spread evenly over the data set, and of as many failures; fewer, where they would make
    the page larger than 20 MB.

    Args:
        latents: the ``--out`` of `restyle invert`.
        model, generator: where the checkpoints are now, if not where the run had them.
        photos: folder or address of the shards; None: only unchanged files of this machine are read.

    Raises:
        ConfigError, CheckpointError: one sentence that says what to do.
    """
    goal = output.writable(out)
    content = collect(str(latents), limit=limit, model=model, generator=generator, photos=photos)
    data = page.render(content).encode()
    output.put(goal, data)
    return Written(
        goal,
        content.run.n_rows,
        len(content.cards) * max(1, content.run.n_edits),
        len(content.failures),
        len(data),
        content.notes,
    )


def collect(
    latents: str,
    *,
    limit: int = 64,
    model: str | None = None,
    generator: str | None = None,
    photos: str | None = None,
) -> Content:
    """What the page of a run shows; see :func:`write`."""
    run = source.open_run(latents)
    content = Content(run, throughput=throughput(latents, run.footer["fingerprint"]))
    renderer = drawing.load(run, model, generator, content.notes) if run.n_ok else None
    if run.n_edits:
        size = DEFAULT_INPUT_SIZE if renderer is None else renderer.input_size
        edited.show(content, renderer, limit, size, photos)
        return content
    measured = {metric(name): source.values(run, name) for name in run.settings["metrics"]}
    by_metric = [statistics(m, values) for m, values in measured.items()]
    content.statistics = [s for s in by_metric if s is not None]
    content.choice = choose(source.statuses(run), measured, limit)
    _show(content, renderer, list(measured), photos)
    if renderer is not None:
        content.average = drawing.draw(renderer, renderer.latent_avg[None])[0]
    return content


def _show(
    content: Content,
    renderer: LatentRenderer | None,
    metrics: Sequence[Metric],
    photos: str | None,
) -> None:
    """Read and draw the chosen rows, and keep as many as a page holds."""
    run, choice = content.run, content.choice
    # Not both: the latents of every step end with the latent.
    unused = ["latent"] if run.settings["latents"] == "all" else []
    rows = source.rows(run, [*choice.shown, *choice.failed], unused)
    input_size = renderer.input_size if renderer is not None else DEFAULT_INPUT_SIZE
    seen = pictures.collect(rows, input_size, content.notes, photos, run.recorded)
    n = len(choice.shown)
    drawn = drawing.steps(rows[:n], renderer, run.n_steps)
    cards = [
        Card(
            row,
            of_row,
            steps,
            page.lines(row, metrics),
            rank=choice.ranks.get(number, ""),
            order=number,
        )
        for number, row, of_row, steps in zip(choice.shown, rows[:n], seen[:n], drawn, strict=True)
    ]
    failures = [Card(*failed) for failed in zip(rows[n:], seen[n:], strict=True)]
    output.fit(content, cards, failures)
    content.cards = page.worst_first(content.cards)
