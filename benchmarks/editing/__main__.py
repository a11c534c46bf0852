"""Learn directions from rendered portraits, edit others along them, and measure what changes."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.editing import measure, page
from benchmarks.editing.data import inverted
from benchmarks.editing.measure import LABELS, Edit, Ruler
from benchmarks.editing.settings import Settings
from benchmarks.inversion import cpu_name
from benchmarks.quality.settings import run_as_command
from encoders import load_inverter
from pipeline.editing.learning import LearnConfig, fit

_OF_PEOPLE = 200  # added to the seed; 100 was used up to choose how boundaries are learned
_CALIBRATION = 200  # held-out portraits that the reading of attributes is measured on


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 2 where models or numbers do not fit."""
    return run_as_command(run, Settings, "python -m benchmarks.editing", __doc__, argv)


def run(settings: Settings) -> None:
    """Everything, with a line on the console for each direction."""
    began = time.process_time()
    model = load_inverter(settings.model)
    keep = None if settings.keep is None else Path(settings.keep)
    learned = inverted(model, settings.count, settings.seed, keep)
    n_held_out = max(_CALIBRATION, settings.people)
    held_out = inverted(model, n_held_out, settings.seed + _OF_PEOPLE, keep)
    people, ruler = held_out.latents[: settings.people], Ruler(learned, held_out)

    def edit(name: str, config: LearnConfig, with_identity: bool = False) -> Edit:
        found = measure.edit(model, learned, people, ruler, config, name, with_identity)
        slope = found.slopes[config.label]
        print(f"{name}: accuracy {found.accuracy:.3f}, {slope:+.2f} a strength", flush=True)
        return found

    configs = {n: LearnConfig(n, tuple(other for other in LABELS if other != n)) for n in LABELS}
    edits = [edit(name, config, with_identity=True) for name, config in configs.items()]
    ways = [edit(name, config) for name, config in measure.WAYS.items()]
    fewer = [n for n in measure.COUNTS if n < settings.count]
    ways += [edit(f"from {n} rows", replace(configs["smile"], max_rows=n)) for n in fewer]
    labels = learned.labels(LABELS)
    strips, shown = [], _plainest(people)
    for config in configs.values():
        step = fit(learned.latents.numpy(), labels, config).vectors
        strips.append([each[0] for each in measure.moved(model, shown, step)])
    page.save_pictures(settings.out, edits, strips)
    written = page.write(settings.out, {"effects": page.effects(edits), "ways": page.ways(ways)})
    record = {
        "device": cpu_name(),
        "threads": torch.get_num_threads(),
        "cpu_s": round(time.process_time() - began, 1),
        "with_kept_portraits": keep is not None,  # then without the time of rendering and inverting
        "settings": {n: v for n, v in asdict(settings).items() if n in ("count", "people", "seed")},
        "strengths": measure.STRENGTHS,
        "reading_agrees_with_truth": ruler.agreement,
        "directions": [asdict(each) for each in edits],
        "ways": [asdict(each) for each in ways],
    }
    settings.results.write_text(json.dumps(record, indent=1) + "\n")
    print(f"{written} and {settings.results}, after {record['cpu_s']} s of CPU")


def _plainest(people: Tensor) -> Tensor:
    """The one nearest to their mean, [1, n_styles, w_dim]: all directions show on it."""
    nearest = (people - people.mean(dim=0)).flatten(1).norm(dim=1).argmin()
    return people[nearest][None]


if __name__ == "__main__":
    sys.exit(main())
