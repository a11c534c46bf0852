"""Train the demo's ReStyle encoder: `python -m pipeline.portraits.train_encoder --help`.

The generator is frozen. A batch goes through the residual loop as at inversion; each step makes an
update of its own, image and latents detached between steps. Renders come with their normals, so
that the mapping tells where in W each one lies: a weak pull there keeps the latents in the region
that the generator draws well. Interrupted, the same command goes on where the last checkpoint was
written.
"""

from __future__ import annotations

import copy
import math
import time
from pathlib import Path

import click
import torch
from torch import Tensor

from encoders import ReStyle, UNet, UNetConfig, save_inverter
from encoders.distances import ms_ssim, mse
from generators import Generator, load_generator
from pipeline.portraits import resume
from pipeline.portraits.parameters import sample
from pipeline.portraits.rendering import render
from pipeline.portraits.train_generator import CHECKPOINT_EVERY_S, UNSEEN_SEED, Renders, distance

# Most of a U-Net's work is at its fine end: narrow there and wide below costs half of the default.
WIDTHS, N_LEVELS = (32, 48, 96, 160, 192), 2
BATCH, FRESH = 12, 4  # images at once, and how many of them were never seen before
N_STEPS = 5
LEARNING_RATE, WARM_UP_UPDATES = 1e-3, 200
EMA_HALF_LIFE = 400  # updates
# Weights beside the L1 terms: 1 - MS-SSIM, MSE (what the steps are judged by), distance in W.
STRUCTURE, SQUARE, PULL = 0.4, 2.0, 0.1


def objective(image: Tensor, target: Tensor, latents: Tensor, w: Tensor, spread: Tensor) -> Tensor:
    """Loss of one step; spread [w_dim] is the standard deviation of W, its unit of distance."""
    far = ((latents - w[:, None]) / spread).square().mean()
    structure = 1 - ms_ssim(image, target).mean()
    square = mse(image, target).mean()
    return distance(image, target) + STRUCTURE * structure + SQUARE * square + PULL * far


def n_steps_at(progress: float) -> int:
    """Two steps at first, when an update teaches the first step most, and soon all of them."""
    return min(N_STEPS, 2 + int(progress * 10))


class Run:
    """Everything that a checkpoint holds, and the frozen generator."""

    def __init__(self, generator: Generator, seed: int) -> None:
        torch.manual_seed(seed)
        shape = generator.resolution, generator.n_styles, generator.w_dim
        config = UNetConfig(*shape, widths=WIDTHS, n_levels=N_LEVELS)
        self.encoder = UNet(config)
        self.ema = copy.deepcopy(self.encoder).requires_grad_(False)
        self.optimizer = torch.optim.Adam(
            self.encoder.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.99), fused=True
        )
        self.n_updates, self.n_images, self.elapsed_s = 0, 0, 0.0

    def batch(
        self, model: ReStyle, z: Tensor, target: Tensor, spread: Tensor, progress: float
    ) -> float:
        """One batch through the loop; progress 0..1 places it on the cosine. Returns the last loss."""
        w = model.generator.mapping(z)
        latents, image = model.start(len(target))
        for _ in range(n_steps_at(progress)):
            with torch.autocast("cpu", torch.bfloat16):
                latents = model.step(target, image, latents)
            image = model.draw(latents)
            loss = objective(image, target, latents, w, spread)
            self._update(loss, progress)
            latents, image = latents.detach(), image.detach()
        self.n_images += len(target)
        return loss.item()

    def _update(self, loss: Tensor, progress: float) -> None:
        warm = min(1.0, (self.n_updates + 1) / WARM_UP_UPDATES)
        for group in self.optimizer.param_groups:
            group["lr"] = LEARNING_RATE * warm * (0.5 + 0.5 * math.cos(math.pi * min(progress, 1)))
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.encoder.parameters(), 5.0)
        self.optimizer.step()
        with torch.no_grad():
            keep = min(0.5 ** (1 / EMA_HALF_LIFE), 1 - 1 / (self.n_updates + 1))
            for mine, theirs in zip(self.ema.parameters(), self.encoder.parameters(), strict=True):
                mine.lerp_(theirs, 1 - keep)
        self.n_updates += 1


def finished(run: Run, generator: Generator) -> ReStyle:
    """The averaged encoder with its generator, in float32."""
    size = (generator.resolution, generator.resolution)
    return ReStyle(run.ema, copy.deepcopy(generator), generator.latent_avg, size).eval()


@click.command(help=__doc__)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="a .safetensors file")
@click.option("--generator", "source", default="demo", show_default=True, help="demo, or a file")
@click.option("--minutes", type=float, default=22.0, show_default=True, help="of training")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--threads", type=int, default=1, show_default=True, help="beside the renderer's")
def main(out: Path, source: str, minutes: float, seed: int, threads: int) -> None:
    torch.set_num_threads(threads)
    generator = load_generator(source)
    run, state = Run(generator, seed), out.with_suffix(".state")
    if state.exists():
        resume.load(run, state)
        print(f"going on at update {run.n_updates}", flush=True)
    size = (generator.resolution, generator.resolution)
    model = ReStyle(run.encoder, copy.deepcopy(generator), generator.latent_avg, size)
    model.generator.synthesis.compute_dtype = torch.bfloat16
    spread = generator.mapping(sample(4096, seed)).std(dim=0)
    renders = Renders(seed, BATCH, FRESH, first_chunk=run.n_images)
    target = render(sample(64, UNSEEN_SEED), generator.resolution, "aligned")
    began, saved = time.monotonic() - run.elapsed_s, run.elapsed_s
    while run.elapsed_s < 60 * minutes:
        loss = run.batch(model, *renders.batch(), spread, run.elapsed_s / (60 * minutes))
        run.elapsed_s = time.monotonic() - began
        done = run.elapsed_s >= 60 * minutes
        if done or run.elapsed_s - saved > CHECKPOINT_EVERY_S or run.n_images == 50 * BATCH:
            saved = run.elapsed_s
            images = finished(run, generator).invert(target, N_STEPS, keep_images=True).images
            by_step = ", ".join(f"{mse(step, target).mean():.5f}" for step in images)
            line = (
                f"{run.elapsed_s / 60:.1f} min, {run.n_updates} updates, {run.n_images} images "
                f"seen, loss {loss:.4f}, unseen MSE by step {by_step}"
            )
            print(line, flush=True)
            resume.save(run, state)
            notes = f"pipeline.portraits.train_encoder, seed {seed}: {line}"
            save_inverter(out, finished(run, generator), source, notes)
    state.unlink()


if __name__ == "__main__":
    main()
