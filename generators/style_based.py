"""What StyleGAN2 and StyleGAN3 share: a mapping of normal vectors, and a synthesis of style vectors."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from generators import claims, ops
from generators.layers import EqualLinear
from generators.precision import Precision, dtype_of

Noise = Literal["const", "random", "none"]
MAX_MAPPING_LAYERS = 100
N_SHOWN = 20  # classes that a message names


class MappingConfig(Protocol):
    """What a generator's config says of its mapping."""

    @property
    def z_dim(self) -> int: ...
    @property
    def w_dim(self) -> int: ...
    @property
    def c_dim(self) -> int: ...
    @property
    def n_mapping_layers(self) -> int: ...
    @property
    def mapping_lr_mul(self) -> float: ...
    @property
    def mapping_width(self) -> int | None: ...


def require_mapping(config: MappingConfig) -> None:
    """Raise a ValueError unless a config describes a mapping that can be."""
    for name in ("z_dim", "w_dim", "mapping_width"):
        if name != "mapping_width" or config.mapping_width is not None:
            claims.require_int(name, getattr(config, name), 1, claims.MAX_WIDTH)
    claims.require_int("c_dim", config.c_dim, 0, claims.MAX_WIDTH)
    claims.require_int("n_mapping_layers", config.n_mapping_layers, 1, MAX_MAPPING_LAYERS)
    claims.require_positive("mapping_lr_mul", config.mapping_lr_mul)


def require_w_plus(w_plus: Tensor, n_styles: int, w_dim: int) -> None:
    """Raise a ValueError unless it is [N, n_styles, w_dim]."""
    if w_plus.ndim != 3 or w_plus.shape[1:] != (n_styles, w_dim):
        raise ValueError(f"w_plus must be [N, {n_styles}, {w_dim}], not {list(w_plus.shape)}")


def require_noise(noise: Any) -> None:
    """Raise a ValueError unless it is a word for noise."""
    if noise not in ("const", "random", "none"):
        raise ValueError(f'noise must be "const", "random" or "none", not {noise!r}')


class Mapping(nn.Module):
    """Normal vectors, and the labels of a conditional generator, to style vectors."""

    def __init__(self, config: MappingConfig) -> None:
        super().__init__()
        self.z_dim, self.c_dim = config.z_dim, config.c_dim
        embedded = config.w_dim if config.c_dim else 0
        between = [config.mapping_width or config.w_dim] * (config.n_mapping_layers - 1)
        widths = [config.z_dim + embedded, *between, config.w_dim]
        self.layers = nn.ModuleList(
            EqualLinear(a, b, lr_mul=config.mapping_lr_mul) for a, b in pairwise(widths)
        )
        self.embed = EqualLinear(config.c_dim, config.w_dim) if config.c_dim else None
        # Mean of w over z: where truncation pulls to and where inversion starts. One for all labels.
        self.latent_avg: Tensor
        self.register_buffer("latent_avg", torch.zeros(config.w_dim))

    def forward(self, z: Tensor, truncation: float = 1.0, labels: Tensor | None = None) -> Tensor:
        """z [N, z_dim] -> w [N, w_dim], pulled to the average: avg + truncation * (w - avg).

        Args:
            labels: [N, c_dim] of a conditional generator: one-hot, a mixture, or zeros.

        Raises:
            ValueError: another shape of ``z`` or ``labels``, or labels where none are taken, or none where
                they are.
        """
        if z.ndim != 2 or z.shape[1] != self.z_dim:
            raise ValueError(f"z must be [N, {self.z_dim}], not {list(z.shape)}")
        claims.require_labels(labels, len(z), self.c_dim, "generator")
        x = ops.normalised(z)
        if self.embed is not None:
            assert labels is not None, "just required"
            x = torch.cat([x, ops.normalised(self.embed(labels.to(x)))], dim=1)
        for layer in self.layers:
            x = F.leaky_relu(layer(x), ops.LEAKY_SLOPE) * ops.ACTIVATION_GAIN
        return x if truncation == 1.0 else self.latent_avg + truncation * (x - self.latent_avg)

    def random_labels(self, n: int, draw: torch.Generator) -> Tensor | None:
        """One-hot labels [n, c_dim] of classes drawn at random, all alike; None, and none drawn, without."""
        if not self.c_dim:
            return None
        chosen = torch.randint(self.c_dim, (n,), generator=draw, device=draw.device)
        return F.one_hot(chosen, self.c_dim).to(self.latent_avg)


class StyleBasedGenerator(nn.Module):
    """``mapping(z, truncation, labels)`` and ``synthesis(w_plus)``: what every generator here is."""

    config: Any  # rebuilds it
    mapping: Mapping
    synthesis: Any  # w_plus [N, n_styles, w_dim] -> images [N, 3, H, W]

    @property
    def resolution(self) -> int:
        return self.config.resolution

    @property
    def n_styles(self) -> int:
        return self.config.n_styles

    @property
    def w_dim(self) -> int:
        return self.config.w_dim

    @property
    def c_dim(self) -> int:
        """Entries of a label; 0 for a generator that takes none."""
        return self.config.c_dim

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the entries of a label stand for; empty where the file does not say."""
        return ()

    def labels_of(self, classes: Sequence[str | int]) -> Tensor:
        """One-hot labels [N, c_dim] of classes by their names, or by their numbers from 0.

        Raises:
            ValueError: no such class, or a generator that takes no labels.
        """
        numbers = torch.tensor([self.class_number(each) for each in classes], dtype=torch.int64)
        return F.one_hot(numbers, max(1, self.c_dim)).to(self.latent_avg)

    def class_number(self, of_class: str | int) -> int:
        """Which entry of a label stands for a class, given by its name or by its number.

        Raises:
            ValueError: no such class, or a generator that takes no labels.
        """
        if not self.c_dim:
            raise ValueError("this generator takes no labels; leave them out")
        names = self.class_names or tuple(map(str, range(self.c_dim)))
        known = range(self.c_dim) if isinstance(of_class, int) else names
        if of_class not in known:
            shown, more = ", ".join(names[:N_SHOWN]), ", ..." * (len(names) > N_SHOWN)
            raise ValueError(
                f"the generator has no class {claims.shown(of_class)}; its classes are {shown}{more}"
            )
        return known.index(of_class)  # type: ignore[arg-type]

    @property
    def latent_avg(self) -> Tensor:
        """Average style vector [w_dim]."""
        return self.mapping.latent_avg

    def at(self, precision: Precision) -> StyleBasedGenerator:
        """The same generator with feature maps of another precision. Returns itself.

        Raises:
            ValueError: no such precision.
        """
        self.synthesis.compute_dtype = dtype_of(precision)
        return self

    def forward(
        self,
        z: Tensor,
        truncation: float = 1.0,
        noise: Noise = "const",
        labels: Tensor | None = None,
    ) -> Tensor:
        """z [N, z_dim] -> images [N, 3, H, W]: one style vector for every layer."""
        w = self.mapping(z, truncation, labels)
        return self.synthesis(w[:, None].expand(-1, self.n_styles, -1), noise)

    @torch.inference_mode()
    def estimate_latent_avg(
        self, n_samples: int = 10_000, seed: int = 0, of_class: str | int | None = None
    ) -> Tensor:
        """Mean of the mapping of ``n_samples`` normal vectors, [w_dim]; the same for the same seed.

        Of a conditional generator that of one class, or of all alike.
        """
        source = torch.Generator().manual_seed(seed)
        z = torch.randn(n_samples, self.config.z_dim, generator=source).to(self.latent_avg.device)
        labels = None
        if of_class is not None:
            labels = self.labels_of([of_class]).expand(n_samples, -1)
        elif self.c_dim:
            labels = torch.eye(self.c_dim, device=z.device)[torch.arange(n_samples) % self.c_dim]
        return self.mapping(z, labels=labels).mean(dim=0).clone()
