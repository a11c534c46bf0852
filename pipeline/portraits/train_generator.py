"""Distil the renderer into a compact StyleGAN2: `python -m pipeline.portraits.train_generator --help`.

The mapping sees the renderer's own normals, so nothing adversarial is needed: mapping and synthesis
are fitted to the rendered crop of the same normals, by L1 at four scales and L1 of gradients. Each
batch holds a few fresh renders, the rest are drawn from the latest ones. Interrupted, the same
command goes on where the last checkpoint was written.
"""

from __future__ import annotations

import copy
import itertools
import math
import time
from collections.abc import Iterator
from pathlib import Path

import click
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from generators import Generator, GeneratorConfig, ops, save_generator
from pipeline.portraits import resume
from pipeline.portraits.parameters import N_PARAMETERS, sample
from pipeline.portraits.rendering import render

CONFIG = GeneratorConfig(
    resolution=64,
    channels=(128, 128, 128, 64, 32),
    z_dim=N_PARAMETERS,
    w_dim=128,
    n_mapping_layers=4,
    mapping_lr_mul=1.0,
)
BATCH, FRESH = 16, 2  # images a step, and how many of them were never seen before
KEPT = 16_384  # latest renders, drawn from again
LEARNING_RATE, WARM_UP_STEPS = 3e-3, 200
EMA_HALF_LIFE = 10_000  # images
UNSEEN_SEED = 10**9  # training's seeds lie far below
CHECKPOINT_EVERY_S = 180.0


def gradients(x: Tensor) -> tuple[Tensor, Tensor]:
    return x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]


def distance(image: Tensor, target: Tensor) -> Tensor:
    """L1 at full, 1/2, 1/4 and 1/8 size, and L1 of the finest gradients, which keeps edges sharp."""
    total = sum(
        (g - t).abs().mean() for g, t in zip(gradients(image), gradients(target), strict=True)
    )
    total = total + (image - target).abs().mean()
    for _ in range(3):
        image, target = F.avg_pool2d(image, 2), F.avg_pool2d(target, 2)
        total = total + (image - target).abs().mean()
    return total


class FreshRenders(IterableDataset):
    """Endless chunks of (normals, crops as bytes), each fixed by the seed and its number."""

    def __init__(self, seed: int, size: int, first_chunk: int) -> None:
        self.seed, self.size, self.first_chunk = seed, size, first_chunk

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for chunk in itertools.count(self.first_chunk):
            z = sample(self.size, seed=self.seed * 10_000_000 + chunk)
            images = render(z, CONFIG.resolution, "aligned")
            yield z, ((images + 1) * 127.5).round().byte()


class Renders:
    """Batches of (normals, crops): some fresh from another process, the rest of the latest ones."""

    def __init__(self, seed: int, batch: int, fresh: int, first_chunk: int) -> None:
        self.n_fresh, self.n_again = fresh, batch - fresh
        source = FreshRenders(seed, fresh, first_chunk)
        self.fresh = iter(DataLoader(source, batch_size=None, num_workers=1, prefetch_factor=64))
        self.z = torch.empty(KEPT, N_PARAMETERS)
        self.images = torch.empty(KEPT, 3, CONFIG.resolution, CONFIG.resolution, dtype=torch.uint8)
        self.n_rendered = 0
        self.draw = torch.Generator().manual_seed(seed + first_chunk)
        while self.n_rendered < 512:
            self._add()

    def _add(self) -> Tensor:
        """Put fresh renders in the oldest ones' place; returns where."""
        where = torch.arange(self.n_rendered, self.n_rendered + self.n_fresh) % KEPT
        self.z[where], self.images[where] = next(self.fresh)
        self.n_rendered += self.n_fresh
        return where

    def batch(self) -> tuple[Tensor, Tensor]:
        fresh = self._add()
        n_kept = min(self.n_rendered, KEPT)
        again = torch.randint(n_kept, (self.n_again,), generator=self.draw)
        rows = torch.cat([fresh, again])
        return self.z[rows], self.images[rows].float() / 127.5 - 1


def paint(generator: Generator, z: Tensor) -> Tensor:
    w = generator.mapping(z)
    return generator.synthesis(w[:, None].expand(-1, generator.n_styles, -1), noise="none")


def paint_small(generator: Generator, z: Tensor, size: int) -> Tensor:
    """The image as it stands at `size` pixels within the synthesis: `paint`, stopped early."""
    synthesis, w = generator.synthesis, generator.mapping(z)
    x = synthesis.const.to(synthesis.compute_dtype).expand(len(z), -1, -1, -1)
    x = synthesis.convs[0](x.contiguous(memory_format=torch.channels_last), w, "none")
    image = synthesis.to_rgbs[0](x, w)
    for level in range(1, int(math.log2(size)) - 1):
        for conv in synthesis.convs[2 * level - 1 : 2 * level + 1]:
            x = conv(x, w, "none")
        image = ops.upsample2d(image) + synthesis.to_rgbs[level](x, w)
    return image


def size_at(progress: float) -> int:
    """Small pictures first: they hold most of the weights' work at a third of the time."""
    return 16 if progress < 0.40 else 32 if progress < 0.60 else CONFIG.resolution


def rate_at(progress: float) -> float:
    """Learning rate: level, then a cosine to 0."""
    return LEARNING_RATE * (0.5 + 0.5 * math.cos(math.pi * min(max(progress - 0.4, 0) / 0.6, 1)))


@torch.no_grad()
def measure(generator: Generator, z: Tensor, target: Tensor) -> tuple[float, float]:
    """Mean PSNR in dB at full size, and gradient energy as a share of the target's."""
    image = paint(generator, z)
    mse = (image - target).square().mean(dim=(1, 2, 3))
    energy = [sum(g.square().sum().item() for g in gradients(x)) for x in (image, target)]
    return (10 * (4 / mse).log10()).mean().item(), energy[0] / energy[1]


@torch.no_grad()
def finish(ema: Generator, path: Path, notes: str) -> None:
    ema.latent_avg.copy_(ema.estimate_latent_avg())
    for name, buffer in ema.synthesis.named_buffers():
        if name.endswith("noise"):
            buffer.zero_()  # its strength is zero too: the demo is deterministic
    save_generator(path, ema, notes)


class Run:
    """Everything that a checkpoint holds."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.generator = Generator(CONFIG)
        for to_rgb in list(self.generator.synthesis.to_rgbs)[1:]:
            torch.nn.init.zeros_(
                to_rgb.get_parameter("weight")
            )  # a size that joins changes nothing at first
        self.generator.synthesis.compute_dtype = torch.bfloat16
        for name, parameter in self.generator.named_parameters():
            parameter.requires_grad_(not name.endswith("noise_strength"))
        self.ema = copy.deepcopy(self.generator).requires_grad_(False)
        self.ema.synthesis.compute_dtype = torch.float32
        self.optimizer = torch.optim.Adam(
            [p for p in self.generator.parameters() if p.requires_grad],
            lr=LEARNING_RATE,
            betas=(0.9, 0.99),
            fused=True,
        )
        self.step, self.chunk, self.elapsed_s = 0, 0, 0.0

    def update(self, z: Tensor, target: Tensor, progress: float) -> Tensor:
        """One step; progress 0..1 sets its size and rate."""
        warm = min(1.0, (self.step + 1) / WARM_UP_STEPS)
        for group in self.optimizer.param_groups:
            group["lr"] = warm * rate_at(progress)
        size = size_at(progress)
        image = paint_small(self.generator, z, size)
        loss = distance(image, F.avg_pool2d(target, CONFIG.resolution // size))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            keep = min(0.5 ** (BATCH / EMA_HALF_LIFE), 1 - 1 / (self.step + 1))
            pairs = zip(self.ema.parameters(), self.generator.parameters(), strict=True)
            for mine, theirs in pairs:
                mine.lerp_(theirs, 1 - keep)
        self.step += 1
        return loss.detach()


@click.command(help=__doc__)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="a .safetensors file")
@click.option("--minutes", type=float, default=45.0, show_default=True, help="of training")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--threads", type=int, default=1, show_default=True, help="beside the renderer's")
def main(out: Path, minutes: float, seed: int, threads: int) -> None:
    torch.set_num_threads(threads)
    run, state = Run(seed), out.with_suffix(".state")
    if state.exists():
        resume.load(run, state)
        print(f"going on at step {run.step}", flush=True)
    first_chunk = run.chunk
    renders = Renders(seed, BATCH, FRESH, first_chunk)
    z_test = sample(64, UNSEEN_SEED)
    target_test = render(z_test, CONFIG.resolution, "aligned")
    began, saved, loss_mean = time.monotonic() - run.elapsed_s, run.elapsed_s, 0.0
    while run.elapsed_s < 60 * minutes:
        loss = run.update(*renders.batch(), progress=run.elapsed_s / (60 * minutes))
        loss_mean += 0.01 * (loss.item() - loss_mean)
        run.elapsed_s, run.chunk = (
            time.monotonic() - began,
            first_chunk + renders.n_rendered // FRESH,
        )
        done = run.elapsed_s >= 60 * minutes
        if done or run.elapsed_s - saved > CHECKPOINT_EVERY_S or run.step == 200:
            saved = run.elapsed_s
            psnr, energy = measure(run.ema, z_test, target_test)
            line = (
                f"{run.elapsed_s / 60:.1f} min, step {run.step}, {run.step * BATCH} images seen, "
                f"loss {loss_mean:.4f}, unseen {psnr:.2f} dB, gradient energy {energy:.3f}"
            )
            print(line, flush=True)
            resume.save(run, state)
            finish(run.ema, out, f"pipeline.portraits.train_generator, seed {seed}: {line}")
    state.unlink()


if __name__ == "__main__":
    main()
