"""The whole experiment: portraits, methods, measurements."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.quality import (
    changes,
    choices,
    distances,
    methods,
    readout,
    record,
    robustness,
    samples,
    targets,
)
from benchmarks.quality.distances import Distances
from benchmarks.quality.methods import ENCODER_STEPS, Result
from benchmarks.quality.pictures import Pictures
from benchmarks.quality.portraits import Portraits, portraits, require_square
from benchmarks.quality.record import Method, Point, Record
from benchmarks.quality.settings import Settings
from encoders import ReStyle, load_inverter
from encoders.optimization import spread
from pipeline.config import REFINE

REFINE_STEPS = (2, 5, REFINE["fast"], 20, REFINE["best"])
# Added to the seed of the portraits, each for other random numbers.
_OF_RENDERS, _OF_SAMPLES, _OF_PATCHES, _OF_STARTS = 10, 20, 30, 40


def models(settings: Settings) -> tuple[ReStyle, ReStyle | None]:
    """The inverter, and the single-pass encoder if one is given.

    Raises:
        CheckpointError: a file that cannot be loaded.
        ValueError: models of other kinds or sizes.
    """
    model = load_inverter(settings.model, device=settings.device)
    size = require_square(model)
    if model.max_steps is not None:
        raise ValueError(f"{settings.model} takes one step only; pass it as --single-pass")
    if settings.single_pass is None:
        return model, None
    single = load_inverter(settings.single_pass, device=settings.device)
    # One that sees reconstructions, too, may have been trained for one step: the average image then.
    if require_square(single) != size:
        raise ValueError(f"{settings.single_pass} does not see images of {size} pixels")
    return model, single


def run(settings: Settings, argv: Sequence[str]) -> tuple[Record, Pictures]:
    """Everything, with a line on the console for each part; raises as `models`."""
    load, _, _ = os.getloadavg()
    model, single = models(settings)
    size = model.input_size[0]
    held_out = portraits(settings.images, settings.seed, size)
    images = held_out.images.to(settings.device)
    results = _results(settings, model, single, images)
    encoded = results["encoder"]
    refined = results["refined"]
    compared = {**results, "encoder": encoded.until(ENCODER_STEPS)}
    del compared["refined"]
    compared |= {name: refined.until(n) for name, n in REFINE.items()}
    _say("distances")
    start = model.average_image.cpu().expand_as(held_out.images)
    drawn = torch.cat([start[None], encoded.images])
    answers = {name: result.answer for name, result in compared.items()}
    steps, found = _distances(held_out, drawn, answers)
    seconds = {name: result.seconds[-1] for name, result in compared.items()}
    _say("samples and attributes")
    sampled = samples.draw(model, settings.samples, settings.seed + _OF_SAMPLES, settings.batch)
    seen = samples.measure(sampled, held_out.images)
    renders = portraits(settings.readout_renders, settings.seed + _OF_RENDERS, size)
    read = readout.ReadOut(renders)
    readings = readout.measure(read, held_out, answers["encoder"], sampled)
    _say("disturbed portraits")
    seed = settings.seed + _OF_PATCHES
    disturbed, examples = robustness.measure(model, images, settings.batch, seed)
    _say("choices")
    seed = settings.seed + _OF_STARTS
    chosen = choices.measure(model, images, settings.batch, seed, read)
    made = Record(
        setup=record.setup(settings, model, single, argv, load),
        steps=steps,
        step_seconds=list(encoded.seconds),
        methods={name: Method(seconds[name], found[name]) for name in compared},
        courses={name: _course(result, held_out) for name, result in results.items()},
        changes=_changes(model, held_out, drawn, encoded),
        robustness=disturbed,
        readings=readings,
        samples=seen,
        choices=chosen,
        targets=targets.judge(steps, found, seconds, readings, seen),
    )
    return made, Pictures(held_out, drawn, answers, sampled, examples)


def _results(
    settings: Settings, model: ReStyle, single: ReStyle | None, images: Tensor
) -> dict[str, Result]:
    """Each method's, in the order of the page."""
    found = {}
    if single is not None:
        _say("single pass")
        found["single_pass"] = methods.encode(single, images, settings.batch, 1)
    _say("residual loop")
    found["encoder"] = methods.encode(model, images, settings.batch, settings.steps)
    _say(f"optimisation, {settings.optimization_steps} steps")
    found["optimization"] = methods.search(
        model, images, settings.batch, settings.optimization_steps
    )
    _say(f"hybrid, {settings.hybrid_steps} steps")
    before = found["encoder"].seconds[ENCODER_STEPS - 1]
    found["hybrid"] = methods.optimize_on(
        model, images, settings.batch, settings.hybrid_steps, before
    )
    _say("refinement")
    found["refined"] = methods.refine(model, images, settings.batch, REFINE_STEPS)
    return found


def _distances(
    held_out: Portraits, drawn: Tensor, answers: dict[str, Tensor]
) -> tuple[list[Distances], dict[str, Distances]]:
    """Of the average image and every step; of each method's answer."""
    others = {name: each for name, each in answers.items() if name != "encoder"}
    found = distances.measure(held_out.images, [*drawn, *others.values()])
    steps = found[: len(drawn)]
    by_name = dict(zip(others, found[len(drawn) :], strict=True))
    return steps, {"encoder": steps[ENCODER_STEPS], **by_name}


def _course(result: Result, held_out: Portraits) -> list[Point]:
    errors = [float((images - held_out.images).square().mean()) for images in result.images]
    return [Point(*each) for each in zip(result.steps, result.seconds, errors, strict=True)]


def _changes(
    model: ReStyle, held_out: Portraits, drawn: Tensor, encoded: Result
) -> changes.Changes:
    start = model.latent_avg.cpu().expand_as(encoded.latents[0])
    latents = torch.cat([start[None], encoded.latents])
    return changes.measure(held_out.images, drawn, latents, held_out.masks(), spread(model))


def _say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", flush=True)
