"""Ways down from an encoder's answer, by the error that is left after so many gradients.

    python -m benchmarks.descents [--images 16] [--out docs/quality/descents.md]

A gradient is one drawing and its derivative, which is nearly all of the time; errors are in parts of that of
latent optimisation, 500 gradients from the average latent, over the same portraits of the demo.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.quality.portraits import portraits
from encoders import ReStyle, load_inverter
from encoders.metrics.distances import mse
from encoders.optimization import HYBRID, OptimizationConfig, optimize
from encoders.refinement import cache, curvature, descent
from encoders.refinement.curvature import Coordinates

SEED = 2_000_000_011  # of the portraits of docs/quality.md
AFTER = (5, 10, 15, 20, 30, 36)  # gradients
N_STEPS = 5  # of the residual loop before
PLAIN = 100.0  # the length of a first step down the gradient that served plain L-BFGS best, of 1 to 1,000


def lbfgs(
    model: ReStyle, target: Tensor, start: Tensor, coordinates: Coordinates, after: Sequence[int]
) -> list[float]:
    """Mean error after each number of gradients."""

    def objective(u: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            change = coordinates.latents(u).detach().requires_grad_()
            value = mse(model.to_input(model.draw(start + change)), target)
            [gradient] = torch.autograd.grad(value.sum(), change)
        return value.detach(), coordinates.gradient(gradient)

    state = descent.start(objective, len(start), start[0].numel(), start.device)
    found = {}
    for n in range(2, max(after) + 1):
        state = descent.advance(objective, state)
        found[n] = float(state.value.mean())
    return [found[n] for n in after]


def adam(model: ReStyle, target: Tensor, start: Tensor, after: Sequence[int]) -> list[float]:
    """The same of a run of so many steps each, for its learning rate has a plan."""
    found = [optimize(model, target, replace(HYBRID, n_steps=n), start) for n in after]
    return [float(mse(each.thumbnails[-1], target).mean()) for each in found]


def even(n_styles: int, w_dim: int) -> Coordinates:
    """Those of the latent itself, on the scale of a first step."""
    blocks = PLAIN**0.5 * torch.eye(w_dim).repeat(n_styles, 1, 1)
    return Coordinates(blocks, torch.zeros(n_styles * w_dim, 1), torch.ones(1), 1.0)


def by_layer(gradients: Tensor) -> Coordinates:
    """Without what is between the style layers."""
    found = curvature.coordinates(gradients)
    return Coordinates(found.blocks, found.basis, torch.ones_like(found.gains), 1.0)


def measure(
    n_images: int, n_steps: int = 500, after: Sequence[int] = AFTER
) -> tuple[dict[str, list[float]], float]:
    """Errors of each way in parts of the optimisation's; and that of the start."""
    model = load_inverter("demo", compile="never")
    target = portraits(n_images, SEED, model.input_size[0]).images
    found = model.invert(target, N_STEPS)
    start = found.latents[-1]
    optimized = optimize(model, target, OptimizationConfig(n_steps=n_steps)).thumbnails[-1]
    gradients = cache.gradients(model)
    shape = start.shape[1:]
    ways = {
        "Adam, as `encoders/optimization.py`": adam(model, target, start, after),
        "L-BFGS": lbfgs(model, target, start, even(*shape), after),
        "L-BFGS, each style layer even": lbfgs(model, target, start, by_layer(gradients), after),
    }
    for n in (64, 256, 1024, len(gradients)):
        name = f"L-BFGS, all of W+ even, by {n:,} gradients"
        ways[name] = lbfgs(model, target, start, curvature.coordinates(gradients[:n]), after)
    whole = float(mse(optimized, target).mean())
    relative = {name: [error / whole for error in errors] for name, errors in ways.items()}
    return relative, float(mse(found.thumbnails[-1], target).mean()) / whole


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser("benchmarks.descents", description=__doc__)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--out", type=Path, help="a file for the table")
    args = parser.parse_args(argv)
    ways, start = measure(args.images)
    lines = [
        f"| gradients per image | {' | '.join(map(str, AFTER))} |",
        "|---|" + "---|" * len(AFTER),
    ]
    for name, errors in ways.items():
        lines.append(f"| {name} | {' | '.join(f'{error:.2f}' for error in errors)} |")
    text = (
        f"Before: {start:.2f}, after {N_STEPS} steps of the encoder.\n\n" + "\n".join(lines) + "\n"
    )
    print(text)
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(text)


if __name__ == "__main__":
    main()
