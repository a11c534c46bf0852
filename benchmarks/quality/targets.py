"""What was to be reached, and whether it was: verdicts are computed, never typed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from benchmarks.quality.distances import Distances
from benchmarks.quality.readout import Reading
from benchmarks.quality.samples import Samples

IMPROVING_STEPS = 5
OF_STEP_1, OF_SINGLE_PASS = 0.75, 0.8
OF_OPTIMIZATION = 1.8  # the ratio that the paper publishes
TIMES_FASTER = 50
FAST, BEST = 4, 10  # times as long as five steps, at most
SHARP = 0.9
SHOWN = {"glasses": "glasses", "beard": "beard", "smile": "smile", "gaze_x": "gaze"}
AGREES = 0.8  # of the correlation that a reading of the portrait itself has with the truth
DETECTED = 0.95  # of the share of portraits in which a face is found


@dataclass(frozen=True)
class Target:
    """One claim."""

    name: str
    wanted: str
    found: str
    verdict: str  # "reached", "missed by ...", "not measured: ..."


def judge(
    steps: Sequence[Distances],
    methods: dict[str, Distances],
    seconds: dict[str, float],
    readings: Sequence[Reading],
    samples: Samples,
) -> list[Target]:
    """All claims.

    Args:
        steps: of the average image, then after each step.
        methods, seconds (an image): keys encoder (five steps), optimization, hybrid, and
            single_pass where one was given; fast and best, the presets of refinement.
    """
    ours, optimized = methods["encoder"], methods["optimization"]
    faster = seconds["optimization"] / seconds["encoder"]
    return [
        *(every_step_improves(steps, metric) for metric in ("mse", "ms_ssim", "identity")),
        at_most("MSE of 5 steps over that of step 1", ours.mse / steps[1].mse, OF_STEP_1),
        _against_single_pass(ours, methods.get("single_pass")),
        at_most(
            "MSE of 5 steps over that of optimisation", ours.mse / optimized.mse, OF_OPTIMIZATION
        ),
        at_least("time of optimisation over that of 5 steps", faster, TIMES_FASTER),
        at_most(
            "MSE of the hybrid over that of optimisation", methods["hybrid"].mse / optimized.mse, 1
        ),
        *_refined(methods, seconds),
        at_least("sharpness of 5 steps over that of the portraits", ours.sharpness, SHARP),
        *(_shown(reading) for reading in readings if reading.attribute in SHOWN),
        at_least(
            "samples with a face, over portraits with a face",
            samples.detected / max(samples.detected_of_portraits, 1e-9),
            DETECTED,
        ),
    ]


def at_most(name: str, found: float, bound: float) -> Target:
    verdict = "reached" if found <= bound else f"missed by {found - bound:.2g}"
    return Target(name, f"at most {bound:g}", f"{found:.3f}", verdict)


def at_least(name: str, found: float, bound: float) -> Target:
    verdict = "reached" if found >= bound else f"missed by {bound - found:.2g}"
    return Target(name, f"at least {bound:g}", f"{found:.3f}", verdict)


def every_step_improves(steps: Sequence[Distances], metric: str) -> Target:
    """The mean after each of the first steps is better than the one before."""
    sign = -1 if metric == "mse" else 1
    values = [getattr(each, metric) for each in steps[: IMPROVING_STEPS + 1]]
    gains = [sign * (after - before) for before, after in pairwise(values)]
    least = min(gains)
    step = 1 + gains.index(least)
    verdict = "reached" if least > 0 else f"missed by {abs(least):.2g} at step {step}"
    name = f"least gain in mean {metric} by a step, of the first {IMPROVING_STEPS}"
    return Target(name, "above 0", f"{least:.2g}", verdict)


def _against_single_pass(ours: Distances, single: Distances | None) -> Target:
    name = "MSE of 5 steps over that of a single-pass encoder"
    if single is not None:
        return at_most(name, ours.mse / single.mse, OF_SINGLE_PASS)
    return Target(
        name, f"at most {OF_SINGLE_PASS:g}", "", "not measured: no --single-pass was given"
    )


def _refined(methods: dict[str, Distances], seconds: dict[str, float]) -> list[Target]:
    """As close as the optimisation in four times the time of five steps, closer in ten."""
    optimized, five = methods["optimization"].mse, seconds["encoder"]
    found = []
    for name, times, error in (("fast", FAST, 1.0), ("best", BEST, 2 / 3)):
        said = f"--refine {name}"
        found += [
            at_most(
                f"MSE of {said} over that of optimisation", methods[name].mse / optimized, error
            ),
            at_most(f"time of {said} over that of 5 steps", seconds[name] / five, times),
        ]
    return found


def _shown(reading: Reading) -> Target:
    """Where nothing can be read from the portraits themselves, nothing is shown."""
    name = f"{SHOWN[reading.attribute]} shown: agreement with the truth, over that of the portraits"
    best = reading.of_portraits
    return at_least(name, reading.of_reconstructions / best if best > 0 else 0.0, AGREES)
