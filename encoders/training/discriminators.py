"""Discriminators that are trained beside the encoder: of its images, and of its latents."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from encoders import auxiliary
from encoders.metrics.perceptual import resized
from encoders.training.latent_discriminator import LatentDiscriminator
from encoders.training.losses import LossConfig
from generators import CheckpointError, StyleBasedGenerator, load_discriminator
from generators.discriminator import Discriminator
from generators.training.adversarial import (
    discriminator_loss,
    generator_loss,
    hinge_discriminator_loss,
    hinge_generator_loss,
    r1_penalty,
)
from generators.training.parallel import average_gradients
from generators.training.protocol import NotFinite

R1_GAMMA, R1_EVERY = 10.0, 16  # e4e's
POOL_SIZE = 50
_LATENT_PARTS = ("discriminator", "optimizer", "real", "fake")


class ImageDiscriminatorTrainer:
    """StyleGAN's discriminator, trained on to tell images from reconstructions; hinge loss.

    Lim and Ye 2017 (arXiv 1705.02894).
    """

    def __init__(
        self,
        discriminator: Discriminator,  # taken over; on the device of training
        learning_rate: float,  # of Adam
    ) -> None:
        self.discriminator = discriminator.requires_grad_(False).train()
        self.optimizer = torch.optim.Adam(
            discriminator.parameters(), lr=learning_rate, betas=(0.0, 0.99)
        )

    def judge(self, images: Tensor) -> Tensor:
        """The encoder's loss: low where images [N, 3, h, h] pass for real. A scalar."""
        return hinge_generator_loss(self.discriminator(self._seen(images)))

    def update(self, real: Tensor, fake: Tensor) -> dict[str, float]:
        """One step of Adam on images and reconstructions, [N, 3, h, h] each; its loss.

        Raises:
            NotFinite: the loss or its gradient is no number; no weight was changed.
        """
        with _trained(self.discriminator):
            scores = [self.discriminator(self._seen(x.detach())) for x in (real, fake)]
            loss = hinge_discriminator_loss(*scores)
            return _apply(self.optimizer, self.discriminator, {"discriminator": loss})

    def _seen(self, images: Tensor) -> Tensor:
        return resized(images, self.discriminator.config.resolution)

    def state_dict(self) -> dict[str, Any]:
        """All that a continued run needs."""
        return {
            "discriminator": self.discriminator.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where :meth:`state_dict` was taken."""
        self.discriminator.load_state_dict(state["discriminator"])
        self.optimizer.load_state_dict(state["optimizer"])


class Pool:
    """The latest style vectors, which a discriminator sees again (Shrivastava et al. 2017, arXiv 1612.07828).

    Half of the vectors that come are returned, the others take the place of older ones, which are.
    """

    def __init__(self, w_dim: int, device: torch.device) -> None:
        self.vectors = torch.zeros(POOL_SIZE, w_dim, device=device)
        self.n = 0  # of them in use

    def exchange(self, w: Tensor, draw: torch.Generator) -> Tensor:
        """[N, w_dim] in, [N, w_dim] out; until the pool is full, the same."""
        out = w.clone()
        for i, vector in enumerate(w):
            if self.n < POOL_SIZE:
                self.vectors[self.n] = vector
                self.n += 1
            elif torch.rand((), generator=draw) < 0.5:
                place = int(torch.randint(POOL_SIZE, (), generator=draw))
                out[i] = self.vectors[place]
                self.vectors[place] = vector
        return out

    def state_dict(self) -> dict[str, Any]:
        """The vectors, and how many are in use."""
        return {"vectors": self.vectors, "n": self.n}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where :meth:`state_dict` was taken."""
        self.vectors.copy_(state["vectors"])
        self.n = state["n"]


class LatentDiscriminatorTrainer:
    """e4e's: do style vectors come from the mapping, or from the encoder (arXiv 2102.02766, section 3.2)?

    Logistic loss, R1 every 16 updates, and a pool of 50 vectors of each kind.
    """

    def __init__(
        self,
        w_dim: int,  # entries of a style vector
        learning_rate: float,  # of Adam
        device: torch.device,
    ) -> None:
        self.discriminator = LatentDiscriminator(w_dim).to(device).requires_grad_(False)
        self.optimizer = torch.optim.Adam(self.discriminator.parameters(), lr=learning_rate)
        self.real, self.fake = Pool(w_dim, device), Pool(w_dim, device)
        self.n_updates = 0

    def judge(self, latents: Tensor) -> Tensor:
        """The encoder's loss: low where styles of latents [N, n, w_dim] pass for mapped ones. A scalar."""
        return generator_loss(self.discriminator(latents))

    def update(self, w: Tensor, latents: Tensor, draw: torch.Generator) -> dict[str, float]:
        """One step of Adam, and every 16th time another one for R1; its losses.

        Args:
            w: [N, w_dim] from the mapping.
            latents: [N, n, w_dim] from the encoder; of each, one style at random is looked at.
            draw: of that and of the pool; on the CPU.

        Raises:
            NotFinite: a loss or its gradient is no number; that step was not made.
        """
        places = torch.randint(latents.shape[1], (len(latents),), generator=draw)
        one = latents.detach()[torch.arange(len(latents)), places]
        real, fake = self.real.exchange(w.detach(), draw), self.fake.exchange(one, draw)
        with _trained(self.discriminator):
            loss = discriminator_loss(self.discriminator(real), self.discriminator(fake))
            losses = _apply(self.optimizer, self.discriminator, {"latent_discriminator": loss})
            if self.n_updates % R1_EVERY == 0:
                penalty, weight = r1_penalty(self.discriminator, real), R1_GAMMA / 2 * R1_EVERY
                terms = {"latent_r1": penalty}
                losses |= _apply(self.optimizer, self.discriminator, terms, weight)
        self.n_updates += 1
        return losses

    def state_dict(self) -> dict[str, Any]:
        """All that a continued run needs, the pools among it."""
        parts = {name: getattr(self, name).state_dict() for name in _LATENT_PARTS}
        return {**parts, "n_updates": self.n_updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where :meth:`state_dict` was taken."""
        for name in _LATENT_PARTS:
            getattr(self, name).load_state_dict(state[name])
        self.n_updates = state["n_updates"]


class Discriminators:
    """Those that a training asks for: of images, of latents, both or none."""

    def __init__(
        self, config: LossConfig, learning_rate: float, generator: StyleBasedGenerator
    ) -> None:
        """On the device of the generator. Raises CheckpointError for a file that cannot be used."""
        device = generator.latent_avg.device
        self.image: ImageDiscriminatorTrainer | None = None
        self.latent: LatentDiscriminatorTrainer | None = None
        if config.adversarial:
            wanted = auxiliary.DISCRIMINATOR_FILES
            path = auxiliary.required(config.discriminator, "discriminator", wanted)
            network = load_discriminator(path).to(device)
            if network.config.c_dim:
                raise CheckpointError(
                    f"{path} judges images by class, which an encoder is trained without; pass a "
                    "discriminator without classes"
                )
            self.image = ImageDiscriminatorTrainer(network, learning_rate)
        if config.latent_adversarial:
            self.latent = LatentDiscriminatorTrainer(generator.w_dim, learning_rate, device)

    @property
    def networks(self) -> list[nn.Module]:
        """The discriminators."""
        return [discriminator.discriminator for _, discriminator in self._named()]

    def judge(self, images: Tensor, latents: Tensor) -> dict[str, Tensor]:
        """Opinions of reconstructions [N, 3, H, W] and latents [N, n, w_dim], by the names of their terms."""
        judged = {}
        if self.image is not None:
            judged["adversarial"] = self.image.judge(images)
        if self.latent is not None:
            judged["latent_adversarial"] = self.latent.judge(latents)
        return judged

    def state_dict(self) -> dict[str, Any]:
        """All that a continued run needs."""
        return {name: discriminator.state_dict() for name, discriminator in self._named()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where :meth:`state_dict` was taken."""
        for name, discriminator in self._named():
            discriminator.load_state_dict(state[name])

    def _named(self) -> list[tuple[str, ImageDiscriminatorTrainer | LatentDiscriminatorTrainer]]:
        trainers = (("image", self.image), ("latent", self.latent))
        return [
            (name, discriminator) for name, discriminator in trainers if discriminator is not None
        ]


@contextmanager
def _trained(network: nn.Module) -> Iterator[None]:
    """Within it, the network's weights take gradients."""
    network.requires_grad_(True)
    try:
        yield
    finally:
        network.requires_grad_(False)


def _apply(
    optimizer: torch.optim.Optimizer,
    network: nn.Module,
    term: dict[str, Tensor],
    weight: float = 1.0,
) -> dict[str, float]:
    """One step on a loss, which is fetched with the norm of its gradients; its value without the weight.

    Raises:
        NotFinite: the loss or a gradient is no number; no weight was changed.
    """
    [(name, loss)] = term.items()
    optimizer.zero_grad()
    (loss * weight).backward()
    parameters = list(network.parameters())
    average_gradients(parameters)
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    value, size = torch.stack([loss.detach().float(), norm.float()]).tolist()
    if not (math.isfinite(value) and math.isfinite(size)):
        raise NotFinite(f"{name} is {value:g}, its gradient's norm {size:g}")
    optimizer.step()
    return {name: value}
