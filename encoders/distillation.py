"""A small generator and its encoder from a renderer: the demo's way to a StyleGAN without a data centre.

Each training image comes with the normal vector z that it was drawn from, so the mapping is told what every
z means, and nothing must be found by an adversary alone. Two ways lead to an image, and both are trained:
from z through the mapping, which makes random samples; and from the image through the encoder, in a
residual loop as at inversion, which teaches the synthesis what its style vectors can say beyond one z. A
critic, from the batch `critic_from` on, asks for the sharpness that distances between pixels do not.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from encoders.distances import ms_ssim, mse, multi_scale_l1, sharpness
from encoders.disturbance import disturb
from encoders.inverter_file import load_inverter, save_inverter
from encoders.restyle import ReStyle
from encoders.unet import UNet, UNetConfig
from generators import Generator, GeneratorConfig, save_discriminator, save_generator
from generators.adversarial import discriminator_loss, generator_loss, r1_penalty
from generators.discriminator import Discriminator, DiscriminatorConfig
from generators.parallel import average_gradients
from generators.trainer import NotFinite, Validation

N_LATENT_AVG = 2000  # samples behind the running average latent
SPREAD_SAMPLES = 4096


def _field(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class DistillationConfig:
    """Everything that decides the weights. The defaults are the demo's."""

    start_from: str | None = _field(None, "Inverter file to begin with instead of random weights.")
    resolution: int = _field(64, "Height and width of the images.")
    channels: tuple[int, ...] = _field(
        (128, 128, 128, 64, 32), "Feature maps of the generator at 4, 8, ... px."
    )
    z_dim: int = _field(76, "Length of the samples' .npy vectors.")
    w_dim: int = _field(128, "Width of a style vector.")
    mapping_layers: int = _field(4, "Layers of the mapping.")
    widths: tuple[int, ...] = _field((32, 48, 96, 160, 192), "Channels of the U-Net, finest first.")
    levels: int = _field(2, "Levels of the U-Net that have style heads.")
    critic_channels: tuple[int, ...] = _field(
        (96, 96, 64, 32, 16), "Feature maps of the critic at 4, 8, ... px."
    )
    batch_size: int = _field(16, "Images a batch on each worker.")
    n_direct: int = _field(
        4, "Images of a batch that are drawn from their z; the others are encoded."
    )
    n_steps: int = _field(2, "Residual steps of the encoded ones.")
    n_batches: int = _field(12_000, "Length of the run; the rates follow a cosine to its end.")
    rate_generator: float = _field(1.5e-3, "Learning rate of the generator.")
    rate_encoder: float = _field(1e-3, "Learning rate of the encoder.")
    rate_critic: float = _field(1.5e-3, "Learning rate of the critic.")
    warm_up: int = _field(200, "Batches in which the rates rise.")
    structure: float = _field(0.4, "Weight of 1 - MS-SSIM.")
    square: float = _field(1.0, "Weight of the mean squared error.")
    adversarial: float = _field(0.03, "Weight of the critic's opinion; 0 = no critic.")
    matching: float = _field(0.5, "Weight of the distance in the critic's feature maps.")
    critic_from: int = _field(0, "Batch from which on there is a critic.")
    r1: float = _field(1.0, "R1 gamma, applied every 16 batches.")
    near: float = _field(0.002, "Weight of the squared distance of latents to the mapping's w.")
    disturbed: float = _field(0.25, "Share of the encoded images that the encoder sees disturbed.")
    ema_half_life: float = _field(3000.0, "Images after which an old weight counts half.")
    precision: str = _field("bf16", "fp32 or bf16: of encoder and synthesis in training.")
    seed: int = _field(0, "Of the initial weights and of all that is drawn at random.")


R1_EVERY = 16
AVERAGE_EVERY = 50  # batches between two looks at the average latent
N_STEPS_SHOWN = 5
_PARTS = ("model", "ema", "critic", "optimizer", "critic_optimizer")  # with a state of their own


class DistillationTrainer:
    """Generator, encoder and critic, their averages over time, and one step of training."""

    def __init__(self, config: DistillationConfig, device: str | torch.device = "cpu") -> None:
        """Raises CheckpointError for a start that cannot be loaded."""
        torch.manual_seed(config.seed)
        self.config, self.device = config, torch.device(device)
        self.model = _model(config).to(device).train()
        self.model.requires_grad_(True)
        for conv in self.model.generator.synthesis.convs:  # the demo has no noise
            conv.get_parameter("noise_strength").requires_grad_(False)
        self.ema = copy.deepcopy(self.model).requires_grad_(False).eval()
        shape = DiscriminatorConfig(config.resolution, config.critic_channels)
        self.critic = Discriminator(shape).to(device)
        self._dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[config.precision]
        self.model.generator.synthesis.compute_dtype = self._dtype
        betas = (0.9, 0.99)
        self.optimizer = torch.optim.Adam(
            [
                {"params": _trained(self.model.generator), "rate": config.rate_generator},
                {"params": _trained(self.model.encoder), "rate": config.rate_encoder},
            ],
            betas=betas,
        )
        self.critic_optimizer = torch.optim.Adam(
            [{"params": _trained(self.critic), "rate": config.rate_critic}], betas=(0.0, 0.99)
        )
        self.draw = torch.Generator().manual_seed(config.seed)
        self.n_done = 0
        self._spread_of_w: Tensor | None = None

    @property
    def input_size(self) -> tuple[int, int]:
        return self.model.input_size

    @property
    def _has_critic(self) -> bool:
        return bool(self.config.adversarial) and self.n_done >= self.config.critic_from

    def step(self, images: Tensor, z: Tensor | None = None) -> dict[str, float]:
        """One batch: images [N, 3, h, w] in [-1, 1] and the vectors z [N, z_dim] they show.

        Raises:
            NotFinite: a loss is no number; no weight was changed.
        """
        assert z is not None, "distillation needs z"
        images, z = images.to(self.device), z.to(self.device)
        self._set_rates()
        n = self.config.n_direct
        self.optimizer.zero_grad()
        direct = self._paint(z[:n])
        terms = self._objective(direct, images[:n], "direct", judged=True)
        terms["direct"].backward()
        encoded, more = self._encode(z[n:], images[n:])
        terms |= more
        _require_finite(terms)
        self._apply(self.optimizer, self.model, clip=5.0)
        if self._has_critic:
            fakes = torch.cat([direct, encoded]).detach()
            terms |= self._teach_critic(images, fakes)
        self._follow()
        self.n_done += 1
        return {name: float(value.detach()) for name, value in terms.items()}

    def _paint(self, z: Tensor) -> Tensor:
        generator = self.model.generator
        w = generator.mapping(z)
        return generator.synthesis(w[:, None].expand(-1, generator.n_styles, -1), noise="none")

    def _encode(self, z: Tensor, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The residual loop; the loss of every step is propagated on its own, and their sum averaged."""
        config = self.config
        with torch.no_grad():
            w = self.model.generator.mapping(z)[:, None]
            spread = self._spread()
            n_clean = len(images) - round(config.disturbed * len(images))
            seen = torch.cat([images[:n_clean], disturb(images[n_clean:], self.draw)])
        self.model.set_latent_avg(self.model.latent_avg)  # its image moves with the synthesis
        latents, image = self.model.start(len(seen))
        terms: dict[str, Tensor] = {}
        for n in range(config.n_steps):
            with torch.autocast(self.device.type, self._dtype, self._dtype != torch.float32):
                latents = self.model.step(seen, image, latents)
            image = self.model.draw(latents)
            terms |= self._objective(image, images, f"step{n + 1}", judged=n + 1 == config.n_steps)
            far = ((latents - w) / spread).square().mean()
            loss = (terms[f"step{n + 1}"] + config.near * far) / config.n_steps
            loss.backward()
            latents, image = latents.detach(), image.detach()
        return image, terms

    def _objective(
        self, image: Tensor, target: Tensor, name: str, judged: bool
    ) -> dict[str, Tensor]:
        """The loss of one drawing under its name; if it is judged, with the critic's opinion."""
        config = self.config
        loss = multi_scale_l1(image, target).mean() + config.square * mse(image, target).mean()
        loss = loss + config.structure * (1 - ms_ssim(image, target).mean())
        if not (judged and self._has_critic):
            return {name: loss}
        self.critic.requires_grad_(False)  # in float32: its convolutions gain nothing from half
        maps = self.critic.features(image)
        opinion = generator_loss(self.critic.score_of(maps[-1]))
        with torch.no_grad():
            wanted = self.critic.features(target)
        self.critic.requires_grad_(True)
        pairs = zip(maps, wanted, strict=True)
        matching = torch.stack([(a - b).abs().mean() for a, b in pairs]).mean()
        loss = loss + config.adversarial * opinion + config.matching * matching
        return {name: loss, "opinion": opinion.detach(), "matching": matching.detach()}

    def _teach_critic(self, images: Tensor, fakes: Tensor) -> dict[str, Tensor]:
        self.critic_optimizer.zero_grad()
        real, fake = self.critic(images), self.critic(fakes)
        loss = discriminator_loss(real, fake)
        if self.n_done % R1_EVERY == 0:
            penalty = r1_penalty(self.critic, images) * (self.config.r1 / 2 * R1_EVERY)
            penalty.backward()
        loss.backward()
        _require_finite({"critic": loss})
        self._apply(self.critic_optimizer, self.critic, clip=0.0)
        return {"critic": loss, "real": real.detach().mean(), "fake": fake.detach().mean()}

    def _apply(
        self, optimizer: torch.optim.Optimizer, network: torch.nn.Module, clip: float
    ) -> None:
        parameters = _trained(network)
        average_gradients(parameters)
        if clip:
            torch.nn.utils.clip_grad_norm_(_trained(self.model.encoder), clip)
        optimizer.step()

    def _spread(self) -> Tensor:
        """Standard deviation of W, the unit of distances in it, [w_dim]."""
        if self._spread_of_w is None or self.n_done % AVERAGE_EVERY == 0:
            z = torch.randn(SPREAD_SAMPLES, self.config.z_dim, generator=_seeded(self.config.seed))
            self._spread_of_w = self.model.generator.mapping(z.to(self.device)).std(dim=0)
        return self._spread_of_w

    def _set_rates(self) -> None:
        """Warm-up, then a cosine to 0 at the end of the run."""
        progress = min(1.0, self.n_done / max(1, self.config.n_batches))
        factor = 0.5 + 0.5 * math.cos(math.pi * progress)
        factor *= min(1.0, (self.n_done + 1) / max(1, self.config.warm_up))
        for optimizer in (self.optimizer, self.critic_optimizer):
            for group in optimizer.param_groups:
                group["lr"] = group["rate"] * factor

    def _follow(self) -> None:
        """The averages over time; and the average latent, which moves with the mapping."""
        half_life = self.config.ema_half_life
        keep = min(0.5 ** (self.config.batch_size / half_life), 1 - 1 / (self.n_done + 2))
        with torch.no_grad():
            pairs = zip(self.ema.parameters(), self.model.parameters(), strict=True)
            for mine, theirs in pairs:
                mine.lerp_(theirs, 1 - keep)
        if (self.n_done + 1) % AVERAGE_EVERY == 0:
            self._refresh_average()

    def _refresh_average(self) -> None:
        for model in (self.model, self.ema):
            average = model.generator.estimate_latent_avg(N_LATENT_AVG, self.config.seed)
            model.generator.latent_avg.copy_(average)
            model.set_latent_avg(average)

    @torch.no_grad()
    def validate(self, images: Tensor, z: Tensor | None = None) -> Validation:
        """Distances of the images drawn from their z, and of the reconstructions by step."""
        assert z is not None, "distillation needs z"
        self._refresh_average()
        images, z = images.to(self.device), z.to(self.device)
        steps = list(self.ema.invert(images, N_STEPS_SHOWN, keep_images=True).images)
        direct = self.ema.generator(z, noise="none")
        drawn = [*steps, direct]
        sharp = sharpness(images).mean()
        distances = {
            "mse": [mse(x, images).mean().item() for x in drawn],
            "ms_ssim": [ms_ssim(x, images).mean().item() for x in drawn],
            "sharpness": [(sharpness(x).mean() / sharp).item() for x in drawn],
        }
        random = torch.randn(8, self.config.z_dim, generator=_seeded(1)).to(self.device)
        samples = self.ema.generator(random, noise="none")
        rows = [images[:8], direct[:8], steps[0][:8], steps[-1][:8], samples]
        rows = [row for row in rows if len(row) == len(rows[0])]
        return Validation(distances, distances["mse"][-2], torch.stack(rows).cpu())

    def state_dict(self) -> dict[str, Any]:
        """Everything that continues to the same weights: tensors, numbers and containers."""
        return {
            **{name: getattr(self, name).state_dict() for name in _PARTS},
            "draw": self.draw.get_state(),
            "n_done": self.n_done,
            "spread": self._spread_of_w,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in _PARTS:
            getattr(self, name).load_state_dict(state[name])
        self.draw.set_state(state["draw"])
        self.n_done, self._spread_of_w = state["n_done"], state["spread"]
        for model in (self.model, self.ema):
            model.set_latent_avg(model.latent_avg)

    def save(self, path: Path, notes: str) -> None:
        """The inverter at ``path``, and beside it its generator and the critic in files of their own."""
        self._refresh_average()
        save_inverter(path, self.ema, notes=notes)
        save_generator(path.with_suffix(".generator.safetensors"), self.ema.generator, notes)
        save_discriminator(path.with_suffix(".discriminator.safetensors"), self.critic, notes)


def _model(config: DistillationConfig) -> ReStyle:
    if config.start_from is not None:
        return load_inverter(config.start_from)
    generator = Generator(
        GeneratorConfig(
            resolution=config.resolution,
            channels=config.channels,
            z_dim=config.z_dim,
            w_dim=config.w_dim,
            n_mapping_layers=config.mapping_layers,
            mapping_lr_mul=1.0,
        )
    )
    for name, buffer in generator.synthesis.named_buffers():
        if name.endswith("noise"):
            buffer.zero_()  # its strength stays zero too: a small generator without noise
    shape = config.resolution, generator.n_styles, generator.w_dim
    unet = UNet(UNetConfig(*shape, widths=config.widths, n_levels=config.levels))
    return ReStyle(unet, generator, generator.latent_avg, (config.resolution, config.resolution))


def _trained(network: torch.nn.Module) -> list[torch.nn.Parameter]:
    return [p for p in network.parameters() if p.requires_grad]


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _require_finite(terms: dict[str, Tensor]) -> None:
    for name, value in terms.items():
        if not torch.isfinite(value):
            raise NotFinite(f"the loss {name} is {value.item()}")
