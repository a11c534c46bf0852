"""A small generator and its encoder from a renderer: the demo's way to a StyleGAN without a data centre.

Each training image comes with the normal vector z that it was drawn from, so the mapping is told what every
z means, and nothing must be found by an adversary alone. Two ways lead to an image, and both are trained:
from z through the mapping, which makes random samples; and from the image through the encoder, in a
residual loop as at inversion, which teaches the synthesis what its style vectors can say beyond one z. A
discriminator, from the batch `discriminator_start` on, asks for the sharpness that distances between pixels
do not.
"""

from __future__ import annotations

import copy
import math
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from encoders.inverter_file import save_inverter
from encoders.metrics.distances import detail_l1, ms_ssim, mse, multi_scale_l1, sharpness
from encoders.restyle import ReStyle
from encoders.training.distillation_config import DistillationConfig, new_model
from encoders.training.disturbance import disturb
from encoders.training.optimizers import EMA
from encoders.training.residual_batch import random_source
from generators import save_discriminator, save_generator
from generators.discriminator import Discriminator, DiscriminatorConfig
from generators.training.adversarial import discriminator_loss, generator_loss, r1_penalty
from generators.training.finite import FiniteCheck
from generators.training.parallel import average_gradients, broadcast_parameters, n_workers
from generators.training.protocol import NotFinite, Validation

N_LATENT_AVG = 2000  # samples of the mapping behind its average
N_SPREAD = 512  # and behind its spread
R1_EVERY = 16  # batches
AVERAGE_EVERY = 50  # batches between two looks at the average latent
CLIP = 5.0  # most the norm of the encoder's gradients may be
N_STEPS_SHOWN = 5
N_COLUMNS = 8  # of the pictures to look at
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
# What has a state of its own, under the name that checkpoints have for it.
_PARTS = {
    "model": "model",
    "average": "average",
    "discriminator": "critic",
    "optimizer": "optimizer",
    "discriminator_optimizer": "critic_optimizer",
}


class DistillationTrainer:
    """Generator, encoder and discriminator, their averages over time, and one step of training."""

    def __init__(self, config: DistillationConfig, device: str | torch.device = "cpu") -> None:
        """Raises CheckpointError for a start that cannot be loaded."""
        torch.manual_seed(config.seed)
        self.config, self.device = config, torch.device(device)
        self.model = new_model(config).to(device)
        self.model.requires_grad_(True)
        for conv in self.model.generator.synthesis.convs:  # the demo has no noise
            conv.get_parameter("noise_strength").requires_grad_(False)
        self.ema = copy.deepcopy(self.model).requires_grad_(False).eval()
        self.average = EMA(self.ema)
        shape = DiscriminatorConfig(config.resolution, config.discriminator_channels)
        self.discriminator = Discriminator(shape).to(device)
        for network in (self.model, self.discriminator):
            broadcast_parameters(network)
        self._dtype = DTYPES[config.precision]
        self.model.generator.synthesis.compute_dtype = self._dtype
        groups = [
            {"params": _trained(self.model.generator), "rate": config.generator_learning_rate},
            {"params": _trained(self.model.encoder), "rate": config.encoder_learning_rate},
        ]
        self.optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99), fused=True)
        groups = [
            {"params": _trained(self.discriminator), "rate": config.discriminator_learning_rate}
        ]
        self.discriminator_optimizer = torch.optim.Adam(groups, betas=(0.0, 0.99), fused=True)
        self.global_step = 0  # batches

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the images."""
        return self.model.input_size

    @property
    def _has_discriminator(self) -> bool:
        return bool(self.config.adversarial) and self.global_step >= self.config.discriminator_start

    def need(self) -> None:
        """Memory of a batch: it has not been measured for all that this can be made of."""

    def step(
        self, images: Tensor, z: Tensor | None = None, labels: Tensor | None = None
    ) -> dict[str, float]:
        """Train on one batch.

        Args:
            images: [N, 3, h, w] in [-1, 1].
            z: the vectors that they were drawn from, [N, z_dim].
            labels: not used.

        Returns: the losses of the images drawn from their z and of each residual step; with a discriminator
            its opinion of the last of them, its loss, and its mean scores of real and drawn images.

        Raises:
            NotFinite: a loss is no number; the update that it belongs to was not made.
            ValueError: vectors of another length than ``z_dim``.
        """
        assert z is not None, "distillation needs z"
        images, z = images.to(self.device), z.to(self.device)
        self._set_rates()
        n = self.config.n_direct
        check, n_averaged = FiniteCheck(self.device), self.average.n_updates
        self.optimizer.zero_grad()
        direct = self._paint(z[:n])
        terms = self._objective(direct, images[:n], "direct", judged=True)
        terms["direct"].backward()
        _require_finite(check, terms)
        encoded = self._encode(z[n:], images[n:], check)
        if self._has_discriminator:
            fakes = torch.cat([direct, encoded]).detach()
            self._train_discriminator(images, fakes, check)
        try:
            values = check.fetch()
        except NotFinite:
            self.average.n_updates = n_averaged + check.n_updates
            raise
        self.global_step += 1
        if self.global_step % AVERAGE_EVERY == 0:
            self._refresh_average(self.model, self.ema)
        return values

    def _paint(self, z: Tensor) -> Tensor:
        generator = self.model.generator
        w = generator.mapping(z)
        return generator.synthesis(w[:, None].expand(-1, generator.n_styles, -1), noise="none")

    def _encode(self, z: Tensor, images: Tensor, check: FiniteCheck) -> Tensor:
        """The residual loop; the last images.

        Every step makes an update of its own, the first one with the gradients that are there.
        """
        config = self.config
        with torch.no_grad():
            w = self.model.generator.mapping(z)[:, None]
            spread = self.model.generator.mapping(self._random_z(N_SPREAD, seed=0)).std(dim=0)
            n_clean = len(images) - round(config.disturb * len(images))
            seen = torch.cat([images[:n_clean], disturb(images[n_clean:], self._draw())])
        latents, image = self.model.start(len(seen))
        for n in range(config.n_steps):
            with torch.autocast(self.device.type, self._dtype, self._dtype != torch.float32):
                latents = self.model.step(seen, image, latents)
            image = self.model.draw(latents)
            terms = self._objective(image, images, f"step{n + 1}", judged=n + 1 == config.n_steps)
            far = ((latents - w) / spread).square().mean()
            (terms[f"step{n + 1}"] + config.pull * far).backward()
            _require_finite(check, terms)
            self._update(check)
            latents, image = latents.detach(), image.detach()
        return image

    def _update(self, check: FiniteCheck) -> None:
        """One step of the optimizer on the gradients that are there, and the average follows."""
        average_gradients(_trained(self.model))
        _require_finite_gradients(check, self.model)
        torch.nn.utils.clip_grad_norm_(_trained(self.model.encoder), CLIP)
        check.step(self.optimizer)
        self.optimizer.zero_grad()
        for model in (self.model, self.ema):
            model.set_latent_avg(
                model.latent_avg
            )  # forgets its image, which moves with the weights
        n_images = self.config.batch_size * n_workers() / self.config.n_steps
        keep = 0.5 ** (n_images / self.config.ema_half_life)
        self.average.update(self.model, keep, check.failed)

    def _objective(
        self, image: Tensor, target: Tensor, name: str, judged: bool
    ) -> dict[str, Tensor]:
        """The loss of one drawing under its name; if it is judged, with the discriminator's opinion."""
        config = self.config
        loss = multi_scale_l1(image, target).mean() + config.l2 * mse(image, target).mean()
        loss = loss + config.ms_ssim * (1 - ms_ssim(image, target).mean())
        if config.detail:
            loss = loss + config.detail * detail_l1(image, target).mean()
        if not (judged and self._has_discriminator):
            return {name: loss}
        self.discriminator.requires_grad_(
            False
        )  # in float32: its convolutions gain nothing from half
        maps = self.discriminator.features(image)
        opinion = generator_loss(self.discriminator.score_of(maps[-1]))
        with torch.no_grad():
            wanted = self.discriminator.features(target)
        self.discriminator.requires_grad_(True)
        pairs = zip(maps, wanted, strict=True)
        matching = torch.stack([(a - b).abs().mean() for a, b in pairs]).mean()
        loss = loss + config.adversarial * opinion + config.features * matching
        return {name: loss, "opinion": opinion.detach(), "matching": matching.detach()}

    def _train_discriminator(self, images: Tensor, fakes: Tensor, check: FiniteCheck) -> None:
        self.discriminator_optimizer.zero_grad()
        real, fake = self.discriminator(images), self.discriminator(fakes)
        loss = discriminator_loss(real, fake)
        if self.global_step % R1_EVERY == 0:
            penalty = r1_penalty(self.discriminator, images) * (self.config.r1_gamma / 2 * R1_EVERY)
            penalty.backward()
        loss.backward()
        _require_finite(check, {"discriminator": loss})
        average_gradients(_trained(self.discriminator))
        _require_finite_gradients(check, self.discriminator)
        check.step(self.discriminator_optimizer)
        check.report({"real": real.mean(), "fake": fake.mean()})

    def _draw(self) -> torch.Generator:
        """What is random in this batch; from its number, so that a continued run draws the same."""
        return random_source(self.config.seed, self.global_step, self.device)

    def _random_z(self, n: int, seed: int) -> Tensor:
        source = torch.Generator().manual_seed(seed)
        return torch.randn(n, self.config.z_dim, generator=source).to(self.device)

    def _set_rates(self) -> None:
        """Warm-up, then a cosine to 0 at the end of the run."""
        progress = min(1.0, self.global_step / max(1, self.config.n_batches))
        factor = 0.5 + 0.5 * math.cos(math.pi * progress)
        factor *= min(1.0, (self.global_step + 1) / max(1, self.config.warm_up))
        for optimizer in (self.optimizer, self.discriminator_optimizer):
            for group in optimizer.param_groups:
                group["lr"] = group["rate"] * factor

    def _refresh_average(self, *models: ReStyle) -> None:
        """The average latent moves with the mapping."""
        for model in models:
            average = model.generator.estimate_latent_avg(N_LATENT_AVG)
            model.generator.latent_avg.copy_(average)
            model.set_latent_avg(average)

    @torch.no_grad()
    def validate(
        self, images: Tensor, z: Tensor | None = None, labels: Tensor | None = None
    ) -> Validation:
        """Distances of the reconstructions by step, and behind them of the images drawn from their z.

        ``sharpness`` is the mean gradient as a share of the real images'. The pictures: real, drawn from z,
        first and last reconstruction, random samples.
        """
        assert z is not None, "distillation needs z"
        self._refresh_average(self.ema)
        images, z = images.to(self.device), z.to(self.device)
        parts = [
            self.ema.invert(part, N_STEPS_SHOWN, keep_images=True).images
            for part in images.split(self.config.batch_size)
        ]
        steps = list(torch.cat(parts, dim=1))
        parts = [self.ema.generator(p, noise="none") for p in z.split(self.config.batch_size)]
        direct = torch.cat(parts)
        drawn = [*steps, direct]
        sharp = sharpness(images).mean()
        distances = {
            "mse": [mse(x, images).mean().item() for x in drawn],
            "ms_ssim": [ms_ssim(x, images).mean().item() for x in drawn],
            "sharpness": [(sharpness(x).mean() / sharp).item() for x in drawn],
        }
        samples = self.ema.generator(self._random_z(N_COLUMNS, seed=1), noise="none")
        rows = [images, direct, steps[0], steps[-1], samples]
        n = min(N_COLUMNS, len(images))
        grid = torch.stack([row[:n] for row in rows]).cpu()
        of = (*(f"step{n}" for n in range(1, N_STEPS_SHOWN + 1)), "direct")
        return Validation(distances, distances["mse"][N_STEPS_SHOWN - 1], grid, of)

    def effort_at(self, global_step: int) -> float:
        """What the batch after ``global_step`` takes; nearly all take the same."""
        return 1.0

    def state_dict(self) -> dict[str, Any]:
        """Everything that continues to the same weights: tensors, numbers and containers."""
        return {
            **{key: getattr(self, name).state_dict() for name, key in _PARTS.items()},
            "n_done": self.global_step,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where :meth:`state_dict` was taken by a trainer with the same settings."""
        for name, key in _PARTS.items():
            getattr(self, name).load_state_dict(state[key])
        self.global_step = state["n_done"]
        for model in (self.model, self.ema):
            model.set_latent_avg(model.latent_avg)

    def save(self, path: str | os.PathLike, notes: str) -> None:
        """Write the inverter, and beside it generator and discriminator in files of their own."""
        self._refresh_average(self.ema)
        path = Path(path)
        save_inverter(path, self.ema, notes=notes)
        save_generator(path.with_suffix(".generator.safetensors"), self.ema.generator, notes)
        save_discriminator(
            path.with_suffix(".discriminator.safetensors"), self.discriminator, notes
        )


def _trained(network: torch.nn.Module) -> list[torch.nn.Parameter]:
    return [p for p in network.parameters() if p.requires_grad]


def _require_finite_gradients(check: FiniteCheck, network: torch.nn.Module) -> None:
    gradients = [p.grad for p in _trained(network) if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    name = type(network).__name__
    check.expect({name: norm}, "the norm of the gradients of the {name} is {value}")


def _require_finite(check: FiniteCheck, terms: dict[str, Tensor]) -> None:
    check.report(terms)
    check.expect(terms, "the loss {name} is {value}")
