"""Polish the demo's generator and encoder together: `python -m pipeline.portraits.train_jointly --help`.

Distillation alone leaves pictures soft, for the mapping must say everything in one vector. Here half of
each batch is drawn from what the encoder finds, so that the synthesis learns what its style vectors can say
beyond that, and errors around eyes and mouth count more. Half of what the encoder sees is disturbed while it
is asked for the clean portrait: a photo then becomes its nearest likeness instead of drifting away from step
to step. At the end the generator is frozen and the encoder follows it through all five steps.
"""

from __future__ import annotations

import copy
import math
import time
from pathlib import Path

import click
import torch
import torch.nn.functional as F
from torch import Tensor

from encoders import ReStyle, load_inverter, save_inverter
from encoders.distances import ms_ssim, mse
from pipeline.portraits.parameters import sample
from pipeline.portraits.rendering import render
from pipeline.portraits.train_generator import (
    UNSEEN_SEED,
    Renders,
    distance,
    finish,
    measure,
    paint,
)

BATCH, FRESH = 16, 4  # images a step, and how many of them were never seen before
RATE_GENERATOR, RATE_ENCODER = 1e-3, 5e-4
EMA_HALF_LIFE = 250  # steps
FROZEN_FROM = 0.7  # of the time: from here on the encoder learns alone
STRUCTURE, PULL = 0.4, 0.05  # weights beside the L1 terms: 1 - MS-SSIM, distance in W
FEATURES = 3.0  # how much more an error between brows and chin counts than one elsewhere
AVERAGE_EVERY = 50  # steps between two looks at the average latent, which moves with the mapping
REPORT_EVERY_S = 120.0


def feature_weight(size: int) -> Tensor:
    """[size, size]: 1, and up to 1 + FEATURES around eyes and mouth, whose place alignment fixes."""
    axis = (torch.arange(size) + 0.5) / size * 3.6 - 1.8
    x, y = axis[None, :], axis[:, None] + 0.0945  # face units, see framing
    eyes = torch.exp(-((x.abs() - 0.45) ** 2 / 0.12 + y**2 / 0.06))
    mouth = torch.exp(-(x**2 / 0.25 + (y - 0.945) ** 2 / 0.06))
    return 1 + FEATURES * torch.maximum(eyes, mouth)


def disturb(target: Tensor, draw: torch.Generator) -> Tensor:
    """Images as the renderer never makes them: other contrast, textures and patches. [N, 3, h, w]."""
    n, _, size, _ = target.shape

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=draw)

    gain, shift = 0.75 + 0.5 * uniform(n, 3, 1, 1), 0.3 * uniform(n, 3, 1, 1) - 0.15
    picture = target * gain + shift
    for cells in (4, 16, size):
        noise = torch.randn(n, 3, cells, cells, generator=draw)
        texture = F.interpolate(noise, (size, size), mode="bilinear", align_corners=False)
        picture = picture + 0.15 * uniform(n, 1, 1, 1) * texture
    axis = torch.linspace(0, 1, size)
    near = (axis[None, :] - uniform(n, 1, 1)).abs() < 0.15 * uniform(n, 1, 1)
    patch = (near & ((axis[:, None] - uniform(n, 1, 1)).abs() < 0.15)).float()[:, None]
    colour = 2 * uniform(n, 3, 1, 1) - 1
    return (picture * (1 - patch) + colour * patch).clamp(-1, 1)


class Polish:
    """Both networks, their averages over time, and one step of training."""

    def __init__(self, source: str, seed: int) -> None:
        torch.manual_seed(seed)
        self.model = load_inverter(source)
        self.model.requires_grad_(True)
        for conv in self.model.generator.synthesis.convs:
            conv.get_parameter("noise_strength").requires_grad_(False)
        self.ema = copy.deepcopy(self.model).requires_grad_(False)
        self.model.generator.synthesis.compute_dtype = torch.bfloat16
        self.spread = self.model.generator.mapping(sample(4096, seed)).std(dim=0).detach()
        self.weight = feature_weight(self.model.generator.resolution)
        self.draw = torch.Generator().manual_seed(seed)
        groups = [
            {"params": self.model.generator.parameters(), "lr": RATE_GENERATOR},
            {"params": self.model.encoder.parameters(), "lr": RATE_ENCODER},
        ]
        self.optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99), fused=True)
        self.n_steps, self.frozen = 0, False

    def loss(self, image: Tensor, target: Tensor) -> Tensor:
        features = ((image - target).abs() * self.weight).mean()
        return distance(image, target) + features + STRUCTURE * (1 - ms_ssim(image, target).mean())

    def freeze(self) -> None:
        """From here on the encoder alone, against the averaged generator."""
        self.model.generator.load_state_dict(self.ema.generator.state_dict())
        self.model.generator.requires_grad_(False)
        self.refresh_average()
        self.frozen = True

    def refresh_average(self) -> None:
        """The mapping moves, so the average latent does, and the image that inversion starts from."""
        for model in (self.model, self.ema):
            average = model.generator.estimate_latent_avg(2000)
            model.generator.latent_avg.copy_(average)
            model.latent_avg.copy_(average.expand_as(model.latent_avg))
            model._average_image = None

    def step(self, z: Tensor, target: Tensor, progress: float) -> float:
        """One batch; progress 0..1 places it on the cosine."""
        for group, rate in zip(
            self.optimizer.param_groups, (RATE_GENERATOR, RATE_ENCODER), strict=True
        ):
            group["lr"] = rate * (0.5 + 0.5 * math.cos(math.pi * min(progress, 1)))
        self.optimizer.zero_grad()
        half = len(target) // 2
        total = 0.0
        if not self.frozen:
            direct = self.loss(paint(self.model.generator, z[half:]), target[half:])
            direct.backward()
            total += direct.item()
        total += self._encode(z[:half], target[:half], n_steps=5 if self.frozen else 2)
        torch.nn.utils.clip_grad_norm_(self.model.encoder.parameters(), 5.0)
        self.optimizer.step()
        with torch.no_grad():
            keep = 0.5 ** (1 / EMA_HALF_LIFE)
            pairs = zip(self.ema.parameters(), self.model.parameters(), strict=True)
            for mine, theirs in pairs:
                mine.lerp_(theirs, 1 - keep)
        self.n_steps += 1
        if not self.frozen and self.n_steps % AVERAGE_EVERY == 0:
            self.refresh_average()
        return total

    def _encode(self, z: Tensor, target: Tensor, n_steps: int) -> float:
        """The residual loop on clean and disturbed images; gradients of every step are added up."""
        with torch.no_grad():
            w = self.model.generator.mapping(z)
            quarter = len(target) // 2
            seen = torch.cat([target[:quarter], disturb(target[quarter:], self.draw)])
        latents, image = self.model.start(len(seen))
        total = 0.0
        for _ in range(n_steps):
            with torch.autocast("cpu", torch.bfloat16):
                latents = self.model.step(seen, image, latents)
            image = self.model.draw(latents)
            far = ((latents - w[:, None]) / self.spread).square().mean()
            loss = (self.loss(image, target) + PULL * far) / n_steps
            loss.backward()
            latents, image = latents.detach(), image.detach()
            total += loss.item()
        return total


def save(polish: Polish, folder: Path, line: str) -> None:
    """Both files; the encoder's names the generator `demo` and holds its hash."""
    generator = copy.deepcopy(polish.ema.generator)
    finish(generator, folder / "generator.safetensors", f"pipeline.portraits.train_jointly: {line}")
    size = polish.ema.input_size
    model = ReStyle(polish.ema.encoder, generator, generator.latent_avg, size)
    notes = f"pipeline.portraits.train_jointly: {line}"
    save_inverter(folder / "encoder.safetensors", model, "demo", notes)


def report(polish: Polish, z: Tensor, target: Tensor) -> str:
    images = polish.ema.invert(target, 5, keep_images=True).images
    by_step = ", ".join(f"{mse(step, target).mean():.5f}" for step in images)
    psnr, energy = measure(polish.ema.generator, z, target)
    return (
        f"{polish.n_steps} steps, mapping {psnr:.2f} dB, gradient energy {energy:.3f}, "
        f"MSE by step {by_step}"
    )


@click.command(help=__doc__)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="a folder")
@click.option("--source", default="demo", show_default=True, help="the inverter to begin with")
@click.option("--minutes", type=float, default=18.0, show_default=True, help="of training")
@click.option("--seed", type=int, default=2, show_default=True)
@click.option("--threads", type=int, default=2, show_default=True, help="beside the renderer's")
def main(out: Path, source: str, minutes: float, seed: int, threads: int) -> None:
    torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    polish = Polish(source, seed)
    size = polish.model.generator.resolution
    renders = Renders(seed, BATCH, FRESH, first_chunk=0)
    z_test = sample(64, UNSEEN_SEED)
    target_test = render(z_test, size, "aligned")
    began = saved = time.monotonic()
    while (elapsed := time.monotonic() - began) < 60 * minutes:
        progress = elapsed / (60 * minutes)
        if progress > FROZEN_FROM and not polish.frozen:
            polish.freeze()
        polish.step(*renders.batch(), progress)
        if time.monotonic() - saved > REPORT_EVERY_S:
            saved = time.monotonic()
            print(f"{elapsed / 60:.1f} min, {report(polish, z_test, target_test)}", flush=True)
    polish.refresh_average()
    line = f"seed {seed}, {minutes:g} min, {report(polish, z_test, target_test)}"
    print(line, flush=True)
    save(polish, out, line)


if __name__ == "__main__":
    main()
