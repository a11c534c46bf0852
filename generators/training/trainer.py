"""Training of StyleGAN2 (Karras et al. 2020, arXiv 1912.04958): one batch a step, on any device.

A step is up to four updates: discriminator, R1 where it is due, generator, path length where it is due; then
the averaged generator follows. Random numbers of a step come from the seed, its number and the worker's
rank, so a continued run draws the same ones without a generator's state in its checkpoint.
"""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from generators import save_discriminator, save_generator
from generators.training.adversarial import (
    discriminator_loss,
    generator_loss,
    mixed_styles,
    path_length,
    r1_penalty,
)
from generators.training.augmentation import Augmentation
from generators.training.config import PRECISIONS, GeneratorTrainConfig
from generators.training.finite import FiniteCheck
from generators.training.memory import Need, peak_bytes
from generators.training.parallel import (
    average,
    average_gradients,
    broadcast_parameters,
    n_workers,
    rank,
)
from generators.training.protocol import Validation
from generators.training.sliced_wasserstein import sliced_wasserstein

__all__ = ["GeneratorTrainConfig", "GeneratorTrainer"]

BETAS = (0.0, 0.99)
VALIDATION_SEED = 0
GRID_COLUMNS, GRID_ROWS = 8, 3
GRID_CLASSES = 32  # at most so many have a row

STATEFUL = (
    "generator",
    "discriminator",
    "ema",
    "generator_optimizer",
    "discriminator_optimizer",
)
# Numbers that continue, under the names that checkpoints have for them.
COUNTERS = {"global_step": "n_steps", "n_images": "n_images", "path_mean": "path_mean"}

Terms = dict[str, Tensor]


class Part(NamedTuple):
    """Some images of a batch."""

    real: Tensor
    z: Tensor | None  # what their fakes are drawn from; None: random vectors
    labels: Tensor | None  # of both, where the training is by class


Loss = Callable[[Part], tuple[Tensor, Terms]]


def adam(network: nn.Module, rate: float, interval: int) -> torch.optim.Adam:
    """Adam that makes an extra step every ``interval`` ones for a lazy regulariser, 0: never.

    All its steps are made smaller by c = interval / (interval + 1) and its memory longer, beta ** c, so that
    as much happens as if the regulariser were part of every step (arXiv 1912.04958, appendix B).
    """
    c = interval / (interval + 1) if interval else 1.0
    betas = (BETAS[0] ** c, BETAS[1] ** c)
    return torch.optim.Adam(network.parameters(), lr=rate * c, betas=betas, eps=1e-8, fused=True)


class GeneratorTrainer:
    """Generator, discriminator, the generator's average over time, and one step of their training."""

    def __init__(self, config: GeneratorTrainConfig, device: torch.device | str) -> None:
        self.config, self.device = config, torch.device(device)
        generator, discriminator = config.networks()
        self.generator, self.discriminator = generator.to(device), discriminator.to(device)
        broadcast_parameters(self.generator)
        broadcast_parameters(self.discriminator)
        self.ema = copy.deepcopy(self.generator).requires_grad_(False)
        dtype = PRECISIONS[config.precision]
        self.generator.synthesis.compute_dtype = self.discriminator.compute_dtype = dtype
        every = config.path_length_interval if config.path_length_weight else 0
        self.generator_optimizer = adam(self.generator, config.learning_rate, every)
        every = config.r1_interval if config.r1_gamma else 0
        rate = config.discriminator_learning_rate
        self.discriminator_optimizer = adam(self.discriminator, rate, every)
        self.path_mean = torch.zeros((), device=device)
        self.augmentation = Augmentation(config.augment_target, config.augment_ramp)
        self.global_step = self.n_images = 0
        self.draw = torch.Generator(self.device)

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the images."""
        return (self.config.resolution, self.config.resolution)

    def need(self) -> Need:
        """Memory of a batch, and with which ``--accumulate`` it is less."""
        config = self.config
        channels = self.generator.config.channels, self.discriminator.config.channels
        itemsize = PRECISIONS[config.precision].itemsize

        def needed(n_parts: int) -> int:
            n_images = config.batch_size // n_parts
            return peak_bytes(channels, (self.generator, self.discriminator), n_images, itemsize)

        more = [k for k in range(config.accumulate + 1, config.batch_size + 1) if config.divides(k)]
        instead = tuple((f"--accumulate {k}", needed(k)) for k in more)
        return Need(needed(config.accumulate), instead)

    def step(
        self, images: Tensor, z: Tensor | None = None, labels: Tensor | None = None
    ) -> dict[str, float]:
        """Train both networks on one batch.

        Args:
            images: real ones, [N, 3, h, w] in [-1, 1]; N divides by ``accumulate``, and each part is at most
                4 images or a multiple of 4.
            z: what this step's fakes are drawn from, [N, z_dim]; None: drawn at random.
            labels: [N, c_dim], one-hot, of a training by class. The fakes have the same classes, so that the
                generator is asked for each as often as there are real images of it.

        Returns: losses and mean scores; of "r1" and "path_length" only where they were due; with augmentation
            the mean sign of the scores of real images, and the probability that follows from it.

        Raises:
            NotFinite: a gradient is infinite or no number. Neither its update was made nor any after it; for
                images that are no numbers that is all of them.
        """
        config = self.config
        images = images.to(self.device, torch.float32)
        check = FiniteCheck(self.device)
        with self._random_numbers():
            if config.flip:
                mirrored = self._uniform(len(images))[:, None, None, None] < 0.5
                images = torch.where(mirrored, images.flip(3), images)
            parts = self._parts(images, z, labels)
            terms = self._update(self.discriminator, self._logistic_of_discriminator, parts, check)
            if config.augment:
                check.report({"real_sign": average(terms["real_sign"])})
            if config.r1_gamma and self.global_step % config.r1_interval == 0:
                self._update(self.discriminator, self._r1, parts, check)
            self._update(self.generator, self._logistic_of_generator, parts, check)
            path_mean = self.path_mean
            if config.path_length_weight and self.global_step % config.path_length_interval == 0:
                terms = self._update(self.generator, self._path_length, parts, check)
                path_mean = average(terms["path_mean"])
        values = check.fetch()
        self.path_mean = path_mean
        n = len(images) * n_workers()
        self._follow(n)
        if config.augment:
            self.augmentation.follow(values["real_sign"], n)
            values["augment_p"] = self.augmentation.p
        self.global_step += 1
        return values

    @contextmanager
    def _random_numbers(self) -> Iterator[None]:
        """Those of this step; the process's own (the noise of the synthesis) are put back afterwards."""
        key = f"{self.config.seed} {self.global_step} {rank()}".encode()
        digest = hashlib.sha256(key).digest()
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(int.from_bytes(digest[:8], "little"))
            self.draw.manual_seed(int.from_bytes(digest[8:16], "little"))
            yield

    def _uniform(self, n: int) -> Tensor:
        return torch.rand(n, generator=self.draw, device=self.device)

    def _codes(self, n: int) -> Tensor:
        size = (n, self.generator.config.z_dim)
        return torch.randn(size, generator=self.draw, device=self.device)

    def _parts(self, images: Tensor, z: Tensor | None, labels: Tensor | None = None) -> list[Part]:
        """The batch in pieces. Every k-th image goes together: so groups of the discriminator stay whole."""
        k = self.config.accumulate
        if len(images) % k:
            raise ValueError(f"a batch of {len(images)} images does not divide into {k} parts")
        beside = [None if each is None else each.to(self.device) for each in (z, labels)]
        return [
            Part(images[i::k], *(None if each is None else each[i::k] for each in beside))
            for i in range(k)
        ]

    def _fakes(self, part: Part, n: int | None = None) -> tuple[Tensor, Tensor]:
        """As many as there are real images, or n: w_plus [n, n_styles, w_dim] and images [n, 3, h, w]."""
        n = len(part.real) if n is None else n
        z = self._codes(n) if part.z is None else part.z[:n]
        labels = None if part.labels is None else part.labels[:n]
        mixing = self.config.mixing
        w_plus = mixed_styles(self.generator, z, self._codes(n), self.draw, mixing, labels)
        return w_plus, self.generator.synthesis(w_plus, noise="random")

    def _seen(self, images: Tensor) -> Tensor:
        """What the discriminator is shown of images."""
        return self.augmentation(images, self.draw) if self.config.augment else images

    def _logistic_of_discriminator(self, part: Part) -> tuple[Tensor, Terms]:
        with torch.no_grad():
            _, fake = self._fakes(part)
        real_scores, fake_scores = (
            self.discriminator(self._seen(x), part.labels) for x in (part.real, fake)
        )
        loss = discriminator_loss(real_scores, fake_scores)
        means = {"real_score": real_scores.mean(), "fake_score": fake_scores.mean()}
        if self.config.augment:
            means["real_sign"] = real_scores.detach().sign().mean()
        return loss, {"discriminator": loss, **means}

    def _r1(self, part: Part) -> tuple[Tensor, Terms]:
        scored = partial(self.discriminator, labels=part.labels)
        penalty = r1_penalty(scored, self._seen(part.real))
        return self.config.r1_gamma / 2 * self.config.r1_interval * penalty, {"r1": penalty}

    def _logistic_of_generator(self, part: Part) -> tuple[Tensor, Terms]:
        _, fake = self._fakes(part)
        loss = generator_loss(self.discriminator(self._seen(fake), part.labels))
        return loss, {"generator": loss}

    def _path_length(self, part: Part) -> tuple[Tensor, Terms]:
        n = max(1, len(part.real) // self.config.path_length_shrink)
        w_plus, image = self._fakes(part, n)
        penalty, mean = path_length(image, w_plus, self.path_mean, self.draw)
        weight = self.config.path_length_weight * self.config.path_length_interval
        return weight * penalty, {"path_length": penalty, "path_mean": mean}

    def _update(
        self, network: nn.Module, loss: Loss, parts: Sequence[Part], check: FiniteCheck
    ) -> Terms:
        """One step of a network's optimizer on the mean of a loss over all parts; the mean of its terms."""
        of_generator = network is self.generator
        self.generator.requires_grad_(of_generator)
        self.discriminator.requires_grad_(not of_generator)
        optimizer = self.generator_optimizer if of_generator else self.discriminator_optimizer
        optimizer.zero_grad()
        means: Terms = {}
        for part in parts:
            value, terms = loss(part)
            (value / len(parts)).backward()
            for name, term in terms.items():
                means[name] = means.get(name, 0) + term.detach() / len(parts)
        average_gradients(network.parameters())
        norm = get_total_norm([p.grad for p in network.parameters() if p.grad is not None])
        which = type(network).__name__.lower()
        why = f"step {self.global_step}: the {which}'s gradient is not finite"
        check.report(means)
        check.expect({f"{which}'s norm": norm}, f"{why} ({{values}}), so it was not applied")
        if self.config.clip:
            clip_grads_with_norm_(network.parameters(), self.config.clip, norm)
        check.step(optimizer)
        return means

    @torch.no_grad()
    def _follow(self, n: int) -> None:
        """The average of weights after ``n`` more images: what is older than its half-life counts half."""
        half_life = min(self.config.ema_half_life, self.config.ema_warm_up * self.n_images)
        keep = 0.5 ** (n / half_life) if half_life else 0.0
        for mine, theirs in zip(self.ema.parameters(), self.generator.parameters(), strict=True):
            mine.lerp_(theirs, 1 - keep)
        self.n_images += n

    @torch.no_grad()
    def validate(
        self, images: Tensor, z: Tensor | None = None, labels: Tensor | None = None
    ) -> Validation:
        """Sliced Wasserstein distance between real images and as many drawn by the averaged generator.

        The same codes each time, so that values can be compared; of another number of images they cannot.

        Args:
            images: [N, 3, h, w] in [-1, 1].
            z: what to draw from, [N, z_dim]; None: normal vectors of a fixed seed.
            labels: [N, c_dim], the images' classes, and so those of what is drawn.

        Returns: distance "swd" at each level of the pyramid, its mean as the score; the grid's first row is
            real. Below it stands what was drawn, or, by class, a row of each class, its columns from the same
            vectors.
        """
        if z is None:
            draw = torch.Generator().manual_seed(VALIDATION_SEED)
            z = torch.randn(len(images), self.generator.config.z_dim, generator=draw)
        fakes = self._drawn(z, labels)
        distances = sliced_wasserstein(images.to(self.device), fakes)
        columns = min(GRID_COLUMNS, len(images))
        if labels is None:
            rows = min(GRID_ROWS, len(images) // columns)
            drawn = fakes[: rows * columns].unflatten(0, (rows, columns)).cpu()
        else:
            rows = min(GRID_CLASSES, self.ema.c_dim)
            each = self.ema.labels_of(range(rows)).repeat_interleave(columns, dim=0)
            drawn = self._drawn(z[:columns].repeat(rows, 1), each)
            drawn = drawn.unflatten(0, (rows, columns)).cpu()
        grid = torch.cat([images[None, :columns].float().cpu(), drawn])
        # Levels of a Laplacian pyramid: the finest details first, in the end what is left of the images.
        scales = tuple(f"{self.config.resolution >> level}px" for level in range(len(distances)))
        return Validation({"swd": distances}, sum(distances) / len(distances), grid, scales)

    def _drawn(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """Images [N, 3, h, w] of the averaged generator, some at a time."""
        n = self.config.batch_size // self.config.accumulate
        parts = z.to(self.device).split(n)
        of_parts = [None] * len(parts) if labels is None else labels.to(self.device).split(n)
        drawn = [self.ema(each, labels=of) for each, of in zip(parts, of_parts, strict=True)]
        return torch.cat(drawn).clamp(-1, 1)

    def effort_at(self, global_step: int) -> float:
        """What the batch after ``global_step`` takes; on average all take the same."""
        return 1.0

    def state_dict(self) -> dict[str, Any]:
        """All that a continued run needs to make the same steps: plain data and tensors, not copied."""
        parts = {name: getattr(self, name).state_dict() for name in STATEFUL}
        if self.config.augment:
            parts["augmentation"] = self.augmentation.state_dict()
        return parts | {key: getattr(self, name) for name, key in COUNTERS.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what :meth:`state_dict` gave."""
        for name in STATEFUL:
            getattr(self, name).load_state_dict(state[name])
        for name, key in COUNTERS.items():
            setattr(self, name, state[key])
        if self.config.augment:
            self.augmentation.load_state_dict(state["augmentation"])
        self.path_mean = self.path_mean.to(self.device)

    def save(self, path: str | os.PathLike, notes: str) -> None:
        """Write the averaged generator, and beside it `<stem>.discriminator.safetensors`.

        Args:
            path: of the generator, ``.safetensors``.
            notes: one line for people: how it came about.
        """
        path = Path(path)
        self.ema.latent_avg.copy_(self.ema.estimate_latent_avg())
        save_generator(path, self.ema, notes)
        beside = path.with_name(f"{path.stem}.discriminator.safetensors")
        save_discriminator(beside, self.discriminator, notes)
