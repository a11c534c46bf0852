"""What else a run may choose: steps by image, a random start, how near to the encoder refinement stays."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from benchmarks.quality.methods import ENCODER_STEPS, best_seconds
from benchmarks.quality.readout import ReadOut
from encoders import Inversion, ReStyle
from encoders.metrics.distances import mse
from encoders.optimization import spread
from encoders.refinement import Objectives, Refiner, cache
from encoders.stepping import Start, Stepper
from generators import directions
from generators.files.checkpoint import CheckpointError
from pipeline.config import AUTO_GAIN, REFINE

MOST = 10  # steps of an image, with --steps auto
NEAR = (0.0, 0.001, 0.01, 0.1)
EDIT, STRENGTH = "smile", 2.0  # by which it is seen how well a latent can be edited


@dataclass(frozen=True)
class Auto:
    """`--steps auto` beside the same model with a fixed number of steps."""

    n_steps: float  # of an image, on average
    least: int
    most: int
    mse: float  # at each image's last step
    seconds: float  # per image
    fixed_seconds: float  # of MOST steps for every image, the same way
    fixed_mse: float


@dataclass(frozen=True)
class Near:
    """`--refine best` with a weight of `--refine-near`."""

    weight: float
    mse: float
    way: float  # of the latent from the encoder's, in parts of W's spread
    edited: float  # change of the smile that is read, by an edit, in parts of that of the encoder's latent


@dataclass(frozen=True)
class Choices:
    """All of it."""

    auto: Auto
    average_start: list[float]  # mean MSE after each step
    random_start: list[float]
    near: list[Near]


def measure(model: ReStyle, images: Tensor, batch: int, seed: int, read: ReadOut) -> Choices:
    """On portraits [N, 3, h, h], on the model's device."""
    average = model.invert(images, MOST).thumbnails
    z = torch.randn(
        len(images), model.generator.config.z_dim, generator=torch.Generator().manual_seed(seed)
    )
    with torch.no_grad():
        w = model.generator.mapping(z.to(images.device))
    begin = w[:, None].expand(-1, model.generator.n_styles, -1)
    [random] = Stepper(model, batch, MOST)([Start(images, begin)])
    return Choices(
        _auto(model, images, batch),
        [float(mse(each, images).mean()) for each in average],
        [float(mse(each, images).mean()) for each in random.thumbnails],
        _near(model, images, batch, read),
    )


def _auto(model: ReStyle, images: Tensor, batch: int) -> Auto:
    """Portraits in batches, as a run has them, each twice over."""
    starts = [Start(chunk) for chunk in torch.cat([images, images]).split(batch)]
    auto, fixed = (Stepper(model, batch, MOST, gain) for gain in (AUTO_GAIN, None))
    seconds, fixed_seconds = (
        best_seconds(partial(_all, stepper, starts), images.device) / (2 * len(images))
        for stepper in (auto, fixed)
    )
    found = list(auto(starts))
    taken = torch.cat([each.n_taken for each in found if each.n_taken is not None])
    errors = torch.cat([mse(each.thumbnails[-1], each.target) for each in found])
    last = torch.cat([mse(each.thumbnails[-1], each.target) for each in fixed(starts)])
    return Auto(
        float(taken.float().mean()), int(taken.min()), int(taken.max()), float(errors.mean()),
        seconds, fixed_seconds, float(last.mean()),
    )  # fmt: skip


def _all(stepper: Stepper, starts: list[Start]) -> list[Inversion]:
    return list(stepper(starts))


def _near(model: ReStyle, images: Tensor, batch: int, read: ReadOut) -> list[Near]:
    """The trade between a close picture and a latent that can be edited."""
    gradients, width = cache.gradients(model), spread(model)
    chunks = [model.invert(chunk, ENCODER_STEPS) for chunk in images.split(batch)]
    start = torch.cat([chunk.latents[-1] for chunk in chunks])
    before = _smiles(model, start, read)
    found = []
    for weight in NEAR:
        refiner = Refiner(model, REFINE["best"], Objectives(weight), gradients)
        refined = [refiner(chunk) for chunk in chunks]
        latents = torch.cat([each.latents[-1] for each in refined])
        errors = torch.cat([mse(each.thumbnails[-1], each.target) for each in refined])
        way = (latents - start).square().sum(dim=2).mean().sqrt() / width
        edited = _smiles(model, latents, read) / before if before else float("nan")
        found.append(Near(weight, float(errors.mean()), float(way), edited))
    return found


def _smiles(model: ReStyle, latents: Tensor, read: ReadOut) -> float:
    """By how much more smile is read after an edit, on average; 0 where nothing can be."""
    shape = model.generator.n_styles, model.generator.w_dim
    try:
        by = directions.load(directions.demo_path(EDIT), *shape).to(latents) * STRENGTH
    except CheckpointError:  # of another generator's W
        return 0.0
    plain, edited = (read(model.draw_kept(each).cpu()) for each in (latents, latents + by))
    return float((edited - plain)[:, read.attributes.index(EDIT)].mean())
