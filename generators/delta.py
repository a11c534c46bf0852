"""A small change of a synthesis's convolutions, of low rank, and the file that it is kept in.

What pivotal tuning (arXiv 2106.05744) learns of one picture would be another generator for each. Here the
change of a weight [O, I, k, k] is the product of [O, rank] and [rank, I k k] (LoRA, arXiv 2106.09685), a few
hundredths of the generator's numbers. Style layers and the mapping stay as they are, so that directions
in W+ keep their meaning.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from generators import claims
from generators.files import checkpoint
from generators.files.checkpoint import CheckpointError, Header

KIND = "pivot"
MAX_RANK = 256
MAX_STEPS = 1_000_000  # that a file may state
_DOWN, _UP = ".down", ".up"  # behind a weight's name
_START_AGAIN = "delete the file, and run the same command again, which tunes it anew"


@dataclass(frozen=True)
class Factors:
    """The change of one convolution: up @ down, in the shape of its weight."""

    up: Tensor  # [O, rank] float32
    down: Tensor  # [rank, I * k * k] float32


class Delta:
    """What is added to the weights of a synthesis, by their names. The synthesis itself stays as it is."""

    def __init__(self, factors: Mapping[str, Factors]) -> None:
        self.factors = dict(factors)

    @classmethod
    def start(cls, synthesis: nn.Module, rank: int, seed: int) -> Delta:
        """One that changes nothing yet: `up` is zero, `down` normal, the same for the same seed.

        Args:
            rank: of the change of a weight; less where the weight itself has less.
        """
        source = torch.Generator().manual_seed(seed)
        factors = {}
        for name, weight in convolutions(synthesis).items():
            n_out, n_in = len(weight), weight[0].numel()
            r = min(rank, n_out, n_in)
            down = torch.randn(r, n_in, generator=source) / math.sqrt(r)
            factors[name] = Factors(weight.new_zeros(n_out, r), down.to(weight))
        return cls(factors)

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Delta:
        """One of the numbers that `tensors` gave."""
        names = dict.fromkeys(map(_weight, tensors))
        return cls({n: Factors(tensors[f"{n}{_UP}"], tensors[f"{n}{_DOWN}"]) for n in names})

    @classmethod
    def mixed(cls, parts: Sequence[tuple[float, Delta]]) -> Delta:
        """The sum of deltas of one synthesis, each times a factor."""
        factors = {}
        for name in parts[0][1].factors:
            own = [(share, each.factors[name]) for share, each in parts]
            up = torch.cat([share * each.up for share, each in own], dim=1)
            factors[name] = Factors(up, torch.cat([each.down for _, each in own]))
        return cls(factors)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All numbers, by the names that they have in a file."""
        named = {f"{name}{_UP}": each.up for name, each in self.factors.items()}
        return named | {f"{name}{_DOWN}": each.down for name, each in self.factors.items()}

    def weights(self, synthesis: nn.Module) -> dict[str, Tensor]:
        """The changed weights by name, differentiably."""
        own = convolutions(synthesis)
        return {
            name: own[name] + (each.up @ each.down).view_as(own[name])
            for name, each in self.factors.items()
        }

    def draw(self, synthesis: nn.Module, w_plus: Tensor, **named: Any) -> Tensor:
        """Latents [N, n_styles, w_dim] -> images [N, 3, H, W], as the changed synthesis draws them.

        Args:
            named: what else the synthesis takes.
        """
        changed = self.weights(synthesis)
        for weight in changed.values():
            # Nothing is kept of weights that may be trained (`generators.derived`): these are gone after the
            # call, and the next ones may lie at the same place in memory.
            if not weight.requires_grad and not weight.is_inference():
                weight.requires_grad_()
        return functional_call(synthesis, changed, (w_plus,), named)

    def to(self, device: torch.device) -> Delta:
        """The same on a device."""
        return Delta(
            {n: Factors(f.up.to(device), f.down.to(device)) for n, f in self.factors.items()}
        )


def convolutions(synthesis: nn.Module) -> dict[str, Tensor]:
    """The weights of a synthesis that a delta changes, [O, I, k, k] each, by name."""
    return {
        name: weight.detach()
        for name, weight in synthesis.named_parameters()
        if name.endswith("weight") and weight.ndim == 4
    }


@dataclass(frozen=True)
class Origin:
    """What a delta was tuned for: it is used for nothing else."""

    generator_sha256: str  # of the generator's tensors
    run: str  # fingerprint of the run that the row is of
    shard: str  # address of the row's shard
    key: str  # of its sample there
    sample_index: int
    face: int
    n_steps: int  # of the tuning
    settings: str  # the other settings of the tuning
    latent_sha256: str  # of the row's latent, the pivot

    def __post_init__(self) -> None:
        for name in ("generator_sha256", "run", "shard", "key", "settings", "latent_sha256"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"{name} is no text")
        claims.require_int("sample_index", self.sample_index, 0, 2**31 - 1)
        claims.require_int("face", self.face, -1, 2**15 - 1)
        claims.require_int("n_steps", self.n_steps, 1, MAX_STEPS)

    @property
    def row(self) -> tuple[str, str, str, int, int]:
        """Which row it is."""
        return self.run, self.shard, self.key, self.sample_index, self.face


def save(path: str | os.PathLike, delta: Delta, origin: Origin, notes: str = "") -> None:
    """Write a delta as safetensors; it appears whole under its name or not at all.

    Args:
        notes: one line for people: what it brought.

    Raises:
        CheckpointError: it cannot be written.
    """
    checkpoint.save(path, Header(KIND, asdict(origin), notes=notes), delta.tensors)


def load(path: str | os.PathLike, synthesis: nn.Module, origin: Origin) -> Delta:
    """A delta from its file, on the CPU.

    Args:
        synthesis: that it is to be added to; every name and shape must fit.
        origin: what it must have been tuned for; a `latent_sha256` of "" is any.

    Raises:
        CheckpointError: missing, damaged, another row's or another generator's, in one sentence.
    """
    path = Path(path)
    # What the header claims is judged before the numbers are read.
    header, outline = checkpoint.read_outline(path)
    stated = origin_of(header, path)
    _require_same(stated, origin, path)
    _require_fit(outline, convolutions(synthesis), path)
    _, tensors = checkpoint.load(path, KIND)
    _require_fit(
        tensors, convolutions(synthesis), path
    )  # their types too, which an outline has not
    if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
        raise CheckpointError(f"{path} holds numbers that are not finite; {_START_AGAIN}")
    return Delta.of(tensors)


def origin_of(header: Header, path: str | os.PathLike) -> Origin:
    """What the delta in a file of ours was tuned for.

    Raises:
        CheckpointError: a file of another kind, or its header says nothing that can be.
    """
    if header.kind != KIND:
        raise CheckpointError(
            f"{path} is a file of kind {header.kind}, but the kind {KIND} is needed"
        )
    try:
        return Origin(**header.config)
    except (TypeError, ValueError) as error:
        raise checkpoint.damaged_header(path, error) from None


def rank_of(tensors: Mapping[str, Tensor], path: str | os.PathLike) -> int:
    """The largest rank in a file, whose tensors may be without numbers; 0 of none.

    Raises:
        CheckpointError: they do not belong in pairs.
    """
    ranks = [0]
    for name in dict.fromkeys(map(_weight, tensors)):
        up, down = tensors.get(f"{name}{_UP}"), tensors.get(f"{name}{_DOWN}")
        if up is None or down is None or up.ndim != 2 or down.ndim != 2 or len(down) != up.shape[1]:
            raise CheckpointError(
                f"{path} is damaged: {name} is no pair of factors; {_START_AGAIN}"
            )
        ranks.append(len(down))
    return max(ranks)


def _require_same(stated: Origin, wanted: Origin, path: Path) -> None:
    if stated.generator_sha256 != wanted.generator_sha256:
        raise CheckpointError(
            f"{path} was tuned for another generator (sha256 {stated.generator_sha256[:12]}, this one has "
            f"{wanted.generator_sha256[:12]}); delete it, or pass another --pivots"
        )
    if stated.row != wanted.row:
        raise CheckpointError(
            f"{path} was tuned for another row ({stated.key}, sample {stated.sample_index}, face "
            f"{stated.face}), not for {wanted.key}; delete it, or pass another --pivots"
        )
    if (stated.n_steps, stated.settings) != (wanted.n_steps, wanted.settings):
        raise CheckpointError(
            f"{path} was tuned in {stated.n_steps} steps with the settings {stated.settings}, not in "
            f"{wanted.n_steps} with {wanted.settings}; delete it, or pass another --pivots"
        )
    if wanted.latent_sha256 and stated.latent_sha256 != wanted.latent_sha256:
        raise CheckpointError(
            f"{path} was tuned for another latent than the row of {wanted.key} holds; {_START_AGAIN}"
        )


def _require_fit(tensors: Mapping[str, Tensor], weights: Mapping[str, Tensor], path: Path) -> None:
    """Refuse a file whose tensors, with or without numbers, are no factors of these weights."""
    rank = rank_of(tensors, path)
    problems = [f"missing {n}" for n in weights if f"{n}{_UP}" not in tensors]
    problems += [f"unexpected {n}" for n in tensors if _weight(n) not in weights]
    if not 1 <= rank <= MAX_RANK:
        problems.append(f"a rank of {rank}")
    if not problems:
        for name, weight in weights.items():
            up, down = tensors[f"{name}{_UP}"], tensors[f"{name}{_DOWN}"]
            if (len(up), down.shape[1]) != (len(weight), weight[0].numel()):
                problems.append(f"{name} has another shape")
            if up.dtype != torch.float32 or down.dtype != torch.float32:
                problems.append(f"{name} is not float32")
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise CheckpointError(
            f"{path} does not fit this generator: {'; '.join(problems[:3])}{more}; {_START_AGAIN}"
        )


def _weight(name: str) -> str:
    return name.removesuffix(_UP).removesuffix(_DOWN)


def facts(header: Header, tensors: Mapping[str, Any], path: Path) -> dict[str, str]:
    """What a file holds, for people.

    Raises:
        CheckpointError: it cannot be such a file.
    """
    origin = origin_of(header, path)
    return {
        "row": f"{origin.key} (sample {origin.sample_index}, face {origin.face}) of {origin.shard}",
        "tuned": f"{origin.n_steps} steps, rank {rank_of(tensors, path)}",
        "generator": f"sha256 {origin.generator_sha256[:12]}",
        "needs": "the latents that it was tuned for; restyle render and restyle edit use it with --pivot",
    }
