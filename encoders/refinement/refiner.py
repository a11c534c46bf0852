"""From the answers of the residual loop to closer ones."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from encoders.bootstrap import Bootstrap
from encoders.execution import Capture, Run, filled_up
from encoders.loop import Inversion, Networks
from encoders.metrics import distances
from encoders.optimization import spread
from encoders.refinement import cache, curvature, descent
from encoders.restyle import ReStyle
from generators.precision import Precision, float32_products

Distance = Callable[[Tensor, Tensor], Tensor]  # [N, 3, h, w] twice -> [N]

# Numbers of a picture that a derivative on its way back through the networks counts as one.
_SCALE = 16
# Pixels of a batch on a CPU, which gains nothing from more: their derivatives take kilobytes each.
_PIXELS_ON_CPU = 8 * 256 * 256


@dataclass(frozen=True)
class Objectives:
    """What a refinement makes small: the mean squared error, and what is added to it."""

    # Times the mean square of the latent's way from its start, in parts of W's spread.
    near: float = 0.0
    distances: tuple[tuple[float, Distance], ...] = ()  # weights, and differentiable distances

    def __post_init__(self) -> None:
        for weight in (self.near, *(weight for weight, _ in self.distances)):
            if not 0 <= weight < float("inf"):
                raise ValueError(f"a weight of the objective must be 0 or more, not {weight}")


class Refiner:
    """Refines what one model found."""

    def __init__(
        self,
        model: ReStyle | Bootstrap,
        n_steps: int,  # drawings and gradients per image
        objectives: Objectives = Objectives(),
        # Of `curvature.gradients`; None: from the cache, or found now.
        gradients: Tensor | None = None,
        capture: Capture | None = None,  # of one step, such as `encoders.execution.CudaGraph`
    ) -> None:
        """Raises ValueError for fewer than one step."""
        if n_steps < 1:
            raise ValueError(f"n_steps must be at least 1, not {n_steps}")
        self.model = model.second if isinstance(model, Bootstrap) else model
        self.n_steps, self.objectives = n_steps, objectives
        if gradients is None:
            gradients = cache.gradients(self.model)
        self._near = 0.0
        if objectives.near:
            self._near = objectives.near / (self.model.generator.n_styles * spread(self.model) ** 2)
        found = curvature.coordinates(gradients, more=2 * self._near)
        self._coordinates = found.to(self.model.latent_avg.device)
        self.capture = capture
        self._captured: dict[tuple, Run] = {}
        self._n_captured = 0  # images of a captured step

    def __call__(self, found: Inversion, precision: Precision | None = None) -> Inversion:
        """An inversion with one step more: from each image's best step, closer, never further.

        Images are of that step. A result depends on its image alone, up to rounding; what is not finite
        stays as it was.

        Args:
            found: of this model, one image or more.
            precision: another one than the model's; latents are float32 at any.
        """
        precision = precision or self.model.precision
        with torch.inference_mode(False), torch.no_grad(), float32_products(precision):
            networks = self.model.networks(precision=precision)
            target = found.target.clone()
            before = _best(found.latents, found.thumbnails, target).clone()
            size = self._chunk(len(target), target.device)
            chunks = zip(before.split(size), target.split(size), strict=True)
            latents = torch.cat([self._refined(*chunk, networks, precision) for chunk in chunks])
            images = self.model.draw(latents, networks)
            thumbnails = self.model.to_input(images)
            n = found.n_taken
            return Inversion(
                _after(found.latents, latents, n),
                images,
                _after(found.thumbnails, thumbnails, n),
                found.target,
                None if n is None else n + 1,
            )

    def _chunk(self, n: int, device: torch.device) -> int:
        """Images at once; memory that derivatives take is no matter of the batch size of the networks."""
        if device.type != "cpu":
            return n
        return max(1, _PIXELS_ON_CPU // self.model.generator.resolution**2)

    def _refined(
        self, before: Tensor, target: Tensor, networks: Networks, precision: Precision
    ) -> Tensor:
        """Latents [N, n_styles, w_dim] of least objective."""
        n = len(before)
        if self.capture is not None and n < self._n_captured:  # a step is captured for so many
            before, target = filled_up((before, target), self._n_captured)
        objective = partial(self._objective, networks, before, target)
        state = descent.start(objective, len(before), before[0].numel(), before.device)
        for _ in range(self.n_steps - 1):
            state = self._advance(networks, before, target, state, precision)
        # The last trial needs no gradient.
        tried = descent.trial(state)
        value = self._value(networks, before, target, self._coordinates.latents(tried))
        at = torch.where((value < state.value)[:, None], tried, state.at)
        return (before + self._coordinates.latents(at))[:n]

    def _objective(
        self, networks: Networks, before: Tensor, target: Tensor, u: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The objective [N] at coordinates [N, d], and its gradient [N, d]."""
        with torch.enable_grad():
            change = self._coordinates.latents(u).detach().requires_grad_()
            value = self._value(networks, before, target, change)
            # On a scale that half precision holds: of one pixel among many, a mean's derivative is nearly 0.
            scale = target[0].numel() / _SCALE
            [gradient] = torch.autograd.grad(scale * value.sum(), change)
        return value.detach(), self._coordinates.gradient(gradient / scale)

    def _value(self, networks: Networks, before: Tensor, target: Tensor, change: Tensor) -> Tensor:
        drawn = self.model.to_input(self.model.draw(before + change, networks))
        value = distances.mse(drawn, target)
        for weight, distance in self.objectives.distances:
            value = value + weight * distance(drawn, target)
        return value + self._near * change.square().sum((1, 2)) if self._near else value

    # One step as one launch.

    def _advance(
        self,
        networks: Networks,
        before: Tensor,
        target: Tensor,
        state: descent.State,
        precision: Precision,
    ) -> descent.State:
        step, inputs = partial(self._step, networks), (before, target, *state)
        if self.capture is None:
            return step(*inputs)
        key = (precision, networks, len(before))
        try:
            is_new = key not in self._captured
            if is_new:
                # One of other weights, or for fewer images, is given up.
                self._captured, self._n_captured = {key: self.capture(step, *inputs)}, len(before)
            found = self._captured[key](*inputs)
            if is_new and target.is_cuda:
                # What failed in the first replay is to show here.
                torch.cuda.synchronize(target.device)
            return found
        except Exception as error:
            self._fall_back(error)
        return step(*inputs)

    def _step(
        self, networks: Networks, before: Tensor, target: Tensor, *state: Tensor
    ) -> descent.State:
        objective = partial(self._objective, networks, before, target)
        return descent.advance(objective, descent.State(*state))

    def _fall_back(self, error: Exception) -> None:
        self.capture, self._captured, self._n_captured = None, {}, 0
        warnings.warn(
            f"capturing a step of the refinement failed ({type(error).__name__}: "
            f"{str(error).strip()[:300]}); it runs uncaptured from here on",
            RuntimeWarning,
            stacklevel=5,
        )


def _after(steps: Tensor, last: Tensor, n_taken: Tensor | None) -> Tensor:
    """Steps [T, N, ...] with one more behind those that each image took, [T + 1, N, ...]."""
    longer = torch.cat([steps, last[None]])
    if n_taken is None:
        return longer
    is_behind = torch.arange(len(longer), device=n_taken.device)[:, None] >= n_taken
    return torch.where(is_behind.view(*is_behind.shape, *[1] * (last.ndim - 1)), last, longer)


def _best(latents: Tensor, thumbnails: Tensor, target: Tensor) -> Tensor:
    """Of each image the latent of least error, [N, n_styles, w_dim]."""
    errors = torch.stack([distances.mse(each.clamp(-1, 1), target) for each in thumbnails])
    chosen = distances.best_steps(errors) - 1
    return latents[chosen, torch.arange(len(target), device=target.device)]
