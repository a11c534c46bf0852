"""Optimizers of encoder training: Lookahead, Ranger, and a network's average over time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


class Lookahead:
    """k steps of another optimizer, then a part of the way from where they began (arXiv 1907.08610).

    Zhang et al. 2019, algorithm 1: every k steps the slow weights follow the fast ones,
    slow += alpha * (fast - slow), and the fast ones go on from there.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,  # makes the steps
        k: int = 5,  # steps between two returns
        alpha: float = 0.5,  # part of the way that is kept
    ) -> None:
        self.optimizer, self.k, self.alpha = optimizer, k, alpha
        self.n_steps = 0
        self.slow = [p.detach().clone() for p in self._fast()]

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Those of the optimizer below, learning rates among them."""
        return self.optimizer.param_groups

    def zero_grad(self) -> None:
        """Forget all gradients."""
        self.optimizer.zero_grad()

    @torch.no_grad()
    def step(self) -> None:
        """One step below; after k of them, the return."""
        self.optimizer.step()
        self.n_steps += 1
        if self.n_steps % self.k == 0:
            for slow, fast in zip(self.slow, self._fast(), strict=True):
                slow.lerp_(fast, self.alpha)
                fast.copy_(slow)

    def state_dict(self) -> dict[str, Any]:
        """All that a continued run needs: counter, slow weights and the optimizer's own state."""
        return {
            "n_steps": self.n_steps,
            "slow": self.slow,
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where :meth:`state_dict` was taken."""
        self.n_steps = state["n_steps"]
        for mine, theirs in zip(self.slow, state["slow"], strict=True):
            mine.copy_(theirs)
        self.optimizer.load_state_dict(state["optimizer"])

    def _fast(self) -> list[Tensor]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]


def ranger(parameters: Iterable[nn.Parameter], learning_rate: float) -> Lookahead:
    """RAdam (Liu et al. 2019, arXiv 1908.03265) under Lookahead, with the settings of pSp and ReStyle.

    Their file also centres gradients, which this does not.
    """
    radam = torch.optim.RAdam(parameters, lr=learning_rate, betas=(0.95, 0.999), eps=1e-5)
    return Lookahead(radam, k=6, alpha=0.5)


class EMA:
    """A network that holds the exponential average of another one's weights over time."""

    def __init__(
        self,
        network: nn.Module,  # of the same shape, frozen; its weights are overwritten
    ) -> None:
        self.network = network
        self.n_updates = 0

    @torch.no_grad()
    def update(self, other: nn.Module, decay: float, failed: Tensor | None = None) -> None:
        """Move towards another network: decay is the part that stays, at most 1 - 1/n at the n-th update.

        The statistics of normalisations are copied.

        Args:
            failed: a scalar on the network's device; where it is 1, no tensor changes.
        """
        self.n_updates += 1
        decay = min(decay, 1 - 1 / self.n_updates)
        failed = next(self.network.parameters()).new_zeros(()) if failed is None else failed
        share = (1 - decay) * (1 - failed)
        for mine, theirs in zip(self.network.parameters(), other.parameters(), strict=True):
            mine.lerp_(theirs, share)
        for kept, latest in zip(self.network.buffers(), other.buffers(), strict=True):
            kept.copy_(torch.where(failed > 0, kept, latest))

    def state_dict(self) -> dict[str, Any]:
        """All that a continued run needs."""
        return {"network": self.network.state_dict(), "n_updates": self.n_updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where :meth:`state_dict` was taken."""
        self.network.load_state_dict(state["network"])
        self.n_updates = state["n_updates"]
