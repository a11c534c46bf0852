"""Tune the demo's generator to single pictures, and measure what that brings and what it costs an edit."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from benchmarks.editing import page
from benchmarks.editing.data import STEPS, Inverted
from benchmarks.editing.measure import Ruler
from benchmarks.inversion import cpu_name
from benchmarks.quality import sheets
from benchmarks.quality.portraits import portraits, require_square
from benchmarks.quality.settings import option, run_as_command
from encoders import ReStyle, load_inverter
from encoders.metrics import distances
from encoders.pivotal import TuningConfig, tune
from encoders.refinement import Refiner
from generators import directions
from generators.delta import Delta
from pipeline.config import REFINE
from pipeline.faces import alignment, detection, images
from pipeline.faces.prepare import MIN_TRANSFORM_SIZE

_RESULTS = Path(__file__).parent.parent / "results" / "pivot.json"
_OF_PEOPLE, _OF_RULER = 300, 400  # added to the seed
T = TypeVar("T")
_N_ELSEWHERE = 32
_SHOWN = (-3.0, 0.0, 3.0)  # strengths of the pictures
WAYS = {
    **{f"`--pivot {n}`": TuningConfig(n_steps=n) for n in (25, 50, 100, 200, 400)},
    "100 steps, without locality": TuningConfig(n_steps=100, locality=0),
    "100 steps, rank 1": TuningConfig(n_steps=100, rank=1),
    "100 steps, rank 32": TuningConfig(n_steps=100, rank=32),
}
SHOWN = "`--pivot 100`"
HEAD = ["", "MSE, portraits", "MSE, photo", "smile", "change elsewhere (MSE)", "s per image", "KiB"]


@dataclass(frozen=True)
class Settings:
    """Everything that decides the numbers, and where they go."""

    model: str = option("demo", 'the ReStyle inverter: "demo", or a file')
    people: int = option(8, "portraits that the generator is tuned to, beside the photo")
    count: int = option(1000, "other portraits, to read attributes from pictures by")
    seed: int = option(2_000_000_111, "of the portraits")
    out: Path = option(Path("docs"), "folder with editing.md; its picture goes to editing/")
    results: Path = option(_RESULTS, "file that gets the numbers")


@dataclass(frozen=True)
class Way:
    """What came of one way to draw the pictures more closely."""

    name: str
    portraits: float  # mean MSE
    photo: float  # MSE
    smile: float  # standard deviations for a strength of 1, mean over the portraits
    elsewhere: (
        float | None
    )  # mean MSE between what the two generators draw of W; None: one generator
    seconds: float  # of one CPU core, per image
    n_bytes: int | None  # of a delta


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 2 where models or numbers do not fit."""
    return run_as_command(run, Settings, "python -m benchmarks.editing.pivot", __doc__, argv)


def run(settings: Settings) -> None:
    """Everything, with a line on the console for each way."""
    torch.set_num_threads(1)
    model = load_inverter(settings.model)
    size = require_square(model)
    shown = portraits(settings.people, settings.seed + _OF_PEOPLE, size)
    targets = torch.cat([shown.images, photo(size)])
    bench = Bench(model, targets, ruler(settings, size))
    found, strips = [bench.untuned(), bench.refined()], list[Tensor]()
    for name, config in WAYS.items():
        way, deltas = bench.tuned(name, config)
        found.append(way)
        print(f"{name}: {way}", flush=True)
        if name == SHOWN:
            strips = [
                torch.stack([targets[i], *bench.edited(i, None), *bench.edited(i, deltas[i])])
                for i in (-1, 0, 1)
            ]
    folder = settings.out / page.FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    sheets.save(strips, folder / "pivot.jpg")
    written = page.write(settings.out, {"pivot": table(found)})
    record = {
        "device": cpu_name(),
        "settings": {n: v for n, v in asdict(settings).items() if n in ("people", "count", "seed")},
        "ways": [asdict(way) for way in found],
    }
    settings.results.write_text(json.dumps(record, indent=1) + "\n")
    print(f"{written} and {settings.results}")


def photo(size: int) -> Tensor:
    """The one photo of a real person that the demo has, aligned, [1, 3, size, size]."""
    data = (resources.files("pipeline.portraits") / "astronaut.jpg").read_bytes()
    picture = images.decode(data)
    quad = alignment.quad(detection.detect(picture)[0].landmarks)
    crop = alignment.crop(picture, quad, size, max(MIN_TRANSFORM_SIZE, size))
    return torch.from_numpy(crop).permute(2, 0, 1)[None].float() / 127.5 - 1


def ruler(settings: Settings, size: int) -> Ruler:
    """Reads the smile from pictures; fitted to renders, never to anything generated."""
    learned, held_out = (
        Inverted(portraits(n, settings.seed + more, size), torch.empty(0))
        for n, more in ((settings.count, 0), (settings.count // 4, _OF_RULER))
    )
    return Ruler(learned, held_out)


class Bench:
    """Some pictures, the last of them the photo, and what is measured of them."""

    def __init__(self, model: ReStyle, targets: Tensor, read: Ruler) -> None:
        self.model, self.targets, self._read = model, targets, read
        self._inversion, self._seconds = self._timed(lambda: model.invert(targets, STEPS))
        self.latents = self._inversion.latents[-1].clone()
        generator = model.generator
        self._smile = directions.load(
            directions.DEMO / "smile.safetensors", generator.n_styles, generator.w_dim
        )
        z = torch.randn(
            _N_ELSEWHERE, generator.config.z_dim, generator=torch.Generator().manual_seed(0)
        )
        with torch.no_grad():
            w = generator.mapping(z)
        self._elsewhere = w[:, None].expand(-1, generator.n_styles, -1)

    def untuned(self) -> Way:
        """Five steps of ReStyle, and nothing else."""
        return self._way(f"{STEPS} steps of ReStyle", self.latents, [], self._seconds, None)

    def refined(self) -> Way:
        """Other latents instead of another generator."""
        refiner = Refiner(self.model, REFINE["best"])
        found, seconds = self._timed(lambda: refiner(self._inversion))
        name = "`--refine best` instead"
        return self._way(name, found.latents[-1].clone(), [], self._seconds + seconds, None)

    def tuned(self, name: str, config: TuningConfig) -> tuple[Way, list[Delta]]:
        """The generator tuned to each picture."""
        pairs = list(zip(self.latents, self.targets, strict=True))
        deltas, seconds = self._timed(
            lambda: [tune(self.model, *pair, config, seed).delta for seed, pair in enumerate(pairs)]
        )
        n_bytes = sum(4 * tensor.numel() for tensor in deltas[0].tensors.values())
        return self._way(name, self.latents, deltas, self._seconds + seconds, n_bytes), deltas

    def edited(self, i: int, delta: Delta | None) -> Tensor:
        """A picture along the smile, [3, 3, h, w]."""
        return torch.cat([self._draw(self.latents[i] + s * self._smile, delta) for s in _SHOWN])

    def _timed(self, do: Callable[[], T]) -> tuple[T, float]:
        began = time.process_time()
        found = do()
        return found, (time.process_time() - began) / len(self.targets)

    def _way(
        self,
        name: str,
        latents: Tensor,
        deltas: Sequence[Delta],
        seconds: float,
        n_bytes: int | None,
    ) -> Way:
        own = list(deltas) or [None] * len(latents)
        pairs = list(zip(latents, own, strict=True))
        drawn = torch.cat([self._draw(*pair) for pair in pairs])
        errors = distances.mse(drawn.clamp(-1, 1), self.targets)
        less, more = (
            torch.cat([self._draw(latent + s * self._smile, d) for latent, d in pairs[:-1]])
            for s in (-2.0, 2.0)
        )
        smile = (self._read(more) - self._read(less))[:, self._read.names.index("smile")].mean() / 4
        return Way(
            name,
            errors[:-1].mean().item(),
            errors[-1].item(),
            float(smile),
            self._change(deltas) if deltas else None,
            seconds,
            n_bytes,
        )

    @torch.no_grad()
    def _draw(self, latent: Tensor, delta: Delta | None) -> Tensor:
        synthesis = self.model.generator.synthesis
        drawn = synthesis(latent[None]) if delta is None else delta.draw(synthesis, latent[None])
        return self.model.to_input(self.model.view.of(drawn))

    @torch.no_grad()
    def _change(self, deltas: Sequence[Delta]) -> float:
        synthesis = self.model.generator.synthesis
        before = synthesis(self._elsewhere)
        changed = [
            distances.mse(each.draw(synthesis, self._elsewhere), before).mean() for each in deltas
        ]
        return torch.stack(changed).mean().item()


def table(ways: Sequence[Way]) -> str:
    """One row for each way."""
    rows = [
        [
            way.name,
            f"{way.portraits:.5f}",
            f"{way.photo:.4f}",
            f"{way.smile:+.2f}",
            "" if way.elsewhere is None else f"{way.elsewhere:.4f}",
            f"{way.seconds:.2f}",
            "" if way.n_bytes is None else f"{way.n_bytes / 1024:.0f}",
        ]
        for way in ways
    ]
    return page.table(HEAD, rows)


if __name__ == "__main__":
    sys.exit(main())
